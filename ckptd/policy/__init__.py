"""Policy, and plan(snapshot, policy, now) -> actions: pure, no I/O, no clock of its own."""
