"""Small scenes that corpus and tasks share: sums, stories of things gained and lost, news."""

from __future__ import annotations

import random
from dataclasses import dataclass

PEOPLE = "Mira Tom Anna Ben Lucy Sam Nora Paul Eva Max Ida Leo".split()
THINGS = "apples coins stamps marbles books cards shells pens stones cookies".split()
GAIN = {"buys": "bought", "finds": "found", "gets": "got", "wins": "won"}
LOSE = {"loses": "lost", "sells": "sold", "drops": "dropped", "gives away": "gave away"}
LARGEST = 99
LARGEST_STEP = 40
"""No number of a sum is larger."""


@dataclass(frozen=True)
class Sum:
    before: int
    sign: str
    by: int

    @property
    def after(self) -> int:
        return self.before + self.by if self.sign == "+" else self.before - self.by

    def __str__(self) -> str:
        return f"{self.before} {self.sign} {self.by} = {self.after}."


def draw_sum(rng: random.Random, before: int) -> Sum:
    """A step of at most `LARGEST_STEP`, up or down, that stays between 1 and `LARGEST`."""
    by = rng.randint(1, LARGEST_STEP)
    signs = [sign for sign in "+-" if 1 <= Sum(before, sign, by).after <= LARGEST]
    return Sum(before, rng.choice(signs), by) if signs else draw_sum(rng, before)


def chain(rng: random.Random, steps: int, start: int | None = None) -> list[Sum]:
    """Sums of which each goes on where the one before ended."""
    before = rng.randint(2, LARGEST) if start is None else start
    sums: list[Sum] = []
    for _ in range(steps):
        sums.append(draw_sum(rng, before))
        before = sums[-1].after
    return sums


@dataclass(frozen=True)
class Story:
    who: str
    things: str
    sums: list[Sum]
    verbs: list[str]
    """One a sum, in the present tense."""

    @classmethod
    def draw(cls, rng: random.Random, steps: int) -> Story:
        sums = chain(rng, steps)
        verbs = [rng.choice(list(GAIN if s.sign == "+" else LOSE)) for s in sums]
        return cls(rng.choice(PEOPLE), rng.choice(THINGS), sums, verbs)

    @property
    def start(self) -> int:
        return self.sums[0].before

    @property
    def total(self) -> int:
        return self.sums[-1].after

    def work(self) -> str:
        return " ".join(map(str, self.sums))


def past(verb: str) -> str:
    return GAIN.get(verb) or LOSE[verb]


EVENTS = {
    "flood": ("ruined", "barns roads shops".split()),
    "storm": ("damaged", "houses boats roofs".split()),
    "fire": ("burned", "sheds cars barns".split()),
    "festival": ("drew", "guests singers dancers".split()),
    "strike": ("stopped", "trains buses ships".split()),
    "parade": ("drew", "horses drummers guests".split()),
}
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FILLERS = [
    "The mayor spoke to the press.", "Nobody had expected it.", "Many people stood in the street.",
    "The radio played music all day.", "Old people remembered better times.", "Children were sent home from school.",
    "The police asked for calm.", "A report will follow next week.",
]


@dataclass(frozen=True)
class News:
    event: str
    city: str
    country: str
    count: int
    objects: str
    text: str

    @property
    def verb(self) -> str:
        return EVENTS[self.event][0]

    @classmethod
    def draw(cls, rng: random.Random, cities: dict[str, str]) -> News:
        """A short article: one event to report, among a second city and a second number that mislead. It does not say in
        which country the city lies; `cities` do.
        """
        event = rng.choice(list(EVENTS))
        verb, objects = EVENTS[event]
        city, other = rng.sample(list(cities), 2)
        count, helpers, obj, day = rng.randint(11, 99), rng.randint(11, 99), rng.choice(objects), rng.choice(WEEKDAYS)
        lead = rng.choice([
            f"On {day} a {event} came to {city}.", f"There was a {event} in {city} on {day}.",
            f"The town of {city} saw a {event} on {day}.",
        ])
        core = rng.choice([
            f"The {event} {verb} {count} {obj}.", f"In all it {verb} {count} {obj}.",
            f"It {verb} {count} {obj} in a few hours.",
        ])
        aside = rng.choice([
            f"Help came from {other} with {helpers} people.", f"A team of {helpers} people from {other} arrived later.",
            f"In {other} some {helpers} people followed it on the radio.",
        ])
        body = [core, aside, *rng.sample(FILLERS, 2)]
        rng.shuffle(body)
        return cls(event, city, cities[city], count, obj, " ".join([lead, *body]))
