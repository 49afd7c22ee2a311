"""Fast local storage with byte budgets: placement, reservation, demotion."""
