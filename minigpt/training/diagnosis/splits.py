"""What the loss on text kept aside tells: learned by heart (overfitting), or hardly learned at all (underfitting)."""

from __future__ import annotations

import math

from minigpt.comparing.noise import cut_alike, paired_error
from minigpt.training.diagnosis.falling import FEWEST_STEPS
from minigpt.training.diagnosis.finding import Detector, Evaluated, Finding, Situation

_CERTAIN = 3.0
# Of what was gained on ln(vocabulary): a smaller rise is nothing that one would notice.
_WORTH_A_WORD = 0.01
# So many evaluations in a row: weights wobble, and one that is worse may be followed by a better one.
_IN_A_ROW = 2


class Overfitting(Detector):
    """The validation loss rises from its best, evaluation after evaluation, while the training loss falls."""

    def __init__(self) -> None:
        self.best: Evaluated | None = None
        self._train: dict[int, float] = {}  # step -> loss
        self._worse = 0

    def on_evaluation(self, evaluated: Evaluated, situation: Situation) -> Finding | None:
        if evaluated.split == "train":
            self._train[evaluated.step] = evaluated.loss
            return None
        if evaluated.split != "validation" or not math.isfinite(evaluated.loss):
            return None
        if self.best is None or evaluated.loss < self.best.loss:
            self.best, self._worse = evaluated, 0
            self._train = {step: loss for step, loss in self._train.items() if step >= evaluated.step}
            return None
        rise = evaluated.loss - self.best.loss
        gain = situation.uniform - self.best.loss
        certain = rise > _CERTAIN * _error(evaluated, self.best) and rise > _WORTH_A_WORD * gain
        then, now = self._train.get(self.best.step), self._train.get(evaluated.step)
        self._worse = self._worse + 1 if certain and then is not None and now is not None and now < then else 0
        if self._worse < _IN_A_ROW:
            return None
        return Finding(
            "overfitting",
            f"Since step {self.best.step:,} it learns the text by heart: on the training text the loss fell from "
            f"{then:.3f} to {now:.3f}, on the text kept aside it rose from {self.best.loss:.3f} to "
            f"{evaluated.loss:.3f}. The best weights are kept (best_model.pt), so end here; more text, a smaller model "
            "or model.dropout go further.",
            {"label": "end the run, the best weights are kept", "command": "set", "args": {"patience": 1}},
        )


def _error(one: Evaluated, other: Evaluated) -> float:
    """Return the standard error of the difference of two evaluations of the same text."""
    error = paired_error(one.blocks, other.blocks) if cut_alike(one.blocks, other.blocks) else None
    # Without blocks: a token's loss varies about as much as it amounts to.
    return other.loss * math.sqrt(2 / max(1, other.tokens)) if error is None else error


class Underfitting(Detector):
    """All steps are done, and the network predicts no better than counting pairs of tokens does."""

    def __init__(self) -> None:
        self._last: Evaluated | None = None

    def on_evaluation(self, evaluated: Evaluated, situation: Situation) -> Finding | None:
        if evaluated.split == "validation":
            self._last = evaluated
        return None

    def on_end(self, situation: Situation) -> Finding | None:
        last, steps = self._last, situation.last_step - situation.first_step
        if last is None or situation.ladder is None or not situation.has_order or steps < FEWEST_STEPS:
            return None
        bigram = situation.ladder.bigram
        if not last.loss >= bigram:
            return None
        begin = (
            f"The run has ended with a loss of {last.loss:.2f} on text it has not seen; counting which token follows "
            f"which gives {bigram:.2f}."
        )
        if situation.too_high:
            return Finding(
                "underfitting",
                f"{begin} Its learning rate was too high to learn by, for which more steps are no help: start again "
                f"with a third of {situation.rates}, or look for a better one (`minigpt presets sweep`).",
                {"label": "a third of the learning rate, in a new run", "settings": situation.scaled_rates(0.3)},
            )
        longer: dict[str, float] = {"training.max_steps": 3 * steps}
        if situation.lr_scale != 1:
            # As it was at the end, and not as the run began.
            longer |= situation.scaled_rates()
        return Finding(
            "underfitting",
            f"{begin} It has hardly begun to learn: train longer, look for a better learning rate "
            "(`minigpt presets sweep`), or take a larger model.",
            {"label": "train three times as long, in a new run", "settings": longer},
        )
