"""A second opinion on the numerics of dynamic fusion, from the definitions, in float64.

Reads the problems and our answers as JSON from standard input (tests/integration/second_opinion.rs writes them), works
every problem out anew with numpy and scipy, and prints a line for each disagreement. Exit status 1 if there is one.

The definitions, for a base P, an expert E and an anti-expert Q:

    d      = log E - log Q, and 0 for an id that E or Q masks
    P_x    = P exp(x d), normalised
    F(x)   = KL(P_x || P)          R(x) = KL(P || P_x)
    a      = KL(Q_1 || Q)          b    = KL(Q || Q_1)       with Q_1 = Q exp(d), normalised: E, if nothing is masked
"""

import json
import math
import sys

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp

HIGH = 2.0
DENSE = np.linspace(0.0, HIGH, 2001)
GRID = np.arange(21) * 0.1

# How far sums over f32 rows may be from sums over float64 rows, as a part of 1 + the number.
ROUNDING = 5e-6
# How much worse than scipy's optimum ours may be.
LOSS = 1e-6


def log_softmax(bits):
    row = np.array(bits, dtype=np.uint32).view(np.float32).astype(np.float64)
    return row - logsumexp(row)


def divergence(p, log_ratio):
    """The mean of a log-ratio, where what cannot happen does not count."""
    return float(np.sum(p[p > 0] * log_ratio[p > 0]))


class Family:
    """P and its tilts along d."""

    def __init__(self, log_p, d):
        self.possible = log_p > -np.inf
        self.log_p = log_p[self.possible]
        # A constant in d changes nothing but the rounding.
        self.d = d[self.possible] - np.median(d[self.possible])

    def log_ratios(self, x):
        """log P_x - log P, one row for each strength."""
        tilt = np.multiply.outer(np.atleast_1d(x), self.d)
        return tilt - logsumexp(self.log_p + tilt, axis=1, keepdims=True)

    def divergences(self, x):
        ratios = self.log_ratios(x)
        forward = np.sum(np.exp(self.log_p + ratios) * ratios, axis=1)
        reverse = -np.sum(np.exp(self.log_p) * ratios, axis=1)
        return np.maximum(forward, 0.0), np.maximum(reverse, 0.0)

    def deviation(self):
        """The standard deviation of d."""
        p = np.exp(self.log_p)
        return math.sqrt(np.sum(p * (self.d - np.sum(p * self.d)) ** 2))


LOSSES = {
    "paper": lambda f, r, a, b: (f - a) ** 2 + (r - b) ** 2,
    "crossed": lambda f, r, a, b: (f - b) ** 2 + (r - a) ** 2,
    "forward": lambda f, r, a, b: (f - a) ** 2,
    "reverse": lambda f, r, a, b: (r - b) ** 2,
    "jeffreys": lambda f, r, a, b: (f + r - a - b) ** 2,
    "sqrt": lambda f, r, a, b: (np.sqrt(f) - math.sqrt(a)) ** 2 + (np.sqrt(r) - math.sqrt(b)) ** 2,
}


def least(loss, losses):
    """The least loss between 0 and HIGH: every dip of the losses at DENSE, refined."""
    best = float(losses.min())
    inner = losses[1:-1]
    dips = np.flatnonzero((inner <= losses[:-2]) & (inner <= losses[2:])) + 1
    for dip in sorted(dips, key=lambda i: losses[i])[:8]:
        bounds = (DENSE[dip - 1], DENSE[dip + 1])
        found = minimize_scalar(lambda x: float(loss(x)[0]), bounds=bounds, method="bounded", options={"xatol": 1e-9})
        best = min(best, float(found.fun))
    return best


class Referee:
    def __init__(self):
        self.checks = 0
        self.complaints = []

    def expect(self, fine, *what):
        self.checks += 1
        if not fine:
            self.complaints.append(" ".join(map(str, what)))

    def close(self, ours, theirs, *what, tolerance=ROUNDING):
        self.expect(abs(ours - theirs) <= tolerance * (1.0 + abs(theirs)), *what, "ours", ours, "theirs", theirs)


