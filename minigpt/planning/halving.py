"""Successive halving of learning rates: which to try, who goes on, and what the outcome is worth. Needs no torch.

rates = rates_around(0.02, count=7)                      # log-evenly, the preset's own in the middle
steps = rung_steps(len(rates), 200)                      # [50, 100, 200]: all to 50, the better half on to 100 ...
going_on = survivors(candidates, step=50)
recommendation = recommend(record)

Jamieson and Talwalkar, Non-stochastic Best Arm Identification (2016): a bad rate shows early, so most of the steps go
to the good ones. The losses that decide are measured on the same validation tokens, and all rates see the same batches
from the same first weights: their differences are known better than the losses are. What stays unknown is the luck of
the seed, so a sweep finds the right power of two, not the third digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from minigpt.comparing.noise import Blocks, paired_error, t_quantile
from minigpt.config import Config, settings
from minigpt.errors import UserError
from minigpt.presets import with_values

DEFAULT_COUNT = 7
MOST_RATES = 64
# How far the default range reaches below and above the preset's rate.
REACH = 8.0
FEWEST_STEPS = 4
RECORD = "sweep.json"
_DIGITS = 3

Settings = dict[str, float]


class Measure(msgspec.Struct):
    """The validation loss of a candidate at the end of a round, after its rate has come down; blocks as in noise.py."""

    step: int
    loss: float
    blocks: list[tuple[int, float]]


class Candidate(msgspec.Struct):
    """One rate and how it fared. `state`: waiting | training | in (it went on) | out | diverged."""

    rate: float
    settings: Settings
    state: str = "waiting"
    step: int = 0
    curve: list[tuple[int, float]] = []  # step and training loss, the mean of the steps since the point before
    measures: list[Measure] = []

    def measure(self, step: int) -> Measure | None:
        """Return what was measured at the end of the round that ended at `step`."""
        return next((one for one in self.measures if one.step == step), None)


class Recommendation(msgspec.Struct):
    """The best rate, as settings; `difference` to the runner-up is in nats, and clear where it is beyond `noise`.

    `edge` is low or high where the best is the last of the range: better ones may lie beyond. `own` says that the best
    is what the preset has already.
    """

    rate: float
    settings: Settings
    loss: float
    runner_up: float | None
    difference: float | None
    noise: float | None
    clear: bool
    edge: str
    own: bool
    text: str


class Record(msgspec.Struct):
    """All of a sweep: what was asked, how far it is, how it came out."""

    preset: str
    corpus: str
    setting: str  # whose values the rates are
    own_rate: float
    rungs: list[int]  # the steps at which rounds end
    cooldown: float  # steps in which the rate comes down before it is measured, as a share of those before
    tokens_per_step: int
    eval_tokens: int
    candidates: list[Candidate]
    round: int = 0  # the one at work, from 1
    recommendation: Recommendation | None = None


def read_record(directory: Path) -> Record | None:
    """Return the record of the sweep in a directory; None where there is none that can be read."""
    try:
        return msgspec.json.decode((directory / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


# Which rates


def main_rate(config: Config) -> str:
    """Return the setting whose rate a sweep varies: that of the optimizer which moves the matrices."""
    return "training.muon_learning_rate" if config.training.optimizer == "muon" else "training.learning_rate"


def rate_settings(config: Config, rate: float) -> Settings:
    """Return the settings of a candidate: with muon, Adam's rate changes in proportion. Raises UserError."""
    training = config.training
    found = {main_rate(config): rate}
    if training.optimizer == "muon" and training.muon_learning_rate:
        found["training.learning_rate"] = _rounded(training.learning_rate * rate / training.muon_learning_rate)
    with_values(config, found, f"rate {rate:g}")
    return found


def rates_around(
    rate: float, low: float | None = None, high: float | None = None, count: int = DEFAULT_COUNT
) -> list[float]:
    """Return `count` rates, log-evenly from low to high (left out: 8 times below and above `rate`).

    Raises UserError where that is no range.
    """
    if rate <= 0 and (low is None or high is None):
        raise UserError("The preset's learning rate is 0, so there is nothing to sweep around: give --low and --high.")
    _, most = settings()["training.learning_rate"].about.possible or (0.0, math.inf)
    low = low if low is not None else rate / REACH
    high = high if high is not None else min(most, rate * REACH)
    if not 0 < low < high <= most:
        raise UserError(
            f"A sweep from {low:g} to {high:g} is not possible: --low must be above 0 and below --high, and that at "
            f"most {most:g}."
        )
    if not 2 <= count <= MOST_RATES:
        raise UserError(f"--count {count} is not possible: a sweep takes 2 to {MOST_RATES} rates.")
    return distinct(low * (high / low) ** (number / (count - 1)) for number in range(count))


def distinct(rates: Iterable[float]) -> list[float]:
    """Return the rates in order, each once, as a person would write them. Raises UserError for fewer than two."""
    found = sorted({_rounded(rate) for rate in rates})
    if not all(math.isfinite(rate) and rate > 0 for rate in found):
        raise UserError("A learning rate to try must be above 0: --rates 0.005,0.01,0.02.")
    if not 2 <= len(found) <= MOST_RATES:
        raise UserError(f"A sweep takes 2 to {MOST_RATES} different rates, and these are {len(found)}.")
    return found


def _rounded(rate: float) -> float:
    return float(f"{rate:.{_DIGITS}g}")


# Who goes on


