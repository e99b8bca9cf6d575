"""The sample corpus: the same everywhere, true to its world, and with questions that it never asks."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter

import pytest

from minigpt.text.documents import Document
from minigpt.text.sample import DEFAULT_CHARACTERS, documents, held_out_questions, prompts
from minigpt.text.sample_world import PEOPLE, animal_facts, person_facts, village_facts

PRONOUNS = re.compile(r"\b(he|she|him|her|his)\b", re.IGNORECASE)
NAMES = "|".join([p.name for p in PEOPLE] + [p.animal.name for p in PEOPLE])


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return list(documents())


@pytest.fixture(scope="module")
def stories(corpus: list[Document]) -> list[str]:
    return [document.text for document in corpus if document.text]


@pytest.fixture(scope="module")
def turns(corpus: list[Document]) -> list[tuple[str, str]]:
    """All (question, answer) pairs."""
    return [
        (question.content, answer.content)
        for document in corpus
        for question, answer in zip(document.messages[::2], document.messages[1::2], strict=True)
    ]


@pytest.fixture(scope="module")
def texts(stories: list[str], turns: list[tuple[str, str]]) -> list[str]:
    return stories + [text for turn in turns for text in turn]


def content(document: Document) -> str:
    return document.text or "\n".join(f"{message.role}: {message.content}" for message in document.messages)


def size(document: Document) -> int:
    return len(document.text) + sum(len(message.content) for message in document.messages)


def bare(question: str) -> str:
    return re.sub(r"[.?!]", "", question.lower())


def test_is_the_same_on_every_machine_and_python() -> None:
    text = "\n\n".join(map(content, documents(100_000)))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "ae430831a15cca45a3c98b9ccce0abbe7957e15301b966f4f2ea042a6e9af7a2"
    )


def test_seeds_give_different_documents() -> None:
    first, second = ({content(d) for d in documents(50_000, seed)} for seed in (1, 2))
    assert len(first & second) < len(first) / 20


@pytest.mark.parametrize("characters", [1, 10_000, 200_000])
def test_ends_with_the_document_that_reaches_the_size(characters: int) -> None:
    sizes = [size(document) for document in documents(characters)]
    assert sum(sizes[:-1]) < characters <= sum(sizes)


def test_a_larger_corpus_begins_like_a_smaller_one_and_is_lazy() -> None:
    small = list(documents(20_000))
    assert list(itertools.islice(documents(10**15), len(small))) == small


def test_documents_are_stories_or_conversations_of_whole_turns(corpus: list[Document]) -> None:
    for document in corpus:
        assert bool(document.text) != bool(document.messages)
        assert [m.role for m in document.messages] == ["user", "assistant"] * (len(document.messages) // 2)
        assert len(document.messages) <= 8


def test_stories_are_near_half_of_the_characters(stories: list[str]) -> None:
    assert sum(map(len, stories)) / DEFAULT_CHARACTERS == pytest.approx(0.45, abs=0.02)


def test_stories_have_the_length_of_a_context(stories: list[str]) -> None:
    lengths = sorted(len(story.split()) for story in stories)
    assert lengths[0] >= 40 and lengths[-1] <= 200
    assert 80 <= lengths[len(lengths) // 2] <= 130


def test_no_document_comes_twice(corpus: list[Document]) -> None:
    assert len(set(map(content, corpus))) == len(corpus)


def test_stories_seldom_share_twenty_words_in_a_row(stories: list[str]) -> None:
    windows = Counter(tuple(words[i : i + 20]) for words in map(str.split, stories) for i in range(len(words) - 19))
    repeated = sum(count for count in windows.values() if count > 1)
    assert repeated / windows.total() < 0.01


def test_vocabulary_is_small(texts: list[str]) -> None:
    words = Counter(re.findall(r"[a-z-]+", re.sub(r"'s\b", "", " ".join(texts).lower())))
    assert 500 < len(words) < 950
    assert sum(1 for count in words.values() if count < 5) < 30


def test_articles_fit_the_next_word(texts: list[str]) -> None:
    assert [t for t in texts if re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", t)] == []


def test_sentences_are_well_formed(texts: list[str], stories: list[str]) -> None:
    assert [t for t in texts if re.search(r"[<>{}|_]|  | [.,!?]|[.,!?]{2}|\bNone\b", t)] == []
    for story in stories:
        assert story.count('"') % 2 == 0, story
        assert re.search(r'[.!?]"?$', story), story
        assert all(s[0].isupper() for s in re.split(r"(?<=[.!?]) (?=\w)", story.replace('"', ""))[:1])


def test_one_question_has_one_answer(turns: list[tuple[str, str]]) -> None:
    answers: dict[str, set[str]] = {}
    for question, answer in turns:
        refers = PRONOUNS.search(question) or re.match(r"(and |and what about |what about )\w+\??$", question.lower())
        if not refers and "story" not in question.lower():
            answers.setdefault(bare(question), set()).add(answer)
    assert {question: found for question, found in answers.items() if len(found) > 1} == {}


def test_people_and_animals_are_who_they_are(texts: list[str]) -> None:
    trade = {p.name: p.job for p in PEOPLE} | {p.animal.name: p.animal.species for p in PEOPLE}
    called = [m for t in texts for m in re.findall(rf"\b({NAMES}) the (\w+)", t)]
    assert len(called) > 1000
    assert {(name, what) for name, what in called if trade[name] != what} == set()


@pytest.mark.parametrize(
    "pattern, attribute",
    [
        (r"\"I eat ([a-z ]+?) every \w+,\" said (?:h\w+ best friend )?(?P<who>\w+)", "food"),
        (r"(?P<who>{0}) likes to eat ([a-z ]+)[.,]", "food"),
        (r"(?P<who>{0})'s favourite colour is (\w+)", "colour"),
        (r"\"My favourite colour is (\w+),\" said (?:h\w+ best friend )?(?P<who>\w+)", "colour"),
        (r"(?P<who>{0}) lives ([a-z ]+)\.", "home"),
        (r"\"I live ([a-z ]+),\" said (?:h\w+ best friend )?(?P<who>\w+)", "home"),
        (r"(?P<who>{0}) likes to drink ([a-z ]+)\.", "drink"),
    ],
)
def test_nothing_contradicts_the_facts(texts: list[str], pattern: str, attribute: str) -> None:
    known = {p.name: getattr(p, attribute) for p in PEOPLE}
    people = "|".join(known)
    found = [m for t in texts if "?" not in t for m in re.finditer(pattern.replace("{0}", people), t)]
    said = {(m["who"], next(g for g in m.groups() if g != m["who"])) for m in found}
    assert len(said) >= 10
    assert {(who, what) for who, what in said if known[who] != what} == set()


def test_every_yes_and_no_is_right(turns: list[tuple[str, str]]) -> None:
    facts = {f.answer: f for p in PEOPLE for f in person_facts(p) + animal_facts(p)}
    checked = 0
    for question, answer in turns:
        word, _, statement = answer.partition(", ")
        if word in ("Yes", "No") and (fact := facts.get(statement)):
            assert (bare(fact.yes_no.format(value=fact.value)) in bare(question)) == (word == "Yes"), question
            checked += 1
    assert checked > 200


def test_held_out_questions_are_never_asked() -> None:
    held_out = {bare(question) for question, _ in held_out_questions(10_000)}
    for seed in (0, 7):
        asked = {bare(m.content) for d in documents(seed=seed) for m in d.messages if m.role == "user"}
        # A question may come after words such as "Hello!" or "Please tell me,".
        endings = {question[start:] for question in asked for start in _word_starts(question)}
        assert held_out.isdisjoint(endings)


def _word_starts(text: str) -> list[int]:
    return [0] + [match.end() for match in re.finditer(" ", text)]


def test_held_out_questions_follow_from_what_the_corpus_says(turns: list[tuple[str, str]]) -> None:
    answered = Counter(re.sub("^(Yes|No), ", "", answer) for _, answer in turns)
    for question, answer in held_out_questions(10_000):
        assert answered[answer] >= 5, question


def test_held_out_questions_are_spread_over_all_attributes() -> None:
    facts = [*village_facts(), *(f for p in PEOPLE for f in person_facts(p) + animal_facts(p))]
    attribute = {question: fact.attribute for fact in facts for question in fact.questions}
    questions = held_out_questions(100)
    assert len(set(questions)) == 100
    assert {attribute[question] for question, _ in questions} == set(attribute.values())
    assert questions != held_out_questions(100, seed=1)


def test_each_question_belongs_to_one_fact() -> None:
    facts = [*village_facts(), *(f for p in PEOPLE for f in person_facts(p) + animal_facts(p))]
    questions = Counter(question for fact in facts for question in fact.questions)
    assert [question for question, count in questions.items() if count > 1] == []


def test_prompts_begin_stories_or_ask_what_is_asked(stories: list[str], turns: list[tuple[str, str]]) -> None:
    asked = "\n".join(bare(question) for question, _ in turns)
    for prompt in prompts():
        assert bare(prompt) in asked if prompt.endswith("?") else any(s.startswith(prompt) for s in stories), prompt
