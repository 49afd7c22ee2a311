"""`ckptctl`: talks to the daemon's socket only, never opens the catalog. The contract is docs/cli.md."""
