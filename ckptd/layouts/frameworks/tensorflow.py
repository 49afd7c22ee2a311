"""TensorFlow and Keras."""

from __future__ import annotations

import re

from ckptd.layouts.frameworks.layout import Layout, Names

_DATA = re.compile(r"(.*)\.data-\d+-of-\d+", re.ASCII)


class TensorFlow(Layout):
    """tf.train.Checkpoint: the shards `ckpt-N.data-0000k-of-0000n` come from `ckpt-N_temp/`, then the merged `ckpt-N.index`,
    whose first entry says how many shards there are; the pointer `checkpoint` is replaced last (by a rename).

    tf.compat.v1.train.Saver writes a `.meta` after the index, so the index is required but no marker.
    """

    name = "tensorflow"
    places = ("ckpt-{step}.*", "tf_ckpts/ckpt-{step}.*", "model.ckpt-{step}.*")
    pointers = frozenset({"checkpoint"})

    def recognises(self, names: Names) -> bool:
        return any(_DATA.fullmatch(name) or (name.endswith(".index") and "ckpt" in name) for name in names.all)

    def missing(self, names: Names, previous: frozenset[str] | None) -> str | None:
        del previous
        stems = sorted({found[1] for name in names.all if (found := _DATA.fullmatch(name))})
        return next((f"{stem}.index" for stem in stems if f"{stem}.index" not in names.set), None)


class Keras(Layout):
    """`model.save` and `ModelCheckpoint`: one `.keras` (zip) or `.weights.h5` (HDF5) file a checkpoint; large models may be
    split into several with `.weights.json` as their index.
    """

    name = "keras"
    places = ("model-{step}.keras", "cp-{step}.weights.h5", "epoch_{step}.h5")

    def recognises(self, names: Names) -> bool:
        return any(name.endswith((".keras", ".h5", ".hdf5", ".weights.json")) for name in names.all)
