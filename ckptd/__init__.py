"""ckptd: fast, safe AI-training checkpoints without touching the training code."""

__version__ = "0.1.0"
