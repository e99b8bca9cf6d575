"""What a detector knows of the run it watches, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from minigpt.config import TrainingSettings
from minigpt.notices import Cure
from minigpt.text.ladder import Ladder
from minigpt.training.controls import LR_SCALE_RANGE
from minigpt.training.diagnosis.curve import LossCurve

if TYPE_CHECKING:
    from minigpt.comparing.noise import Blocks

# Of the way from counting single tokens to counting pairs: a network that has come so far is learning.
_UNDER_WAY = 0.1
# Where pairs predict no better than this share below single tokens, there is no order to learn.
_NO_ORDER = 0.03


class Finding(NamedTuple):
    """What was found, as a notice says it: a code of minigpt.notices, a sentence or three, a cure or none."""

    code: str
    message: str
    cure: Cure | None = None


class Evaluated(NamedTuple):
    """One evaluation of one split; `blocks` are empty where the evaluation does not tell them."""

    split: str
    step: int
    loss: float
    tokens: int
    blocks: Blocks


@dataclass
class Situation:
    """What is known of a run beside its figures. Losses in nats a token."""

    settings: TrainingSettings
    uniform: float  # ln(vocabulary), the loss of one who knows nothing
    ladder: Ladder | None
    first_step: int  # of the schedule
    last_step: int
    warmup: int
    lr_scale: float = 1.0
    too_high: bool = False  # whether the rate was said to be too high, and is as it was

    @property
    def has_order(self) -> bool:
        """Whether one token tells anything of the next, as far as counting shows."""
        return self.ladder is not None and self.ladder.bigram < (1 - _NO_ORDER) * self.ladder.unigram

    @property
    def under_way(self) -> float | None:
        """The loss below which a network has begun to use what came before, or None where that is not known."""
        if self.ladder is None or not self.has_order:
            return None
        return self.ladder.unigram - _UNDER_WAY * (self.ladder.unigram - self.ladder.bigram)

    @property
    def rates(self) -> str:
        """The settings that hold the learning rates, for a sentence."""
        adam = "training.learning_rate"
        return f"training.muon_learning_rate and {adam}" if self.settings.optimizer == "muon" else adam

    def scale_rate(self, factor: float, words: str) -> Cure:
        """Return the cure that multiplies the learning rates: at once, or in a new run where that is too far."""
        low, high = LR_SCALE_RANGE
        scale = float(f"{self.lr_scale * factor:.3g}")
        if low <= scale <= high:
            return {"label": words, "command": "set", "args": {"lr_scale": scale}}
        return {"label": f"{words}, in a new run", "settings": self.scaled_rates(factor)}

    def scaled_rates(self, factor: float = 1.0) -> dict[str, float]:
        """Return the settings with which a new run has the rates of now, times a factor."""
        scale = self.lr_scale * factor
        changed = {"training.learning_rate": float(f"{self.settings.learning_rate * scale:.3g}")}
        if self.settings.optimizer == "muon":
            changed["training.muon_learning_rate"] = float(f"{self.settings.muon_learning_rate * scale:.3g}")
        return changed


class Detector:
    """Looks for one kind of trouble in the figures of a run; each method returns what it has found, or None.

    It may find the same at every call: that it is said once is not its business.
    """

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        """Look at the losses, now and then."""
        return None

    def on_evaluation(self, evaluated: Evaluated, situation: Situation) -> Finding | None:
        """Look at an evaluation."""
        return None

    def on_end(self, situation: Situation) -> Finding | None:
        """Look back when all steps are done."""
        return None
