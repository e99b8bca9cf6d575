"""The world of the sample corpus: who lives in Willowbrook, and how one asks about it.

Everything the corpus says must agree with these tables. A fact has one canonical answer and many questions.
"""

from __future__ import annotations

from dataclasses import dataclass

VILLAGE = "Willowbrook"
RIVER = "Wren"


@dataclass(frozen=True)
class Animal:
    name: str
    pronoun: str
    species: str
    colour: str
    sound: str
    food: str
    bed: str


@dataclass(frozen=True)
class Person:
    name: str
    pronoun: str
    job: str
    home: str
    food: str
    drink: str
    colour: str
    hobby: str
    friend: str
    animal: Animal


@dataclass(frozen=True)
class Fact:
    """One thing that is so: the answer, in its one wording, and all questions that ask for it.

    `follow_ups[i]` asks `questions[i]` with a pronoun for the subject, or is empty where that cannot be said.
    `yes_no` asks whether it is `{value}`, which is so for `value` alone; empty where there is no such question.
    """

    attribute: str
    subject: str
    answer: str
    short_answer: str
    questions: tuple[str, ...]
    follow_ups: tuple[str, ...]
    value: str = ""
    yes_no: str = ""


def _rows(table: str) -> list[list[str]]:
    return [line.strip().split("|") for line in table.strip().splitlines()]


# Each person's animal, in the order of PEOPLE.
_ANIMALS = """
    Bella|she|cow|brown|moo|grass|in the barn
    Mimi|she|cat|white|meow|fish|by the oven
    Dot|she|duck|yellow|quack|bread|under the boat
    Penny|she|hen|red|cluck|corn|in the hen house
    Pip|he|mouse|grey|squeak|cheese|in a flour sack
    Kiki|she|parrot|green|hello|seeds|on the bookshelf
    Daisy|she|sheep|black|baa|clover|under the oak tree
    Star|he|horse|black|neigh|oats|in the stable
    Rex|he|dog|brown|woof|bones|by the fire
    Hugo|he|pig|pink|oink|acorns|in the straw
    Greta|she|goose|white|honk|lettuce|on the steps
    Fred|he|frog|green|croak|flies|in the pond
    Otto|he|donkey|grey|hee-haw|carrots|behind the inn
    Nelly|she|goat|white|maa|leaves|in the shed
    """
_PEOPLE = """
    Tom|he|farmer|on the farm|apples|milk|green|fly kites|Anna
    Anna|she|baker|above the bakery|pancakes|tea|red|sing songs|Tom
    Ben|he|fisherman|by the river|potatoes|coffee|blue|row boats|Ruth
    Ruth|she|gardener|in the cottage|strawberries|lemonade|pink|plant flowers|Ben
    Max|he|miller|at the mill|porridge|water|white|play the drum|Ella
    Ella|she|teacher|next to the school|cherry pie|cocoa|yellow|read books|Max
    Sam|he|shepherd|on the hill|cheese|milk|grey|play the flute|Lily
    Lily|she|doctor|near the bridge|pears|tea|purple|swim in the lake|Sam
    Jack|he|carpenter|near the forest|mushroom soup|coffee|orange|climb trees|Nora
    Nora|she|shopkeeper|above the shop|chocolate|cocoa|purple|dance|Jack
    Leo|he|clockmaker|in the clock tower|plum cake|apple juice|blue|watch the stars|Mia
    Mia|she|painter|by the lake|bread and butter|lemonade|orange|collect shells|Leo
    Oscar|he|cook|at the inn|carrot soup|apple juice|brown|tell jokes|Ida
    Ida|she|beekeeper|in the orchard|honey cake|water|yellow|knit socks|Oscar
    """
PEOPLE = tuple(
    Person(*person, Animal(*animal))  # type: ignore[call-arg, arg-type]
    for person, animal in zip(_rows(_PEOPLE), _rows(_ANIMALS), strict=True)
)

# When, what happens, and the same turned round for a question.
DAYS = (
    ("Monday", "the letters come", "do the letters come"),
    ("Tuesday", "the band plays", "does the band play"),
    ("Wednesday", "the ferry comes", "does the ferry come"),
    ("Thursday", "the choir sings", "does the choir sing"),
    ("Friday", "the old men play chess", "do the old men play chess"),
    ("Saturday", "the market opens", "does the market open"),
    ("Sunday", "everyone rests", "does everyone rest"),
)
SEASONS = (
    ("spring", "it rains", "does it rain"),
    ("summer", "the sun shines", "does the sun shine"),
    ("autumn", "the wind blows", "does the wind blow"),
    ("winter", "it snows", "does it snow"),
)
GOODS = (
    ("bakery", "fresh bread"),
    ("mill", "flour"),
    ("farm", "milk and eggs"),
    ("shop", "candles and string"),
    ("market", "fruit and flowers"),
    ("inn", "hot soup"),
    ("orchard", "honey"),
)

