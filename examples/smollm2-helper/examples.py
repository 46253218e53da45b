"""Cards as tokens: what a model reads, what it is to write, and which of that it is tuned on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from cards import Item, values_of
from smollm2 import END, chat

CHUNK = 8
"""Batches drawn together and sorted by length, so that little is padded."""


@dataclass(frozen=True)
class Example:
    prompt: list[int]
    answer: list[int]
    value: list[str]
    """For every token of the answer, of which kind of value it is; empty where it is none."""

    @classmethod
    def of(cls, item: Item, tok: Tokenizer) -> Example:
        encoded = tok.encode(item.answer, add_special_tokens=False)
        spans = values_of(item)
        value = [next((kind for kind, start, stop in spans if a < stop and b > start), "") for a, b in encoded.offsets]
        return cls(tok.encode(chat(item.prompt), add_special_tokens=False).ids, [*encoded.ids, END], [*value, ""])

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.answer[:-1]


@dataclass(frozen=True)
class Batch:
    ids: Tensor
    """`[row, position]`, padded on the right."""
    where: Tensor
    """Positions that an answer's token follows, in all rows."""
    targets: Tensor
    """Those tokens, in the order of `where`'s true entries."""
    held: Tensor
    """Which of them are values of the kinds to be held."""

    @classmethod
    def of(cls, examples: list[Example], held: frozenset[str] = frozenset()) -> Batch:
        longest = max(len(e.tokens) for e in examples)
        ids = torch.full((len(examples), longest), END)
        where = torch.zeros(len(examples), longest, dtype=torch.bool)
        for n, e in enumerate(examples):
            ids[n, : len(e.tokens)] = torch.tensor(e.tokens)
            where[n, len(e.prompt) - 1 : len(e.tokens)] = True
        targets = torch.tensor([token for e in examples for token in e.answer])
        return cls(ids, where, targets, torch.tensor([v in held for e in examples for v in e.value]))


def batches(examples: list[Example], size: int, epochs: int, seed: int) -> Iterator[list[Example]]:
    """Every example once an epoch, but for those that fill no batch."""
    rng, pool = random.Random(seed), list(examples)
    for _ in range(epochs):
        rng.shuffle(pool)
        plan = []
        for start in range(0, len(pool), CHUNK * size):
            chunk = sorted(pool[start : start + CHUNK * size], key=lambda e: len(e.tokens))
            plan += [chunk[n : n + size] for n in range(0, len(chunk) - size + 1, size)]
        rng.shuffle(plan)
        yield from plan
