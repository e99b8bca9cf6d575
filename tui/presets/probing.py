"""Five steps of a preset, made on this machine by a task: it goes on when the app is left, and is found again.

probing = Probing(pane, changed=pane.tell_of_probe)
probing.start("mine", "novels", draft.flags())
probing.doing("mine"), probing.trouble("mine")      # words while it is at work, and why it came to nothing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.timer import Timer

from minigpt.errors import printable
from minigpt.jobs import send_command
from minigpt.narration import duration
from minigpt.planning.labels import task_label
from minigpt.tasks import start_task
from tui.corpora.children import in_thread
from tui.corpora.tasks import TaskBoard, Work

if TYPE_CHECKING:
    from tui.panes.pane import Pane

ACTION = "probe"
LOOK_SECONDS = 1.0
_DATE = r"-\d{8}-\d{6}(-\d+)?$"


class Probing:
    """The newest probe of each preset, followed while one is at work; `changed` is called when there is more to tell.

    Everything is kept by the task's label, which tells the preset.
    """

    def __init__(self, pane: Pane, changed: Callable[[], object]) -> None:
        self._pane, self._changed = pane, changed
        self._works: dict[str, Work] = {}
        self._starting: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._board: TaskBoard | None = None
        self._looking = False
        self._timer: Timer | None = None

    # What is known

    def doing(self, preset: str) -> str:
        """Say what the probe of a preset does now; nothing where none is at work."""
        label = task_label(ACTION, preset)
        work = self._works.get(label)
        if work is None or work.state.ended:
            return "starting" if label in self._starting else ""
        phase = printable(work.state.phase or "starting", single_line=True)
        return f"{phase} {work.fraction:.0%}" if work.fraction is not None else phase

    def trouble(self, preset: str) -> str:
        """Say why the last probe of a preset came to nothing; nothing where it did not."""
        return self._troubles.get(task_label(ACTION, preset), "")

    # Starting and stopping

    def start(self, preset: str, corpus: str, changes: Sequence[str]) -> None:
        """Have five steps made of a preset with changes, these as options of `minigpt presets check`."""
        label = task_label(ACTION, preset)
        self._starting.add(label)
        self._troubles.pop(label, None)
        begin = partial(self._begin, label, ["presets", "check", preset, "--corpus", corpus, "--probe", *changes])
        in_thread(self._pane, begin, self._begun, partial(self._not_begun, label), "probe")
        self._changed()

    def _begin(self, label: str, arguments: list[str]) -> str:
        task = start_task(self._pane.minigpt.workspace, label, arguments)
        if self._board is None:
            self._board = TaskBoard(self._pane.minigpt.workspace)
        self._board.started(task)
        return label

    def _begun(self, label: str) -> None:
        self.look()

    def _not_begun(self, label: str, problem: str) -> None:
        self._starting.discard(label)
        self._fail(label, problem)
        self._changed()

    def stop(self, preset: str) -> None:
        """Ask the probe of a preset to end."""
        work = self._works.get(task_label(ACTION, preset))
        if work is not None and not work.state.ended:
            ask = partial(send_command, self._pane.minigpt.workspace.tasks / work.name, "stop", by="app")
            tell = partial(self._pane.minigpt.tell, "Not stopped")
            in_thread(self._pane, ask, lambda _: self.look(), tell, "probe")

    # Following

    def look(self) -> None:
        """Learn how the probes stand; goes on by itself as long as one is at work."""
        if self._timer is not None:
            self._timer.stop()
        if not self._looking:
            self._looking = True
            in_thread(self._pane, self._look, self._take, self._not_read, "probes")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _look(self) -> list[Work]:
        if self._board is None:
            self._board = TaskBoard(self._pane.minigpt.workspace)
        found = [work for work in self._board.look() if work.name.startswith(f"{ACTION}-")]
        for work in found:
            if work.owed and work.state.ended:
                self._board.told(work.name)
        # The names of a preset's end in the time of their beginning.
        return sorted(found, key=lambda work: work.name)

    def _take(self, found: list[Work]) -> None:
        self._looking = False
        self._works = {re.sub(_DATE, "", work.name): work for work in found}
        for label, work in self._works.items():
            self._starting.discard(label)
            if work.owed and work.state.ended:
                self._tell(label, work)
        self._changed()
        if any(not work.state.ended for work in self._works.values()):
            self._timer = self._pane.set_timer(LOOK_SECONDS, self.look)

    def _not_read(self, problem: str) -> None:
        self._looking = False

    # How it ended

    def _tell(self, label: str, work: Work) -> None:
        name, state = _preset(label), work.state
        if state.state == "done":
            each, total = ((state.result or {}).get(key) for key in ("seconds_per_step", "seconds"))
            if isinstance(each, float):
                whole = f", so about {duration(total)} in all" if isinstance(total, float) else ""
                self._pane.notify(f"{name}: {1000 * each:,.0f} ms a step{whole}.", markup=False)
        elif state.state == "cancelled":
            self._pane.notify(f"The five steps of {name} were stopped.", markup=False)
        else:
            self._fail(label, state.message or "It ended without a word: try again.")

    def _fail(self, label: str, problem: str) -> None:
        self._troubles[label] = problem
        text = f"{_preset(label)}: {printable(problem)}"
        if self._pane.display:
            self._pane.minigpt.tell("It could not be measured", text)
        else:
            # Somebody may be writing elsewhere: the form says it again.
            self._pane.notify(text, title="It could not be measured", severity="error", markup=False)


def _preset(label: str) -> str:
    return printable(label.removeprefix(f"{ACTION}-"), single_line=True)
