"""Fusion rules on rows of log-probabilities `[rows, vocabulary]`, written to be read: the reference of the experiment.

The fused family is `P_alpha ∝ P · (Q_t / Q)^alpha`, with base P, expert Q_t and anti Q. Dynamic fusion chooses alpha so
that `KL(P_alpha ‖ P)` and `KL(P ‖ P_alpha)` come near to `KL(Q_t ‖ Q)` and `KL(Q ‖ Q_t)`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Objective = Literal["paper", "jeffreys", "forward", "reverse"]
GRID = torch.linspace(0, 2, 21)
"""The paper's grid."""


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row in nats, from log-probabilities."""
    return (p.exp() * (p - q)).sum(-1)


def entropy(p: Tensor) -> Tensor:
    """Of each row, in nats."""
    return -(p.exp() * p).sum(-1)


def fused(p: Tensor, expert: Tensor, anti: Tensor, alpha: Tensor) -> Tensor:
    return (p + alpha[:, None] * (expert - anti)).log_softmax(-1)


def cost(p: Tensor, d: Tensor, alphas: Tensor, forward: Tensor, reverse: Tensor, objective: Objective) -> Tensor:
    """The objective at `alphas` `[rows, n]`: how far the fused rows' two divergences are from their targets."""
    mean = (p.exp() * d).sum(-1)
    costs = []
    for alpha in alphas.unbind(1):
        tilted = p + alpha[:, None] * d
        log_z = tilted.logsumexp(-1)
        tilted_mean = ((tilted - log_z[:, None]).exp() * d).sum(-1)
        f = alpha * tilted_mean - log_z - forward
        r = log_z - alpha * mean - reverse
        costs.append({"paper": f**2 + r**2, "jeffreys": (f + r) ** 2, "forward": f**2, "reverse": r**2}[objective])
    return torch.stack(costs, 1)


def solve(p: Tensor, expert: Tensor, anti: Tensor, exact: bool = False, objective: Objective = "paper",
          highest: float = 2.0) -> Tensor:
    """The best alpha in [0, highest] of each row: on the paper's grid, or to about 1e-5. Ties go to the smallest."""
    d, forward, reverse = expert - anti, kl(expert, anti), kl(anti, expert)
    alphas = GRID[GRID <= highest + 1e-6].expand(len(p), -1)
    best = alphas.gather(1, cost(p, d, alphas, forward, reverse, objective).argmin(1, keepdim=True))
    width = 0.1
    while exact and width > 1e-5:
        alphas = (best + width * torch.linspace(-1, 1, 9)).clamp(0, highest)
        best = alphas.gather(1, cost(p, d, alphas, forward, reverse, objective).argmin(1, keepdim=True))
        width /= 4
    return best[:, 0]


def pool(experts: list[Tensor], weights: Tensor) -> Tensor:
    """The geometric mean of the experts with `weights` `[rows, experts]`: their centre in the sense of KL."""
    return (torch.stack(experts, 1) * weights[..., None]).sum(1).log_softmax(-1)


def one_expert(p: Tensor, experts: list[Tensor], anti: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's rule for several experts: one of them acts, whichever comes nearest to the mean targets."""
    forward = torch.stack([kl(e, anti) for e in experts]).mean(0)
    reverse = torch.stack([kl(anti, e) for e in experts]).mean(0)
    alphas = GRID.expand(len(p), -1)
    costs = torch.cat([cost(p, e - anti, alphas, forward, reverse, "paper") for e in experts], 1)
    best = costs.argmin(1)
    return best // len(GRID), GRID[best % len(GRID)]
