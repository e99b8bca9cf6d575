"""What a run looks at between its steps: the loss on both splits, and what the model says by now."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from minigpt.inference.evaluate import Evaluation, evaluate, usual_windows
from minigpt.inference.generate import LoadedModel
from minigpt.text.documents import Message
from minigpt.text.shards import TokenSplit
from minigpt.training.out_of_memory import attempted

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

SAMPLE_TOKENS = 80
SAMPLE_SEED = 1234


class Observer:
    """Evaluates and samples the model that a trainer has at hand; the training itself does not notice."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.byte_lengths = trainer.text.tokenizer.token_byte_lengths()
        self.windows_at_once = usual_windows(trainer.model)
        self.skipped = False  # whether the memory was not enough for what was last asked of it

    def validate(self) -> bool:
        """Measure the loss on a fixed part of each split; return True when these weights are the best yet."""
        trainer, text = self.trainer, self.trainer.text
        improved = False
        with trainer.recorder.during("evaluating"):
            for split in (text.train, text.validation):
                if split.tokens < 2:
                    continue
                result = self._evaluate(split, trainer.plan.eval_tokens)
                if result is None:
                    break
                if split is text.validation:
                    improved = self._compare_with_best(result.loss)
                self._record(split.name, result, improved and split is text.validation)
        return improved

    def validate_whole(self) -> None:
        """Measure the loss on the whole validation split, where the evaluations so far used a part of it."""
        validation = self.trainer.text.validation
        if validation.tokens > self.trainer.plan.eval_tokens:
            with self.trainer.recorder.during("evaluating"):
                if (result := self._evaluate(validation, None)) is not None:
                    self._record("validation", result, False, whole=True)

    def _evaluate(self, split: TokenSplit, limit: int | None) -> Evaluation | None:
        """Evaluate as many windows at once as the memory bears, from here on; return None where it bears none."""
        trainer = self.trainer

        def measure() -> Evaluation:
            return evaluate(
                trainer.model,
                split.shards,
                self.byte_lengths,
                limit,
                precision=trainer.precision,
                windows_at_once=self.windows_at_once,
            )

        self.skipped = False
        while not self.skipped:
            try:
                return attempted(measure, trainer.device.kind)
            except torch.OutOfMemoryError:
                self.skipped = self.windows_at_once == 1
                self.windows_at_once = max(1, self.windows_at_once // 2)
        self._skip("evaluation-skipped", "evaluate even one window at a time, so this evaluation is left out")
        return None

    def _skip(self, code: str, what: str) -> None:
        self.trainer.recorder.notice(
            "warning",
            code,
            f"The memory was not enough to {what}. The training goes on, and the next is tried at its time: close "
            "other programs on the device, or lower micro_batch_size.",
            step=self.trainer.progress.step,
        )

    def _record(self, split: str, result: Evaluation, best: bool, whole: bool = False) -> None:
        progress = self.trainer.progress
        fields = {
            "split": split,
            "step": progress.step,
            "epoch": progress.position / self.trainer.windows.count,
            "tokens": result.tokens,
            "loss": result.loss,
            "perplexity": result.perplexity,
            "bits_per_byte": result.bits_per_byte,
            "accuracy": result.accuracy,
            "best": best,
            "whole": whole,
            "blocks": result.blocks,
        }
        self.trainer.recorder.event("eval", **fields)
        self.trainer.doctor.on_evaluation(fields)

    def _compare_with_best(self, loss: float) -> bool:
        progress = self.trainer.progress
        if math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss):
            progress.best_loss, progress.best_step, progress.evaluations_without_gain = loss, progress.step, 0
            # Untrained weights are nobody's best model.
            return progress.step > 0
        progress.evaluations_without_gain += 1
        return False

    def sample(self, prompt: str | None = None) -> None:
        """Write what the model says to a prompt, or to each of the run's own, always from the same random numbers."""
        trainer, text = self.trainer, self.trainer.text
        trainer.model.eval()
        loaded = LoadedModel(
            trainer.model, text.tokenizer, trainer.config, trainer.device, text.conversations, text.separated
        )
        self.skipped = False
        for opening in text.prompts if prompt is None else (prompt,):
            try:
                said = attempted(partial(self._say, loaded, opening), trainer.device.kind)
            except torch.OutOfMemoryError:
                self.skipped = True
                self._skip("sample-skipped", "let the model write, so this sample is left out")
                return
            trainer.recorder.event("sample", step=trainer.progress.step, prompt=opening, text=said)

    def _say(self, model: LoadedModel, opening: str) -> str:
        changes = {"max_new_tokens": SAMPLE_TOKENS, "seed": SAMPLE_SEED}
        if self.trainer.text.conversations and opening.endswith("?"):
            return "".join(model.reply([Message("user", opening)], **changes))
        return "".join(model.stream(opening, **changes))
