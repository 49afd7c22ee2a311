"""An ordinary training script: it knows nothing of ckptd, it just saves into a directory.

A small network learns to imitate another one. Every few steps `checkpoint-N/` gets the model, the optimizer's state
and, last, `trainer_state.json`, as common trainers do it. With `--log` each save and resume is written down.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

INPUTS, OUTPUTS, BATCH = 256, 16, 64
Tensors = dict[str, np.ndarray[Any, Any]]


def batch(step: int, seed: int = 7) -> tuple[Any, Any]:
    """The data of one step; the same for every run, so that a resumed run sees what the killed one would have seen."""
    x = np.random.default_rng([seed, step]).standard_normal((BATCH, INPUTS), dtype=np.float32)
    teacher = np.random.default_rng(seed).standard_normal((INPUTS, OUTPUTS), dtype=np.float32)
    return x, np.tanh(x @ teacher / 16)


def shapes(hidden: int) -> dict[str, tuple[int, int]]:
    return {"layer1": (INPUTS, hidden), "layer2": (hidden, hidden), "layer3": (hidden, OUTPUTS)}


class NumpyTrainer:
    """Three layers and Adam, by hand."""

    def __init__(self, hidden: int) -> None:
        rng = np.random.default_rng(0)
        self.model: Tensors = {
            name: rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[0] ** 0.5)
            for name, shape in shapes(hidden).items()
        }
        self.optimizer: Tensors = {
            f"{name}.{part}": np.zeros_like(w) for name, w in self.model.items() for part in ("m", "v")
        }

    def step(self, number: int) -> float:
        x, y = batch(number)
        w1, w2, w3 = self.model.values()
        h1 = np.maximum(x @ w1, 0)
        h2 = np.maximum(h1 @ w2, 0)
        error = h2 @ w3 - y
        d3 = error * np.float32(2 / error.size)
        d2 = (d3 @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        for name, gradient in zip(self.model, (x.T @ d1, h1.T @ d2, h2.T @ d3), strict=True):
            self.adam(name, gradient, number)
        return float((error**2).mean())

    def adam(self, name: str, gradient: Any, number: int) -> None:
        m, v = self.optimizer[f"{name}.m"], self.optimizer[f"{name}.v"]
        m += np.float32(0.1) * (gradient - m)
        v += np.float32(0.001) * (gradient * gradient - v)
        rate = np.float32(1e-3 * (1 - 0.999**number) ** 0.5 / (1 - 0.9**number))
        self.model[name] -= rate * m / (np.sqrt(v) + np.float32(1e-8))

    def state(self) -> tuple[Tensors, Tensors]:
        return self.model, self.optimizer

    def load(self, model: Tensors, optimizer: Tensors) -> None:
        self.model = {name: model[name].copy() for name in self.model}
        self.optimizer = {name: optimizer[name].copy() for name in self.optimizer}


class TorchTrainer:
    """The same with PyTorch, where it is installed."""

    def __init__(self, hidden: int) -> None:
        import torch

        self.torch = torch
        torch.manual_seed(0)
        self.names = list(shapes(hidden))
        self.weights = [torch.nn.Parameter(torch.randn(s) / s[0] ** 0.5) for s in shapes(hidden).values()]
        self.adam = torch.optim.Adam(self.weights, lr=1e-3)

    def step(self, number: int) -> float:
        x, y = (self.torch.from_numpy(part) for part in batch(number))
        w1, w2, w3 = self.weights
        loss = (((x @ w1).relu() @ w2).relu() @ w3 - y).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return float(loss)

    def state(self) -> tuple[Tensors, Tensors]:
        model = {name: w.detach().numpy() for name, w in zip(self.names, self.weights, strict=True)}
        kept = self.adam.state_dict()["state"]
        optimizer = {f"{i}.{key}": np.asarray(value) for i, slot in kept.items() for key, value in slot.items()}
        return model, optimizer

    def load(self, model: Tensors, optimizer: Tensors) -> None:
        with self.torch.no_grad():
            for name, weight in zip(self.names, self.weights, strict=True):
                weight.copy_(self.torch.from_numpy(model[name]))
        slots: dict[int, dict[str, Any]] = {}
        for key, value in optimizer.items():
            index, _, part = key.partition(".")
            slots.setdefault(int(index), {})[part] = self.torch.from_numpy(value)
        self.adam.load_state_dict({**self.adam.state_dict(), "state": slots})


def digest(*parts: Tensors) -> str:
    """One SHA-256 over every tensor's name and bytes."""
    sha = hashlib.sha256()
    for tensors in parts:
        for name in sorted(tensors):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(tensors[name]))
    return sha.hexdigest()


def save(folder: Path, step: int, model: Tensors, optimizer: Tensors, *, fsync: bool) -> int:
    """Returns the bytes written. `trainer_state.json` comes last: who sees it may use the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model, folder / "model.safetensors")
    save_file(optimizer, folder / "optimizer.safetensors")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    files = sorted(folder.iterdir())
    for path in (*files, folder, folder.parent) if fsync else ():
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return sum(path.stat().st_size for path in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=3072, help="3072: 124 MB a checkpoint")
    parser.add_argument("--fsync", action="store_true", help="wait until each save is on the disk")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="gets one JSON line a save")
    options = parser.parse_args()

    trainer = (TorchTrainer if importlib.util.find_spec("torch") else NumpyTrainer)(options.hidden)
    first = 1
    with options.log.open("a", encoding="utf-8", buffering=1) as log:

        def note(**fields: object) -> None:
            log.write(json.dumps(fields) + "\n")

        if options.resume:
            begun = time.perf_counter()
            loaded = [load_file(options.resume / f"{part}.safetensors") for part in ("model", "optimizer")]
            trainer.load(*loaded)
            step = json.loads((options.resume / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
            note(event="resumed", step=step, seconds=time.perf_counter() - begun, sha256=digest(*trainer.state()))
            first = step + 1
        for step in range(first, options.steps + 1):
            loss = trainer.step(step)
            if step % options.save_every == 0:
                state = trainer.state()
                folder = options.output_dir / f"checkpoint-{step}"
                begun = time.perf_counter()
                size = save(folder, step, *state, fsync=options.fsync)
                saved = {"seconds": time.perf_counter() - begun, "bytes": size, "at": time.time()}
                begun = time.perf_counter()
                read = [load_file(folder / f"{part}.safetensors") for part in ("model", "optimizer")]
                saved["read_seconds"] = time.perf_counter() - begun
                sha256 = digest(*state)
                note(event="saved", step=step, loss=loss, sha256=sha256, same=digest(*read) == sha256, **saved)


if __name__ == "__main__":
    main()
