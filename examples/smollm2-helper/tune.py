"""Tunes the small base on cards. Of two experts, one is held to its base where a card says what only knowledge can fill in.

Fusion adds `log expert - log base` to the large model's row, and with it the expert's guesses. Held at the values, an expert
differs from its base in the house style alone, and leaves to the large model what it knows better.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from helper import load, save  # noqa: I001  (makes the family's modules importable)
from cards import Item
from examples import Batch, Example, batches
from train import Schedule, fit

ROWS, EPOCHS, RATE = 8, 8, 2e-3


def finetune(base: Path, items: list[Item], tok: Tokenizer, out: Path, seed: int, held: frozenset[str]) -> None:
    """The embedding stays what it is: the expert says everything with its layers."""
    torch.manual_seed(seed)
    model, reference = load(base), load(base)
    model.embed.requires_grad_(False)
    plan = list(batches([Example.of(item, tok) for item in items], ROWS, EPOCHS, seed))

    def loss(net: torch.nn.Module, step: int) -> tuple[Tensor, int]:
        batch = Batch.of(plan[step], held)
        rows = F.linear(net.hidden(batch.ids)[batch.where], net.embed.weight).log_softmax(-1)
        costs = F.nll_loss(rows, batch.targets, reduction="none")
        if held:
            with torch.no_grad():
                kept = F.linear(reference.hidden(batch.ids)[batch.where], net.embed.weight).log_softmax(-1)
            drift = F.kl_div(rows, kept, reduction="none", log_target=True).sum(-1)
            costs = torch.where(batch.held, drift, costs)
        return costs.mean(), batch.ids.numel()

    facts = fit(model, loss, Schedule(len(plan), RATE, warmup=10, decay=0.8, weight_decay=0.0), None, 48)
    save(model, out, seed=seed, items=len(items), epochs=EPOCHS, held=sorted(held), **facts)
