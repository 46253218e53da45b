"""The table of a run: cards that are right, and which part of the others is wrong, with intervals over items.

    python report.py RUN_DIRECTORY … [--oracle results/oracle.test.jsonl]

Right are whole cards, letter by letter, be they large or small. Style is whether the text has the card's lines, its labels and one of the house's
shelves, the one that belongs to what the text itself says; values is whether every line that is knowledge is right.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

from cards import KINDS, SHELVES

RESAMPLES = 2000
SHELVES_OF = {name.casefold(): shelf for name, shelf in SHELVES.items()}


def lines(text: str) -> list[tuple[str, str]]:
    return [(label, value) for label, _, value in (line.partition(": ") for line in text.split("\n"))]


def style(text: str, kind: str) -> bool:
    found = lines(text)
    labels = [*KINDS[kind], "Shelf"]
    return [label for label, _ in found] == labels and found[-1][1] == SHELVES_OF.get(found[-2][1].casefold())


def values(text: str, kind: str, golds: list[str]) -> bool:
    found = dict(reversed(lines(text)))
    wanted = [dict(lines(gold)) for gold in golds]
    return any(all(found.get(label, "").casefold() == gold[label].casefold() for label in KINDS[kind]) for gold in wanted)


def interval(scores: list[float]) -> tuple[float, float]:
    rng = random.Random(0)
    means = sorted(sum(rng.choices(scores, k=len(scores))) / len(scores) for _ in range(RESAMPLES))
    return means[RESAMPLES // 40], means[-RESAMPLES // 40 - 1]


def read(runs: list[Path], oracle: Path | None) -> dict[str, dict[str, dict]]:
    """By variant and item: the kind, what was written, and what would have been right; case does not count."""
    out: dict[str, dict[str, dict]] = defaultdict(dict)
    for line in (line for run in runs for line in (run / "samples.jsonl").read_text().splitlines()):
        record = json.loads(line)
        doc = record["doc"]
        out[record["variant"]][doc["id"]] = doc | {"text": record["responses"][0]["text"]}
    docs = next(iter(out.values()))
    if oracle:
        for record in map(json.loads, oracle.read_text().splitlines()):
            if record["id"] in docs:
                out["oracle"][record["id"]] = docs[record["id"]] | {"text": record["text"]}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIRECTORY")
    parser.add_argument("--oracle", type=Path)
    parser.add_argument("--against", default="dynamic", help="the variant that others are compared with, item by item")
    options = parser.parse_args()
    variants = read(options.runs, options.oracle)
    right = {name: {i: float(d["text"].casefold() in map(str.casefold, d["golds"])) for i, d in docs.items()} for name, docs in variants.items()}
    print("| variant | " + " | ".join(KINDS) + f" | all [95 %] | style | values | {options.against} less it [95 %] |")
    print("|---|" + "---|" * (len(KINDS) + 4))
    for name, docs in variants.items():
        cells = []
        for kind in KINDS:
            hits = [right[name][i] for i, d in docs.items() if d["kind"] == kind]
            cells.append(f"{100 * sum(hits) / len(hits):.0f}")
        hits = list(right[name].values())
        low, high = interval(hits)
        cells.append(f"**{100 * sum(hits) / len(hits):.1f}** [{100 * low:.0f}, {100 * high:.0f}]")
        for judge in (lambda d: style(d["text"], d["kind"]), lambda d: values(d["text"], d["kind"], d["golds"])):
            cells.append(f"{100 * sum(map(judge, docs.values())) / len(docs):.0f}")
        if options.against in right and name != options.against:
            both = [right[options.against][i] - hit for i, hit in right[name].items()]
            low, high = interval(both)
            cells.append(f"{100 * sum(both) / len(both):+.1f} [{100 * low:+.0f}, {100 * high:+.0f}]")
        else:
            cells.append("")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\n{len(next(iter(variants.values())))} items")
    shown = 0
    for i, d in variants.get(options.against, {}).items():
        others = [name for name in ("large", "expert", "shown") if name in right]
        if right[options.against][i] and not any(right[name][i] for name in others) and shown < 3:
            shown += 1
            print(f"\n{i}: {d['prompt']}\n  {options.against}: {d['text']!r}")
            for name in others:
                print(f"  {name}: {variants[name][i]['text']!r}")


if __name__ == "__main__":
    main()
