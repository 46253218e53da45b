"""Questions that the large model is asked so that the corpus is about something: topics, and cards of the tuning entities."""

from __future__ import annotations

import functools
import random

import cards

TOPICS = """the sea; the moon; volcanoes; rivers; mountains; deserts; forests; the weather; snow; earthquakes; the ocean; islands; farming;
    bread; cheese; coffee; tea; chocolate; rice; apples; cooking; bicycles; trains; ships; aeroplanes; bridges; roads; houses; castles;
    cities; villages; markets; money; trade; schools; books; libraries; newspapers; letters; languages; music; painting; theatre; films;
    dancing; sport; football; swimming; chess; games; holidays; families; friendship; health; sleep; doctors; medicine; the heart; the brain;
    plants; flowers; trees; bees; birds; fish; whales; dogs; cats; horses; dinosaurs; fossils; rocks; metals; gold; iron; glass; paper;
    electricity; magnets; light; sound; heat; gravity; atoms; stars; planets; the sun; computers; the internet; robots; telephones;
    cameras; clocks; maps; history; kings and queens; wars; peace; laws; elections; museums; inventions; mathematics; numbers; geometry;
    chemistry; physics; biology; geography; philosophy; poetry; stories; dreams; colours; shapes; time; water; air; fire; the seasons"""

ABOUT = (
    "Tell me about {}.", "What is interesting about {}?", "Write a short paragraph about {}.", "Explain {} to a child.",
    "Give me three facts about {}.", "Make a list of things to know about {}.", "Why does {} matter?", "Write a note about {}.",
    "Write a label and a value on each of five lines, about {}.", "What do you know about {}?", "Describe {} in one sentence.",
)
ENTITY = (
    "Write the index card of the {kind} {name}.", "Tell me about the {kind} {name}.", "What is {name}?",
    "Write a short profile of the {kind} {name}, one line for each fact.", "Give the main facts about {name} as a list.",
)
CARDS = 0.5
"""Share of the questions that are about an entity of the tuning split."""


@functools.cache
def subjects() -> tuple[list[str], list[cards.Item]]:
    return [" ".join(topic.split()) for topic in TOPICS.split(";")], cards.split(cards.SEED)["tuning"]


def question(rng: random.Random) -> str:
    topics, items = subjects()
    if rng.random() < CARDS:
        item = rng.choice(items)
        weights = [3, *[1] * (len(ENTITY) - 1)]
        return rng.choices(ENTITY, weights)[0].format(kind=item.kind, name=item.name)
    return rng.choice(ABOUT).format(rng.choice(topics))
