"""What is known of each framework's checkpoints. One small class each; the first that recognises the names is taken.

To add one: subclass Layout, put it into LAYOUTS before what it is a special case of.
"""

from __future__ import annotations

from collections.abc import Sequence

_GENERIC_MARKERS = frozenset({
    "commit_success.txt", "_SUCCESS", "COMPLETE", "DONE", "SUCCESS", ".complete", ".done", ".success", ".COMPLETE",
    ".DONE", ".SUCCESS",
})  # fmt: skip
"""Whoever writes one of these means it, in any framework."""


def base(name: str) -> str:
    return name.rpartition("/")[2]


def folder(name: str) -> str:
    return name.rpartition("/")[0]


class Layout:
    """`names` are always those of one checkpoint, relative to its directory."""

    name = "generic"
    markers: frozenset[str] = frozenset()
    """Base names that say: complete."""

    def recognises(self, names: Sequence[str]) -> bool:
        raise NotImplementedError

    def marker(self, names: Sequence[str]) -> str | None:
        """The file that says the checkpoint is complete, if it is there. (One further down speaks for its part.)"""
        return next((name for name in names if name in self.markers | _GENERIC_MARKERS), None)

    def missing(self, names: Sequence[str], previous: frozenset[str] | None) -> str | None:
        """A file without which a checkpoint of this framework is never complete.

        `previous` has the names of the run's last complete one, as `names_of` gives them.
        """
        del names, previous
        return None


class HuggingFaceTrainer(Layout):
    """`Trainer._save_checkpoint` writes the model, optimizer, scheduler and random states, then trainer_state.json."""

    name = "hf-trainer"
    markers = frozenset({"trainer_state.json"})
    _own = frozenset({"trainer_state.json", "training_args.bin"})

    def recognises(self, names: Sequence[str]) -> bool:
        return any(base(name) in self._own for name in names)

    def missing(self, names: Sequence[str], previous: frozenset[str] | None) -> str | None:
        if self.marker(names) is None and any(base(name) in self.markers for name in previous or ()):
            return "trainer_state.json"
        return None


class TorchDistributed(Layout):
    """torch.distributed.checkpoint: each rank writes `__0_0.distcp`, then the coordinator renames `.metadata` into
    place. Nested ones (FSDP's model and optimizer) each have their own.
    """

    name = "torch-dcp"
    markers = frozenset({".metadata"})

    def recognises(self, names: Sequence[str]) -> bool:
        return any(base(name) == ".metadata" or name.endswith(".distcp") for name in names)

    def marker(self, names: Sequence[str]) -> str | None:
        nested = (name for name in names if base(name) in self.markers)
        return super().marker(names) or (next(nested, None) if self.missing(names, None) is None else None)

    def missing(self, names: Sequence[str], previous: frozenset[str] | None) -> str | None:
        del previous
        marked = {folder(name) for name in names if base(name) == ".metadata"}
        bare = sorted({folder(name) for name in names if name.endswith(".distcp")} - marked)
        return f"{bare[0]}/.metadata".removeprefix("/") if bare else None


class Orbax(Layout):
    """Writes into a temporary directory and renames it; where renaming is not atomic, commit_success.txt comes last."""

    name = "orbax"
    markers = frozenset({"_CHECKPOINT_METADATA"})
    _own = frozenset({"_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA", "_sharding"})

    def recognises(self, names: Sequence[str]) -> bool:
        return any(base(name) in self._own for name in names)


class DeepSpeed(Layout):
    """`global_stepN/…_model_states.pt` and `…_optim_states.pt`; the pointer `latest` beside them is written last."""

    name = "deepspeed"

    def recognises(self, names: Sequence[str]) -> bool:
        return any(name.endswith(("_model_states.pt", "_optim_states.pt")) for name in names)


class Megatron(Layout):
    """`iter_N/mp_rank_XX/model_optim_rng.pt`; the pointer latest_checkpointed_iteration.txt is written last."""

    name = "megatron"

    def recognises(self, names: Sequence[str]) -> bool:
        return any(base(name) in {"model_optim_rng.pt", "distrib_optim.pt"} for name in names)


class Lightning(Layout):
    name = "lightning"

    def recognises(self, names: Sequence[str]) -> bool:
        return any(name.endswith(".ckpt") for name in names)


class Safetensors(Layout):
    name = "safetensors"

    def recognises(self, names: Sequence[str]) -> bool:
        return any(name.endswith(".safetensors") for name in names)


class Torch(Layout):
    name = "torch"

    def recognises(self, names: Sequence[str]) -> bool:
        return any(name.endswith((".pt", ".pth", ".bin", ".pt.tar", ".pth.tar")) for name in names)


class Generic(Layout):
    def recognises(self, names: Sequence[str]) -> bool:
        del names
        return True


LAYOUTS: tuple[Layout, ...] = (
    HuggingFaceTrainer(), TorchDistributed(), Orbax(), DeepSpeed(), Megatron(), Lightning(), Safetensors(), Torch(),
    Generic(),
)  # fmt: skip


def recognise(names: Sequence[str]) -> Layout:
    return next(layout for layout in LAYOUTS if layout.recognises(names))
