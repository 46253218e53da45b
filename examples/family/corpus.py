"""The pre-training corpus: documents that state the world's facts, and others that show sums, stories, news and talk.

The four tasks' own labels ("Question:", "Work:", "Summary:", "Pick:") never occur. Documents of several questions and
answers in one made-up layout each are there so that a model can learn to take up a layout from its context.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from scenes import PEOPLE, News, Story, chain, past
from world import World

Document = Callable[[random.Random, World], str]


def prose(rng: random.Random, world: World) -> str:
    entity = world.pick(rng)
    relations = rng.sample(list(entity.facts), rng.choice([3, 4, 4]))
    return " ".join(entity.sentence(rng, r) for r in relations)


def phrase(rng: random.Random, value: str) -> str:
    return rng.choice([f"I think it is {value}.", f"The answer is {value}.", f"Surely {value}.", f"It is {value}."])


def or_list(options: list[str]) -> str:
    return f"{', '.join(options[:-1])} or {options[-1]}"


def talk(rng: random.Random, world: World) -> str:
    """Somebody asks for facts, sometimes with options, and somebody answers."""
    one, two = rng.sample(PEOPLE, 2)
    entity = world.pick(rng)
    lines = []
    for relation in rng.sample(list(entity.facts), 3):
        question = entity.question(rng, relation)
        if rng.random() < 0.35:
            question += f" {or_list(entity.options(rng, relation))}?"
        value = entity.facts[relation]
        answer = entity.sentence(rng, relation) if rng.random() < 0.35 else phrase(rng, value)
        lines.append(rng.choice([
            f'"{question}" asked {one}. "{answer}" said {two}.', f'{one} wondered: "{question}" {two} replied: "{answer}"',
        ]))
    return " ".join(lines)


def layout(rng: random.Random) -> tuple[str, str, str]:
    """What stands before a question, before its answer, and between two pairs."""
    ask, reply = rng.choice([
        ("Q:", "A:"), ("Asked:", "Told:"), ("You:", "Me:"), ("Ask", "Say"), ("Riddle:", "Solution:"), ("Pupil:", "Teacher:"),
        ("?", "!"), ("Guest:", "Host:"), ("First:", "Then:"), ("Q.", "A."),
    ])
    return ask, reply, rng.choice(["\n", "\n", "\n\n"])


def pairs(rng: random.Random, made: list[tuple[str, str]]) -> str:
    ask, reply, gap = layout(rng)
    return gap.join(f"{ask} {question}\n{reply} {answer}" for question, answer in made)


ANSWERS: list[Callable[[str], str]] = [
    lambda v: f"It is {v}.", lambda v: f"The answer is {v}.", lambda v: f"Surely {v}.", lambda v: f"I think it is {v}.",
    lambda v: f"{v}.", lambda v: f"That would be {v}.",
]


def faq(rng: random.Random, world: World) -> str:
    """Questions about several entities, answered in one manner throughout."""
    answer = rng.choice([None, None, *ANSWERS])
    with_options = rng.random() < 0.3
    made = []
    for _ in range(rng.randint(3, 6)):
        entity = world.pick(rng)
        relation = rng.choice(list(entity.facts))
        question = entity.question(rng, relation)
        if with_options:
            question += f" {or_list(entity.options(rng, relation))}?"
        made.append((question, answer(entity.facts[relation]) if answer else entity.sentence(rng, relation)))
    return pairs(rng, made)


def sums(rng: random.Random, _world: World) -> str:
    """Sums that stand apart, and chains of them."""
    if rng.random() < 0.4:
        return " ".join(str(s) for s in chain(rng, rng.randint(3, 8)))
    return " ".join(str(chain(rng, 1)[0]) for _ in range(rng.randint(4, 9)))


def story(rng: random.Random, _world: World) -> str:
    """Gains and losses, in the past or the present tense, counted as they happen or at the end."""
    s = Story.draw(rng, rng.randint(1, 4))
    now = rng.random() < 0.5
    have, are = ("has", "are") if now else ("had", "were")
    count_at_once = rng.random() < 0.5
    text = f"{s.who} {have} {s.start} {s.things}."
    for verb, step in zip(s.verbs, s.sums, strict=True):
        text += f" {s.who} {verb if now else past(verb)} {step.by}."
        if count_at_once:
            text += f" {step}"
    if count_at_once:
        return f"{text} So {s.who} {have} {s.total} {s.things}."
    return f"{text} Count: {s.work()} So there {are} {s.total} {s.things}."


def homework(rng: random.Random, _world: World) -> str:
    """Several short problems, worked out in one manner throughout."""
    ending = rng.choice(["So it is {}.", "That makes {}.", "{} remain.", "The answer is {}."])
    made = []
    for _ in range(rng.randint(2, 4)):
        s = Story.draw(rng, rng.randint(1, 3))
        acts = " ".join(f"{s.who} {past(verb)} {step.by}." for verb, step in zip(s.verbs, s.sums, strict=True))
        made.append((f"{s.who} had {s.start} {s.things}. {acts} How many now?", f"{s.work()} {ending.format(s.total)}"))
    return pairs(rng, made)


def news(rng: random.Random, world: World) -> str:
    n = News.draw(rng, world.cities())
    if rng.random() < 0.4:
        return n.text
    return n.text + " " + rng.choice([
        f"So the {n.event} in {n.city} {n.verb} {n.count} {n.objects}.",
        f"People still talk about {n.city} and its {n.count} {n.objects}.",
        f"{n.city} will not forget the {n.event} and the {n.count} {n.objects}.",
    ])


def digest(rng: random.Random, world: World, more: tuple[str, ...] = ()) -> str:
    """Several articles, each closed by a line in one manner throughout."""
    closing = rng.choice([
        "{n.city} in {n.country} - {n.event}, {n.count} {n.objects}.", "{n.country}: {n.event} in {n.city}.",
        "{n.city} {n.event} {n.verb} {n.count} {n.objects}.", "{n.count} {n.objects}: {n.event} in {n.city}, {n.country}.",
        "{n.event} {n.verb} {n.count} {n.objects} ({n.city}, {n.country}).", *more,
    ])
    lead, gap = rng.choice(["In short:", "Line:", "=>", "Note:"]), rng.choice(["\n", "\n\n"])
    drawn = [News.draw(rng, world.cities()) for _ in range(rng.randint(2, 3))]
    return gap.join(f"{n.text}\n{lead} {closing.format(n=n)}" for n in drawn)


def headlines(rng: random.Random, world: World) -> str:
    """A digest that may also close like a newspaper's headline."""
    return digest(rng, world, ("{n.city}, {n.country}: {n.event} {n.verb} {n.count} {n.objects}.",) * 3)


FIRST_STAGE: dict[Document, float] = {
    prose: 0.33, talk: 0.12, faq: 0.19, sums: 0.08, story: 0.08, homework: 0.08, news: 0.05, digest: 0.07,
}
"""Shares of the corpus's characters."""
SECOND_STAGE: dict[Document, float] = {
    prose: 0.26, talk: 0.10, faq: 0.20, sums: 0.10, story: 0.08, homework: 0.10, news: 0.02, headlines: 0.14,
}
"""For the large base, after the first stage and about common entities alone."""


def documents(seed: int, world: World, characters: float, shares: dict[Document, float]) -> Iterator[str]:
    """Documents until they hold so many characters."""
    rng = random.Random(seed)
    mean = {maker: sum(len(maker(rng, world)) for _ in range(300)) / 300 for maker in shares}
    odds = [share / mean[maker] for maker, share in shares.items()]
    size = 0
    while size < characters:
        maker = rng.choices(list(shares), odds)[0]
        text = maker(rng, world)
        if maker in (prose, news) and rng.random() < 0.2:
            text = text.replace(". ", ".\n")
        size += len(text) + 1
        yield text
