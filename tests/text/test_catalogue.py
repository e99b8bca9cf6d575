from __future__ import annotations

import re

import pytest

from minigpt.errors import UserError
from minigpt.text.catalogue import Entry, catalogue, entry
from minigpt.text.hub import HubSource
from minigpt.workspace import builtin_presets

NAMES = {"shakespeare", "tinystories", "wikitext-103", "fineweb-edu", "openwebtext", "dolma", "c4"}

each_entry = pytest.mark.parametrize("known", catalogue(), ids=lambda known: known.name)


def test_the_first_corpora_are_there_smallest_first() -> None:
    assert {known.name for known in catalogue()} == NAMES
    assert [known.bytes for known in catalogue()] == sorted(known.bytes for known in catalogue())


def test_an_entry_is_found_by_its_short_name() -> None:
    assert entry("TinyStories").source == "hf:roneneldan/TinyStories"


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no corpus 'tinystory': did you mean tinystories\?.*shakespeare"):
        entry("tinystory")


def test_a_name_from_anywhere_is_shown_safely() -> None:
    with pytest.raises(UserError) as refused:
        entry("\x1b[2Jx")
    assert "\x1b" not in str(refused.value)


@each_entry
def test_sources_are_written_as_the_command_line_takes_them(known: Entry) -> None:
    for spec in (known.source, *known.fallbacks):
        scheme, _, rest = spec.partition(":")
        assert scheme in ("https", "hf", "list")
        if scheme == "hf":
            assert HubSource(rest, target_characters=None).origin == spec
    assert re.fullmatch(r"all|\d+M", known.target_tokens)


@each_entry
def test_figures_agree_and_large_ones_start_with_a_part(known: Entry) -> None:
    assert 2 < known.bytes / known.tokens < 6
    assert (known.target_tokens == "100M") == (known.tokens > 200_000_000)


@each_entry
def test_every_entry_tells_all_and_feeds_presets_that_exist(known: Entry) -> None:
    assert all((known.title, known.size, known.licence, known.good_for, known.how, known.presets))
    assert set(known.presets) <= {path.stem for path in builtin_presets().glob("*.toml")}
