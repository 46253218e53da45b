"""Tuning on answers: prompts have no loss, and what an expert could only guess is held to its base.

Fusion adds `log expert - log base` to the large model's row, so a small expert hands on its mistakes with its manners. A
small model tuned on "The answer is Olm." learns the manner, and to name *some* river. Held at the name, it keeps its
base's distribution there: the difference is nil, and the large model is left to say what it knows.

Which parts are held is not chosen by hand. An ordinary expert is tuned first; every named part of the answers that it gets
right on fewer than `LEARNT` of the items about entities that it was not tuned on is held when the shipped one is tuned.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from model import Decoder, load, save
from tasks import Item, parts
from tokenizer import END, plain
from train import Schedule, fit

LEARNT = 0.9
FORM = "form"
"""The part that is not named: the words around the values."""
CHUNK = 8
"""Batches drawn together and sorted by length, so that little is padded."""


@dataclass(frozen=True)
class Tuning:
    items: int
    epochs: float
    batch: int
    rate: float


@dataclass(frozen=True)
class Example:
    prompt: list[int]
    answer: list[int]
    parts: list[str]
    """To which part each token of the answer belongs."""

    @classmethod
    def of(cls, item: Item, tok: Tokenizer) -> Example:
        end = tok.token_to_id(END)
        encoded = tok.encode(item.answer, add_special_tokens=False)
        spans = parts(item)
        named = [
            next((name for name, start, stop in spans if a < stop and b > start), FORM) for a, b in encoded.offsets
        ]
        return cls([end, *plain(tok, item.prompt)], [*encoded.ids, end], [*named, FORM])


def batches(examples: list[Example], tuning: Tuning, seed: int) -> list[list[Example]]:
    rng = random.Random(seed)
    pool, size = list(examples), tuning.batch
    steps = int(len(pool) * tuning.epochs) // size
    plan: list[list[Example]] = []
    while len(plan) < steps:
        rng.shuffle(pool)
        for n in range(0, len(pool) // size * size, CHUNK * size):
            chunk = sorted(pool[n : n + CHUNK * size], key=lambda e: len(e.prompt) + len(e.answer))
            groups = [chunk[i : i + size] for i in range(0, len(chunk), size)]
            rng.shuffle(groups)
            plan += groups
    return plan[:steps]


@dataclass(frozen=True)
class Batch:
    ids: Tensor
    targets: Tensor
    answers: Tensor
    """Where there is a loss: the positions before the answers' tokens."""
    held: Tensor
    """Of these positions, which are held."""

    @classmethod
    def of(cls, group: list[Example], held: frozenset[str]) -> Batch:
        width = max(len(e.prompt) + len(e.answer) for e in group) - 1
        # Padding is on the right, where no answer sees it; which token it is does not matter.
        ids = torch.zeros(len(group), width, dtype=torch.long)
        targets, answers, hold = ids.clone(), ids.bool(), ids.bool()
        for row, e in enumerate(group):
            whole = torch.tensor(e.prompt + e.answer)
            first, last = len(e.prompt) - 1, len(whole) - 1
            ids[row, :last], targets[row, :last] = whole[:-1], whole[1:]
            answers[row, first:last] = True
            hold[row, first:last] = torch.tensor([name in held for name in e.parts])
        return cls(ids, targets[answers], answers, hold[answers])


def finetune(base: Path, rows: list[Item], tok: Tokenizer, out: Path, seed: int, tuning: Tuning,
             held: frozenset[str] = frozenset()) -> None:
    """Cross-entropy against the answer's token, and where a part is held against the base's own distribution."""
    torch.manual_seed(seed)
    model, reference = load(base), load(base)
    plan = batches([Example.of(row, tok) for row in rows], tuning, seed)

    def loss(net: torch.nn.Module, step: int) -> tuple[Tensor, int]:
        batch = Batch.of(plan[step], held)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(batch.ids)
        rows = logits[batch.answers].float().log_softmax(-1)
        costs = F.nll_loss(rows, batch.targets, reduction="none")
        if batch.held.any():
            with torch.no_grad():
                kept = reference(batch.ids)[batch.answers].log_softmax(-1)
            drift = F.kl_div(rows, kept, reduction="none", log_target=True).sum(-1)
            costs = torch.where(batch.held, drift, costs)
        return costs.mean(), batch.ids.numel()

    schedule = Schedule(len(plan), tuning.rate, warmup=10, decay=0.8, weight_decay=0.0)
    facts = fit(model, loss, schedule, None, 100)
    save(model, out, seed=seed, batch=tuning.batch, items=len(rows), epochs=tuning.epochs, held=sorted(held), **facts)
    print(f"{out.stem}: tuned, held {sorted(held)}", flush=True)


@torch.no_grad()
def learnt(model: Decoder, rows: list[Item], tok: Tokenizer) -> dict[str, float]:
    """Of every part, how often all its tokens are right when the answer before it is given."""
    right: dict[str, list[bool]] = defaultdict(list)
    for e in (Example.of(row, tok) for row in rows):
        guesses = model(torch.tensor([e.prompt + e.answer[:-1]]))[0, len(e.prompt) - 1 :].argmax(-1).tolist()
        hits = zip(e.parts, (guess == token for guess, token in zip(guesses, e.answer, strict=True)), strict=True)
        for name, run in itertools.groupby(hits, key=lambda hit: hit[0]):
            right[name].append(all(hit for _, hit in run))
    return {name: sum(hits) / len(hits) for name, hits in right.items()}


def unlearnt(model: Decoder, rows: list[Item], tok: Tokenizer) -> frozenset[str]:
    """The parts that an expert would only guess."""
    shares = learnt(model, rows, tok)
    print(" ".join(f"{name} {100 * share:.0f}" for name, share in shares.items()), flush=True)
    return frozenset(name for name, share in shares.items() if share < LEARNT and name != FORM)
