"""How a loss stands to those of the simplest models."""

from __future__ import annotations

import pytest

from tui.ladder import rung_passed

LADDER = {"uniform": 6.93, "unigram": 5.2, "bigram": 3.4}


@pytest.mark.parametrize(
    ("loss", "words"),
    [(3.0, "past bigram"), (6.0, "past uniform"), (7.1, "still at chance"), (120.0, "worse than chance")],
)
def test_the_words_say_where_a_loss_stands(loss: float, words: str) -> None:
    ((told, _),) = rung_passed(LADDER, loss)
    assert words in told


def test_without_rungs_or_loss_nothing_is_said() -> None:
    assert rung_passed(None, 120.0) == []
    assert rung_passed(LADDER, None) == []
    assert "still at chance" in rung_passed({"unigram": 5.2}, 6.0)[0][0]
