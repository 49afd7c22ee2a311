"""The words of docs/architecture.md as frozen types; no I/O."""
