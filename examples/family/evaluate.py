"""Scores members and fusions on items; `report.py` says how sure the numbers are.

    python evaluate.py --work DIR --seed 1 --split validation [--tasks qa math] [--methods L S_t ...] --out FILE

Writes one JSON line a task and method to FILE. Lines of the file that exist are not made again, so it resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

import data
import model
import rules
import tokenizer
from decode import Decoded, Rule, Source, decode
from fingerprint import PROMPTS, Fingerprints
from tasks import NEW_TOKENS, TASKS, UNSEEN, Item, grade
from tokenizer import END, plain

STATIC = (0.0, 0.5, 1.0, 1.5, 2.0)
SHOTS = {"qa": 5, "math": 4, "sum": 3, "mc": 5}


class Family:
    """The members of one training seed, and the methods that they make possible."""

    def __init__(self, work: Path, seed: int):
        self.folder, self.models = work / "data", work / f"seed{seed}"
        self.tokenizer = tokenizer.load(self.folder)
        self.end = self.tokenizer.token_to_id(END)
        self._loaded: dict[str, model.Decoder] = {}
        self._read: dict[tuple[str, str, bool], Source] = {}

    def has(self, name: str) -> bool:
        return (self.models / f"{name}.pt").exists()

    def __getitem__(self, name: str) -> model.Decoder:
        if name not in self._loaded:
            self._loaded[name] = model.load(self.models / f"{name}.pt")
        return self._loaded[name]

    def prompts(self, items: list[Item]) -> list[list[int]]:
        return [[self.end, *plain(self.tokenizer, item.prompt)] for item in items]

    def few_shot(self, task: str, items: list[Item]) -> list[list[int]]:
        """Every item after its own draw of solved training items, one below the other, as one document."""
        rng = random.Random(5)
        shown = data.read(self.folder, task, "train")
        out = []
        for item in items:
            shots = "".join(f"{s.prompt}{s.answer}\n\n" for s in rng.sample(shown, SHOTS[task]))
            out.append([self.end, *plain(self.tokenizer, shots + item.prompt)])
        return out

    def fingerprints(self) -> Fingerprints:
        """Of the experts in the order of the tasks, from prompts that nobody was tuned on."""
        own = [self.prompts(data.calibration_items(self.folder, task)[:PROMPTS]) for task in TASKS]
        helpers = [self["S"], *(self[f"S-{task}"] for task in TASKS)]
        return Fingerprints.of([torch.stack([Source(m, prompts).row for m in helpers]) for prompts in own])

    def forget(self) -> None:
        """Drops what sources have read, with the caches that hold it."""
        self._read.clear()

    def source(self, name: str, task: str, items: list[Item], few_shot: bool = False) -> Source:
        """A member that has read the prompts; several methods share it."""
        key = (name, task, few_shot)
        if key not in self._read:
            prompts = self.few_shot(task, items) if few_shot else self.prompts(items)
            self._read[key] = Source(self[name], prompts)
        return self._read[key]

    def run(self, method: str, task: str, items: list[Item]) -> Decoded | None:
        """Texts of one method; nothing where the method does not apply."""

        def read(name: str, few_shot: bool = False) -> Source:
            return self.source(name, task, items, few_shot)

        def alone(source: Source) -> Decoded:
            return decode(rules.alone, source, self.end, NEW_TOKENS[task])

        def fuse(rule: Rule, tasks: list[str], few_shot: bool = False, kind: str = "") -> Decoded:
            experts = [read(f"S-{t}{kind}") for t in tasks]
            return decode(rule, read("L", few_shot), self.end, NEW_TOKENS[task], read("S"), experts)

        members = {"L": "L", "S": "S", "L_all": "L-all", "S_all": "S-all", "S_t": f"S-{task}",
                   "S_t ordinary": f"S-{task}-ordinary", "L_t": f"L-{task}"}
        if method in members:
            return alone(read(members[method])) if self.has(members[method]) else None
        if method in MULTI:
            return fuse(self.multi(method), list(TASKS))
        if task not in TASKS:
            return None
        if method == "L few-shot":
            return alone(read("L", few_shot=True))
        if method == "few-shot + dynamic":
            return fuse(rules.single(rules.dynamic()), [task], few_shot=True)
        strengths = {f"static {a:g}": rules.static(a) for a in STATIC} | {
            "dynamic grid": rules.dynamic(exact=False),
            "dynamic": rules.dynamic(),
            "dynamic <= 1": rules.dynamic(highest=1.0),
            "jeffreys": rules.dynamic(objective="jeffreys"),
            "forward": rules.dynamic(objective="forward"),
            "reverse": rules.dynamic(objective="reverse"),
        }
        strength = method.removesuffix(" ordinary")
        if strength not in strengths:
            raise SystemExit(f"{method}: no such method")
        kind = "" if strength == method else "-ordinary"
        return fuse(rules.single(strengths[strength]), [task], kind=kind)

    def multi(self, method: str) -> Rule:
        """A rule over all experts."""
        if method == "one_expert":
            return rules.paper_multi
        if method.startswith("arithmetic"):
            return rules.arithmetic({"arithmetic 1/T": 1 / len(TASKS), "arithmetic 1": 1.0}[method])
        chosen = rules.held(self.fingerprints().decide)
        strength = rules.dynamic()
        if method == "selected <= 1":
            strength = rules.dynamic(highest=1.0)
        if method == "selected static":
            strength = rules.static(1.0)
        weighting = {"uniform": rules.uniform, "kl": rules.by_kl}.get(method, chosen)
        return rules.pooled(weighting, strength)


SINGLE = ["L", "L few-shot", "S", "S_t", "S_t ordinary", "L_t", "L_all", "S_all", *(f"static {a:g}" for a in STATIC), "dynamic grid",
          "dynamic", "dynamic <= 1", "jeffreys", "forward", "reverse", "few-shot + dynamic", "static 1 ordinary",
          "dynamic ordinary"]
MULTI = ["one_expert", "uniform", "kl", "arithmetic 1/T", "arithmetic 1", "selected", "selected <= 1", "selected static"]


SHOWN = ["L", "S_t", "L_t", "dynamic", "selected"]
"""Methods whose texts are kept, and not their scores alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--tasks", nargs="*", default=[*TASKS, *UNSEEN])
    parser.add_argument("--methods", nargs="*", default=[*SINGLE, *MULTI])
    parser.add_argument("--items", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    family = Family(options.work, options.seed)
    there: set[tuple[str, str]] = set()
    if options.out.exists():
        there = {(r["task"], r["method"]) for r in map(json.loads, options.out.read_text().splitlines())}
    for task in options.tasks:
        family.forget()
        items = data.read(family.folder, task, options.split)[: options.items]
        for method in options.methods:
            if (task, method) in there:
                continue
            began = time.monotonic()
            decoded = family.run(method, task, items)
            if decoded is None:
                continue
            texts = family.tokenizer.decode_batch(decoded.tokens)
            record = dict(task=task, method=method, ids=[item.id for item in items],
                          scores=[round(grade(task, text, item), 4) for text, item in zip(texts, items, strict=True)])
            strengths = [alpha for item in decoded.alphas for alpha in item]
            if strengths and not method.startswith("static"):
                record["alpha_10_50_90"] = [round(float(q), 3) for q in np.percentile(strengths, [10, 50, 90])]
            if method in SHOWN:
                record["texts"] = texts
            with options.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{task} {method}: {100 * np.mean(record['scores']):.1f} in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
