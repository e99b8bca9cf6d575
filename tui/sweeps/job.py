"""What the screens of fit and sweep have in common: one task of `minigpt presets`, started, followed, stopped, used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Static

from minigpt.errors import UserError, printable
from minigpt.jobs import send_command
from minigpt.narration import duration
from minigpt.planning.labels import is_task_of, task_label
from minigpt.preset_files import duplicate, free_name, save_values
from minigpt.presets import is_builtin, preset_paths
from minigpt.tasks import start_task
from minigpt.workspace import Workspace
from tui.corpora.children import in_thread
from tui.corpora.tasks import TaskBoard, Work
from tui.figures import bar
from tui.widgets.dialogs import message
from tui.widgets.keyline import KeyLine

if TYPE_CHECKING:
    from tui.app import MiniGPTApp

POLL_SECONDS = 0.5
Changes = dict[str, Any]


class JobScreen(ModalScreen[Changes | None]):
    """Follows the newest task of its kind for one preset; a job that runs goes on when the screen is closed.

    The outcome is used by `take`, given by whoever opens the screen, or else written into the preset's file (of a
    built-in, into that of a copy); either way the screen is dismissed with it.
    """

    ACTION: ClassVar[str] = ""
    TITLE_TEXT: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="job.start", tooltip="Start it; what was done before is not done again"),
        Binding("x", "stop", "Stop", id="job.stop", tooltip="Stop it; what is done stays"),
        Binding("u", "use", "Use it", id="job.use", tooltip="Take the outcome over into the preset"),
        Binding(
            "question_mark",
            "app.explain",
            "Explain",
            show=False,
            id="job.explain",
            tooltip="Explain what has the focus",
        ),
        Binding("escape", "close", "Back", id="job.close", tooltip="Back to the preset; a job that runs goes on"),
    ]
    DEFAULT_CSS = """
    JobScreen {
        background: $surface;
        & > .job { height: 1fr; width: 100%; border: round $primary; padding: 0 1; background: $surface; }
        .head { height: auto; max-height: 3; }
        .told { height: auto; max-height: 6; }
        Footer { height: 1; }
    }
    """

    def __init__(self, preset: str, corpus: str | None = None, take: Callable[[Changes], object] | None = None) -> None:
        super().__init__()
        self.preset, self.corpus, self.take = preset, corpus, take
        self.work: Work | None = None
        self._board: TaskBoard | None = None
        self._timer: Timer | None = None
        self._starting = False
        self._said: dict[str, Content] = {}
        self._able: tuple[bool, bool] | None = None

    @property
    def workspace(self) -> Workspace:
        return cast("MiniGPTApp", self.app).workspace

    def compose(self) -> ComposeResult:
        with Vertical(classes="job") as box:
            box.border_title = Content(printable(self._heading(), single_line=True))
            yield Static(classes="head", markup=False)
            yield from self.body()
            yield Static(classes="told", markup=False)
        yield KeyLine()

    def _heading(self) -> str:
        return f"{self.TITLE_TEXT}: {self.preset}" + (f" on {self.corpus}" if self.corpus else "")

    def body(self) -> ComposeResult:
        """Give the widgets between the line of progress and the outcome."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.look()

    def on_unmount(self) -> None:
        if self._board is not None:
            self._board.close()

    # Following

    def look(self) -> None:
        """Learn how the task stands; goes on by itself as long as it is at work."""
        in_thread(self, self._look, self._take, self._not_read, "look")

    def _look(self) -> tuple[Work | None, Any]:
        if self._board is None:
            self._board = TaskBoard(self.workspace)
            # What is new is taken to be starting until its events have been read once.
            self._board.look()
        works = [work for work in self._board.look() if is_task_of(work.name, self.ACTION, self.preset)]
        # Their names end in the time of their beginning.
        work = max(works, key=lambda work: work.name, default=None)
        return work, self.read(work)

    def read(self, work: Work | None) -> Any:
        """Read, in a thread, what there is to show of a task beside its state."""
        return None

    def _take(self, found: tuple[Work | None, Any]) -> None:
        self.work, more = found
        self._show_head()
        self.show_found(more)
        self._say(".told", self._told())
        if self._can_change():
            self.refresh_bindings()
        if self._timer is not None:
            self._timer.stop()
        if self.running:
            self._timer = self.set_timer(POLL_SECONDS, self.look)

    def show_found(self, more: Any) -> None:
        """Show what `read` gave."""

    def _not_read(self, problem: str) -> None:
        self._say(".told", Content.styled(f"! {problem}", "$text-error"))

    def _say(self, where: str, words: Content) -> None:
        """Show a text in its place; one that stands there already is not sent again."""
        before = self._said.get(where)
        if before is None or not words.is_same(before):
            self._said[where] = words
            self.query_one(where, Static).update(words)

    def _can_change(self) -> bool:
        """Whether other keys are of use than at the last look."""
        before, self._able = self._able, (self.running, bool(self.changes))
        return before != self._able

    @property
    def running(self) -> bool:
        return self.work is not None and not self.work.state.ended

    @property
    def changes(self) -> Changes:
        """The outcome as settings; empty while there is none."""
        return {}

    def outcome(self) -> str:
        """Say what came out; nothing while nothing has."""
        return ""

    def _show_head(self) -> None:
        work = self.work
        if work is None:
            line = Content.styled(self.invitation(), "$foreground-muted")
        elif not work.state.ended:
            parts = [] if work.fraction is None else bar(work.fraction)
            told = printable(f"{work.state.phase or 'starting'}{_amounts(work)}", single_line=True)
            line = Content.assemble(*((text, f"${style}") for text, style in parts if text), told)
        else:
            signs = {
                "done": "✓ done",
                "cancelled": "■ stopped: s starts it again",
                "failed": "✗ failed",
                "lost": "✗ ended",
            }
            line = Content(signs.get(work.state.state, work.state.state))
        self._say(".head", line)

    def invitation(self) -> str:
        """Say what s will do."""
        return ""

    def _told(self) -> Content:
        work = self.work
        if work is not None and work.state.state in ("failed", "lost"):
            return Content.styled(
                printable(f"! {work.state.message or 'It ended without a word: start it again.'}"), "$text-error"
            )
        return Content(printable(self.outcome()))

    # What a person can do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "start":
            return not self.running and not self._starting
        if action == "stop":
            return self.running
        return bool(self.changes) if action == "use" else True

    def arguments(self) -> list[str]:
        """Return what `minigpt presets fit|sweep PRESET` is asked for beside the corpus. Raises UserError."""
        return []

    def action_start(self) -> None:
        try:
            asked = self.arguments()
        except UserError as error:
            self._fail("It was not started", str(error))
            return
        corpus = ["--corpus", self.corpus] if self.corpus else []
        arguments = ["presets", self.ACTION, self.preset, *corpus, *asked]
        self._starting = True
        self.refresh_bindings()
        start = partial(start_task, self.workspace, task_label(self.ACTION, self.preset), arguments)
        in_thread(self, start, self._begun, self._not_begun, "start")

    def _begun(self, _task: object) -> None:
        self._starting, self._able = False, None
        self.look()

    def _not_begun(self, problem: str) -> None:
        self._starting = False
        self.refresh_bindings()
        self._fail("It was not started", problem)

    def action_stop(self) -> None:
        assert self.work is not None
        ask = partial(send_command, self.workspace.tasks / self.work.name, "stop", by="app")
        in_thread(self, ask, lambda _: self.look(), partial(self._fail, "Not stopped"), "stop")

    def action_use(self) -> None:
        changes = self.changes
        if self.take is not None:
            self.take(changes)
            self.dismiss(changes)
            return
        write = partial(take_over, self.workspace, self.preset, changes)
        in_thread(self, write, partial(self._taken, changes), partial(self._fail, "Not taken over"), "use")

    def _taken(self, changes: Changes, path: Path) -> None:
        told = ", ".join(f"{key} = {value}" for key, value in changes.items())
        self.app.notify(printable(f"Saved in {path.name}: {told}"), markup=False)
        self.dismiss(changes)

    def action_close(self) -> None:
        self.dismiss(None)

    def _fail(self, title: str, problem: str) -> None:
        self.app.push_screen(message(title, printable(problem)))


def _amounts(work: Work) -> str:
    """Return how far a task is, and how long it will take where that can be said."""
    state = work.state
    if not state.total:
        return ""
    left = f", {duration((state.total - state.done) / work.rate)} left" if work.rate else ""
    return f"  {state.done:,.0f} of {state.total:,.0f}{left}"


def take_over(workspace: Workspace, preset: str, changes: Changes) -> Path:
    """Write settings into a preset's file, of a built-in into that of a copy; returns the file. Raises UserError."""
    paths = preset_paths(workspace)
    if preset not in paths:
        raise UserError(f"The preset {preset} is gone.")
    if is_builtin(paths[preset], workspace):
        return duplicate(preset, free_name(preset, paths), workspace, changes)
    save_values(paths[preset], changes)
    return paths[preset]
