"""A new run that begins with the weights of a checkpoint: asked for in a dialog, started like any other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static, TextArea

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.narration import number
from minigpt.notices import cure_of
from minigpt.presets import read_file
from minigpt.runs import CONFIG, RunSummary
from minigpt.workspace import Workspace, checked_name
from tui.corpora.children import in_thread
from tui.panes.run_facts import Saved
from tui.runs.assignments import Judgement, judge, meaning

if TYPE_CHECKING:
    from minigpt.start import Started
    from tui.app import MiniGPTApp

HINT = "One setting a line. Without any, all stays as it was."
_LONGEST_STEM = 90


@dataclass(frozen=True)
class Fork:
    """A new run: its name, the checkpoint it begins with, and the settings that are to be others."""

    name: str
    run: str
    checkpoint: str
    settings: dict[str, str]

    @property
    def arguments(self) -> list[str]:
        changes = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value}")]
        return ["--run", self.name, *changes]


class ForkForm(ModalScreen[Fork | None]):
    """Asks for a name and for the settings that are to be others; says at every key what they amount to."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="fork.cancel", tooltip="Close without starting anything"),
        Binding("ctrl+s", "start", "Start", id="fork.start", tooltip="Start the new run"),
    ]
    DEFAULT_CSS = """
    ForkForm {
        align: center middle;
        & > .form {
            width: 95%; max-width: 90; height: auto; max-height: 95%;
            border: round $primary; padding: 0 1; background: $surface;
        }
        .about { height: auto; margin-bottom: 1; }
        .row { height: auto; }
        .row > Label { width: 10; color: $foreground-muted; }
        .row > Input, .row > TextArea { width: 1fr; background: $panel; }
        .row > Input:focus, .row > TextArea:focus { background: $primary 30%; }
        TextArea { height: 4; }
        .hint { color: $foreground-muted; height: auto; }
        VerticalScroll { height: auto; max-height: 8; margin-top: 1; }
        .verdict { height: auto; }
        .buttons { height: auto; margin-top: 1; }
        .buttons Button { margin-right: 2; }
    }
    """

    def __init__(self, run: RunSummary, saved: Saved, directory: Path, taken: Container[str]) -> None:
        super().__init__()
        self.run_forked, self.saved, self.directory, self.taken = run, saved, directory, taken
        self.config: Config | None = None
        self.judgement = Judgement({})
        self._trouble = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="form") as box:
            box.border_title = Content(f"Fork {printable(self.run_forked.run, single_line=True)}")
            box.border_subtitle = "Ctrl+S starts, Esc closes"
            yield Static(Content(self._about()), classes="about")
            name = Input(self._free_name(), compact=True, placeholder="what the new run is to be called")
            yield Horizontal(Label("name"), name, classes="row")
            changes = TextArea(_suggested(self.run_forked), compact=True, placeholder="learning_rate=0.001")
            yield Horizontal(Label("changes"), changes, classes="row")
            yield Static(Content(HINT), classes="hint")
            with VerticalScroll(can_focus=False):
                yield Static(classes="verdict", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Start", id="start", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def _about(self) -> str:
        file = self.saved.file
        loss = f", validation loss {number(file.loss)}" if file.loss is not None else ""
        name, run = (printable(text, single_line=True) for text in (file.name, self.run_forked.run))
        return (
            f"A new run begins at its own step 0 with the weights of {name} (step {file.step:,}{loss}). {run} stays as "
            "it is. Any setting of corpus, training and generation may be another."
        )

    def _free_name(self) -> str:
        # As `minigpt train --fork` names it, without asking the disk.
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"-fork-\d+$", "", self.run_forked.run)).lstrip("._-")
        stem = f"{stem[:_LONGEST_STEM]}-fork".lstrip("-")
        return next(name for n in itertools.count(1) if (name := f"{stem}-{n}") not in self.taken)

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()
        work = partial(read_file, self.directory / CONFIG)
        in_thread(self, work, self._take_config, self._take_trouble, "config")

    def _take_config(self, config: Config) -> None:
        self.config = config
        self._judge()

    def _take_trouble(self, problem: str) -> None:
        self._trouble = problem
        self._judge()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._judge()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self._judge()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._judge()

    def _judge(self) -> None:
        """Say what the settings amount to, and what is wrong with them or with the name."""
        area = self.query_one(TextArea)
        parts = []
        if name_trouble := self._name_trouble():
            parts.append(Content.styled(f"✗ {name_trouble}", "$text-error"))
        if self._trouble:
            parts.append(Content.styled(f"✗ {self._trouble}", "$text-error"))
        if self.config is not None:
            self.judgement = judge(self.config, area.text)
            parts += [Content.styled(f"✗ {printable(told)}", "$text-error") for told in self.judgement.problems]
            parts += [Content(f"✓ {printable(told)}") for told in self.judgement.changes]
            parts += [Content.styled(f"! {printable(told)}", "$text-warning") for told in self.judgement.warnings]
            told = meaning(self.config, str(area.get_line(area.cursor_location[0])))
            parts += [Content.styled(told, "$foreground-muted")] if told else []
        self.query_one(".verdict", Static).update(Content("\n").join(parts))

    def _name_trouble(self) -> str:
        name = self.query_one(Input).value.strip()
        try:
            checked_name(name, "run")
        except UserError as error:
            return str(error)
        return f"There is a run {name} already: choose another name." if name in self.taken else ""

    def action_start(self) -> None:
        if self._trouble or self._name_trouble() or self.judgement.problems or self.config is None:
            self._judge()
            return
        name = self.query_one(Input).value.strip()
        self.dismiss(Fork(name, self.run_forked.run, self.saved.file.name, self.judgement.values))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(TextArea).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "start":
            self.action_start()
        else:
            self.dismiss(None)


def _suggested(run: RunSummary) -> str:
    """Return the settings that the run's last notice with such advice asks for."""
    for notice in reversed(run.notices):
        cure = cure_of(notice)
        if cure is not None and "settings" in cure:
            lines = [f"{key}={value}" for key, value in cure["settings"].items()]
            return "\n".join([f"# {printable(cure['label'], single_line=True)}", *lines])
    return ""


def start_fork(workspace: Workspace, fork: Fork, more: list[str]) -> Started:
    """Start a fork, with more arguments for its trainer; raises UserError or OSError."""
    from minigpt.start import start_forked

    return start_forked(workspace, fork.run, fork.checkpoint, [*fork.arguments, *more])


def fork(app: MiniGPTApp, wanted: Fork | None) -> None:
    """Start a fork as the app starts any run, if one was asked for."""
    if wanted is not None:
        app.trainers.begin(start=partial(start_fork, app.workspace, wanted))
