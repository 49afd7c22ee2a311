"""transformers.Trainer on a tiny model. `--keep N` is save_total_limit; `--shards` makes several safetensors files."""

from __future__ import annotations

import torch
from toy import arguments, say
from toy_torch import digest_of
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

given = arguments(keep=0, shards=False, best=False)
set_seed(0)


class Net(GPT2LMHeadModel):
    def save_pretrained(self, *arguments, **settings):
        super().save_pretrained(*arguments, **settings | ({"max_shard_size": "2KB"} if given.shards else {}))


net = Net(
    GPT2Config(vocab_size=32, n_positions=16, n_embd=given.width, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
)


class Words(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        words = torch.randint(0, 32, (8,), generator=torch.Generator().manual_seed(at))
        return {"input_ids": words, "labels": words}


class Tell(TrainerCallback):
    def on_train_begin(self, args, state, control, model, optimizer, **rest):
        if given.resume:
            say(resumed=state.global_step, digest=digest_of(model.state_dict(), optimizer.state_dict()))

    def on_save(self, args, state, control, model, optimizer, **rest):
        say(saved=state.global_step, digest=digest_of(model.state_dict(), optimizer.state_dict()))


settings = TrainingArguments(
    given.directory, max_steps=given.steps, save_steps=1, save_total_limit=given.keep or None, use_cpu=True, seed=0,
    per_device_train_batch_size=2, report_to=[], disable_tqdm=True, logging_steps=1000, learning_rate=1e-3,
    lr_scheduler_type="constant",
    eval_strategy="steps" if given.best else "no", eval_steps=1, load_best_model_at_end=given.best,
)  # fmt: skip
trainer = Trainer(
    net, settings, train_dataset=Words(), eval_dataset=Words() if given.best else None, callbacks=[Tell()]
)
trainer.train(resume_from_checkpoint=given.resume)
