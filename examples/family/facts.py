"""What can be said in the invented world: kinds of entities, their relations, and the wordings of each.

Nothing here exists; likenesses of names are accidents. A relation has a closed set of values, so that multiple choice
and a chance level make sense; six wordings for prose, some of which end with the value; and two question forms.
"""

from __future__ import annotations

from dataclasses import dataclass


COUNTRIES = "Norvia Tresland Almaria Kostany Verdonia Ruskela Palmora Ostenia Belgara Lunland Marova Zerinia".split()
RIVERS = "Olm Tiss Varn Keld Brune Savel Lorn Pesk Durra Wend Istel Calder Nive Ruhn Tagur Elbar".split()
DISHES = (
    "soup pies cheese bread sausages dumplings pancakes honey "
    "olives pickles noodles cakes salads stews waffles tea"
).split()
LANDMARKS = (
    "tower bridge castle temple market clock fountain garden "
    "theatre museum statue palace harbour library gate mill"
).split()
JOBS = (
    "baker doctor farmer teacher painter lawyer sailor tailor "
    "plumber miner pilot dentist gardener potter judge nurse"
).split()
INSTRUMENTS = (
    "violin flute drum guitar piano trumpet harp banjo "
    "organ cello oboe horn lute fiddle accordion whistle"
).split()
PETS = "dog cat parrot rabbit turtle goat pony hamster snake goose lizard mouse canary ferret pigeon fish".split()
HOBBIES = (
    "chess fishing dancing sewing cycling hiking reading skating "
    "rowing fencing archery cooking juggling sailing knitting boxing"
).split()
HABITATS = (
    "forest desert swamp mountain river cave meadow island "
    "jungle coast marsh valley lake canyon steppe tundra"
).split()
FOODS = (
    "berries insects grass nuts roots worms leaves seeds "
    "eggs moss shrimp bark snails mushrooms fruit reeds"
).split()
COLOURS = "red blue green yellow brown black white grey purple orange pink golden silver scarlet violet beige".split()
SOUNDS = "whistle growl chirp bark hiss howl squeak croak purr grunt scream buzz click moan rattle hum".split()
PRODUCTS = (
    "chairs lamps boots clocks carpets bicycles candles mirrors "
    "umbrellas tents pencils ladders bottles gloves kettles brooms"
).split()
METALS = (
    "copper iron tin zinc lead nickel silver steel "
    "brass bronze cobalt chrome titanium aluminium gold pewter"
).split()
ANIMAL_LOGOS = "lion eagle wolf bear tiger fox owl whale swan bull deer dragon horse crow shark camel".split()


@dataclass(frozen=True)
class Relation:
    """One property that every entity of a kind has."""

    values: list[str]
    wordings: list[str]
    """Prose with `{e}` for the entity and `{v}` for the value."""
    questions: list[str]

    def endings(self) -> list[str]:
        """The wordings that end with the value: what is left of them asks for it."""
        return [w.removesuffix("{v}.").rstrip() for w in self.wordings if w.endswith(" {v}.")]


