"""Which scripts are run how, and what ckptd must make of each: for the recorder and for the tests."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
RUN = "run-1"


@dataclass(frozen=True)
class Scenario:
    name: str
    """Of the recorded tree."""
    distribution: str
    """The package on PyPI whose version counts."""
    expected: str
    """The framework's name in ckptd."""
    script: str
    arguments: tuple[str, ...] = ()
    steps: tuple[int, ...] = (1, 2, 3)
    """Restorable in the end."""
    processes: int = 0
    """Started by torchrun if not 0."""
    below: str = ""
    """Where in the run the script saves."""
    settings: tuple[tuple[str, str], ...] = ()
    """Environment variables."""
    after: tuple[str, ...] = ()
    """A script that is run when training has ended, on the same directory."""

    @property
    def heavy(self) -> bool:
        """Not installed in CI: see README.md."""
        return self.distribution in {"tensorflow", "deepspeed", "ray", "megatron-core"}

    def commands(self, python: str, volume: Path) -> list[list[str]]:
        directory = str(volume / RUN / self.below)
        started = [python]
        if self.processes:
            started += [
                "-m", "torch.distributed.run", "--nproc-per-node", str(self.processes), "--master-addr", "127.0.0.1",
                "--master-port", str(_free_port()),
            ]  # fmt: skip
        commands = [[*started, str(SCRIPTS / self.script), directory, *self.arguments]]
        if self.after:
            commands.append([python, str(SCRIPTS / self.after[0]), directory, *self.after[1:]])
        return commands

    def environment(self) -> dict[str, str]:
        """No downloads, no accelerators, one thread each; what the caller has otherwise."""
        return dict(os.environ) | {
            "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
            "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1",
            "RAY_USAGE_STATS_ENABLED": "0", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false",
        } | dict(self.settings)  # fmt: skip


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


SCENARIOS = (
    Scenario("torch-straight", "torch", "torch", "torch_single.py"),
    Scenario("torch-renamed", "torch", "torch", "torch_single.py", ("--style", "renamed")),
    Scenario("torch-linked", "torch", "torch", "torch_single.py", ("--style", "linked")),
    Scenario("torch-dcp-sync", "torch", "torch-dcp", "torch_dcp.py", processes=2),
    Scenario("torch-dcp-async", "torch", "torch-dcp", "torch_dcp.py", ("--asynchronous",), processes=2),
    Scenario("torch-dcp-nested", "torch", "torch-dcp", "torch_dcp.py", ("--nested",), processes=2),
    Scenario("hf-trainer-plain", "transformers", "hf-trainer", "hf_trainer.py"),
    Scenario("hf-trainer-sharded", "transformers", "hf-trainer", "hf_trainer.py", ("--shards",)),
    Scenario(
        "hf-trainer-rotating", "transformers", "hf-trainer", "hf_trainer.py", ("--keep", "2", "--steps", "4"), (3, 4)
    ),
    Scenario(
        "hf-trainer-best", "transformers", "hf-trainer", "hf_trainer.py", ("--keep", "1", "--best"), (3,)
    ),
    Scenario("accelerate-named", "accelerate", "accelerate", "hf_accelerate.py"),
    Scenario(
        "accelerate-automatic", "accelerate", "accelerate", "hf_accelerate.py", ("--automatic", "--keep", "2"), (1, 2)
    ),
    Scenario("lightning-every-step", "lightning", "lightning", "lightning_fit.py"),
    Scenario("lightning-last-link", "lightning", "lightning", "lightning_fit.py", ("--last", "link")),
    Scenario("lightning-last-file", "lightning", "lightning", "lightning_fit.py", ("--last", "file")),
    Scenario("lightning-top", "lightning", "lightning", "lightning_fit.py", ("--top", "1", "--steps", "4"), (4,)),
    Scenario("orbax-sync", "orbax-checkpoint", "orbax", "orbax_manager.py", ("--steps", "2"), (1, 2)),
    Scenario("orbax-async", "orbax-checkpoint", "orbax", "orbax_manager.py", ("--asynchronous", "--steps", "2"), (1, 2)),
    Scenario("orbax-no-ocdbt", "orbax-checkpoint", "orbax", "orbax_manager.py", ("--no-ocdbt", "--steps", "2"), (1, 2)),
    Scenario(
        "orbax-rotating", "orbax-checkpoint", "orbax", "orbax_manager.py",
        ("--keep", "1", "--prefix", "checkpoint", "--steps", "2"), (2,),
    ),
    Scenario("orbax-composite", "orbax-checkpoint", "orbax", "orbax_standard.py", ("--steps", "2"), (1, 2)),
    Scenario("flax-legacy", "flax", "flax", "flax_legacy.py"),
    Scenario("flax-legacy-rotating", "flax", "flax", "flax_legacy.py", ("--keep", "2"), (2, 3)),
    Scenario("keras-whole", "keras", "keras", "keras_fit.py"),
    Scenario("keras-weights", "keras", "keras", "keras_fit.py", ("--weights",)),
    Scenario("tensorflow-manager", "tensorflow", "tensorflow", "tf_checkpoint.py"),
    Scenario("tensorflow-rotating", "tensorflow", "tensorflow", "tf_checkpoint.py", ("--keep", "2"), (2, 3)),
    Scenario("tensorflow-plain", "tensorflow", "tensorflow", "tf_checkpoint.py", ("--plain",)),
    Scenario("deepspeed-zero1", "deepspeed", "deepspeed", "deepspeed_train.py", processes=2),
    Scenario("deepspeed-zero3", "deepspeed", "deepspeed", "deepspeed_train.py", ("--stage", "3"), processes=2),
    Scenario("deepspeed-tagged", "deepspeed", "deepspeed", "deepspeed_train.py", ("--tag", "step_"), processes=2),
    Scenario(
        "deepspeed-universal", "deepspeed", "deepspeed", "deepspeed_train.py", processes=2,
        after=("deepspeed_universal.py",),
    ),
    Scenario("megatron-dist", "megatron-core", "megatron-dist", "megatron_dist.py", processes=2),
    Scenario("ray-train-dated", "ray", "ray-train", "ray_train.py", ("--keep", "2"), (2, 3)),
)  # fmt: skip
