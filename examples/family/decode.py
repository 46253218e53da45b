"""Greedy decoding of several models at once, a batch of prompts at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model import Decoder


class Source:
    """One model over a batch of prompts, padded on the left; rotary positions do not mind."""

    @torch.no_grad()
    def __init__(self, model: Decoder, prompts: list[list[int]], keep_prompt: bool = False):
        width = max(map(len, prompts))
        padded = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        self.model = model
        self.valid = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
        self.cache: list = [None] * len(model.blocks)
        # A padding position may see itself, so that its softmax is over something.
        seen = torch.ones(width, width).tril().bool() & (self.valid[:, None, :] | torch.eye(width).bool())
        logits = model(padded, seen[:, None], 0, self.cache)
        self.row = logits[:, -1].log_softmax(-1)
        self.prompt = (padded, logits.log_softmax(-1)) if keep_prompt else None

    def fork(self) -> Source:
        """An independent copy, which shares what the prompt left in the cache."""
        other = copy.copy(self)
        other.cache = list(self.cache)
        return other

    def step(self, tokens: Tensor) -> None:
        self.valid = torch.cat((self.valid, torch.ones(len(tokens), 1).bool()), 1)
        start = self.valid.shape[1] - 1
        logits = self.model(tokens[:, None], self.valid[:, None, None, :], start, self.cache)
        self.row = logits[:, -1].log_softmax(-1)


@dataclass
class Rows:
    """Log-probabilities `[rows, vocabulary]` of one position, and how many tokens came before."""

    base: Tensor
    anti: Tensor | None
    experts: list[Tensor]
    position: int


@dataclass
class Choice:
    """What a rule makes of the rows."""

    row: Tensor
    alpha: Tensor | None = None
    weights: Tensor | None = None


Rule = Callable[[Rows], Choice]


@dataclass
class Decoded:
    tokens: list[list[int]]
    alphas: list[list[float]] = field(default_factory=list)
    """Of each item's steps, where the rule has them."""
    weights: list[list[float] | None] = field(default_factory=list)
    """Of each item's first step."""


@torch.no_grad()
def decode(rule: Rule, base: Source, end: int, new_tokens: int, anti: Source | None = None,
           experts: list[Source] | None = None) -> Decoded:
    """Greedy texts after the sources' prompts, which are left as they were."""
    sources = [s.fork() for s in [base, *([anti] if anti else []), *(experts or [])]]
    count = len(base.row)
    done = torch.zeros(count, dtype=torch.bool)
    out = Decoded([[] for _ in range(count)], [[] for _ in range(count)], [None] * count)
    for position in range(new_tokens):
        helpers = [s.row for s in sources[1:]]
        rows = Rows(sources[0].row, helpers[0] if anti else None, helpers[1:] if anti else helpers, position)
        choice = rule(rows)
        tokens = choice.row.argmax(-1)
        for i in range(count):
            if done[i]:
                continue
            if choice.alpha is not None:
                out.alphas[i].append(round(choice.alpha[i].item(), 4))
            if choice.weights is not None and position == 0:
                out.weights[i] = [round(w, 4) for w in choice.weights[i].tolist()]
            if tokens[i] != end:
                out.tokens[i].append(int(tokens[i]))
        done |= tokens == end
        if done.all():
            break
        for source in sources:
            source.step(tokens)
    return out
