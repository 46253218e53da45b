"""The training loop, and pre-training on the corpus. Killed at any time, it goes on from its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import Decoder, Shape, save

CHECKPOINT_SECONDS = 120

Loss = Callable[[nn.Module, int], tuple[Tensor, int]]
"""The loss of a model at a step, and how many tokens it has read for it."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, constant, linear decay to 2 %."""

    steps: int
    rate: float
    warmup: int = 40
    decay: float = 0.3
    """Share of the steps in which the rate falls."""
    weight_decay: float = 0.1
    muon: bool = False
    compiled: bool = False

    def scale(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup, max(0.02, (self.steps - step) / (self.decay * self.steps)))


def optimisers(model: Decoder, schedule: Schedule) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "embed.weight"]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2 or n == "embed.weight"]
    decay, betas = schedule.weight_decay, (0.9, 0.95)
    if schedule.muon:
        return [
            torch.optim.Muon(
                matrices, lr=schedule.rate, momentum=0.95, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=schedule.rate, betas=betas, weight_decay=0.0),
        ]
    groups = [dict(params=matrices, weight_decay=decay), dict(params=rest, weight_decay=0.0)]
    return [torch.optim.AdamW(groups, lr=schedule.rate, betas=betas)]


def fit(model: Decoder, loss_of: Loss, schedule: Schedule, checkpoint: Path | None, log: int = 50) -> dict:
    """Trains in place. A loss depends on its step alone, so that a resumed run goes on alike."""
    optims = optimisers(model, schedule)
    first, seconds, tokens, mean = 0, 0.0, 0, float("nan")
    if checkpoint and checkpoint.exists():
        blob = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(blob["model"])
        for optim, state in zip(optims, blob["optims"], strict=True):
            optim.load_state_dict(state)
        first, seconds, tokens, mean = blob["step"], blob["seconds"], blob["tokens"], blob["mean"]
        print(f"resumed at step {first}", flush=True)
    net = torch.compile(model) if schedule.compiled else model
    model.train()
    began = saved = time.monotonic()
    for step in range(first, schedule.steps):
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = schedule.rate * schedule.scale(step)
        loss, read = loss_of(net, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        tokens += read
        mean = loss.item() if mean != mean else 0.97 * mean + 0.03 * loss.item()
        now = time.monotonic()
        if (step + 1) % log == 0:
            print(f"step {step + 1}/{schedule.steps} loss {mean:.3f} {seconds + now - began:.0f} s", flush=True)
        if checkpoint and now - saved > CHECKPOINT_SECONDS:
            blob = dict(model=model.state_dict(), optims=[o.state_dict() for o in optims], step=step + 1, tokens=tokens,
                        seconds=seconds + now - began, mean=mean)
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(blob, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            saved = now
    return dict(steps=schedule.steps, rate=schedule.rate, tokens=tokens, loss=round(mean, 4),
                seconds=round(seconds + time.monotonic() - began, 1))


def pretrain(start: Decoder | Shape, corpus: np.ndarray, vocabulary: int, out: Path, seed: int, batch: int,
             length: int, schedule: Schedule) -> None:
    """Packed documents in rows of `length`, each taken once before any is taken twice. From a shape, or from a model."""
    torch.manual_seed(seed)
    model = Decoder(start, vocabulary) if isinstance(start, Shape) else start
    ids = torch.from_numpy(corpus)
    rows = (len(ids) - 1) // length
    passes = 1 + schedule.steps * batch // rows
    order = torch.cat([torch.randperm(rows) for _ in range(passes)])

    def loss(net: nn.Module, step: int) -> tuple[Tensor, int]:
        rows = torch.stack([ids[s : s + length + 1] for s in order[step * batch : (step + 1) * batch] * length])
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(rows[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten()), batch * length

    share = schedule.steps * batch / rows
    print(f"{out.stem}: {model.parameter_count()} parameters, {share:.2f} passes over the corpus", flush=True)
    checkpoint = out.with_suffix(".checkpoint")
    save(model, out, seed=seed, batch=batch, length=length, **fit(model, loss, schedule, checkpoint))
    checkpoint.unlink(missing_ok=True)
