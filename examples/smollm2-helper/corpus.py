"""The corpus of the small base: conversations that SmolLM2 writes, with what it thought at every token.

The large model is given the beginning of a question, or nothing but the sign that a question begins, and writes on: the rest
of the question, its answer, the next question. Kept with every token are the likeliest next ones and their
log-probabilities, so that the small model can learn from them without the large one.

    python corpus.py --model DIR --out DIR --kind free --batches 10
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import smollm2
from questions import question
from smollm2 import END, SYSTEM, SmolLm2

ROWS, LENGTH = 64, 224
"""Conversations of a batch, and how many tokens of each are written behind the system's turn."""
LIKELY = 32
TEMPERATURE = 0.9
LONGEST_QUESTION = 64
"""Tokens after which a question is ended that the model does not end."""

BEGIN = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
ASK, ANSWER = "\n<|im_start|>user\n", "\n<|im_start|>assistant\n"


class Row:
    """Whose turn it is in one conversation, and the tokens that are given and not sampled."""

    def __init__(self, encode: Callable[[str], list[int]], ask: Callable[[], str | None]):
        self.encode, self.ask, self.asking, self.spoken = encode, ask, True, 0
        self.given = self.next_question()

    def next_question(self) -> list[int]:
        given = self.ask()
        return [*self.encode(given), END] if given else []

    def choose(self, sampled: int) -> int:
        self.spoken += 1
        if not self.given and self.asking and self.spoken >= LONGEST_QUESTION:
            sampled = END
        token = self.given.pop(0) if self.given else sampled
        if token == END:
            self.asking, self.spoken = not self.asking, 0
            self.given = [*self.encode(ASK), *self.next_question()] if self.asking else self.encode(ANSWER)
        return token


@torch.no_grad()
def write(model: SmolLm2, encode: Callable[[str], list[int]], ask: Callable[[], str | None], seed: int, out: Path) -> None:
    torch.manual_seed(seed)
    rows = [Row(encode, ask) for _ in range(ROWS)]
    begin = encode(BEGIN)
    cache = model.cache(ROWS, len(begin) + LENGTH)
    tokens = np.empty((ROWS, len(begin) + LENGTH), np.uint16)
    tokens[:, : len(begin)] = begin
    ids = np.empty((ROWS, LENGTH, LIKELY), np.uint16)
    log_probs = np.empty((ROWS, LENGTH, LIKELY), np.float16)
    feed = torch.tensor([begin]).expand(ROWS, -1)
    for step in range(LENGTH):
        logits = model.hidden(feed, cache)[:, -1] @ model.embed.T
        best, which = logits.log_softmax(-1).topk(LIKELY)
        ids[:, step], log_probs[:, step] = which.numpy(), best.half().numpy()
        sampled = torch.multinomial((logits / TEMPERATURE).softmax(-1), 1)[:, 0].tolist()
        chosen = [row.choose(token) for row, token in zip(rows, sampled, strict=True)]
        tokens[:, len(begin) + step] = chosen
        feed = torch.tensor(chosen)[:, None]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp.npz")
    np.savez(temporary, tokens=tokens, ids=ids, log_probs=log_probs)
    temporary.replace(out)


def write_all(folder: Path, out: Path, kind: str, batches: int, seed: int) -> None:
    """`free` conversations invent their questions, `asked` ones are given them. Batches that exist are left alone."""
    missing = [n for n in range(batches) if not (out / f"{kind}-{n:03}.npz").exists()]
    if not missing:
        return
    model, tok = SmolLm2(folder), smollm2.tokenizer(folder)
    for n in missing:
        rng = random.Random(f"{seed} {kind} {n}")
        began = time.monotonic()
        write(model, lambda text: tok.encode(text, add_special_tokens=False).ids,
              (lambda: question(rng)) if kind == "asked" else lambda: None, rng.randrange(2**31), out / f"{kind}-{n:03}.npz")
        print(f"{kind}-{n:03}: {ROWS * LENGTH} tokens in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="models/smollm2-fp32")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=["free", "asked"], required=True)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    write_all(options.model, options.out, options.kind, options.batches, options.seed)
