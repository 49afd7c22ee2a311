"""lightning.Trainer with ModelCheckpoint. `--last` writes last.ckpt (`link` or `file`), `--top K` keeps the K best.

Each checkpoint is better than those before.
"""

from __future__ import annotations

import logging
import warnings

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from toy import arguments, say
from toy_torch import batch, digest_of, model

given = arguments(last="", top=-1)
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Batches(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1000

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        return batch(at, given.width)


class Toy(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = model(given.width)

    def training_step(self, found: tuple[torch.Tensor, torch.Tensor], at: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.net(found[0][0]), found[1][0])
        self.log("score", -float(self.global_step))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Saving(ModelCheckpoint):
    def _save_checkpoint(self, trainer: lightning.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        states = trainer.lightning_module.state_dict(), trainer.optimizers[0].state_dict()
        say(saved=trainer.global_step, digest=digest_of(*states))


class Tell(lightning.Callback):
    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if given.resume:
            say(
                resumed=trainer.global_step,
                digest=digest_of(module.state_dict(), trainer.optimizers[0].state_dict()),
            )


trainer = lightning.Trainer(
    max_steps=given.steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
    enable_model_summary=False, default_root_dir=given.directory,
    callbacks=[
        Saving(
            given.directory, every_n_train_steps=1, save_last={"link": "link", "file": True}.get(given.last),
            save_top_k=given.top, monitor="score" if given.top > 0 else None,
        ),
        Tell(),
    ],
)  # fmt: skip
trainer.fit(Toy(), torch.utils.data.DataLoader(Batches(), batch_size=1), ckpt_path=given.resume)
