"""Makes the files beside this one with the real libraries: small, whole ones of each format that ckptd looks into.

Run it with whatever is installed of torch, h5py, tensorstore and tensorflow; what is missing is left as it was:

    python tests/layouts/samples/make_samples.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def torch_files(folder: str) -> None:
    import torch
    import torch.distributed.checkpoint as dcp

    tensors = {"w": torch.arange(64, dtype=torch.float32), "b": torch.ones(3)}
    torch.save(tensors, os.path.join(folder, "model.pt"))
    torch.save(tensors, os.path.join(folder, "legacy.pt"), _use_new_zipfile_serialization=False)
    states = {
        "zero_stage": 1,
        "base_optimizer_state": {"exp_avg": torch.ones(4)},
    }  # as DeepSpeed's optimizers give them
    for name, count in (("zero_of_four", [4, 4]), ("zero_of_300", 300)):
        given = {"optimizer_state_dict": {**states, "partition_count": count, "ds_version": "0.19.8"}}
        torch.save(given, os.path.join(folder, f"{name}.pt"))
    dcp.save({"model": tensors, "step": 7}, checkpoint_id=os.path.join(folder, "dcp"))


def h5_files(folder: str) -> None:
    import h5py
    import numpy as np

    for name, libver in (("earliest.weights.h5", "earliest"), ("latest.weights.h5", "latest")):
        with h5py.File(os.path.join(folder, name), "w", libver=libver) as file:
            file["layers/dense/vars/0"] = np.arange(40, dtype=np.float32)
    with h5py.File(os.path.join(folder, "userblock.h5"), "w", userblock_size=512) as file:
        file["w"] = np.ones(10)


def ocdbt_files(folder: str) -> None:
    import tensorstore

    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/ocdbt/"}).result()
    store.write("w", b"0123456789" * 20).result()
    shutil.copy(os.path.join(folder, "ocdbt", "manifest.ocdbt"), folder)
    shutil.rmtree(os.path.join(folder, "ocdbt"))


def tensorflow_files(folder: str) -> None:
    import tensorflow as tf

    tf.train.Checkpoint(w=tf.Variable([1.0, 2.0, 3.0])).write(os.path.join(folder, "ckpt-1"))


def main() -> None:
    for make in (torch_files, h5_files, ocdbt_files, tensorflow_files):
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ImportError):
            make(folder)
            shutil.copytree(folder, HERE, dirs_exist_ok=True)
            print("made by", make.__name__)


if __name__ == "__main__":
    main()
