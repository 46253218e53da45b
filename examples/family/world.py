"""The entities of the invented world, with their facts and the split that keeps evaluation honest.

The split is by entity. No training item of any task speaks of a validation or test entity: only the pre-training corpus
states those facts, so a tuned model can answer about them only from what its base learnt.
"""

from __future__ import annotations

import copy
import itertools
import random
from dataclasses import dataclass, replace
from typing import Literal

from facts import KINDS

Split = Literal["train", "validation", "test"]
SPLIT_OF_RANK: tuple[Split, ...] = ("train", "test", "validation", "train", "test")
"""Cycled over the entities in the order of their frequency, so that every split has rare and common ones."""

FIRST = (
    "bren tol mar kas vel dor pil sha gar lum ner zot hul fen cor jas "
    "wil ras bos tam kel mir sol dag pen lor vas nim gul har ter yal"
).split()
LAST = {
    "city": "al ton burg ia mont stad eth or uz ville wick ano".split(),
    "person": "ek ina ov lin mund ara son dre ith ulo bert gan".split(),
    "animal": "ox bat ling hen fisk ram mole dil pard wog cub nit".split(),
    "company": "tec co ex works corp ium lux max fab dyn nova soft".split(),
}


@dataclass(frozen=True)
class Entity:
    kind: str
    name: str
    facts: dict[str, str]
    weight: float
    """How often the corpus speaks of it, relative to the others: a long tail."""
    split: Split
    common: bool
    """Whether validation and test may ask about it, and the second stage of the corpus speaks of it."""

    def question(self, rng: random.Random, relation: str) -> str:
        return rng.choice(KINDS[self.kind][relation].questions).format(e=self.name)

    def sentence(self, rng: random.Random, relation: str) -> str:
        text = rng.choice(KINDS[self.kind][relation].wordings).format(e=self.name, v=self.facts[relation])
        return text[0].upper() + text[1:]

    def options(self, rng: random.Random, relation: str, wrong: int = 2) -> list[str]:
        """The true value among wrong ones of the same relation, in random order."""
        value = self.facts[relation]
        options = rng.sample([v for v in KINDS[self.kind][relation].values if v != value], wrong) + [value]
        rng.shuffle(options)
        return options


class World:
    """All entities; `seed` draws names and facts."""

    def __init__(self, seed: int, per_kind: int, common: int):
        rng = random.Random(seed)
        self.entities: list[Entity] = []
        for kind, relations in KINDS.items():
            names = [first + last for first in FIRST for last in LAST[kind]]
            rng.shuffle(names)
            for rank, name in enumerate(names[:per_kind]):
                facts = {name: rng.choice(relation.values) for name, relation in relations.items()}
                split = SPLIT_OF_RANK[rank % len(SPLIT_OF_RANK)]
                shown = name if kind == "animal" else name.capitalize()
                self.entities.append(Entity(kind, shown, facts, (rank + 12) ** -0.7, split, rank < common))
        self._cumulative = list(itertools.accumulate(e.weight for e in self.entities))

    def pick(self, rng: random.Random) -> Entity:
        """An entity as often as the corpus speaks of it."""
        return rng.choices(self.entities, cum_weights=self._cumulative)[0]

    def commons(self) -> World:
        """The same world, reduced to its common entities, all spoken of equally often."""
        other = copy.copy(self)
        other.entities = [replace(e, weight=1.0) for e in self.entities if e.common]
        other._cumulative = list(range(1, len(other.entities) + 1))
        return other

    def of(self, split: Split) -> list[Entity]:
        """Whom items of a split are about."""
        return [e for e in self.entities if e.split == split and (e.common or split == "train")]

    def cities(self, split: Split | None = None) -> dict[str, str]:
        """Cities and the countries in which they lie."""
        entities = self.of(split) if split else self.entities
        return {e.name: e.facts["country"] for e in entities if e.kind == "city"}
