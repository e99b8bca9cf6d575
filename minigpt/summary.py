"""What the events of a run amount to, folded one by one into a summary of bounded size.

summary = RunSummary("tiny-sample-1")
for event in follow(directory):
    summary.update(event)
print(summary.state, summary.step, summary.best_val_loss)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The states of a run at work are the phases it tells of.
LIVE_STATES = ("waiting", "starting", "compiling", "training", "evaluating", "saving", "paused")
STATES = (*LIVE_STATES, "finished", "interrupted", "failed", "crashed", "imported", "empty")

_STATE_OF_EXIT_CODE: dict[int | None, str] = {0: "finished", 3: "interrupted"}

MAX_NOTICES = 100
MAX_EVALUATIONS = 1000
MAX_CHECKPOINTS = 1000
_MAX_RECORDS = 5000
# JSON allows whole numbers of any length; arithmetic with them need not end.
_LARGEST = 2**63

_JSON_KEYS = (
    "run",
    "state",
    "step",
    "planned_steps",
    "best_val_loss",
    "parameters",
    "corpus",
    "preset",
    "best_step",
    "epoch",
    "planned_epochs",
    "tokens",
    "planned_tokens",
    "device",
    "last_loss",
    "tokens_per_s",
    "started",
    "ended",
    "exit_code",
    "reason",
    "last_event_time",
    "resumed_from",
    "forked_from",
    "seconds",
    "disk_bytes",
    "note",
)


@dataclass
class RunSummary:
    """Where a run stands. What no event has told is None; times are Unix seconds, losses mean nats a token.

    `state` follows the events; `settle` corrects it by whether the process still lives. `disk_bytes` and `note` are
    of the run's directory, and set by whoever reads that.
    """

    run: str = ""
    state: str = "empty"
    step: int = 0
    planned_steps: int | None = None
    planned_epochs: float | None = None
    planned_tokens: int | None = None
    epoch: float | None = None
    tokens: int | None = None
    parameters: int | None = None
    corpus: str | None = None
    preset: str | None = None
    device: str | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    last_loss: float | None = None
    tokens_per_s: float | None = None
    started: float | None = None  # the latest start: that of the resumption in a resumed run
    ended: float | None = None
    exit_code: int | None = None
    reason: str | None = None
    phase: str | None = None
    last_progress: float | None = None
    last_event_time: float | None = None
    resumed_from: int | None = None
    seconds: float = 0.0  # at work, all sessions together
    forked_from: dict[str, Any] | None = None  # the run, checkpoint and step whose weights it began with
    ladder: dict[str, float] | None = None  # losses to compare with: uniform, unigram, bigram
    disk_bytes: int | None = None
    note: str = ""
    queued_behind: tuple[str, ...] = ()  # the runs that it waits for, or waited for before it began
    notices: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    # The latest checkpoint event of each file.
    checkpoint_of_path: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    told_at: float | None = field(default=None, repr=False)  # the latest event's time that was counted
    in_session: bool = field(default=False, repr=False)
    # (step, loss) of each validation that beat all before it: what the best becomes when later steps are discarded.
    records: list[tuple[int, float]] = field(default_factory=list, repr=False)

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """The latest `checkpoint` event of each kind, oldest first."""
        latest = {_text(event, "kind"): event for event in self.saved_files()}
        return sorted(latest.values(), key=lambda event: _whole(event, "step") or 0)

    def saved_files(self) -> list[dict[str, Any]]:
        """Return the latest `checkpoint` event of each file, in the order of writing."""
        return list(self.checkpoint_of_path.values())

    def update(self, event: Mapping[str, Any]) -> None:
        """Take in the next event. Unknown types and fields, and values of the wrong type, are passed over."""
        kind = event.get("type")
        self.last_event_time = _number(event, "time") or self.last_event_time
        if kind == "step":
            self._take_step(event)
        elif kind == "start":
            self._take_start(event)
        elif kind == "phase":
            self._take_phase(event)
        elif kind == "eval":
            self._take_evaluation(event)
        elif kind == "checkpoint":
            self._take_checkpoint(event)
        elif kind == "command":
            self._take_acknowledgement(event)
        elif kind == "notice":
            self.notices = [*self.notices, dict(event)][-MAX_NOTICES:]
        elif kind == "end":
            self._take_end(event)
        self._count_time(event)

    @property
    def never_began(self) -> bool:
        """Whether it is, or was, in the queue and no more."""
        return self.started is None and self.last_event_time is not None

    def settle(self, running: bool) -> None:
        """Correct the state by the lock: a run that tells of work and does none has crashed."""
        if running and self.state in ("empty", "crashed"):
            self.state = "starting"
        elif not running and (self.state in LIVE_STATES or (self.state == "empty" and self.last_event_time)):
            self.state = "crashed"

    def _count_time(self, event: Mapping[str, Any]) -> None:
        kind, time = event.get("type"), _number(event, "time")
        # In the queue nobody works; a session before it was killed.
        self.in_session = kind == "start" or (self.in_session and event.get("phase") != "waiting")
        if self.in_session and time is not None:
            # Added up from event to event: a clock that is set back takes nothing away of what was counted.
            if self.told_at is not None and kind != "start":
                self.seconds += max(0.0, time - self.told_at)
            self.told_at = time
        if kind == "end":
            self.in_session = False

    def _take_step(self, event: Mapping[str, Any]) -> None:
        self.step = _whole(event, "step") or self.step
        self.epoch = _number(event, "epoch")
        self.tokens = _whole(event, "tokens")
        self.last_loss = _number(event, "loss")
        self.tokens_per_s = _number(event, "tokens_per_s")
        self.last_progress = _number(event, "time") or self.last_progress

    def _take_start(self, event: Mapping[str, Any]) -> None:
        self.run = self.run or _text(event, "run") or ""
        self.parameters = _whole(event, "parameters")
        self.corpus, self.preset, self.device = (_text(event, key) for key in ("corpus", "preset", "device"))
        self.planned_steps = _whole(event, "planned_steps")
        self.planned_epochs = _number(event, "planned_epochs")
        planned_tokens = _whole(event, "planned_tokens")
        self.planned_tokens = _whole(event, "tokens") if planned_tokens is None else planned_tokens
        self.resumed_from = _whole(event, "resumed_from")
        self._discard_after(-1 if self.resumed_from is None else self.resumed_from)
        self._take_origin(event)
        if self.tokens is None and self.planned_tokens is not None and self.planned_steps:
            # Every step uses the same number of tokens.
            self.tokens = self.planned_tokens * self.step // self.planned_steps
        self.started = self.last_progress = _number(event, "time")
        self.ended = self.exit_code = self.reason = None
        self.queued_behind = _names(event, "queued_behind")
        self.state = self.phase = "starting"

    def _take_origin(self, event: Mapping[str, Any]) -> None:
        """Take what is told once, by the first session, and stays true for those that go on with it."""
        fresh = self.resumed_from is None
        self.seconds = 0.0 if fresh else self.seconds
        self.forked_from = _table(event, "forked_from") or (None if fresh else self.forked_from)
        told = _table(event, "ladder") or {}
        losses = {name: loss for name in told if (loss := _number(told, name)) is not None}
        self.ladder = losses or (None if fresh else self.ladder)

    def _take_phase(self, event: Mapping[str, Any]) -> None:
        phase = event.get("phase")
        if phase == "waiting":
            # The run comes to life, though it has not begun.
            self.ended = self.exit_code = self.reason = None
            self.queued_behind = _names(event, "behind")
        # A heartbeat that comes after the end is a straggler.
        if phase in LIVE_STATES and self.ended is None:
            self.state = self.phase = str(phase)
        self.last_progress = _number(event, "last_progress") or self.last_progress

    def _take_evaluation(self, event: Mapping[str, Any]) -> None:
        # Its parts, by which its noise is judged, are for whoever compares; here they would take the most room.
        kept = {name: value for name, value in event.items() if name != "blocks"}
        self.evaluations = [*self.evaluations, kept][-MAX_EVALUATIONS:]
        loss = _number(event, "loss")
        # A last look at the whole split does not compare with what its fixed part gave before.
        if event.get("split") != "validation" or event.get("whole") or loss is None:
            return
        if self.best_val_loss is None or loss < self.best_val_loss:
            step = _whole(event, "step")
            self.records.append((self.step if step is None else step, loss))
            if len(self.records) > _MAX_RECORDS:
                # Every other one, but never the best: a discard may then find a slightly older record.
                del self.records[-3::-2]
            self._name_best()

    def _take_checkpoint(self, event: Mapping[str, Any]) -> None:
        path = _text(event, "path")
        if path is not None and _whole(event, "step") is not None:
            # Taken out first, so that the order stays that of writing.
            self.checkpoint_of_path.pop(path, None)
            self.checkpoint_of_path[path] = dict(event)
            if len(self.checkpoint_of_path) > MAX_CHECKPOINTS:
                del self.checkpoint_of_path[next(iter(self.checkpoint_of_path))]

    def _take_acknowledgement(self, event: Mapping[str, Any]) -> None:
        arguments = event.get("args")
        if event.get("command") != "set" or event.get("done") is not True or not isinstance(arguments, dict):
            return
        steps = _whole(arguments, "max_steps")
        if not steps or not self.planned_steps:
            return
        if self.planned_tokens is not None:
            self.planned_tokens = self.planned_tokens * steps // self.planned_steps
        if self.planned_epochs is not None:
            self.planned_epochs = self.planned_epochs * steps / self.planned_steps
        self.planned_steps = steps

    def _take_end(self, event: Mapping[str, Any]) -> None:
        self.ended = _number(event, "time")
        self.exit_code = _whole(event, "exit_code")
        self.reason = _text(event, "reason")
        self.queued_behind = ()
        self.state = _STATE_OF_EXIT_CODE.get(self.exit_code, "failed")

    def _discard_after(self, last: int) -> None:
        """Forget what belongs to steps beyond `last`: the run went back there."""
        self.evaluations = [event for event in self.evaluations if (_whole(event, "step") or 0) <= last]
        self.checkpoint_of_path = {
            path: event for path, event in self.checkpoint_of_path.items() if (_whole(event, "step") or 0) <= last
        }
        self.records = [record for record in self.records if record[0] <= last]
        self._name_best()
        if self.step != last:
            self.step = max(last, 0)
            self.epoch = self.tokens = self.last_loss = self.tokens_per_s = None

    def _name_best(self) -> None:
        self.best_step, self.best_val_loss = self.records[-1] if self.records else (None, None)


def to_json(summary: RunSummary) -> dict[str, Any]:
    """Return what `minigpt runs list --json` shows of a run."""
    return {key: getattr(summary, key) for key in _JSON_KEYS}


def _number(event: Mapping[str, Any], key: str) -> float | None:
    value = event.get(key)
    plausible = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
    return value if plausible else None


def _whole(event: Mapping[str, Any], key: str) -> int | None:
    value = _number(event, key)
    return value if isinstance(value, int) else None


def _text(event: Mapping[str, Any], key: str) -> str | None:
    value = event.get(key)
    return value if isinstance(value, str) else None


def _table(event: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = event.get(key)
    return value if isinstance(value, dict) else None


def _names(event: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = event.get(key)
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()
