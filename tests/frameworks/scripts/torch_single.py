"""torch.save, one file a step. `--style` is how people write it: straight, renamed into place, with `last` and `best` links."""

from __future__ import annotations

import os

import torch
from toy import arguments, say
from toy_torch import digest_of, model, train_step

given = arguments(style="straight")
net = model(given.width)
optimizer = torch.optim.Adam(net.parameters())
first = 1


def link(name: str, target: str) -> None:
    new = os.path.join(given.directory, name + ".new")
    os.symlink(target, new)
    os.replace(new, os.path.join(given.directory, name))


def save(step: int) -> None:
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    name = f"step_{step}.pt"
    path = os.path.join(given.directory, name)
    if given.style == "straight":
        torch.save(state, path)
        return
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)
    if given.style == "linked":
        link("last.pt", name)
        if step % 2:
            link("best.pt", name)


if given.resume:
    state = torch.load(given.resume, weights_only=True)
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["step"] + 1
    say(resumed=state["step"], digest=digest_of(net.state_dict(), optimizer.state_dict()))

os.makedirs(given.directory, exist_ok=True)
for step in range(first, given.steps + 1):
    train_step(net, optimizer, step, given.width)
    save(step)
    say(saved=step, digest=digest_of(net.state_dict(), optimizer.state_dict()))