def examine(number, problem, referee):
    log_p, log_e, log_q = (log_softmax(problem[role]) for role in ("base", "expert", "anti"))
    both = (log_e > -np.inf) & (log_q > -np.inf)
    d = np.zeros_like(log_e)
    d[both] = log_e[both] - log_q[both]
    own = Family(log_q, d)
    (a,), (b,) = own.divergences(1.0)
    ours = problem["targets"]
    referee.close(ours["forward"], a, number, "KL(expert||anti)")
    referee.close(ours["reverse"], b, number, "KL(anti||expert)")
    # Losses are compared at the same targets, so that an error in those is reported once.
    a, b = ours["forward"], ours["reverse"]

    family = Family(log_p, d)
    dense = family.divergences(DENSE)
    f_high, r_high = dense[0][-1], dense[1][-1]
    for name, answer in problem["solutions"].items():
        where = (number, name)
        if answer["inactive"]:
            referee.expect(f_high + r_high < 1e-10, *where, "is not inactive")
            continue
        (f,), (r,) = family.divergences(answer["alpha"])
        referee.close(answer["kl_tilted_base"], f, *where, "KL(fused||base)")
        referee.close(answer["kl_base_tilted"], r, *where, "KL(base||fused)")
        if name == "variance_ratio":
            spread = family.deviation()
            ratio = own.deviation() / spread if spread > 0 else math.inf
            # Where d hardly varies under the base, the ratio is a ratio of rounding errors.
            tolerance = 1e-4 if spread > 1e-2 else 1e-2
            if spread > 1e-4:
                referee.close(answer["alpha"], min(ratio, HIGH), *where, "strength", tolerance=tolerance)
            continue
        loss = lambda x: LOSSES[name](*family.divergences(x), a, b)
        best, at_ours = least(loss, LOSSES[name](*dense, a, b)), float(loss(answer["alpha"])[0])
        referee.expect(at_ours <= best + LOSS * (1.0 + best), *where, "loss: ours", at_ours, "theirs", best)
        referee.expect(0.0 <= answer["alpha"] <= HIGH, *where, "strength", answer["alpha"])
        if answer["saturated"]:
            referee.expect(answer["alpha"] == HIGH, *where, "is saturated at", answer["alpha"])
            beyond = float(loss(HIGH + 1e-3)[0])
            referee.expect(beyond <= at_ours + LOSS * (1.0 + at_ours), *where, "is not saturated")

    losses = LOSSES["paper"](*family.divergences(GRID), a, b)
    for name, answer in problem["grid"].items():
        if not answer["inactive"]:
            at_ours = losses[round(answer["alpha"] * 10)]
            referee.close(at_ours, losses.min(), number, name, "loss on the grid", tolerance=2e-5)

    for nats, answer in zip(problem["nats"], problem["budgets"]):
        if answer["inactive"]:
            continue
        spent = lambda x: float(family.divergences(x)[0][0]) - nats
        if f_high <= nats:
            # Just at the ceiling, either may see the budget spent.
            enough = answer["saturated"] or f_high > nats - ROUNDING
            referee.expect(enough, number, "budget", nats, "ends at", answer["alpha"])
        else:
            exact = brentq(spent, 0.0, HIGH, xtol=1e-12)
            near = abs(answer["alpha"] - exact) < 1e-5 or abs(spent(answer["alpha"])) < ROUNDING * (1.0 + nats)
            referee.expect(near, number, "budget", nats, "ours", answer["alpha"], "theirs", exact)


def main():
    problems = json.load(sys.stdin)
    referee = Referee()
    for number, problem in enumerate(problems):
        examine(number, problem, referee)
    for complaint in referee.complaints:
        print(complaint)
    print(f"{len(problems)} problems, {referee.checks} checks, {len(referee.complaints)} disagreements")
    return 1 if referee.complaints or not problems else 0


if __name__ == "__main__":
    sys.exit(main())
