"""What Slurm's Prolog and Epilog ask of the daemon: `ckptctl slurm prolog|epilog` (docs/slurm.md)."""
