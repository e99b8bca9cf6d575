"""Which of several runs has the better model, and whether that is more than the noise of measuring it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec

from minigpt.comparing.facts import Measured, RunFacts
from minigpt.comparing.noise import cut_alike, limit, paired_error, paired_limit, unpaired_error
from minigpt.errors import printable
from minigpt.summary import LIVE_STATES

LOSS, BITS, NOTHING = "loss", "bits_per_byte", "nothing"
_UNITS = {LOSS: "nats a token", BITS: "bits a byte"}
# Budgets closer than this count as the same.
_SAME_BUDGET = 1.05
_SEEDS = (
    "Training itself is noisy too: with another seed each of these losses would move, as a rule by more than the "
    "evaluation's noise, so repeat a close comparison with two or three seeds (training.seed)."
)
_SAME_BUT_SEED = (
    "These runs differ in nothing but the seed: what lies between them is the noise of training itself, and no "
    "change of a setting that gains less than this can be told from chance."
)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the difference between two runs, best against best: `error` is its standard error in the
    figure's own unit, up to `limit` it may be noise, 19 times in 20, and `certain` says whether it is more; None where
    that cannot be told.
    """

    better: str
    other: str
    figure: str
    difference: float
    error: float | None
    limit: float | None
    paired: bool
    certain: bool | None
    message: str


def judge(runs: Sequence[RunFacts]) -> tuple[str, list[Verdict]]:
    """Return the figure that compares these runs ("nothing" on different text), and the best against each other one.

    With one tokenizer that is the loss; with several the bits per byte, which do not depend on how text is cut.
    """
    figure = _figure(runs)
    ranked = sorted((value, place) for place, run in enumerate(runs) if (value := _value(run, figure)) is not None)
    if len(ranked) < 2:
        return figure, []
    best = runs[ranked[0][1]]
    others = [runs[place] for _, place in ranked[1:]]
    # Two with one tokenizer compare by loss, block by block, whatever the others have.
    return figure, [_verdict(best, other, _figure([best, other])) for other in others]


def cautions(runs: Sequence[RunFacts], verdicts: Sequence[Verdict], different: Sequence[str]) -> list[str]:
    """Return what to keep in mind before a figure is believed; `different` are the keys of settings that differ."""
    found = []
    if len({run.text for run in runs}) > 1:
        found.append(
            "They were evaluated on different text, so neither loss nor bits per byte compare: run `minigpt eval` on "
            "one corpus with each of them."
        )
    elif _figure(runs) == BITS:
        found.append(
            "Their tokenizers differ, so that a token is not the same piece of text: compare bits per byte, not loss "
            "or perplexity, and best on the whole split, for as many tokens are not as much text."
        )
    elif _figure(runs) == NOTHING:
        found.append("There are fewer than two runs with a validation loss: nothing can be compared yet.")
    seeds_alone = set(different) == {"training.seed"}
    if seeds_alone:
        found.append(_SAME_BUT_SEED)
    elif verdicts:
        found.append(_SEEDS)
    working = [_name(run) for run in runs if run.state in LIVE_STATES]
    if working:
        found.append(f"Still training: {', '.join(working)}. What is best so far may not be the best in the end.")
    found += _budgets(runs)
    forked = [_name(run) for run in runs if run.forked_from]
    if forked:
        found.append(f"Begun from another run's weights: {', '.join(forked)}. What those had cost is not counted here.")
    return found


def _figure(runs: Sequence[RunFacts]) -> str:
    measured = [run for run in runs if run.best is not None]
    if len(measured) < 2 or len({run.text for run in runs}) > 1:
        return NOTHING
    if len({run.tokenizer for run in measured}) == 1:
        return LOSS
    told = all(run.best is not None and run.best.bits_per_byte is not None for run in measured)
    return BITS if told else NOTHING


def _value(run: RunFacts, figure: str) -> float | None:
    if run.best is None or figure == NOTHING:
        return None
    return run.best.loss if figure == LOSS else run.best.bits_per_byte


def _verdict(better: RunFacts, other: RunFacts, figure: str) -> Verdict:
    one, two = better.best, other.best
    assert one is not None and two is not None
    first, second = _value(better, figure), _value(other, figure)
    assert first is not None and second is not None
    difference = second - first
    paired = figure == LOSS and cut_alike(one.blocks, two.blocks)
    if paired:
        error, may_be_chance = paired_error(one.blocks, two.blocks), paired_limit(one.blocks, two.blocks)
    else:
        error = unpaired_error(*[(found.loss_error if figure == LOSS else found.bits_error) for found in (one, two)])
        may_be_chance = unpaired_error(*[_limit_in(found, figure) for found in (one, two)])
    certain = None if may_be_chance is None else difference > may_be_chance
    return Verdict(
        better=better.run,
        other=other.run,
        figure=figure,
        difference=difference,
        error=error,
        limit=may_be_chance,
        paired=paired,
        certain=certain,
        message=_message(better, other, figure, difference, error, may_be_chance, paired, certain),
    )


def _limit_in(found: Measured, figure: str) -> float | None:
    """Return how far a figure may be off by chance, the length of tokens in bytes taken as known."""
    off = limit(found.blocks)
    if figure == LOSS or off is None:
        return off
    return off * found.bits_per_byte / found.loss if found.bits_per_byte is not None and found.loss > 0 else None


def _message(
    better: RunFacts,
    other: RunFacts,
    figure: str,
    difference: float,
    error: float | None,
    limit: float | None,
    paired: bool,
    certain: bool | None,
) -> str:
    amount = f"{difference:.4f} {_UNITS[figure]}"
    if error is None or limit is None:
        return (
            f"{_name(better)} is {amount} better than {_name(other)}; whether that is more than the evaluation's noise "
            "cannot be told, for there is too little validation text, or these runs recorded no errors."
        )
    how = "block by block on the same text" if paired else "both errors together"
    if certain:
        return (
            f"{_name(better)} is better than {_name(other)} by {amount} (standard error {error:.4f}, {how}): more "
            f"than the evaluation's noise, of which up to {limit:.4f} may come by chance."
        )
    return (
        f"{_name(better)} and {_name(other)} differ by {amount}, which is within the evaluation's own noise (standard "
        f"error {error:.4f}, {how}; up to {limit:.4f} may be chance): on other text of the kind either may be ahead."
    )


def _budgets(runs: Sequence[RunFacts]) -> list[str]:
    """Say where one run had far more to learn from, or learned with more parameters, than another."""
    pairs = [
        (more, less, more.tokens / less.tokens)
        for one, two in combinations(runs, 2)
        for more, less in [sorted((one, two), key=lambda run: -(run.tokens or 0))]
        if more.tokens and less.tokens and more.tokens > _SAME_BUDGET * less.tokens
    ]
    if not pairs or len({run.tokenizer for run in runs}) > 1:
        return []
    more, less, ratio = max(pairs, key=lambda pair: pair[2])
    return [
        f"{_name(more)} has read {ratio:.3g} times as many tokens as {_name(less)}: look at the curves by tokens or by "
        "time, at the same place."
    ]


def _name(run: RunFacts) -> str:
    return printable(run.run, single_line=True)
