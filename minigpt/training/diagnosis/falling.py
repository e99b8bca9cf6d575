"""The loss does not fall as it should: the learning rate is too low or too high, the loss rises, or it stands still."""

from __future__ import annotations

from minigpt.training.diagnosis.curve import Level, LossCurve
from minigpt.training.diagnosis.finding import Detector, Finding, Situation

# No curve is judged before so many steps, so many warmups and such a part of the run.
FEWEST_STEPS = 50
_WARMUPS = 2
_PART = 0.02
# A level or trend that differs by so many standard errors is no chance, however often one looks.
_CERTAIN = 4.0
_VERY_CERTAIN = 6.0
# So many times as long as the run has taken so far to where it should be: it is not on its way.
_PATIENCE = 3
# A loss that has swung up and falls along this part of the curve is on its way back.
_LATELY = 0.4
# A loss that has come so much of the way down and then stands was not too slow.
_HAD_FALLEN = 0.3
# At the frequencies of single tokens, networks rest before they begin to use what came before (gpt2 a hundred steps):
# so many times the fewest steps to judge by are no trouble, as near as this share of the way down to there.
_RESTS = 3
_AT_REST = 0.1
# Shares of what was gained on ln(vocabulary): a rise by the first is a divergence, a fall by less than the second in
# half of all steps so far is a plateau. A loss that goes on by 1/t to a power falls more.
_LOST = 0.25
_STANDS = 0.005
_LEAST_GAIN = 0.1
FEWEST_STEPS_OF_A_PLATEAU = 200
# At a plateau's end there must be something left to be changed.
_LEFT = 0.2


class NotFalling(Detector):
    """After the beginning, the network still predicts no better than by the frequencies of single tokens."""

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        bound = situation.under_way
        planned = situation.last_step - situation.first_step
        least = max(FEWEST_STEPS, _WARMUPS * situation.warmup, _PART * planned)
        if bound is None or curve.steps < least:
            return None
        level = curve.level(max(10, curve.steps // 5))
        trend = curve.trend(curve.steps // 2)
        if trend is None or level.mean - _CERTAIN * level.error <= bound:
            return None
        certainly_falls = trend.fall > _CERTAIN * trend.error
        if certainly_falls and (level.mean - bound) * trend.steps < _PATIENCE * curve.steps * trend.fall:
            return None
        best = curve.best_before(level.steps)
        # Far too large steps leap within the first few: a network that knows nothing was better.
        start = min(curve.initial, max(situation.uniform, curve.first))
        above = start - bound
        lost = level.mean - min(best, start)
        risen = lost > max(_CERTAIN * level.error, _LOST * above)
        stuck = not certainly_falls and start - level.mean > _HAD_FALLEN * above
        if stuck and not risen and self._rests(level, start, situation) and curve.steps < _RESTS * least:
            return None
        if risen or stuck:
            return None if _comes_down(curve) else too_high(curve, level, situation)
        return self._too_low(curve, level, situation)

    @staticmethod
    def _rests(level: Level, start: float, situation: Situation) -> bool:
        """Whether the network knows how often each token comes and no more, as all do on their way."""
        assert situation.ladder is not None
        unigram = situation.ladder.unigram
        return level.mean < unigram + _AT_REST * (start - unigram)

    @staticmethod
    def _too_low(curve: LossCurve, level: Level, situation: Situation) -> Finding:
        assert situation.ladder is not None
        return Finding(
            "rate-too-low",
            f"In {curve.steps:,} steps the loss went from {curve.initial:.2f} to {level.mean:.2f} only; counting how "
            f"often each token comes would give {situation.ladder.unigram:.2f}. The learning rate is too low for the "
            f"network to move: raise {situation.rates}, tenfold at first.",
            situation.scale_rate(10, "raise the learning rate tenfold"),
        )


def _comes_down(curve: LossCurve) -> bool:
    return curve.falls(max(10, round(_LATELY * curve.steps)))


def too_high(curve: LossCurve, level: Level, situation: Situation) -> Finding:
    """Return the finding of a loss that has never come down to where learning begins, for too large steps."""
    than = f"; counting how often each token comes gives {situation.ladder.unigram:.2f}" if situation.ladder else ""
    return Finding(
        "rate-too-high",
        f"In {curve.steps:,} steps the loss went from {curve.initial:.2f} to {level.mean:.2f} and does not get lower"
        f"{than}. Each step overshoots, for the learning rate is too high: lower {situation.rates} to a third or less, "
        "or start again with that and more training.warmup_steps.",
        situation.scale_rate(0.3, "lower the learning rate to a third"),
    )


class Rising(Detector):
    """The loss has given back a good part of what was gained."""

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        if curve.steps < FEWEST_STEPS:
            return None
        now = max(10, min(50, curve.steps // 10))
        level, best = curve.level(now), curve.best_before(now)
        # Until the rate is up, a loss may swing, if not above that of a network which knows nothing.
        swings = level.mean < max(situation.uniform, curve.initial)
        if swings and curve.steps < _WARMUPS * situation.warmup:
            return None
        gain = max(situation.uniform, curve.initial) - best
        lost = level.mean - best
        if lost < max(_VERY_CERTAIN * level.error, _LOST * gain, _LOST * _LEAST_GAIN * situation.uniform):
            return None
        if curve.falls(now):
            return None
        bound = situation.under_way
        if bound is not None and best > bound:
            return too_high(curve, level, situation)
        return Finding(
            "diverging",
            f"The loss has risen from {best:.2f} to {level.mean:.2f}: the training comes apart, as a rule because "
            f"the learning rate is too high for where it is now. Halve it, or go back to best_model.pt with half of "
            f"{situation.rates}.",
            situation.scale_rate(0.5, "halve the learning rate"),
        )


class Plateau(Detector):
    """The loss has stood still for half of the run so far, while a good part is still to come."""

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        planned = situation.last_step - situation.first_step
        # The curve may have begun anew, with another rate: then less is left than there are steps without it.
        if curve.steps < FEWEST_STEPS_OF_A_PLATEAU or planned - curve.steps < _LEFT * planned:
            return None
        trend, level = curve.trend(curve.steps // 2), curve.level(100)
        gain = max(situation.uniform, curve.initial) - level.mean
        if trend is None or gain < _LEAST_GAIN * situation.uniform:
            return None
        if abs(trend.fall) + 2 * trend.error > _STANDS * gain:
            return None
        return Finding(
            "plateau",
            f"In the last {trend.steps:,} steps the loss has stood at {level.mean:.3f} "
            f"(changed by {abs(trend.fall):.4f}, within its noise). At this learning rate nothing more is learned: "
            "lower it, as a decaying training.schedule would, or end here; if it stands far from what you hoped for, a "
            "larger model or more text is what helps.",
            situation.scale_rate(0.3, "lower the learning rate to a third"),
        )
