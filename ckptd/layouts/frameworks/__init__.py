"""What is known of each framework's checkpoints: one small class each; the first that recognises the names is taken.

To add one: subclass Layout in a file of its family, put it into LAYOUTS before what it is a special case of, and into the
table of docs/layouts.md.
"""

from __future__ import annotations

from ckptd.layouts.frameworks.deepspeed import DeepSpeed, DeepSpeedUniversal
from ckptd.layouts.frameworks.huggingface import Accelerate, HuggingFaceTrainer
from ckptd.layouts.frameworks.jax import Flax, Orbax
from ckptd.layouts.frameworks.layout import GENERIC_MARKERS, Layout, Names, base, folder, inside
from ckptd.layouts.frameworks.megatron import Megatron, MegatronDistributed, NeMo
from ckptd.layouts.frameworks.ray import RayTrain
from ckptd.layouts.frameworks.tensorflow import Keras, TensorFlow
from ckptd.layouts.frameworks.torch import Lightning, Safetensors, Torch, TorchDistributed

__all__ = [
    "GENERIC_MARKERS",
    "LAYOUTS",
    "MARKERS",
    "POINTERS",
    "Layout",
    "Names",
    "base",
    "folder",
    "inside",
    "recognise",
]


class Generic(Layout):
    """Anything else: files that share a step in their names, whole when they are closed and quiet."""

    places = ("{step}/**", "step_{step}/**", "state-{step}.npz")
    pointers = frozenset({"latest_step.txt", "latest.txt", "last_checkpoint"})

    def recognises(self, names: Names) -> bool:
        del names
        return True


LAYOUTS: tuple[Layout, ...] = (
    HuggingFaceTrainer(), Accelerate(), RayTrain(), NeMo(), MegatronDistributed(), DeepSpeedUniversal(), TensorFlow(),
    Lightning(), TorchDistributed(), Orbax(), DeepSpeed(), Megatron(), Keras(), Safetensors(), Torch(), Flax(), Generic(),
)  # fmt: skip

MARKERS = GENERIC_MARKERS.union(*(layout.markers for layout in LAYOUTS))
POINTERS = frozenset[str]().union(*(layout.pointers for layout in LAYOUTS))


def recognise(names: Names) -> Layout:
    return next(layout for layout in LAYOUTS if layout.recognises(names))
