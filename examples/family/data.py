"""Writes a data folder: corpus as token ids, tokenizer, and the items of every task and split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import corpus
import tokenizer
from tasks import TASKS, UNSEEN, Item, items
from world import Split, World


@dataclass(frozen=True)
class DataPlan:
    """Everything that the data depend on."""

    seed: int = 7
    entities_per_kind: int = 160
    characters: float = 13e6
    vocabulary: int = 1536
    train: int = 4000
    validation: int = 300
    test: int = 400


def write(folder: Path, plan: DataPlan) -> None:
    """Does nothing if the folder is complete."""
    if (folder / "plan.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    world = World(plan.seed, plan.entities_per_kind)
    documents = list(corpus.documents(plan.seed + 1, world, plan.characters))
    tok = tokenizer.train(documents[: len(documents) // 3], plan.vocabulary)
    tok.save(str(folder / "tokenizer.json"))
    ids: list[int] = []
    for n in range(0, len(documents), 4096):
        for encoding in tok.encode_batch(documents[n : n + 4096]):
            ids.extend(encoding.ids)
    np.array(ids, np.uint16).tofile(folder / "corpus.bin")
    for task in TASKS | UNSEEN:
        barred: set[str] = set()
        for split, count in (("test", plan.test), ("validation", plan.validation), ("train", plan.train)):
            if task in UNSEEN and split == "train":
                continue
            made = items(task, split, plan.seed, world, count, barred)
            lines = "".join(json.dumps(item.record()) + "\n" for item in made)
            (folder / f"{task}.{split}.jsonl").write_text(lines)
    summary = dict(vars(plan), tokens=len(ids), documents=len(documents), entities=len(world.entities))
    (folder / "plan.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(summary, flush=True)


def read(folder: Path, task: str, split: Split) -> list[Item]:
    records = map(json.loads, (folder / f"{task}.{split}.jsonl").read_text().splitlines())
    return [Item(**{**r, "options": tuple(r["options"])}) for r in records]


CALIBRATION = 64
"""Training items, the last ones, that no model is tuned on: their prompts are an expert's unlabelled examples."""


def tuning_items(folder: Path, task: str) -> list[Item]:
    return read(folder, task, "train")[:-CALIBRATION]


def calibration_items(folder: Path, task: str) -> list[Item]:
    return read(folder, task, "train")[-CALIBRATION:]


def stream(folder: Path) -> np.ndarray:
    """The corpus as one row of token ids; every document begins with the special token."""
    return np.fromfile(folder / "corpus.bin", np.uint16).astype(np.int64)
