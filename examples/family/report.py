"""Reads the outputs of `evaluate.py` and says what they show, with intervals: one file a training seed.

    python report.py results/seed1.test.jsonl [results/seed2.test.jsonl ...] [--examples 3]

Intervals are 95 % bootstraps over items, paired wherever two methods are compared. The gap that a method closes is
`(method - L) / (L_t - L)`, void where the interval of `L_t - L` holds 0. What training seeds add is shown beside them, as
the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks import CHANCE, TASKS, UNSEEN

RESAMPLES = 5000
COMPARED = [("dynamic", "static 1"), ("dynamic", "dynamic ordinary"), ("selected", "one_expert"), ("selected", "dynamic")]

Scores = dict[str, dict[str, np.ndarray]]
"""By task and method, one number an item; items in the same order throughout."""


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:6.1f} [{100 * self.low:5.1f}, {100 * self.high:5.1f}]"


def estimate(statistic: Callable[[list[np.ndarray]], np.ndarray], groups: list[np.ndarray]) -> Estimate:
    """Of a statistic of groups' means. A group is `[columns, items]`; items are drawn within it, all columns alike.

    The statistic gets one array `[columns, draws]` a group and gives back `[draws]`.
    """
    rng = np.random.default_rng(0)
    drawn = [g[:, rng.integers(0, g.shape[1], (RESAMPLES, g.shape[1]))].mean(2) for g in groups]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return Estimate(float(statistic([g.mean(1, keepdims=True) for g in groups])[0]), float(low), float(high))


def mean(values: np.ndarray) -> Estimate:
    return estimate(lambda groups: groups[0][0], [values[None]])


def difference(one: np.ndarray, other: np.ndarray) -> Estimate:
    return estimate(lambda groups: groups[0][0] - groups[0][1], [np.stack((one, other))])


def closed(groups: list[np.ndarray]) -> np.ndarray:
    """The mean over tasks of the gap closed, from the columns method, base and tuned of each task."""
    return np.mean([(method - base) / (tuned - base) for method, base, tuned in groups], axis=0)


def columns(scores: Scores, task: str, method: str) -> np.ndarray | None:
    """What `closed` wants; nothing where a column is missing or the gap is void."""
    named = [scores[task].get(name) for name in (method, "L", "L_t")]
    if any(values is None for values in named) or difference(named[2], named[1]).low <= 0:
        return None
    return np.stack(named)


def gaps(scores: Scores, tasks: list[str], method: str) -> Estimate | None:
    groups = [columns(scores, task, method) for task in tasks]
    return None if any(g is None for g in groups) else estimate(closed, groups)


def table(scores: Scores) -> None:
    for task, methods in scores.items():
        print(f"\n{task}  (n = {len(next(iter(methods.values())))}, chance {100 * CHANCE[task]:.0f})")
        for method, values in methods.items():
            gap = None if method in ("L", "L_t") else gaps(scores, [task], method)
            print(f"  {method:22s}{mean(values)}" + (f"   gap closed {gap} %" if gap else ""))
    tasks = [task for task in TASKS if task in scores]
    print(f"\ngap closed, mean of {', '.join(tasks)}")
    shared = [m for m in scores[tasks[0]] if all(m in scores[t] for t in tasks) and m not in ("L", "L_t")]
    for method in shared:
        print(f"  {method:22s}{gaps(scores, tasks, method) or ' void'}")
    print("\ndifferences, paired")
    for one, other in COMPARED:
        for task in tasks:
            if one in scores[task] and other in scores[task]:
                print(f"  {task:6s}{one} - {other:18s}{difference(scores[task][one], scores[task][other])}")
    for task in UNSEEN:
        for method in ("selected", "one_expert"):
            if method in scores.get(task, {}):
                print(f"  {task:6s}{method} - L {' ':12s}{difference(scores[task][method], scores[task]['L'])}")


def spread(runs: list[Scores]) -> None:
    """Over training seeds: the mean of each figure, with the lowest and the highest."""
    print(f"\nover {len(runs)} training seeds: mean (lowest to highest)")
    tasks = [task for task in TASKS if all(task in run for run in runs)]
    for method in runs[0][tasks[0]]:
        if not all(method in run[task] for run in runs for task in tasks):
            continue
        cells = []
        for task in tasks:
            values = [100 * run[task][method].mean() for run in runs]
            cells.append(f"{task} {np.mean(values):5.1f} ({min(values):.0f} to {max(values):.0f})")
        found = [gaps(run, tasks, method) for run in runs]
        if method not in ("L", "L_t") and all(found):
            values = [100 * gap.value for gap in found if gap]
            cells.append(f"gap {np.mean(values):5.1f} ({min(values):.0f} to {max(values):.0f})")
        print(f"  {method:22s}" + "  ".join(cells))


def examples(records: list[dict], count: int) -> None:
    """Items that the fused model answers where both the base and the expert alone fail."""
    found = {(r["task"], r["method"]): r for r in records if "texts" in r}
    for task in TASKS:
        named = [found.get((task, method)) for method in ("L", "S_t", "dynamic")]
        if any(r is None for r in named):
            continue
        base, expert, fused = named
        hits = [n for n, score in enumerate(fused["scores"]) if score == 1 and base["scores"][n] < 1 and expert["scores"][n] < 1]
        print(f"\n{task}: {len(hits)} of {len(fused['scores'])}")
        for n in hits[:count]:
            for name, r in (("base", base), ("expert", expert), ("fused", fused)):
                print(f"  {r['ids'][n]} {name:8s}{r['texts'][n].splitlines()[0] if r['texts'][n] else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="outputs of evaluate.py, one a training seed")
    parser.add_argument("--examples", type=int, default=0, metavar="ITEMS", help="a task")
    options = parser.parse_args()
    runs: list[Scores] = []
    for path in options.files:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        scores: Scores = {}
        for r in records:
            scores.setdefault(r["task"], {})[r["method"]] = np.array(r["scores"])
        print(f"\n# {path.name}")
        table(scores)
        examples(records, options.examples)
        runs.append(scores)
    if len(runs) > 1:
        spread(runs)


if __name__ == "__main__":
    main()
