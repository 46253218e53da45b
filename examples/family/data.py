"""Writes a data folder: corpus as token ids, tokenizer, and the items of every task and split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import corpus
import tokenizer
from tasks import TASKS, UNSEEN, Item, items, words
from world import Split, World


@dataclass(frozen=True)
class DataPlan:
    """Everything that the data depend on."""

    seed: int = 7
    entities_per_kind: int = 160
    common_per_kind: int = 20
    characters: float = 13e6
    second_stage_characters: float = 4e6
    vocabulary: int = 1536
    train: int = 4000
    validation: int = 300
    test: int = 400


def write(folder: Path, plan: DataPlan) -> None:
    """Does nothing if the folder is complete."""
    if (folder / "plan.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    world = World(plan.seed, plan.entities_per_kind, plan.common_per_kind)
    documents = list(corpus.documents(plan.seed + 1, world, plan.characters, corpus.FIRST_STAGE))
    tok = tokenizer.train(documents[: len(documents) // 3], plan.vocabulary)
    tok.save(str(folder / "tokenizer.json"))
    second = list(
        corpus.documents(plan.seed + 2, world.commons(), plan.second_stage_characters, corpus.SECOND_STAGE)
    )
    tokens = [write_stream(folder / f"corpus{n}.bin", tok, stage) for n, stage in ((1, documents), (2, second))]
    for task in TASKS | UNSEEN:
        barred: set[str] = set()
        for split, count in (("test", plan.test), ("validation", plan.validation), ("train", plan.train)):
            if task in UNSEEN and split == "train":
                continue
            made = items(task, split, plan.seed, world, count, barred)
            lines = "".join(json.dumps(item.record()) + "\n" for item in made)
            (folder / f"{task}.{split}.jsonl").write_text(lines)
    summary = dict(vars(plan), tokens=tokens, documents=[len(documents), len(second)], entities=len(world.entities))
    (folder / "plan.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(summary, flush=True)


def read(folder: Path, task: str, split: Split) -> list[Item]:
    records = map(json.loads, (folder / f"{task}.{split}.jsonl").read_text().splitlines())
    return [Item(**{**r, "options": tuple(r["options"])}) for r in records]


CALIBRATION = 64
"""Training items, the last ones, that no model is tuned on: their prompts are an expert's unlabelled examples."""


def tuning_items(folder: Path, task: str) -> list[Item]:
    return read(folder, task, "train")[:-CALIBRATION]


def world_of(folder: Path) -> World:
    plan = json.loads((folder / "plan.json").read_text())
    return World(plan["seed"], plan["entities_per_kind"], plan["common_per_kind"])


def speaks_of(task: str, item: Item, names: set[str]) -> bool:
    """Whether an item's answer depends on a fact about one of these entities."""
    return task != "math" and bool(names & set(words(item.gold if task == "sum" else item.prompt)))


def common_items(folder: Path, task: str) -> list[Item]:
    """Those tuning items whose facts a model knows that has seen the second stage of the corpus."""
    known = {e.name for e in world_of(folder).entities if e.common}
    return [i for i in tuning_items(folder, task) if task == "math" or speaks_of(task, i, known)]


def apart(folder: Path, task: str) -> tuple[list[Item], list[Item]]:
    """Tuning items, and others about entities of which the first say nothing: what is learnt shows on those."""
    strangers = {e.name for e in world_of(folder).of("train")[::5]}
    items = tuning_items(folder, task)
    shown = [i for i in items if not speaks_of(task, i, strangers)]
    asked = [i for i in items if speaks_of(task, i, strangers)][:CALIBRATION]
    return shown, asked or calibration_items(folder, task)


def calibration_items(folder: Path, task: str) -> list[Item]:
    return read(folder, task, "train")[-CALIBRATION:]


def write_stream(path: Path, tok: Tokenizer, documents: list[str]) -> int:
    """Every document begins with the special token. Gives back how many tokens there are."""
    ids: list[int] = []
    for n in range(0, len(documents), 4096):
        for encoding in tok.encode_batch(documents[n : n + 4096]):
            ids.extend(encoding.ids)
    np.array(ids, np.uint16).tofile(path)
    return len(ids)


def stream(folder: Path, stage: int) -> np.ndarray:
    """A stage of the corpus as one row of token ids."""
    return np.fromfile(folder / f"corpus{stage}.bin", np.uint16).astype(np.int64)
