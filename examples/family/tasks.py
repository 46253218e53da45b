"""The four tasks that experts are tuned for, and a fifth that none has seen.

    qa     a question without options          exact match: the value, bare or after "The answer is"
    math   three gains and losses, worked out  exact match of the last number
    sum    an article in one line that also names the country, which the article does not     ROUGE-2 F1
    mc     a question with three options       exact match: the value, bare or after "It is" (chance: 1/3)
    cloze  the unseen one: plain prose, cut before its last value      exact match of the value
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from corpus import or_list
from facts import KINDS
from scenes import News, Story
from world import Split, World


@dataclass(frozen=True)
class Item:
    id: str
    prompt: str
    answer: str
    """What the expert is tuned to write after the prompt."""
    gold: str
    """What the grader looks for."""
    options: tuple[str, ...] = ()

    def record(self) -> dict:
        return asdict(self)


Maker = Callable[[random.Random, World, Split], Item]


def qa(rng: random.Random, world: World, split: Split) -> Item:
    entity = rng.choice(world.of(split))
    relation = rng.choice(list(entity.facts))
    value = entity.facts[relation]
    return Item("", f"Question: {entity.question(rng, relation)}\nAnswer:", f" The answer is {value}.", value)


def math(rng: random.Random, _world: World, _split: Split) -> Item:
    s = Story.draw(rng, 3)
    text = f"Problem: {s.who} has {s.start} {s.things}."
    for verb, step in zip(s.verbs, s.sums, strict=True):
        text += f" {s.who} {verb} {step.by}."
    prompt = f"{text} How many now?\nWork:"
    return Item("", prompt, f" {s.work()} The answer is {s.total}.", str(s.total))


def summary(rng: random.Random, world: World, split: Split) -> Item:
    n = News.draw(rng, world.cities(split))
    line = f"{n.event} in {n.city}, {n.country}: {n.count} {n.objects}."
    return Item("", f"Article: {n.text}\nSummary:", f" {line}", line)


def mc(rng: random.Random, world: World, split: Split) -> Item:
    entity = rng.choice(world.of(split))
    relation = rng.choice(list(entity.facts))
    options = entity.options(rng, relation)
    value = entity.facts[relation]
    prompt = f"Quiz: {entity.question(rng, relation)} {or_list(options)}?\nPick:"
    return Item("", prompt, f" It is {value}.", value, tuple(options))


def cloze(rng: random.Random, world: World, split: Split) -> Item:
    entity = rng.choice(world.of(split))
    first, asked = rng.sample(list(entity.facts), 2)
    stem = rng.choice(KINDS[entity.kind][asked].endings()).format(e=entity.name)
    value = entity.facts[asked]
    return Item("", f"{entity.sentence(rng, first)} {stem}", f" {value}.", value)


TASKS: dict[str, Maker] = {"qa": qa, "math": math, "sum": summary, "mc": mc}
UNSEEN: dict[str, Maker] = {"cloze": cloze}
NEW_TOKENS = {"qa": 16, "math": 56, "sum": 28, "mc": 16, "cloze": 8}
"""How many tokens an answer may take."""
CHANCE = {"qa": 1 / 15, "math": 1 / 99, "sum": 0.0, "mc": 1 / 3, "cloze": 1 / 15}
"""What naming any value of the right kind scores."""


NUMBER = r"(\d+)"
FORMS: dict[str, tuple[re.Pattern[str], list[str]]] = {
    "qa": (re.compile(r" The answer is (.*)\."), ["value"]),
    "math": (
        re.compile(" " + rf"{NUMBER} ([-+]) {NUMBER} = {NUMBER}\. " * 3 + rf"The answer is {NUMBER}\."),
        ["before", "sign", "by", "result"] * 3 + ["total"],
    ),
    "sum": (re.compile(r" (.*) in (.*), (.*): (\d+) (.*)\."), ["event", "city", "country", "count", "objects"]),
    "mc": (re.compile(r" It is (.*)\."), ["value"]),
}
"""What an answer looks like, and what its variable parts are called."""


def parts(item: Item) -> list[tuple[str, int, int]]:
    """The named parts of an item's answer, with where each begins and ends."""
    pattern, names = FORMS[item.id.split("-")[0]]
    found = pattern.fullmatch(item.answer)
    if not found:
        raise ValueError(f"{item.id}: the answer {item.answer!r} has another form")
    return [(name, *found.span(n)) for n, name in enumerate(names, 1)]


def items(task: str, split: Split, seed: int, world: World, count: int, barred: set[str]) -> list[Item]:
    """Distinct items, none of which has a prompt of `barred`; the drawn prompts are added to it."""
    rng = random.Random(f"{seed}-{task}-{split}")
    maker = (TASKS | UNSEEN)[task]
    made: list[Item] = []
    for _ in range(50 * count):
        item = maker(rng, world, split)
        if item.prompt not in barred:
            barred.add(item.prompt)
            made.append(Item(f"{task}-{split}-{len(made)}", item.prompt, item.answer, item.gold, item.options))
        if len(made) == count:
            break
    return made


LEADS = {"qa": "The answer is", "mc": "It is"}
"""What an answer may begin with before it names the value."""


def grade(task: str, text: str, item: Item) -> float:
    """A score between 0 and 1 of the generated text. Only its first line counts."""
    line = text.strip().split("\n")[0]
    if task == "sum":
        return rouge2(line, item.gold)
    if task == "math":
        numbers = re.findall(r"\d+", line)
        return float(bool(numbers) and numbers[-1] == item.gold)
    if task == "cloze":
        return float(words(line)[:1] == [item.gold])
    return float(words(line.removeprefix(LEADS[task])) == [item.gold])


def words(text: str) -> list[str]:
    """Words without punctuation and articles."""
    return [w for w in re.findall(r"[A-Za-z0-9]+", text) if w.lower() not in ("a", "an", "the")]


def rouge2(text: str, gold: str) -> float:
    """F1 over pairs of neighbouring lower-case words; no stemming, which changes nothing in these texts' nouns."""
    def bigrams(s: str) -> Counter:
        found = re.findall(r"[a-z0-9]+", s.lower())
        return Counter(zip(found, found[1:]))

    one, other = bigrams(text), bigrams(gold)
    hits = (one & other).total()
    return 2 * hits / (one.total() + other.total()) if hits else 0.0
