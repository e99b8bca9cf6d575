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


PEOPLE = tuple(
    Person(*columns[:9], Animal(*columns[9:]))
    for columns in (
        [column.strip() for column in row.split("|")]
        for row in """
        Tom|he|farmer|on the farm|apples|milk|green|fly kites|Anna|Bella|she|cow|brown|moo|grass|in the barn
        Anna|she|baker|above the bakery|pancakes|tea|red|sing songs|Tom|Mimi|she|cat|white|meow|fish|by the oven
        Ben|he|fisherman|by the river|potatoes|coffee|blue|row boats|Ruth|Dot|she|duck|yellow|quack|bread|under the boat
        Ruth|she|gardener|in the cottage|strawberries|lemonade|pink|plant flowers|Ben|Penny|she|hen|red|cluck|corn|in the hen house
        Max|he|miller|at the mill|porridge|water|white|play the drum|Ella|Pip|he|mouse|grey|squeak|cheese|in a flour sack
        Ella|she|teacher|next to the school|cherry pie|cocoa|yellow|read books|Max|Kiki|she|parrot|green|hello|seeds|on the bookshelf
        Sam|he|shepherd|on the hill|cheese|milk|grey|play the flute|Lily|Daisy|she|sheep|black|baa|clover|under the oak tree
        Lily|she|doctor|near the bridge|pears|tea|purple|swim in the lake|Sam|Star|he|horse|black|neigh|oats|in the stable
        Jack|he|carpenter|near the forest|mushroom soup|coffee|orange|climb trees|Nora|Rex|he|dog|brown|woof|bones|by the fire
        Nora|she|shopkeeper|above the shop|chocolate|cocoa|purple|dance|Jack|Hugo|he|pig|pink|oink|acorns|in the straw
        Leo|he|clockmaker|in the clock tower|plum cake|apple juice|blue|watch the stars|Mia|Greta|she|goose|white|honk|lettuce|on the steps
        Mia|she|painter|by the lake|bread and butter|lemonade|orange|collect shells|Leo|Fred|he|frog|green|croak|flies|in the pond
        Oscar|he|cook|at the inn|carrot soup|apple juice|brown|tell jokes|Ida|Otto|he|donkey|grey|hee-haw|carrots|behind the inn
        Ida|she|beekeeper|in the orchard|honey cake|water|yellow|knit socks|Oscar|Nelly|she|goat|white|maa|leaves|in the shed
        """.strip().splitlines()
    )
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

# attribute: (answer, questions). `{who}` becomes the name, or the pronoun in a follow-up; a question without it
# has no follow-up. `{whose}` is the possessive.
PERSON_FACTS = {
    "who": (
        "{who} is a {job} who lives {home}.",
        (
            "Who is {who}?",
            "Do you know {who}?",
            "Tell me about {whom}.",
            "What do you know about {whom}?",
            "What can you tell me about {whom}?",
            "Have you heard of {whom}?",
        ),
    ),
    "food": (
        "{who} likes to eat {food}.",
        (
            "What does {who} like to eat?",
            "What is {whose} favourite food?",
            "What food does {who} like best?",
            "What does {who} love to eat?",
            "What does {who} eat?",
            "What should I cook for {whom}?",
            "What would {who} like for dinner?",
            "Which food does {who} love?",
            "Who likes to eat {food}?",
            "Who loves {food}?",
            "Whose favourite food is {food}?",
        ),
    ),
    "drink": (
        "{who} likes to drink {drink}.",
        (
            "What does {who} like to drink?",
            "What is {whose} favourite drink?",
            "What does {who} drink?",
            "What can I give {whom} to drink?",
            "Which drink does {who} like best?",
            "What does {who} love to drink?",
        ),
    ),
    "home": (
        "{who} lives {home}.",
        (
            "Where does {who} live?",
            "Where is {whose} home?",
            "Where can I find {whose} house?",
            "Where is {whose} house?",
            "Where does {who} sleep at night?",
            "In which place does {who} live?",
            "Who lives {home}?",
            "Whose home is {home}?",
            "Whose house is {home}?",
        ),
    ),
    "job": (
        "{who} is a {job}.",
        (
            "What does {who} do?",
            "What is {whose} job?",
            "What job does {who} have?",
            "What work does {who} do?",
            "What does {who} do for a living?",
            "What does {who} work as?",
            "Who is the {job}?",
            "Who works as a {job}?",
            "Who is the {job} of the village?",
        ),
    ),
    "colour": (
        "{Whose} favourite colour is {colour}.",
        (
            "What is {whose} favourite colour?",
            "Which colour does {who} like best?",
            "What colour does {who} like?",
            "What colour does {who} love?",
            "Which colour is {whose} favourite?",
            "What colour should I paint {whose} door?",
        ),
    ),
    "friend": (
        "{Whose} best friend is {friend}.",
        (
            "Who is {whose} best friend?",
            "Who is {whose} friend?",
            "Who does {who} like best?",
            "Which friend does {who} like best?",
            "What is the name of {whose} best friend?",
            "Who is a good friend of {whom}?",
        ),
    ),
    "hobby": (
        "{who} likes to {hobby}.",
        (
            "What does {who} like to do?",
            "What is {whose} hobby?",
            "What does {who} love to do?",
            "What does {who} do on a free day?",
            "What does {who} do for fun?",
            "What makes {whom} happy?",
            "Who likes to {hobby}?",
            "Who loves to {hobby}?",
            "Whose hobby is it to {hobby}?",
        ),
    ),
    "animal": (
        "{who} has a {species} called {pet}.",
        (
            "What animal does {who} have?",
            "Which animal does {who} have?",
            "What animal lives with {whom}?",
            "What is the name of {whose} animal?",
            "What is {whose} {species} called?",
            "What is the name of {whose} {species}?",
            "Who has a {species}?",
            "Who has a {species} called {pet}?",
        ),
    ),
}
ANIMAL_FACTS = {
    "whose": (
        "{who} is {owners} {species}.",
        (
            "Who is {who}?",
            "Do you know {who}?",
            "Tell me about {whom}.",
            "What do you know about {whom}?",
            "Have you heard of {whom}?",
        ),
    ),
    "species": (
        "{who} is a {species}.",
        (
            "What kind of animal is {who}?",
            "What animal is {who}?",
            "Which animal is {who}?",
            "What sort of animal is {who}?",
        ),
    ),
    "coat": (
        "{who} is {colour}.",
        (
            "What colour is {who}?",
            "Which colour is {who}?",
            "What colour is {owners} {species}?",
            "What is the colour of {whom}?",
            "Which colour is {owners} {species}?",
        ),
    ),
    "feed": (
        "{who} eats {food}.",
        (
            "What does {who} eat?",
            "What does {who} like to eat?",
            "What food can I give {whom}?",
            "What does {owners} {species} eat?",
            "What is {whose} favourite food?",
            "What does {who} eat all day?",
        ),
    ),
    "bed": (
        "{who} sleeps {bed}.",
        (
            "Where does {who} sleep?",
            "Where is {whose} bed?",
            "Where does {owners} {species} sleep?",
            "Where does {who} go at night?",
            "Who sleeps {bed}?",
        ),
    ),
    "owner": (
        "{who} belongs to {owner}.",
        (
            "Who does {who} belong to?",
            "Who owns {whom}?",
            "Whose {species} is {who}?",
            "Whose animal is {who}?",
            "Who takes care of {whom}?",
        ),
    ),
    "sound": (
        "{who} says {sound}.",
        (
            "What does {who} say?",
            "What sound does {who} make?",
            "What does {owners} {species} say?",
            "What can I hear when {who} talks?",
            "Who says {sound}?",
        ),
    ),
}


# attribute: (question that is answered by yes or no, the slot that makes it so)
YES_NO = {
    "food": ("Does {who} like to eat {value}?", "food"),
    "drink": ("Does {who} like to drink {value}?", "drink"),
    "home": ("Does {who} live {value}?", "home"),
    "job": ("Is {who} a {value}?", "job"),
    "colour": ("Is {whose} favourite colour {value}?", "colour"),
    "friend": ("Is {whose} best friend {value}?", "friend"),
    "hobby": ("Does {who} like to {value}?", "hobby"),
    "species": ("Is {who} a {value}?", "species"),
    "coat": ("Is {who} {value}?", "colour"),
    "feed": ("Does {who} eat {value}?", "food"),
    "bed": ("Does {who} sleep {value}?", "bed"),
    "owner": ("Does {who} belong to {value}?", "owner"),
    "sound": ("Does {who} say {value}?", "sound"),
}


def _fact(
    attribute: str, subject: str, pronoun: str, answer: str, questions: tuple[str, ...], slots: dict[str, str]
) -> Fact:
    him, his = ("him", "his") if pronoun == "he" else ("her", "her")
    named = {"who": subject, "whom": subject, "whose": f"{subject}'s", "Whose": f"{subject}'s"}
    referred = {"who": pronoun, "whom": him, "whose": his, "Whose": his.capitalize()}
    asked, followed = [], []
    for question in questions:
        asked.append(question.format(**slots, **named))
        followed.append(question.format(**slots, **referred) if "{who" in question else "")
    short = answer.format(**slots, **referred)
    yes_no, value = YES_NO.get(attribute, ("", ""))
    return Fact(
        attribute,
        subject,
        answer.format(**slots, **named),
        short[0].upper() + short[1:],
        tuple(asked),
        tuple(followed),
        slots.get(value, ""),
        yes_no.format(value="{value}", **named),
    )


def _general(attribute: str, subject: str, answer: str, *questions: str) -> Fact:
    return Fact(attribute, subject, answer, answer, questions, ("",) * len(questions))


def person_facts(person: Person) -> tuple[Fact, ...]:
    slots = {name: getattr(person, name) for name in ("food", "drink", "home", "job", "colour", "hobby", "friend")}
    slots |= {"species": person.animal.species, "pet": person.animal.name}
    return tuple(
        _fact(attribute, person.name, person.pronoun, answer, questions, slots)
        for attribute, (answer, questions) in PERSON_FACTS.items()
    )


def animal_facts(person: Person) -> tuple[Fact, ...]:
    animal = person.animal
    slots = {name: getattr(animal, name) for name in ("species", "colour", "sound", "food", "bed")}
    slots |= {"owner": person.name, "owners": f"{person.name}'s"}
    return tuple(
        _fact(attribute, animal.name, animal.pronoun, answer, questions, slots)
        for attribute, (answer, questions) in ANIMAL_FACTS.items()
    )


def village_facts() -> tuple[Fact, ...]:
    facts = [
        _general(
            "village",
            "village",
            f"The village is called {VILLAGE}.",
            "What is the village called?",
            "What is the name of the village?",
            "Where am I?",
            "Which village is this?",
        ),
        _general(
            "village",
            "river",
            f"The river is called the {RIVER}.",
            "What is the river called?",
            "What is the name of the river?",
            "Which river runs through the village?",
            "Which river is this?",
        ),
    ]
    for day, happens, asked in DAYS:
        facts.append(
            _general(
                "day",
                day,
                f"On {day} {happens}.",
                f"What happens on {day}?",
                f"What happens in the village on {day}?",
                f"When {asked}?",
                f"On which day {asked}?",
                f"What day {asked}?",
                *(("What day is the market?", "When is the market?") if day == "Saturday" else ()),
            )
        )
    for season, happens, asked in SEASONS:
        facts.append(
            _general(
                "season",
                season,
                f"In {season} {happens}.",
                f"What is the weather like in {season}?",
                f"How is the weather in {season}?",
                f"What happens in {season}?",
                f"When {asked} in the village?",
                f"In which season {asked}?",
            )
        )
    for place, goods in GOODS:
        facts.append(
            _general(
                "goods",
                place,
                f"You can buy {goods} at the {place}.",
                f"What can I buy at the {place}?",
                f"What do they sell at the {place}?",
                f"What can you get at the {place}?",
                f"What is sold at the {place}?",
                f"Where can I buy {goods}?",
                f"Where do they sell {goods}?",
            )
        )
    for person in PEOPLE:
        species, sound = person.animal.species, person.animal.sound
        facts.append(
            _general(
                "sounds",
                species,
                f"A {species} says {sound}.",
                f"What does a {species} say?",
                f"What sound does a {species} make?",
                f"Which animal says {sound}?",
            )
        )
    return tuple(facts)
