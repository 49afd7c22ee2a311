"""The mount front."""
