"""Choosing among experts from what the small models expect at the end of the prompt.

An expert that was tuned on answers alone says nothing about which prompts it is for: wherever it is asked, it is sure of
its own format. What does tell prompts apart is how *all* the small models react, above all the one that nobody tuned:
after prompts of one kind they expect similar things, after others different ones. So each expert brings a handful of
unlabelled prompts of its own kind, and its fingerprint is, for each small model, the mean of its next-token
distributions after them. A new prompt goes to the expert whose fingerprint is nearest in Jensen-Shannon divergence,
summed over the models, and to none if even that is farther than `slack` times what the expert's own prompts are from
each other. The decision is made once, at the first token, and held.

The large model takes no part, so fingerprints outlive a change of it, and need no pass of it to be made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from decode import Rows
from fuse import kl

PROMPTS = 16
"""Unlabelled prompts an expert."""
SLACK = 3.0
NONE = -1


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Of each pair of rows, in nats: 0 where they are equal, log 2 where they share nothing."""
    middle = torch.logaddexp(p, q) - math.log(2)
    return (kl(p, middle) + kl(q, middle)) / 2


def mean(rows: Tensor) -> Tensor:
    """The arithmetic mean of distributions `[models, n, vocabulary]` over the prompts, as log-probabilities."""
    return rows.logsumexp(1) - math.log(rows.shape[1])


def distance(rows: Tensor, centre: Tensor) -> Tensor:
    """Of each prompt of `[models, n, vocabulary]` from a centre `[models, vocabulary]`."""
    return jensen_shannon(rows, centre[:, None].expand_as(rows)).sum(0)


@dataclass(frozen=True)
class Fingerprints:
    centres: Tensor
    """Log-probabilities `[experts, models, vocabulary]`; the models are the anti and then the experts."""
    radii: Tensor
    """Of each expert: the farthest that one of its prompts is from the mean of the others, in nats."""

    @classmethod
    def of(cls, rows: list[Tensor]) -> Fingerprints:
        """From the small models' rows `[models, prompts, vocabulary]` after every expert's own prompts."""
        return cls(torch.stack([mean(own) for own in rows]), torch.stack([radius(own) for own in rows]))

    def choose(self, rows: Tensor, slack: float = SLACK) -> Tensor:
        """The index of an expert, or `NONE`, for each prompt from the rows `[models, n, vocabulary]` at its end."""
        nearest, pick = torch.stack([distance(rows, centre) for centre in self.centres], 1).min(1)
        return torch.where(nearest <= slack * self.radii[pick], pick, NONE)

    def decide(self, rows: Rows) -> Tensor:
        return self.choose(torch.stack([rows.anti, *rows.experts]))


def radius(rows: Tensor) -> Tensor:
    """Each prompt against the mean of the others."""
    prompts = range(rows.shape[1])
    others = [mean(torch.cat((rows[:, :n], rows[:, n + 1 :]), 1)) for n in prompts]
    return torch.stack([distance(rows[:, n : n + 1], others[n])[0] for n in prompts]).max()