def rung_steps(count: int, steps: int) -> list[int]:
    """Return the steps at which rounds end; each halves the candidates and doubles the steps, until two reach `steps`.

    Raises UserError where that leaves too little for the first.
    """
    if steps < least_steps(count):
        raise UserError(
            f"--steps {steps} is too short to halve {count} rates: give at least {least_steps(count)}, or fewer rates."
        )
    return [steps // 2**left for left in reversed(range(_rounds(count)))]


def least_steps(count: int) -> int:
    """Return how far the last two of so many must train at least."""
    return FEWEST_STEPS * 2 ** (_rounds(count) - 1)


def _rounds(count: int) -> int:
    rounds = 1
    while count > 2:
        count, rounds = math.ceil(count / 2), rounds + 1
    return rounds


def survivors(candidates: Sequence[Candidate], step: int) -> list[Candidate]:
    """Return who goes on after the round that ended at `step`: the better half of those that did not diverge.

    One more goes on where nothing tells the first of the others from the best: halving must not throw away by chance.
    """
    ranked = ranking(candidates, step)
    kept = math.ceil(len(candidates) / 2)
    if kept < len(ranked) and len(candidates) > 2:
        best, next_one = ranked[0].measure(step), ranked[kept].measure(step)
        assert best is not None and next_one is not None
        noise = margin(best.blocks, next_one.blocks)
        kept += noise is not None and next_one.loss - best.loss <= noise
    chosen = {candidate.rate for candidate in ranked[:kept]}
    return [candidate for candidate in candidates if candidate.rate in chosen]


def ranking(candidates: Sequence[Candidate], step: int) -> list[Candidate]:
    """Return those that were measured at `step`, the lowest loss first."""
    measured = [(measure.loss, one) for one in candidates if (measure := one.measure(step)) is not None]
    return [candidate for _, candidate in sorted(measured, key=lambda pair: pair[0])]


def margin(first: Blocks, second: Blocks) -> float | None:
    """Return what a difference of two losses on the same tokens must exceed not to be chance, 19 times in 20.

    None where the blocks are too few to tell.
    """
    error = paired_error(first, second)
    return None if error is None else error * t_quantile(len(first) - 1)


# What the outcome is worth


def recommend(record: Record) -> Recommendation | None:
    """Return the best rate of the last round and what it is worth; None where all diverged."""
    step = record.rungs[-1]
    finalists = ranking(record.candidates, step)
    if not finalists:
        return None
    best = finalists[0]
    found = best.measure(step)
    assert found is not None
    runner_up = difference = noise = None
    if len(finalists) > 1 and (second := finalists[1].measure(step)) is not None:
        runner_up, difference = finalists[1].rate, second.loss - found.loss
        noise = margin(found.blocks, second.blocks)
    rates = [candidate.rate for candidate in record.candidates]
    edge = "low" if best.rate == min(rates) else "high" if best.rate == max(rates) else ""
    recommendation = Recommendation(
        rate=best.rate,
        settings=best.settings,
        loss=found.loss,
        runner_up=runner_up,
        difference=difference,
        noise=noise,
        clear=noise is not None and difference is not None and difference > noise,
        edge=edge,
        own=math.isclose(best.rate, record.own_rate, rel_tol=10**-_DIGITS),
        text="",
    )
    recommendation.text = " ".join(_sentences(record, recommendation))
    return recommendation


def _sentences(record: Record, found: Recommendation) -> list[str]:
    name = record.setting.partition(".")[2]
    told = [f"Best: {name} {found.rate:g}, validation loss {found.loss:.4f}."]
    if found.own:
        told[0] = f"Best: {name} {found.rate:g}, which the preset has already; validation loss {found.loss:.4f}."
    if found.runner_up is None or found.difference is None:
        told.append("Every other rate diverged, or went out before the last round.")
    elif found.noise is None:
        told.append(
            f"The runner-up, {found.runner_up:g}, is {found.difference:.4f} behind; there is too little validation "
            "text to say whether that is chance."
        )
    elif found.clear:
        told.append(
            f"The runner-up, {found.runner_up:g}, is {found.difference:.4f} behind: more than the evaluation's noise "
            f"({found.noise:.4f})."
        )
    else:
        told.append(
            f"The runner-up, {found.runner_up:g}, is {found.difference:.4f} behind: within the evaluation's noise "
            f"({found.noise:.4f}), so either will do; for a long run the lower one is the safer."
        )
    told += _against_own(record, found)
    if found.edge:
        flag = f"--low {found.rate / REACH:.3g}" if found.edge == "low" else f"--high {found.rate * REACH:.3g}"
        told.append(
            f"It is the {found.edge}est rate tried, so a better one may lie beyond: widen the sweep with {flag}."
        )
    return told


def _against_own(record: Record, found: Recommendation) -> list[str]:
    """Say how the preset's own rate did where it was tried, and is neither the best nor the runner-up."""
    own = next(
        (one for one in record.candidates if math.isclose(one.rate, record.own_rate, rel_tol=10**-_DIGITS)), None
    )
    if own is None or found.own or own.rate == found.runner_up:
        return []
    best = next(one for one in record.candidates if one.rate == found.rate)
    if not own.measures:
        return [f"The preset's own {own.rate:g} diverged."]
    last = own.measures[-1]
    then = best.measure(last.step)
    return (
        [f"The preset's own {own.rate:g} was {last.loss - then.loss:.4f} behind at step {last.step:,}."] if then else []
    )
