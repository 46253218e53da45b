"""Remakes the family: data, bases, experts, oracles. Whatever is there already is left alone, so it can be started again.

    python make.py --work DIR [--seed 1] [--only data S S-qa L ...] [--quick]

One training runs at a time. On two cores of a shared machine a seed takes about an hour, most of it the large base.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Threads that wait for each other must not spin where other programs want the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import data
import model
import tokenizer
import train
from tasks import TASKS


@dataclass(frozen=True)
class Tuning:
    items: int
    epochs: float
    batch: int
    rate: float


STAGES = {
    "S": train.Schedule(1500, 4e-3, muon=True),
    "L1": train.Schedule(1000, 3e-3, decay=0.35, muon=True, compiled=True),
    "L": train.Schedule(320, 2e-3, decay=0.6, muon=True, compiled=True),
}
"""`L1` is the large base after the first stage of the corpus, `L` after both. `S` has the first alone."""
BATCH, LENGTH = 4, 512
TUNING = {
    "S": {task: Tuning(2500, 1, 16, 2e-3 if task == "math" else 5e-4) for task in TASKS},
    # An oracle is tuned on facts that its base knows: tuned on others, it learns to make answers up.
    "L": {
        "qa": Tuning(1600, 5, 16, 5e-4), "math": Tuning(1600, 1, 16, 5e-4), "sum": Tuning(1600, 3, 16, 5e-4),
        "mc": Tuning(1600, 3, 16, 5e-4),
    },
}
MULTI = {"S": Tuning(1600, 1, 16, 1e-3), "L": Tuning(1000, 1, 16, 5e-4)}
"""The members tuned on all tasks at once; items are counted per task."""


def members(work: Path, seed: int, quick: bool) -> dict[str, Callable[[], None]]:
    """Every member by name, with what makes it, in an order in which each finds its base."""
    folder, models = work / "data", work / f"seed{seed}"

    def base(name: str) -> None:
        schedule = STAGES[name]
        if quick:
            schedule = train.Schedule(60, schedule.rate, muon=True)
        second = name == "L"
        start = model.load(models / "L1.pt") if second else model.SHAPES[name[0]]
        vocabulary = tokenizer.load(folder).get_vocab_size()
        train.pretrain(start, data.stream(folder, 2 if second else 1), vocabulary, models / f"{name}.pt", seed, BATCH,
                       LENGTH, schedule)

    def tuned(size: str, name: str, tasks: list[str], tuning: Tuning) -> None:
        items = data.common_items if size == "L" else data.tuning_items
        rows = [item for task in tasks for item in items(folder, task)[: tuning.items]]
        train.finetune(models / f"{size}.pt", rows, tokenizer.load(folder), models / f"{size}-{name}.pt", seed,
                       tuning.batch, 0.05 if quick else tuning.epochs, tuning.rate)

    made: dict[str, Callable[[], None]] = {}
    for size in ("S", "L"):
        for name in ("L1", "L") if size == "L" else ("S",):
            made[name] = lambda name=name: base(name)
        for task in TASKS:
            made[f"{size}-{task}"] = lambda size=size, task=task: tuned(size, task, [task], TUNING[size][task])
        made[f"{size}-all"] = lambda size=size: tuned(size, "all", list(TASKS), MULTI[size])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where data and checkpoints go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="members; everything if left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a few steps each, to see that it all runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plan = data.DataPlan(characters=1e6, second_stage_characters=3e5, train=400) if options.quick else data.DataPlan()
    data.write(options.work / "data", plan)
    for name, make in members(options.work, options.seed, options.quick).items():
        out = options.work / f"seed{options.seed}" / f"{name}.pt"
        if not out.exists() and (options.only is None or name in options.only):
            make()


if __name__ == "__main__":
    main()