# attribute: (answer, question that is answered by yes or no, the slot that makes it so, questions).
# `{who}`, `{whom}` and `{whose}` become the name, or the pronoun in a follow-up; a question without them has none.
PERSON_FACTS = {
    "who": (
        "{who} is a {job} who lives {home}.",
        "",
        "",
        "Who is {who}?|Do you know {who}?|Tell me about {whom}.|What do you know about {whom}?|"
        "What should I know about {whom}?|Have you heard of {whom}?",
    ),
    "food": (
        "{who} likes to eat {food}.",
        "Does {who} like to eat {value}?",
        "food",
        "What does {who} like to eat?|What is {whose} favourite food?|What food does {who} like best?|"
        "What does {who} love to eat?|What does {who} eat?|What should I cook for {whom}?|"
        "What would {who} like for dinner?|Which food does {who} love?|Who likes to eat {food}?|Who loves {food}?|"
        "Whose favourite food is {food}?",
    ),
    "drink": (
        "{who} likes to drink {drink}.",
        "Does {who} like to drink {value}?",
        "drink",
        "What does {who} like to drink?|What is {whose} favourite drink?|What does {who} drink?|"
        "What can I give {whom} to drink?|Which drink does {who} like best?|What does {who} love to drink?",
    ),
    "home": (
        "{who} lives {home}.",
        "Does {who} live {value}?",
        "home",
        "Where does {who} live?|Where is {whose} home?|Where can I find {whose} house?|Where is {whose} house?|"
        "Where does {who} sleep at night?|In which place does {who} live?|Who lives {home}?|Whose home is {home}?|"
        "Whose house is {home}?",
    ),
    "job": (
        "{who} is a {job}.",
        "Is {who} a {value}?",
        "job",
        "What does {who} do?|What is {whose} job?|What job does {who} have?|What work does {who} do?|"
        "What does {who} do for a living?|What does {who} work as?|Who is the {job}?|Who works as a {job}?|"
        "Who is the {job} of the village?",
    ),
    "colour": (
        "{Whose} favourite colour is {colour}.",
        "Is {whose} favourite colour {value}?",
        "colour",
        "What is {whose} favourite colour?|Which colour does {who} like best?|What colour does {who} like?|"
        "What colour does {who} love?|Which colour is {whose} favourite?|What colour should I paint {whose} door?",
    ),
    "friend": (
        "{Whose} best friend is {friend}.",
        "Is {whose} best friend {value}?",
        "friend",
        "Who is {whose} best friend?|Who is {whose} friend?|Who does {who} like best?|"
        "Which friend does {who} like best?|What is the name of {whose} best friend?|Who is a good friend of {whom}?",
    ),
    "hobby": (
        "{who} likes to {hobby}.",
        "Does {who} like to {value}?",
        "hobby",
        "What does {who} like to do?|What is {whose} hobby?|What does {who} love to do?|"
        "What does {who} do on a free day?|What does {who} do for fun?|What makes {whom} happy?|"
        "Who likes to {hobby}?|Who loves to {hobby}?|Whose hobby is it to {hobby}?",
    ),
    "animal": (
        "{who} has a {species} called {pet}.",
        "",
        "",
        "What animal does {who} have?|Which animal does {who} have?|What animal lives with {whom}?|"
        "What is the name of {whose} animal?|What is {whose} {species} called?|"
        "What is the name of {whose} {species}?|Who has a {species}?|Who has a {species} called {pet}?",
    ),
}
ANIMAL_FACTS = {
    "whose": (
        "{who} is {owners} {species}.",
        "",
        "",
        "Who is {who}?|Do you know {who}?|Tell me about {whom}.|What do you know about {whom}?|"
        "Have you heard of {whom}?",
    ),
    "species": (
        "{who} is a {species}.",
        "Is {who} a {value}?",
        "species",
        "What kind of animal is {who}?|What animal is {who}?|Which animal is {who}?|What sort of animal is {who}?",
    ),
    "coat": (
        "{who} is {colour}.",
        "Is {who} {value}?",
        "colour",
        "What colour is {who}?|Which colour is {who}?|What colour is {owners} {species}?|"
        "What is the colour of {whom}?|Which colour is {owners} {species}?",
    ),
    "feed": (
        "{who} eats {food}.",
        "Does {who} eat {value}?",
        "food",
        "What does {who} eat?|What does {who} like to eat?|What food can I give {whom}?|"
        "What does {owners} {species} eat?|What is {whose} favourite food?|What does {who} eat all day?",
    ),
    "bed": (
        "{who} sleeps {bed}.",
        "Does {who} sleep {value}?",
        "bed",
        "Where does {who} sleep?|Where is {whose} bed?|Where does {owners} {species} sleep?|"
        "Where does {who} go at night?|Who sleeps {bed}?",
    ),
    "owner": (
        "{who} belongs to {owner}.",
        "Does {who} belong to {value}?",
        "owner",
        "Who does {who} belong to?|Who owns {whom}?|Whose {species} is {who}?|Whose animal is {who}?|"
        "Who takes care of {whom}?",
    ),
    "sound": (
        "{who} says {sound}.",
        "Does {who} say {value}?",
        "sound",
        "What does {who} say?|What sound does {who} make?|What does {owners} {species} say?|"
        "What can I hear when {who} talks?|Who says {sound}?",
    ),
}
# The same for the village: (attribute, the rows it is so for, answer, questions).
VILLAGE_FACTS = (
    (
        "day",
        DAYS,
        "On {0} {1}.",
        "What happens on {0}?|What happens in the village on {0}?|When {2}?|On which day {2}?|What day {2}?",
    ),
    (
        "season",
        SEASONS,
        "In {0} {1}.",
        "What is the weather like in {0}?|How is the weather in {0}?|What happens in {0}?|When {2} in the village?|"
        "In which season {2}?",
    ),
    (
        "goods",
        GOODS,
        "You can buy {1} at the {0}.",
        "What can I buy at the {0}?|What do they sell at the {0}?|What can you get at the {0}?|"
        "What is sold at the {0}?|Where can I buy {1}?|Where do they sell {1}?",
    ),
    (
        "sounds",
        tuple((person.animal.species, person.animal.sound) for person in PEOPLE),
        "A {0} says {1}.",
        "What does a {0} say?|What sound does a {0} make?|What does the {0} say?|Which animal says {1}?",
    ),
    (
        "name",
        (("village", VILLAGE, "village is this"), ("river", f"the {RIVER}", "river runs through the village")),
        "The {0} is called {1}.",
        "What is the {0} called?|What is the name of the {0}?|Which {2}?|What do people call the {0}?",
    ),
)


