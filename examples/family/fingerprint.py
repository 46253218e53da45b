"""Choosing among experts from the row that the untuned small model writes at the end of the prompt.

An expert that was tuned on answers alone says nothing about which prompts it is for: wherever it is asked, it is sure of
its own format. What does tell prompts apart is the model that *nobody* tuned: after prompts of one kind it expects
similar things, after others different ones. So each expert brings a handful of unlabelled prompts of its own kind, and
its fingerprint is the mean of the anti's next-token distributions after them. A new prompt goes to the expert whose
fingerprint is nearest in Jensen-Shannon divergence, and to none if even that is farther than `slack` times what the
experts' own prompts are from each other. The decision is made once, at the first token, and held.
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
    """The arithmetic mean of distributions `[n, vocabulary]`, as log-probabilities."""
    return rows.logsumexp(0) - math.log(len(rows))


@dataclass(frozen=True)
class Fingerprints:
    centres: Tensor
    """Log-probabilities `[experts, vocabulary]`."""
    radii: Tensor
    """Of each expert: the farthest that one of its prompts is from the mean of the others, in nats."""

    @classmethod
    def of(cls, rows: list[Tensor]) -> Fingerprints:
        """From the anti's rows `[prompts, vocabulary]` after every expert's own prompts."""
        return cls(torch.stack([mean(own) for own in rows]), torch.stack([radius(own) for own in rows]))

    def choose(self, row: Tensor, slack: float = SLACK) -> Tensor:
        """The index of an expert, or `NONE`, for each of the anti's rows at the end of a prompt."""
        distances = torch.stack([jensen_shannon(row, centre.expand_as(row)) for centre in self.centres], 1)
        nearest, pick = distances.min(1)
        return torch.where(nearest <= slack * self.radii[pick], pick, NONE)

    def decide(self, rows: Rows) -> Tensor:
        return self.choose(rows.anti)


def radius(rows: Tensor) -> Tensor:
    others = [mean(torch.cat((rows[:n], rows[n + 1 :]))) for n in range(len(rows))]
    return jensen_shannon(rows, torch.stack(others)).max()
