"""The built-in sample corpus: stories and conversations about the village of Willowbrook, generated, any size.

    for document in documents(characters=10_000): ...
    held_out_questions(3)  ->  [("What does Tom like to eat?", "Tom likes to eat apples."), ...]

The facts are in `sample_world`, the sentences of the stories in `sample_tales` and `sample_plots`.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import NamedTuple

from minigpt.text.documents import Document, Message
from minigpt.text.sample_grammar import choice, fill, story
from minigpt.text.sample_world import PEOPLE, VILLAGE, Fact, animal_facts, person_facts, village_facts

DEFAULT_CHARACTERS = 1_000_000
STORY_SHARE = 0.45
# Documents that a new one must differ from: more than there are in the default corpus.
_REMEMBERED = 20_000
# One question in so many is held out, but never so many that a fact is asked for in fewer than 3/4 of its ways.
_HELD_OUT_ONE_IN = 8

GREETINGS = (
    ("Hello!", "Hello! What would you like to know about the village?"),
    ("Hi!", "Hello! What would you like to know about the village?"),
    ("Hello, who are you?", f"I am a small language model, and I know {VILLAGE} well. Ask me about it!"),
    ("Who are you?", f"I am a small language model, and I know {VILLAGE} well. Ask me about it!"),
    ("What is your name?", f"I am a small language model, and I know {VILLAGE} well. Ask me about it!"),
    ("What can you do?", "I can answer questions about the village and tell stories."),
    ("What do you know?", "I can answer questions about the village and tell stories."),
    ("Can you help me?", "I can answer questions about the village and tell stories."),
    ("Good morning!", "Good morning! What would you like to know about the village?"),
    ("Good evening!", "Good evening! What would you like to know about the village?"),
    ("How are you?", "I am very well, thank you. How can I help?"),
    ("Hello, how are you?", "I am very well, thank you. How can I help?"),
    ("Who lives in the village?", f"Here live {', '.join(p.name for p in PEOPLE[:-1])} and {PEOPLE[-1].name}."),
)
FAREWELLS = (
    ("Thank you!", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Thank you very much!", "You are welcome!"),
    ("Thanks for your help.", "You are welcome!"),
    ("Goodbye!", "Goodbye! Come back soon!"),
    ("Bye!", "Goodbye! Come back soon!"),
    ("Good night!", "Good night! Sleep well!"),
    ("I am hungry.", "You can buy fresh bread at the bakery."),
    ("I am sad.", "I am sorry to hear that. Shall I tell you a story?"),
    ("You are funny.", "Thank you, you are very kind!"),
    ("That is a good answer.", "Thank you, you are very kind!"),
)
UNKNOWN_ANSWER = f"I am sorry, I do not know that. I only know {VILLAGE}."
UNKNOWN = (
    "What is the capital of {France|Spain|Italy|China|England}?",
    "Who is the {king|queen} of {France|Spain|Italy|China|England}?",
    "How {far|old|big} is the {moon|sun|sea|world}?",
    "What is {two|three|four|five|six|seven} plus {two|three|four|five|six|seven}?",
    "How much is {two|three|four|five|six|seven} times {two|three|four|five|six|seven}?",
    "What is the meaning of life?",
    "{Who|What} is {Paul|Peter|Mary|John}?",
    "Where does {Paul|Peter|Mary|John} live?",
    "What does {Paul|Peter|Mary|John} like to eat?",
    "Can you write {a poem|a letter|a book}?",
    "What time is it?",
    "Who is the mayor?",
    "What is the weather like {today|tomorrow}?",
    "How old is <name>?",
    "How tall is <name>?",
    "What will happen tomorrow?",
    "Who wrote this book?",
    "Why is the {sky|sea} {blue|green}?",
)
STORY_REQUESTS = (
    "Tell me a story about <name>.",
    "Tell me a story about <name>!",
    "Can you tell me a story about <name>?",
    "I would like to hear a story about <name>.",
    "Please tell me a story about <name>.",
    "Do you know a story about <name>?",
)
ANY_STORY_REQUESTS = ("Tell me a story.", "Tell me a story!", "Can you tell me a story?", "Please tell me a story.")
FIRST_QUESTIONS = ("{question}",) * 12 + (
    "Hello! {question}",
    "Please tell me, {lower}",
    "Can you help me? {question}",
    "I have a question: {lower}",
    "Excuse me, {lower}",
    "{question} Please tell me.",
)
LATER_QUESTIONS = ("{question}",) * 7 + (
    "And {lower}",
    "Thank you. And {lower}",
    "I see. {question}",
    "Good. {question}",
    "And now tell me, {lower}",
    "One more question: {lower}",
)
# Chances of the kinds of a turn, those of a question about somebody being what is left.
_YES_NO, _VILLAGE, _STORY, _UNKNOWN, _SAME_ABOUT = 0.10, 0.12, 0.05, 0.05, 0.06
_CASUAL = 0.06


def prompts() -> tuple[str, ...]:
    """Return beginnings and questions that show a newcomer what a model of this corpus can do."""
    return ("Once upon a time", "I eat", "One fine morning", "Where does Anna live?", "What does Tom like to eat?")


def documents(characters: int = DEFAULT_CHARACTERS, seed: int = 0) -> Iterator[Document]:
    """Yield stories and conversations until their texts have at least `characters` characters.

    The same for the same seed, everywhere. Lazy: memory does not grow with the size. No document equals one of
    the 20,000 before it.
    """
    rng = Random(seed)
    recent: deque[str] = deque()
    seen: set[str] = set()
    story_characters = total = 0
    while total < characters:
        if story_characters <= STORY_SHARE * total:
            document = Document(text=story(rng))
            text = document.text
        else:
            document = Document(messages=_conversation(rng))
            text = "\n".join(message.content for message in document.messages)
        if text in seen:
            continue
        seen.add(text)
        recent.append(text)
        if len(recent) > _REMEMBERED:
            seen.remove(recent.popleft())
        length = len(document.text) + sum(len(message.content) for message in document.messages)
        total += length
        story_characters += len(document.text)
        yield document


def held_out_questions(count: int = 100, seed: int = 0) -> list[tuple[str, str]]:
    """Return up to `count` (question, exact answer) pairs, spread evenly over the attributes.

    No document of any size or seed asks one of these questions about its subject, by name or by pronoun:
    conversations take their questions from `_asked`, which leaves out exactly these.
    """
    rng = Random(seed)
    by_attribute: dict[str, list[tuple[str, str]]] = {}
    for fact in _facts():
        asked = set(_asked(fact))
        pairs = by_attribute.setdefault(fact.attribute, [])
        pairs += [(q, fact.answer) for i, q in enumerate(fact.questions) if i not in asked]
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count and any(by_attribute.values()):
        for pairs in by_attribute.values():
            if pairs:
                chosen.append(pairs.pop(int(rng.random() * len(pairs))))
    return chosen[:count]


class _Subject(NamedTuple):
    name: str
    facts: tuple[Fact, ...]
    related: str  # a person's animal, an animal's person


@cache
def _subjects() -> dict[str, _Subject]:
    people = [_Subject(p.name, person_facts(p), p.animal.name) for p in PEOPLE]
    animals = [_Subject(p.animal.name, animal_facts(p), p.name) for p in PEOPLE]
    return {subject.name: subject for subject in people + animals}


@cache
def _village() -> tuple[Fact, ...]:
    return village_facts()


@cache
def _facts() -> tuple[Fact, ...]:
    return tuple(fact for subject in _subjects().values() for fact in subject.facts) + _village()


@cache
def _asked(fact: Fact) -> tuple[int, ...]:
    """Which of a fact's questions conversations may ask: the rule depends on the question's text alone."""
    held_out = [i for i, q in enumerate(fact.questions) if zlib.crc32(q.encode()) % _HELD_OUT_ONE_IN == 0]
    held_out = held_out[: len(fact.questions) // 4]
    return tuple(i for i in range(len(fact.questions)) if i not in held_out)


@cache
def _values(attribute: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.value for fact in _facts() if fact.attribute == attribute))


def _conversation(rng: Random) -> tuple[Message, ...]:
    """One to four turns: perhaps a greeting, questions that stay with a subject for a while, perhaps a goodbye."""
    turns = choice(rng, (1, 2, 2, 3, 3, 3, 4, 4, 4))
    talk = _Talk(rng)
    if rng.random() < 0.1:
        talk.say(*choice(rng, GREETINGS))
    farewell = turns > 1 and rng.random() < 0.15
    while len(talk.messages) < 2 * (turns - farewell):
        talk.turn()
    if farewell:
        talk.say(*choice(rng, FAREWELLS))
    return tuple(talk.messages)


class _Talk:
    """A conversation in the making, and what it is about."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.messages: list[Message] = []
        self.subject = choice(rng, tuple(_subjects().values()))
        self.told: set[str] = set()
        self.pronoun_is_clear = False
        self.last_attribute = ""

    def say(self, question: str, answer: str) -> None:
        if self.rng.random() < _CASUAL:
            question = question.lower().rstrip("?.!")
        self.messages += [Message("user", question), Message("assistant", answer)]
        self.pronoun_is_clear = False
        self.last_attribute = ""

    def turn(self) -> None:
        kind = self.rng.random()
        if (kind := kind - _YES_NO) < 0:
            self._ask_yes_no()
        elif (kind := kind - _VILLAGE) < 0:
            fact = choice(self.rng, _village())
            self.say(self._worded(fact.questions[choice(self.rng, _asked(fact))]), fact.answer)
        elif (kind := kind - _STORY) < 0:
            self._ask_for_story()
        elif (kind := kind - _UNKNOWN) < 0:
            question = fill(choice(self.rng, UNKNOWN), self.rng, {"name": self.subject.name})
            self.say(question, UNKNOWN_ANSWER)
        elif self.last_attribute and kind < _SAME_ABOUT:
            self._ask_the_same_of_another()
        else:
            self._ask()

    def _worded(self, question: str) -> str:
        if not question.endswith("?"):
            return question
        wording = choice(self.rng, LATER_QUESTIONS if self.messages else FIRST_QUESTIONS)
        return wording.format(question=question, lower=question[0].lower() + question[1:])

    def _ask(self) -> None:
        """Ask about the subject, which the last answer may have changed to its friend or animal."""
        if self.messages and self.rng.random() < 0.45:
            related = self.subject.related if self.rng.random() < 0.5 else choice(self.rng, tuple(_subjects()))
            self.subject = _subjects()[related]
            self.pronoun_is_clear = False
        fact = choice(self.rng, self.subject.facts)
        if fact.answer in self.told:
            return
        self.told.add(fact.answer)
        which = choice(self.rng, _asked(fact))
        by_pronoun = self.pronoun_is_clear and fact.follow_ups[which] and self.rng.random() < 0.7
        if by_pronoun:
            self.say(self._worded(fact.follow_ups[which]), fact.short_answer)
        else:
            self.say(self._worded(fact.questions[which]), fact.answer)
        # After "Tom's best friend is Anna" or "Bella is Tom's cow" a pronoun could mean either.
        self.pronoun_is_clear = fact.attribute not in ("friend", "animal", "owner", "whose")
        if fact.follow_ups[which] and not by_pronoun:
            self.last_attribute = fact.attribute

    def _ask_the_same_of_another(self) -> None:
        others = [
            (subject, fact)
            for subject in _subjects().values()
            for fact in subject.facts
            if fact.attribute == self.last_attribute and subject is not self.subject
        ]
        attribute = self.last_attribute
        self.subject, fact = choice(self.rng, others)
        asked = choice(self.rng, ("And {}?", "What about {}?", "And what about {}?"))
        self.say(asked.format(self.subject.name), fact.answer)
        self.pronoun_is_clear = attribute not in ("friend", "animal", "owner", "whose")
        self.last_attribute = attribute

    def _ask_yes_no(self) -> None:
        fact = choice(self.rng, [fact for fact in self.subject.facts if fact.yes_no])
        value = fact.value if self.rng.random() < 0.5 else choice(self.rng, _values(fact.attribute))
        answer = ("Yes, " if value == fact.value else "No, ") + fact.answer
        self.say(self._worded(fact.yes_no.format(value=value)), answer)

    def _ask_for_story(self) -> None:
        name = choice(self.rng, PEOPLE).name
        if self.rng.random() < 0.2:
            request = choice(self.rng, ANY_STORY_REQUESTS)
        else:
            request = choice(self.rng, STORY_REQUESTS).replace("<name>", name)
        self.subject = _subjects()[name]
        self.say(request, story(self.rng, hero=name, short=True))