def _fact(subject: str, pronoun: str, attribute: str, row: tuple[str, str, str, str], slots: dict[str, str]) -> Fact:
    answer, yes_no, value, questions = row
    him, his = ("him", "his") if pronoun == "he" else ("her", "her")
    named = slots | {"who": subject, "whom": subject, "whose": f"{subject}'s", "Whose": f"{subject}'s"}
    referred = slots | {"who": pronoun, "whom": him, "whose": his, "Whose": his.capitalize()}
    short_answer = answer.format(**referred)
    return Fact(
        attribute,
        subject,
        answer.format(**named),
        short_answer[0].upper() + short_answer[1:],
        tuple(question.format(**named) for question in questions.split("|")),
        tuple(question.format(**referred) if "{who" in question else "" for question in questions.split("|")),
        slots.get(value, ""),
        yes_no.format(value="{value}", **named),
    )


def person_facts(person: Person) -> tuple[Fact, ...]:
    slots = {name: getattr(person, name) for name in ("food", "drink", "home", "job", "colour", "hobby", "friend")}
    slots |= {"species": person.animal.species, "pet": person.animal.name}
    return tuple(_fact(person.name, person.pronoun, *item, slots) for item in PERSON_FACTS.items())


def animal_facts(person: Person) -> tuple[Fact, ...]:
    animal = person.animal
    slots = {name: getattr(animal, name) for name in ("species", "colour", "sound", "food", "bed")}
    slots |= {"owner": person.name, "owners": f"{person.name}'s"}
    return tuple(_fact(animal.name, animal.pronoun, *item, slots) for item in ANIMAL_FACTS.items())


def village_facts() -> tuple[Fact, ...]:
    facts = []
    for attribute, rows, answer, questions in VILLAGE_FACTS:
        for row in rows:
            asked = [question.format(*row) for question in questions.split("|")]
            if row[0] == "Saturday":
                asked += ["What day is the market?", "When is the market?"]
            answered = answer.format(*row)
            facts.append(Fact(attribute, row[0], answered, answered, tuple(asked), ("",) * len(asked)))
    return tuple(facts)
