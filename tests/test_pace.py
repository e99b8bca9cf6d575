"""The time left: right where evaluations, samples and checkpoints take their share, and blind to pauses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.pace import MAX_MARKS, Pace

Event = dict[str, Any]


class Trainer:
    """A run on a clock of its own: each step, evaluation, sample and checkpoint takes the seconds it is given."""

    def __init__(self, step_seconds: float, planned: int, every: int = 10**9, eval_seconds: float = 0.0) -> None:
        self.step_seconds, self.eval_seconds, self.every, self.planned = step_seconds, eval_seconds, every, planned
        self.now, self.step = 1000.0, 0
        self.pace = Pace()

    def tell(self, type: str, **fields: Any) -> None:
        self.pace.update({"type": type, "time": self.now, **fields})

    def start(self, resumed_from: int | None = None) -> Trainer:
        self.step = resumed_from or 0
        self.tell("start", planned_steps=self.planned, resumed_from=resumed_from)
        if not self.step:
            self._evaluate()
        return self

    def train(self, until: int) -> Trainer:
        while self.step < until:
            self.now += self.step_seconds
            self.step += 1
            self.tell("step", step=self.step)
            if self.step % self.every == 0:
                self._evaluate()
        return self

    def pause(self, seconds: float) -> None:
        self.tell("phase", phase="paused")
        for _ in range(3):
            self.now += seconds / 3
            self.tell("phase", phase="paused")
        self.tell("phase", phase="training")

    def _evaluate(self) -> None:
        self.now += self.eval_seconds
        self.tell("eval", split="validation", step=self.step, loss=2.0)

    def seconds_to_come(self) -> float:
        """Return what is truly left after the latest step, the evaluation at the very end not counted."""
        steps = self.planned - self.step
        evaluations = (self.planned - 1) // self.every - (self.step - 1) // self.every
        return steps * self.step_seconds + evaluations * self.eval_seconds


def test_the_time_left_is_steps_times_seconds() -> None:
    trainer = Trainer(0.25, planned=1000).start().train(100)
    assert trainer.pace.seconds_left == pytest.approx(900 * 0.25)


def test_evaluations_are_counted_at_every_point_of_their_period() -> None:
    trainer = Trainer(0.1, planned=1000, every=100, eval_seconds=20.0).start()
    for step in range(210, 900, 7):
        left = trainer.train(step).pace.seconds_left
        assert left is not None
        # By less than one of those evaluations.
        assert abs(left - trainer.seconds_to_come()) < 20.5, step


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.01, 10.0), st.floats(0.0, 100.0), st.integers(2, 40), st.integers(2, 20), st.floats(0.3, 0.8), st.data()
)
def test_the_time_left_is_right_but_for_one_evaluation(
    step_seconds: float, eval_seconds: float, every: int, periods: int, share: float, data: st.DataObject
) -> None:
    trainer = Trainer(step_seconds, every * periods, every, eval_seconds).start()
    done = max(every + 4, int(share * every * periods))
    left = trainer.train(done).pace.seconds_left
    assert left is not None
    assert abs(left - trainer.seconds_to_come()) <= eval_seconds * 1.1 + 3 * step_seconds


def test_steps_that_change_their_speed_are_judged_by_the_later_half() -> None:
    trainer = Trainer(1.0, planned=1000).start().train(100)
    trainer.step_seconds = 0.1
    assert trainer.train(220).pace.seconds_left == pytest.approx(780 * 0.1, rel=0.05)


def test_of_steps_in_a_row_the_first_and_the_last_are_enough() -> None:
    full = Trainer(0.1, planned=1000, every=50, eval_seconds=3.0).start()
    pace = Pace()
    sparse = Trainer(0.1, planned=1000, every=50, eval_seconds=3.0)

    def seldom(event: Event) -> None:
        if event["type"] != "step" or event["step"] % 50 in (0, 1):
            pace.update(event)

    sparse.pace.update = seldom  # type: ignore[method-assign]
    full.train(500)
    sparse.start().train(500)
    assert pace.seconds_left == pytest.approx(full.pace.seconds_left, rel=0.02)


def test_a_pause_is_no_work() -> None:
    trainer = Trainer(0.5, planned=200).start().train(50)
    trainer.pause(3600.0)
    assert trainer.train(100).pace.seconds_left == pytest.approx(100 * 0.5)


def test_the_time_left_stands_still_during_a_pause() -> None:
    trainer = Trainer(0.5, planned=200).start().train(50)
    before = trainer.pace.seconds_left
    trainer.pause(60.0)
    assert trainer.pace.seconds_left == before


def test_a_resumed_run_forgets_the_old_pace_and_the_night_between() -> None:
    trainer = Trainer(2.0, planned=500, every=20, eval_seconds=30.0).start().train(300)
    trainer.now += 8 * 3600
    trainer.step_seconds, trainer.eval_seconds = 0.5, 0.0
    trainer.start(resumed_from=300)
    assert trainer.pace.seconds_left is None
    assert trainer.train(320).pace.seconds_left == pytest.approx(180 * 0.5)


def test_one_long_look_that_was_asked_for_is_not_expected_again_and_again() -> None:
    trainer = Trainer(0.1, planned=10_000).start().train(5)
    trainer.now += 30.0
    trainer.tell("sample", step=5)
    left = trainer.train(1000).pace.seconds_left
    assert left is not None and left < 2 * 9000 * 0.1


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_too_few_steps_tell_nothing(steps: int) -> None:
    assert Trainer(0.1, planned=100).start().train(steps).pace.seconds_left is None


def test_evaluating_after_every_step_is_a_pace_too() -> None:
    trainer = Trainer(0.1, planned=100, every=1, eval_seconds=0.9).start().train(40)
    assert trainer.pace.seconds_left == pytest.approx(60.0, rel=0.05)


def test_a_run_without_a_plan_has_a_pace_and_no_end() -> None:
    trainer = Trainer(0.25, planned=100)
    trainer.tell("start")
    trainer.train(20)
    assert trainer.pace.seconds_left is None
    assert trainer.pace.seconds_per_step == pytest.approx(0.25)


def test_a_new_end_that_was_obeyed_counts() -> None:
    trainer = Trainer(1.0, planned=100).start().train(20)
    trainer.tell("command", command="set", done=False, args={"max_steps": 900})
    assert trainer.pace.seconds_left == pytest.approx(80.0)
    trainer.tell("command", command="set", done=True, args={"max_steps": 50})
    assert trainer.pace.seconds_left == pytest.approx(30.0)


def test_the_last_step_leaves_nothing() -> None:
    assert Trainer(1.0, planned=20).start().train(25).pace.seconds_left == 0


def test_a_clock_set_back_gives_no_negative_time() -> None:
    trainer = Trainer(1.0, planned=100).start().train(10)
    trainer.now -= 500.0
    left = trainer.train(20).pace.seconds_left
    assert left is not None and left >= 0


def test_a_long_run_takes_bounded_memory_and_stay_right() -> None:
    trainer = Trainer(0.01, planned=90_000, every=3000, eval_seconds=3.0).start().train(62_000)
    assert trainer.pace.seconds_left == pytest.approx(trainer.seconds_to_come(), rel=0.02)
    assert len(trainer.pace._marks) <= MAX_MARKS


strange = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=2)
nested = strange | st.lists(strange, max_size=2) | st.dictionaries(st.just("max_steps"), strange)
kinds = st.sampled_from(["start", "step", "eval", "phase", "command"])
fields = st.dictionaries(
    st.sampled_from(["time", "step", "planned_steps", "resumed_from", "phase", "command", "done", "args"]), nested
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(kinds, fields), max_size=8))
def test_no_event_however_strange_spoils_the_pace(events: list[tuple[str, Event]]) -> None:
    trainer = Trainer(1.0, planned=100).start().train(10)
    trainer.tell("command", command="set", done=True, args=["max_steps"])
    for kind, told in events:
        trainer.pace.update({**told, "type": kind})
    left = trainer.pace.seconds_left
    assert left is None or (math.isfinite(left) and left >= 0)
