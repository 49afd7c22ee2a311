"""The toy model of the scripts that train with torch."""

from __future__ import annotations

from typing import Any

import torch
from toy import digest

torch.set_num_threads(1)


def model(width: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))


def batch(step: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(4, width, generator=generator)
    return inputs, inputs.sum(dim=1, keepdim=True)


def train_step(net: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, width: int) -> None:
    inputs, targets = batch(step, width)
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(net(inputs), targets).backward()
    optimizer.step()


def digest_of(*states: dict[str, Any]) -> str:
    """Of state dicts, however deeply they are nested."""
    return digest(tensor for state in states for tensor in _tensors(state))


def _tensors(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        yield found.detach().cpu().numpy()
    elif isinstance(found, dict):
        for key in sorted(found, key=str):
            yield from _tensors(found[key])
    elif isinstance(found, list | tuple):
        for item in found:
            yield from _tensors(item)
