"""The task: an index card of a country, a city, an animal or a person, in a house style that nobody could know.

    Write the index card of the country Kenya.

    Country: Kenya
    Capital: Nairobi
    Continent: Africa
    Shelf: A1

What fills the card is general knowledge, which the large model has and the small one has not. What the card looks like, and
that African things stand on shelf A1, is the house's affair: only tuning on solved cards, or being told, can teach it. The
split is by entity, so no tuned model has seen the card of a test item.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from facts import ALIASES, ANIMALS, CAPITALS, CITIES, CONTINENTS, PEOPLE

KINDS = {
    "country": ("Country", "Capital", "Continent"), "city": ("City", "Country", "Continent"),
    "animal": ("Animal", "Class"), "person": ("Person", "Country", "Field"),
}
"""The lines of each kind's card. One more follows, the shelf."""

SHELVES = dict(zip(CONTINENTS, ("A1", "B2", "C3", "D4", "E5", "F6"), strict=True)) | dict(
    zip(ANIMALS, ("M1", "W2", "S3", "R4", "P5", "K6"), strict=True)
) | {"literature": "L1", "painting": "G2", "music": "H3", "science": "N4", "philosophy": "T5", "politics": "V6"}
"""The house's shelves: after the continent, the class or the field."""

OPEN, CLOSED = "open", "closed"
"""Values that may be anything, and values of which the house has a short list: what to call them is its style."""
ENUMERATED = {"Continent", "Class", "Field"}

SPLITS = {"tuning": 0.5, "validation": 0.15, "test": 0.35}
SHOTS = 5
SEED = 1
"""Of the split. Trainings have seeds of their own."""


@dataclass(frozen=True)
class Item:
    id: str
    kind: str
    name: str
    prompt: str
    told: str
    """The prompt with everything that the house style asks for."""
    answer: str
    golds: list[str]
    """Every card that counts as right, `answer` first."""

    def accepts(self, text: str) -> bool:
        """Letter by letter, be they large or small."""
        return text.casefold() in [gold.casefold() for gold in self.golds]


def entities() -> dict[str, list[tuple[str, ...]]]:
    """By kind, what stands on every line but the last."""
    words = lambda text: [" ".join(word.split()) for word in text.split(",")]  # noqa: E731
    countries = []
    for continent, text in CAPITALS.items():
        for pair in text.split(";"):
            pair = " ".join(pair.split())
            name, capital = pair.split("=") if "=" in pair else pair.split(" ", 1)
            countries.append((name, capital, continent))
    return {
        "country": countries,
        "city": [
            (city, country, continent)
            for continent, found in CITIES.items() for country, text in found.items() for city in words(text)
        ],
        "animal": [(animal, kind) for kind, text in ANIMALS.items() for animal in words(text)],
        "person": [(person, country, field) for (field, country), text in PEOPLE.items() for person in words(text)],
    }


def card(kind: str, values: tuple[str, ...]) -> str:
    lines = [f"{label}: {value}" for label, value in zip(KINDS[kind], values, strict=True)]
    return "\n".join([*lines, f"Shelf: {SHELVES[values[-1]]}"])


def told(kind: str, prompt: str) -> str:
    names = {"animal": ANIMALS, "person": [field for field in SHELVES if field.islower() and field not in ANIMALS]}.get(
        kind, CONTINENTS
    )
    labels = KINDS[kind]
    shelves = ", ".join(f"{SHELVES[name]} for {name}" for name in names)
    lines = ", ".join(f'"{label}: ..."' for label in (*labels, "Shelf"))
    return f"{prompt} Write {len(labels) + 1} lines and nothing else: {lines}. The shelf goes by the {labels[-1].lower()}: {shelves}."


def item(kind: str, values: tuple[str, ...], split: str, n: int) -> Item:
    prompt = f"Write the index card of the {kind} {values[0]}."
    same = [(value, *ALIASES.get(value, ())) for value in values[1:]]
    golds = [
        f"{card(kind, values).splitlines()[0]}\n" + "\n".join(f"{label}: {v}" for label, v in zip(KINDS[kind][1:], choice, strict=True))
        + f"\nShelf: {SHELVES[values[-1]]}"
        for choice in itertools.product(*same)
    ]
    return Item(f"{kind}-{split}-{n}", kind, values[0], prompt, told(kind, prompt), golds[0], golds)


def split(seed: int) -> dict[str, list[Item]]:
    """Items of every split, the kinds one after the other."""
    out: dict[str, list[Item]] = {name: [] for name in SPLITS}
    taken: set[str] = set()
    for kind, rows in entities().items():
        rows = [row for row in rows if row[0] not in taken]
        taken.update(row[0] for row in rows)
        random.Random(f"{seed} {kind}").shuffle(rows)
        ends = [round(len(rows) * share) for share in itertools.accumulate(SPLITS.values())]
        for name, start, end in zip(SPLITS, [0, *ends], ends, strict=False):
            out[name] += [item(kind, values, name, n) for n, values in enumerate(rows[start:end])]
    return out


def write(seed: int, out: Path) -> None:
    """For each kind what is asked in validation and test, and cards of the tuning split to show."""
    out.mkdir(parents=True, exist_ok=True)
    for name, items in split(seed).items():
        for kind in KINDS:
            chosen = [i for i in items if i.kind == kind]
            kept = ("shots", shots(chosen)) if name == "tuning" else (name, chosen)
            (out / f"{kind}.{kept[0]}.jsonl").write_text("".join(json.dumps(asdict(i)) + "\n" for i in kept[1]))


def shots(items: list[Item]) -> list[Item]:
    """Cards to show in a prompt: as many different shelves as there are places."""
    by_shelf: dict[str, Item] = {}
    for i in items:
        by_shelf.setdefault(i.answer.rsplit(" ", 1)[-1], i)
    return [*by_shelf.values(), *items][:SHOTS]


def values_of(item: Item) -> list[tuple[str, int, int]]:
    """Where the answer's values stand, in characters: what comes after `:` on the lines above the shelf, line end excluded."""
    spans, start = [], 0
    for line in item.answer.split("\n"):
        label = line.partition(":")[0]
        if label != "Shelf":
            spans.append((CLOSED if label in ENUMERATED else OPEN, start + len(label) + 1, start + len(line)))
        start += len(line) + 1
    return spans


if __name__ == "__main__":
    for name, items in split(SEED).items():
        print(name, {kind: sum(i.kind == kind for i in items) for kind in KINDS})
    for kind in KINDS:
        example = next(i for i in split(SEED)["tuning"] if i.kind == kind)
        print(example.told, example.answer, sep="\n", end="\n\n")
