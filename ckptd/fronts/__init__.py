"""How a volume meets the job. A front only tells the engine what happened, and asks it to hydrate."""
