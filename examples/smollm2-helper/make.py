"""Remakes everything: items, corpus, small base, experts, oracle, ONNX folders. What exists is left alone.

    python make.py --large ../../models/smollm2-fp32 --work work

Killed at any time, the same command goes on: the corpus after its last batch, a training from its checkpoint.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Threads that wait for each other must not spin where other programs want the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import cards
import corpus
import export
import oracle
import pretrain
import smollm2
import tune

HERE = Path(__file__).resolve().parent
BATCHES = {"free": 1, "asked": 2}
EXPERTS = {"ordinary": frozenset(), "held": frozenset({cards.OPEN, cards.CLOSED}), "open": frozenset({cards.OPEN})}
"""Which values each is held at."""
SHIPPED = {"base": "base", "expert": "ordinary"}
"""Folders, and the checkpoints that they are written from."""


def stages(large: Path, work: Path, models: Path, seed: int) -> dict[str, Callable[[], None]]:
    """What is made by name, in an order in which each finds what it needs."""
    items, tok = cards.split(cards.SEED), smollm2.tokenizer(large)
    base = work / "base.pt"

    def conversations() -> None:
        for kind, batches in BATCHES.items():
            corpus.write_all(large, work / "corpus", kind, batches, seed)

    def once(out: Path, make: Callable[[], None]) -> None:
        if not out.exists():
            make()

    made: dict[str, Callable[[], None]] = {"items": lambda: cards.write(cards.SEED, HERE / "data"), "corpus": conversations}
    made["base"] = lambda: once(base, lambda: pretrain.pretrain(large, work / "corpus", base, seed))
    for name, held in EXPERTS.items():
        out = work / f"{name}.pt"
        made[name] = partial(once, out, partial(tune.finetune, base, items["tuning"], tok, out, seed, held))
    made["oracle"] = lambda: oracle.run(large, work, seed, None, None)
    made["export"] = lambda: [
        export.export(work / f"{checkpoint}.pt", large.parent / "smollm2-int8", models / name, items["validation"][::6])
        for name, checkpoint in SHIPPED.items()
    ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, required=True, help="models/smollm2-fp32")
    parser.add_argument("--work", type=Path, required=True, help="where corpus and checkpoints go")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="where the ONNX folders go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="stages; everything if left out")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, make in stages(options.large, options.work, options.models, options.seed).items():
        if options.only is None or name in options.only:
            make()


if __name__ == "__main__":
    main()
