"""What a validation split says of experts and strengths, without decoding: a greedy text is the card if and only if every token
of the card is the favourite after those before it.

    python sweep.py --model ../../models/smollm2-fp32 --work DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import cards
import smollm2
from helper import load
from examples import Example

EXPERTS = ("ordinary", "held", "open")
ALPHAS = (0.5, 1.0, 1.5, 2.0)


@torch.no_grad()
def top_logprobs(large: Path, work: Path, items: list[cards.Item]) -> list[dict]:
    """For every way to fuse, which tokens of an item's card it gets right, given those before."""
    big, base, tok = smollm2.SmolLm2(large), load(work / "base.pt"), smollm2.tokenizer(large)
    experts = {name: load(work / f"{name}.pt") for name in EXPERTS}
    out = []
    for item in items:
        e = Example.of(item, tok)
        ids, start, answer = torch.tensor([e.tokens]), len(e.prompt) - 1, torch.tensor(e.answer)
        row = lambda model: model(ids)[0, start:].log_softmax(-1)  # noqa: E731
        l, s = row(big), row(base)
        ways: dict[str, Tensor] = {"large": l, "base": s}
        for name, expert in experts.items():
            t = row(expert)
            ways |= {name: t} | {f"{name} {alpha}": l + alpha * (t - s) for alpha in ALPHAS}
        right = {way: (rows.argmax(-1) == answer).tolist() for way, rows in ways.items()}
        out.append({"id": item.id, "kind": item.kind, "value": e.value, "tokens": [tok.decode([a]) for a in e.answer], "right": right})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="models/smollm2-fp32")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--each", type=int, help="items of a kind; all if left out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = cards.split(cards.SEED)["validation"]
    items = [i for kind in cards.KINDS for i in [i for i in items if i.kind == kind][: options.each]]
    records = top_logprobs(options.model, options.work, items)
    (options.work / "sweep.json").write_text(json.dumps(records))
    print(f"{'':16}" + "".join(f"{kind:>10}" for kind in cards.KINDS) + f"{'all':>10}{'style':>10}{'values':>10}")
    for way in records[0]["right"]:
        shares = []
        for kind in (*cards.KINDS, None):
            hits = [all(r["right"][way]) for r in records if kind in (None, r["kind"])]
            shares.append(sum(hits) / len(hits))
        for wanted in (False, True):
            tokens = [ok for r in records for ok, value in zip(r["right"][way], r["value"], strict=True) if bool(value) == wanted]
            shares.append(sum(tokens) / len(tokens))
        print(f"{way:16}" + "".join(f"{100 * share:10.1f}" for share in shares))


if __name__ == "__main__":
    main()
