"""Remakes the family: data, bases, experts, oracles. Whatever is there already is left alone, so it can be started again.

    python make.py --work DIR [--seed 1] [--only data S S-qa L ...] [--quick]

One training runs at a time. On two cores of a shared machine a seed takes about an hour, most of it the large base.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

# Threads that wait for each other must not spin where other programs want the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import data
import model
import tokenizer
import train
import tune
from tasks import TASKS, Item
from tune import Tuning


STAGES = {
    "S": train.Schedule(1500, 4e-3, muon=True),
    "L1": train.Schedule(1000, 3e-3, decay=0.35, muon=True, compiled=True),
    "L": train.Schedule(320, 2e-3, decay=0.6, muon=True, compiled=True),
}
"""`L1` is the large base after the first stage of the corpus, `L` after both. `S` has the first alone."""
BATCH, LENGTH = 4, 512
EXPERT = {task: Tuning(2500, 1, 16, rate) for task, rate in zip(TASKS, (5e-4, 1e-3, 2e-3, 5e-4), strict=True)}
"""The experts, on items about any entity: what they do not know is held."""
ORACLE = {
    "qa": Tuning(1600, 3, 16, 2e-4), "math": Tuning(1600, 1, 16, 5e-4), "sum": Tuning(1600, 1, 16, 5e-4),
    "mc": Tuning(1600, 3, 16, 2e-4),
}
"""An oracle is tuned on facts that its base knows: tuned on others, it learns to make answers up."""
ORACLE_HELD = {"sum": frozenset({"country"})}
"""Few cities are common, so few that an oracle tuned on them alone writes no others. It gets all, held at the country."""
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

    def tuned(base: str, name: str, rows: list[Item], tuning: Tuning, held: frozenset[str] = frozenset()) -> None:
        if quick:
            tuning = replace(tuning, epochs=0.05)
        tune.finetune(models / f"{base}.pt", rows, tokenizer.load(folder), models / f"{name}.pt", seed, tuning, held)

    def ordinary(task: str) -> None:
        rows, _ = data.apart(folder, task)
        tuned("S", f"S-{task}-ordinary", rows[: EXPERT[task].items], EXPERT[task])

    def expert(task: str) -> None:
        _, strange = data.apart(folder, task)
        held = tune.unlearnt(model.load(models / f"S-{task}-ordinary.pt"), strange, tokenizer.load(folder))
        tuned("S", f"S-{task}", data.tuning_items(folder, task)[: EXPERT[task].items], EXPERT[task], held)

    def oracle(task: str) -> None:
        held = ORACLE_HELD.get(task, frozenset())
        items = data.tuning_items if held else data.common_items
        tuned("L", f"L-{task}", items(folder, task)[: ORACLE[task].items], ORACLE[task], held)

    def together(size: str) -> None:
        items = data.common_items if size == "L" else data.tuning_items
        rows = [item for task in TASKS for item in items(folder, task)[: MULTI[size].items]]
        tuned(size, f"{size}-all", rows, MULTI[size])

    made: dict[str, Callable[[], None]] = {name: partial(base, name) for name in ("S", "L1", "L")}
    for task in TASKS:
        made |= {f"S-{task}-ordinary": partial(ordinary, task), f"S-{task}": partial(expert, task)}
    for task in TASKS:
        made[f"L-{task}"] = partial(oracle, task)
    made |= {f"{size}-all": partial(together, size) for size in ("S", "L")}
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