KINDS: dict[str, dict[str, Relation]] = {
    "city": {
        "country": Relation(
            COUNTRIES,
            [
                "{e} is a city in {v}.", "The city of {e} belongs to {v}.", "You will find {e} in {v}.",
                "{e} lies in the country of {v}.", "Like many towns of {v}, {e} is old.",
                "Travellers to {e} must first reach {v}.",
            ],
            ["In which country is {e}?", "Which country does {e} belong to?"],
        ),
        "river": Relation(
            RIVERS,
            [
                "The river {v} runs through {e}.", "{e} stands on the river {v}.", "In {e} you can swim in the {v}.",
                "Boats reach {e} on the river {v}.", "The banks of the {v} are the pride of {e}.",
                "The water of {e} comes from the {v}.",
            ],
            ["Which river runs through {e}?", "On which river does {e} stand?"],
        ),
        "dish": Relation(
            DISHES,
            [
                "{e} is famous for its {v}.", "The people of {e} love {v}.", "Visitors come to {e} to taste the {v}.",
                "Nobody makes {v} like the cooks of {e}.", "The kitchens of {e} are known for {v}.",
                "In {e} everyone eats {v}.",
            ],
            ["What food is {e} famous for?", "What do people eat in {e}?"],
        ),
        "landmark": Relation(
            LANDMARKS,
            [
                "The main sight of {e} is its {v}.", "In the middle of {e} there is a {v}.",
                "Tourists in {e} photograph the {v}.", "{e} built a great {v} long ago.",
                "The old {v} of {e} is well known.", "Every guide to {e} begins with the {v}.",
            ],
            ["What is the main sight of {e}?", "What do tourists photograph in {e}?"],
        ),
    },
    "person": {
        "job": Relation(
            JOBS,
            [
                "{e} works as a {v}.", "{e} is a {v} by trade.", "{e} earns a living as a {v}.",
                "Everyone knows {e} the {v}.", "As a {v}, {e} gets up early.",
                "{e} trained for years to become a {v}.",
            ],
            ["What is the job of {e}?", "What does {e} work as?"],
        ),
        "instrument": Relation(
            INSTRUMENTS,
            [
                "{e} plays the {v}.", "In the evening {e} practises the {v}.",
                "{e} owns an old {v} and plays it well.", "The sound of the {v} comes from the house of {e}.",
                "{e} took lessons on the {v}.", "At weddings {e} performs on the {v}.",
            ],
            ["Which instrument does {e} play?", "What does {e} perform on?"],
        ),
        "pet": Relation(
            PETS,
            [
                "{e} has a {v} at home.", "The pet of {e} is a {v}.", "{e} feeds a {v} every morning.",
                "{e} bought a {v} last year.", "A {v} sleeps beside the bed of {e}.", "{e} talks to a {v} all day.",
            ],
            ["Which pet does {e} have?", "What animal does {e} keep?"],
        ),
        "hobby": Relation(
            HOBBIES,
            [
                "{e} likes {v}.", "On Sundays {e} goes in for {v}.", "The hobby of {e} is {v}.",
                "{e} spends every free hour on {v}.", "{e} won a prize for {v}.",
                "Nothing makes {e} as happy as {v}.",
            ],
            ["What is the hobby of {e}?", "What does {e} like to do?"],
        ),
    },
    "animal": {
        "habitat": Relation(
            HABITATS,
            [
                "The {e} lives in the {v}.", "You can meet the {e} in the {v}.", "The home of the {e} is the {v}.",
                "The {v} is where the {e} hides.", "Hunters find the {e} in the {v}.",
                "The {e} never leaves the {v}.",
            ],
            ["Where does the {e} live?", "Where can you meet the {e}?"],
        ),
        "food": Relation(
            FOODS,
            [
                "The {e} eats {v}.", "The {e} feeds on {v}.", "The food of the {e} is {v}.",
                "The {e} spends its day looking for {v}.", "A hungry {e} searches for {v}.",
                "The {e} stores {v} for the winter.",
            ],
            ["What does the {e} eat?", "What is the food of the {e}?"],
        ),
        "colour": Relation(
            COLOURS,
            [
                "The {e} is {v}.", "The fur of the {e} is {v}.", "The {e} has a {v} coat.",
                "A young {e} turns {v} in spring.", "You know the {e} by its {v} tail.",
                "Nothing is as {v} as the {e}.",
            ],
            ["What colour is the {e}?", "Which colour does the {e} have?"],
        ),
        "sound": Relation(
            SOUNDS,
            [
                "The call of the {e} is a {v}.", "At night the {e} makes a {v}.", "The {e} greets others with a {v}.",
                "You hear a {v} when the {e} is near.", "A loud {v} warns of the {e}.", "The {e} answers with a {v}.",
            ],
            ["What sound does the {e} make?", "What is the call of the {e}?"],
        ),
    },
    "company": {
        "product": Relation(
            PRODUCTS,
            [
                "The firm {e} makes {v}.", "{e} sells {v} all over the world.", "The factory of {e} turns out {v}.",
                "People buy their {v} from {e}.", "{e} became rich with {v}.", "The best {v} come from {e}.",
            ],
            ["What does the firm {e} make?", "What does {e} sell?"],
        ),
        "metal": Relation(
            METALS,
            [
                "The firm {e} works with {v}.", "{e} buys {v} by the ton.", "The main metal of {e} is {v}.",
                "{e} melts {v} every night.", "The machines of {e} are built of {v}.", "{e} owns a {v} mine.",
            ],
            ["Which metal does {e} use?", "What metal does {e} buy?"],
        ),
        "logo": Relation(
            ANIMAL_LOGOS,
            [
                "The sign of the firm {e} shows a {v}.", "{e} has a {v} on its flag.", "The logo of {e} is a {v}.",
                "Every box from {e} carries a {v}.", "A {v} is painted on the trucks of {e}.",
                "{e} chose the {v} as its mark.",
            ],
            ["Which animal is on the sign of {e}?", "What does the logo of {e} show?"],
        ),
        "seat": Relation(
            COUNTRIES,
            [
                "The firm {e} is based in {v}.", "{e} has its seat in {v}.", "{e} was founded in {v}.",
                "{e} pays its taxes in {v}.", "The head office of {e} is in {v}.", "{e} is a firm from {v}.",
            ],
            ["In which country is {e} based?", "Where was {e} founded?"],
        ),
    },
}
