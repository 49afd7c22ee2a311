"""PyTorch itself: single files, and torch.distributed.checkpoint."""

from __future__ import annotations

from ckptd.layouts.frameworks.layout import Layout, Names, base, folder, inside


class TorchDistributed(Layout):
    """torch.distributed.checkpoint, also when it is asynchronous: each rank writes its `__<rank>_<n>.distcp`, then the
    coordinator writes `.metadata.tmp` and renames it (torch/distributed/checkpoint/filesystem.py, `finish`).

    Nested ones (FSDP's model and optimizer) each have their own: none of them speaks for the whole.
    """

    name = "torch-dcp"
    places = ("checkpoint-{step}/**", "step-{step}/**", "step_{step}/**")
    markers = frozenset({".metadata"})

    def recognises(self, names: Names) -> bool:
        return ".metadata" in names.bases or any(name.endswith(".distcp") for name in names.all)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        return bare_parts(names)


def bare_parts(names: Names) -> str | None:
    """The `.metadata` that a directory with parts lacks."""
    marked = {folder(name) for name in names.all if base(name) == ".metadata"}
    bare = sorted({folder(name) for name in names.all if name.endswith(".distcp")} - marked)
    return inside(bare[0], ".metadata") if bare else None


class Lightning(Layout):
    """`ModelCheckpoint` writes one `.ckpt` file a checkpoint, moved into place whole.

    With sharded FSDP or ModelParallelStrategy it is a directory of that name with a distributed checkpoint in it, and
    `meta.pt` is saved after that. With DeepSpeed it is a directory with `checkpoint/…`, and the first rank writes `latest`
    when its own files are there.
    """

    name = "lightning"
    places = ("epoch=*-step={step}.ckpt", "checkpoints/epoch=*-step={step}.ckpt", "epoch=*-step={step}.ckpt/**")
    pointers = frozenset({"last.ckpt"})

    def recognises(self, names: Names) -> bool:
        return any(name.endswith(".ckpt") for name in names.all) or self._is_directory(names)

    @staticmethod
    def _is_directory(names: Names) -> bool:
        return names.root.endswith(".ckpt") and names.root not in names.set

    def marker(self, names: Names) -> str | None:
        if self._is_directory(names):
            return "meta.pt" if "meta.pt" in names.set else super().marker(names)
        return super().marker(names)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        if not self._is_directory(names):
            return None
        if any(folder(name) == "" and name.endswith(".distcp") for name in names.all) and "meta.pt" not in names.set:
            return bare_parts(names) or "meta.pt"
        if any(name.startswith("checkpoint/") for name in names.all) and "latest" not in names.set:
            return "latest"
        return bare_parts(names)


class Safetensors(Layout):
    """Files of tensors, written by whatever."""

    name = "safetensors"
    places = ("model-{step}.safetensors", "step_{step}.safetensors")

    def recognises(self, names: Names) -> bool:
        return any(name.endswith(".safetensors") for name in names.all)


class Torch(Layout):
    """`torch.save`: whole when it is closed and its zip directory stands at the end."""

    name = "torch"
    places = ("model-{step}.pt", "ckpt_{step}.pth", "epoch_{step}.pt", "step-{step}.bin")
    pointers = frozenset({"last.pt", "last.pth", "latest.pt", "latest.pth"})

    def recognises(self, names: Names) -> bool:
        return any(name.endswith((".pt", ".pth", ".bin", ".pt.tar", ".pth.tar")) for name in names.all)
