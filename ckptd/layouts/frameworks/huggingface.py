"""Hugging Face: the Trainer and Accelerate."""

from __future__ import annotations

from ckptd.layouts.frameworks.layout import Layout, Names, base


class HuggingFaceTrainer(Layout):
    """`Trainer._save_checkpoint` writes the model (an index names its shards), optimizer, scheduler and random states,
    then trainer_state.json. DeepSpeed's and FSDP's parts lie in directories below.
    """

    name = "hf-trainer"
    places = ("checkpoint-{step}/**",)
    markers = frozenset({"trainer_state.json"})
    _own = frozenset({"trainer_state.json", "training_args.bin"})

    def recognises(self, names: Names) -> bool:
        return not names.bases.isdisjoint(self._own)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        """`save_model()` writes training_args.bin too, but neither optimizer nor trainer_state.json."""
        if self.marker(names) is not None:
            return None
        resumable = {"optimizer.pt", "training_args.bin"} <= names.set
        if resumable or any(base(name) in self.markers for name in previous or ()):
            return "trainer_state.json"
        return None


class Accelerate(Layout):
    """`Accelerator.save_state`: models, then optimizers, schedulers, samplers, the scaler, and random_states_<rank>.pkl of
    each process; objects that were registered follow (custom_checkpoint_<n>.pkl), so no file is surely the last.
    """

    name = "accelerate"
    places = ("checkpoints/checkpoint_{step}/**", "step_{step}/**", "epoch_{step}/**")

    def recognises(self, names: Names) -> bool:
        return any(name.startswith("random_states_") for name in names.all)
