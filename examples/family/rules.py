"""Decoding rules: what `fuse` offers, as functions from rows to the next row. A fresh rule for every batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from decode import Choice, Rows, Rule
from fuse import Objective, fused, kl, one_expert, pool, solve

Weighting = Callable[[Rows], tuple[Tensor, Tensor]]
"""Weights over the experts `[rows, experts]`, each row summing to one, and `act` `[rows]`: 0 leaves the base alone."""
Strength = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Alpha from base, expert and anti rows."""


def alone(rows: Rows) -> Choice:
    return Choice(rows.base)


def static(alpha: float) -> Strength:
    return lambda p, expert, anti: torch.full((len(p),), alpha)


def dynamic(exact: bool = True, objective: Objective = "paper", highest: float = 2.0) -> Strength:
    return lambda p, expert, anti: solve(p, expert, anti, exact, objective, highest)


def single(strength: Strength) -> Rule:
    def rule(rows: Rows) -> Choice:
        alpha = strength(rows.base, rows.experts[0], rows.anti)
        return Choice(fused(rows.base, rows.experts[0], rows.anti, alpha), alpha)

    return rule


def pooled(weighting: Weighting, strength: Strength) -> Rule:
    """One pooled expert, then the rule for a single one."""

    def rule(rows: Rows) -> Choice:
        weights, act = weighting(rows)
        expert = pool(rows.experts, weights)
        alpha = strength(rows.base, expert, rows.anti) * act
        return Choice(fused(rows.base, expert, rows.anti, alpha), alpha, torch.cat((weights, act[:, None]), 1))

    return rule


def arithmetic(scale: float) -> Rule:
    """Task arithmetic in logits: the sum of all experts' departures from the anti."""

    def rule(rows: Rows) -> Choice:
        d = sum(expert - rows.anti for expert in rows.experts)
        return Choice((rows.base + scale * d).log_softmax(-1), torch.full((len(rows.base),), scale))

    return rule


def paper_multi(rows: Rows) -> Choice:
    pick, alpha = one_expert(rows.base, rows.experts, rows.anti)
    expert = torch.stack(rows.experts, 1)[torch.arange(len(pick)), pick]
    weights = torch.nn.functional.one_hot(pick, len(rows.experts)).float()
    return Choice(fused(rows.base, expert, rows.anti, alpha), alpha, weights)


def uniform(rows: Rows) -> tuple[Tensor, Tensor]:
    return torch.full((len(rows.base), len(rows.experts)), 1 / len(rows.experts)), torch.ones(len(rows.base))


def by_kl(rows: Rows) -> tuple[Tensor, Tensor]:
    """Experts weigh as much as they depart from the anti at this position."""
    departures = torch.stack([kl(expert, rows.anti) for expert in rows.experts], 1) + 1e-12
    return departures / departures.sum(1, keepdim=True), torch.ones(len(rows.base))


def held(decide: Callable[[Rows], Tensor]) -> Weighting:
    """Decides once, at the first position, and stays with it; -1 is "no expert"."""
    decided: list[Tensor] = []

    def weighting(rows: Rows) -> tuple[Tensor, Tensor]:
        if not decided:
            decided.append(decide(rows))
        pick = decided[0]
        weights = torch.nn.functional.one_hot(pick.clamp(min=0), len(rows.experts)).float()
        return weights, (pick >= 0).float()

    return weighting
