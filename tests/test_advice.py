from __future__ import annotations

import random

import msgspec
import pytest

from minigpt.advice import Advice, advise, preset_for, refuse_tiny
from minigpt.errors import UserError
from minigpt.text import sample
from minigpt.text.documents import Document
from minigpt.text.statistics import CommonLine, Repeated, Statistics, survey, survey_text

HEALTHY = Statistics(
    documents=4000,
    characters=4_000_000,
    bytes=4_000_000,
    shortest=20,
    median=900,
    longest=9000,
    distinct_characters=90,
    encodings={"utf-8": 10},
)


def changed(**values: object) -> Statistics:
    return msgspec.structs.replace(HEALTHY, **values)


def warnings(advice: list[Advice]) -> list[str]:
    return [word.code for word in advice if word.severity == "warning"]


def found(advice: list[Advice], code: str) -> Advice:
    return next(word for word in advice if word.code == code)


@pytest.mark.parametrize(
    ("code", "statistics"),
    [
        ("too_little", changed(characters=4999, bytes=4999)),
        ("little", changed(characters=5000, bytes=5000)),
        ("little", changed(characters=49_999, bytes=49_999)),
        ("repeated_document", changed(repeated_documents=500, most_repeated=Repeated("Buy now", 501))),
        ("repeated_documents", changed(repeated_documents=1000, most_repeated=Repeated("Buy now", 2))),
        ("one_line", changed(commonest_line=CommonLine("Home | About", 0.4))),
        ("mixed_encodings", changed(encodings={"utf-8": 5, "cp1252": 1})),
        ("mixed_encodings", changed(encodings={"utf-8": 5, "utf-16": 1})),
    ],
)
def test_each_trouble_is_told_and_nothing_else(code: str, statistics: Statistics) -> None:
    advice = advise(statistics)
    assert warnings(advice) == [code]
    assert advice[0].code == code


@pytest.mark.parametrize(
    "statistics",
    [
        HEALTHY,
        changed(characters=50_000, bytes=50_000),
        changed(repeated_documents=300, most_repeated=Repeated("Yes.", 100)),
        changed(commonest_line=CommonLine("* * *", 0.05)),
        changed(encodings={"utf-8": 5, "ascii": 7, "utf-8-sig": 1}),
        changed(encodings={"cp1252": 5}),
    ],
)
def test_what_is_usual_is_no_trouble(statistics: Statistics) -> None:
    assert warnings(advise(statistics)) == []


def test_the_built_in_corpus_and_its_preset_are_healthy() -> None:
    statistics = survey(sample.documents(1_000_000, 0), encodings={"utf-8": 1})
    advice = advise(statistics, parameters=1_115_520, preset="tiny", tokens=250_000, context=128)
    assert warnings(advice) == []
    assert "feeds the preset tiny (1.1 million parameters)" in found(advice, "preset").message


def test_a_megabyte_of_plays_is_healthy() -> None:
    choose = random.Random(0)
    vocabulary = ["".join(choose.choices("etaoinshrdlu", k=choose.randrange(2, 9))) for _ in range(12_000)]
    speeches = (
        f"{choose.choice(['KING', 'QUEEN', 'FOOL'])}:\n{' '.join(choose.choices(vocabulary, k=8))}\n\n"
        for _ in range(21_000)
    )
    statistics = survey_text(speeches, encodings={"utf-8": 1})
    assert 1_000_000 < statistics.characters < 1_300_000
    assert warnings(advise(statistics, parameters=900_000, tokens=statistics.characters, context=256)) == []


def test_one_document_and_its_line_are_told_once() -> None:
    statistics = survey([Document("Buy now, only today!")] * 900 + [Document(f"Number {n}") for n in range(7000)])
    assert warnings(advise(statistics)) == ["repeated_document"]


def test_one_line_of_a_lone_text_is_told() -> None:
    statistics = survey_text(["All work and no play makes Jack a dull boy.\n"] * 2000)
    word = found(advise(statistics), "one_line")
    assert "100% of the text is one line, over and over: “All work and no play" in word.message


@pytest.mark.parametrize(
    ("size", "preset"),
    [
        (1_000, "tiny"),
        (1_000_000, "tiny"),
        (20_000_000, "small"),
        (60_000_000, "small-512"),
        (200_000_000, "medium"),
        (10_000_000_000, "dolma-75m"),
    ],
)
def test_a_preset_is_chosen_by_the_size_of_the_text(size: int, preset: str) -> None:
    assert preset_for(size) == preset
    assert (
        f"preset{', ' if size < 100_000 else ' '}{preset}"
        in found(advise(changed(characters=size, bytes=size)), "preset").message
    )


def test_the_preset_is_chosen_by_bytes_so_that_languages_count_alike() -> None:
    chinese = changed(characters=4_000_000, bytes=12_000_000)
    assert "the preset small (" in found(advise(chinese), "preset").message


@pytest.mark.parametrize(
    ("tokens", "severity", "words"),
    [
        (90_000, "warning", "0.09 tokens of text a parameter, far too few"),
        (500_000, "info", "0.5 tokens of text a parameter, not much"),
        (5_000_000, "info", "5 tokens of text a parameter, a fair amount"),
        (40_000_000, "info", "40 tokens of text a parameter, plenty"),
    ],
)
def test_tokens_a_parameter_are_judged(tokens: int, severity: str, words: str) -> None:
    word = found(advise(HEALTHY, parameters=1_000_000, preset="mine", tokens=tokens), "tokens_per_parameter")
    assert word.severity == severity
    assert f"For the preset mine this is {words}" in word.message


def test_a_smaller_preset_is_named_where_there_is_one() -> None:
    def advice(parameters: int, preset: str) -> str:
        return found(
            advise(changed(bytes=100_000), parameters=parameters, preset=preset), "tokens_per_parameter"
        ).message

    assert "take the preset tiny" in advice(10_613_568, "small")
    assert "take the preset" not in advice(1_115_520, "tiny")


def test_documents_much_shorter_than_the_context_are_told() -> None:
    word = found(advise(changed(median=80), context=1024), "short_documents")
    assert word.severity == "info"
    assert "fewer than 20 tokens" in word.message and "max_seq_len = 64 " in word.message
    assert not any(word.code == "short_documents" for word in advise(HEALTHY, context=512))
    lone = changed(documents=1, median=80)
    assert not any(word.code == "short_documents" for word in advise(lone, context=1024))


def test_names_from_files_are_printable() -> None:
    advice = advise(changed(encodings={"utf-8": 1, "evil\x1b[31m": 1}), parameters=10**9, preset="bad\x1bname")
    assert not any("\x1b" in word.message for word in advice)


def test_no_text_calls_for_no_advice() -> None:
    assert advise(Statistics()) == []


@pytest.mark.parametrize("characters", [0, 1, 140, 199])
def test_two_sentences_are_refused_with_help(characters: int) -> None:
    with pytest.raises(UserError, match=r"a model needs 200 .* add more text \(`minigpt corpus catalogue`"):
        refuse_tiny(characters)


def test_a_little_more_is_taken() -> None:
    refuse_tiny(200)
