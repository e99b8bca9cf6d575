"""The Presets pane: every ready-made configuration, and what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.worker import Worker, WorkerState

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.model.parameters import parameter_count
from minigpt.presets import MAX_FILE_BYTES, ConfigError, preset_paths, preset_summary, read_file, unusual
from minigpt.workspace import Workspace, builtin_presets
from tui.figures import short
from tui.panes.pane import Pane
from tui.widgets.browser import Browser, details
from tui.widgets.listing import MARK, MUTED, Cell, Column, Listing, Row

HELP = """\
A **preset** is a ready-made configuration: how large the model is, how it learns, and on what text.

- **Enter** chooses the one under the cursor for the next run; `●` marks the chosen one.
- Your own presets are TOML files in `configs/` of the workspace; one with the name of a built-in replaces it.
- A file that cannot be used is listed with what is wrong in it.
"""
COLUMNS = (
    Column("preset", widest=28),
    Column("parameters", right=True),
    Column("", widest=10, rank=1),
    Column("what it is for", flexible=True, widest=200),
)
EXPLAIN = (
    "Ready-made configurations, the smallest first. Parameters are the numbers that a model learns: with more of them "
    "it can learn more, and takes longer.",
    "What the preset's file says, setting by setting. Left out settings keep their usual value.",
)
# A char tokenizer has as many tokens as the text has characters, which is known only with the text.
_USUAL_CHARACTERS = 100
# Set back a little, but here to be read.
_COMMENT = "$foreground 75%"


@dataclass(frozen=True)
class Preset:
    """A preset's file as it was read: a configuration, or what is wrong with it."""

    name: str
    path: Path
    own: bool
    summary: str
    text: str
    parameters: int | None = None
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def load_presets(workspace: Workspace) -> list[Preset]:
    """Return all presets: a person's own before the built-in ones, the smaller before the larger."""
    try:
        found = preset_paths(workspace)
    except OSError:
        # The folder of one's own cannot be looked into.
        found = preset_paths(Workspace(builtin_presets()))
    presets = [load_preset_file(name, path) for name, path in found.items()]
    return sorted(presets, key=lambda preset: (not preset.own, preset.parameters or 0, preset.name))


def load_preset_file(name: str, path: Path) -> Preset:
    """Read one preset; what is wrong with it is part of the answer."""
    own = path.parent != builtin_presets()
    text = _text(path)
    try:
        config = read_file(path)
    except ConfigError as error:
        return Preset(name, path, own, preset_summary(path), text, problems=tuple(error.problems))
    except UserError as error:
        return Preset(name, path, own, preset_summary(path), text, problems=(str(error),))
    return Preset(name, path, own, preset_summary(path), text, parameters_of(config), tuple(unusual(config)))


def parameters_of(config: Config) -> int:
    """Return about how many parameters a configuration's model has: its vocabulary depends on the text."""
    vocabulary = _USUAL_CHARACTERS if config.tokenizer.kind == "char" else config.tokenizer.vocab_size
    return parameter_count(config.model, vocabulary)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def highlighted(toml: str) -> Content:
    """Return TOML with its comments, sections and names set apart."""
    return Content("\n").join(_highlighted_line(line) for line in printable(toml).rstrip("\n").split("\n"))


def _highlighted_line(line: str) -> Content:
    # The first # outside a quoted text begins the comment.
    match = re.match(r"""((?:[^#"']|"[^"]*"|'[^']*')*)(#.*)?$""", line)
    code, comment = (match[1], match[2] or "") if match else (line, "")
    if code.lstrip().startswith("["):
        body = Content.styled(code, "bold $text-accent")
    else:
        name, equals, value = code.partition("=")
        body = Content.assemble((name, "$text-primary") if equals else name, equals, value)
    return body + Content.styled(comment, _COMMENT) if comment else body


class PresetsPane(Pane):
    """A list of presets, and the file of the one under the cursor."""

    TITLE = "Presets"
    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Choose", id="presets.choose", tooltip="Use this preset for the next run"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.presets: dict[str, Preset] = {}
        empty = "No preset could be found: MiniGPT's own files are missing. Install it again."
        self.browser = Browser(COLUMNS, "presets", empty, EXPLAIN)

    def compose(self) -> ComposeResult:
        yield self.browser

    def shown(self) -> None:
        workspace = self.minigpt.workspace
        self.browser.listing.focus()
        self.in_thread(lambda: load_presets(workspace), "presets")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.SUCCESS and event.worker.result is not None:
            self._take(event.worker.result)
        elif event.state is WorkerState.ERROR:
            self.browser.note(f"not read: {event.worker.error}")

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self._show_details(top=True)

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        preset = self.presets.get(self.browser.listing.key or "")
        if preset is None:
            return
        if preset.problems:
            self.minigpt.tell("This preset cannot be used", printable("\n".join(preset.problems)))
            return
        self.minigpt.choose_preset(preset.name)
        self._show_rows()
        self._show_details()

    def _take(self, presets: Iterable[Preset]) -> None:
        first = not self.presets
        self.presets = {preset.name: preset for preset in presets}
        self._show_rows()
        if first:
            self.browser.listing.move_to(self.minigpt.state.preset)
        self._show_details()

    def _show_rows(self) -> None:
        chosen = self.minigpt.state.preset
        self.browser.listing.set_rows(_row(preset, preset.name == chosen) for preset in self.presets.values())

    def _show_details(self, top: bool = False) -> None:
        preset = self.presets.get(self.browser.listing.key or "")
        if preset is None:
            self.browser.show_details(Content(""), Content(""), top)
            return
        chosen = f"{MARK} chosen for the next run" if preset.name == self.minigpt.state.preset else ""
        pairs = [
            ("parameters", f"about {preset.parameters:,}" if preset.parameters else ""),
            ("from", "your own" if preset.own else "built in"),
            ("file", str(preset.path) if preset.own else preset.path.name),
        ]
        head = details(preset.name, pairs, *_remarks(preset), remark=chosen)
        self.browser.show_details(head, highlighted(preset.text), top)


def _row(preset: Preset, chosen: bool) -> Row:
    if preset.problems:
        about = Cell(f"✗ cannot be used: {_plain(preset.problems[0], preset.path)}", "$text-error")
    else:
        about = Cell(preset.summary)
    parameters = short(preset.parameters) if preset.parameters else "-"
    origin = Cell("own", "$text-accent") if preset.own else Cell("built in", MUTED)
    return Row(preset.name, (Cell(preset.name, "bold"), Cell(parameters), origin, about), chosen)


def _plain(problem: str, path: Path) -> str:
    """Leave out the path, which is said beside."""
    return problem.removeprefix(f"{path}").lstrip(": ")


def _remarks(preset: Preset) -> list[Content]:
    told = []
    if preset.problems:
        problems = [Content(f"✗ {printable(_plain(problem, preset.path))}") for problem in preset.problems]
        told.append(Content("\n").join([Content.styled("It cannot be used:", "bold $text-error"), *problems]))
    if preset.warnings:
        warnings = [Content(f"! {printable(warning)}") for warning in preset.warnings]
        told.append(Content("\n").join([Content.styled("Unusual in it:", "bold $text-warning"), *warnings]))
    if not told:
        told.append(Content.styled("Nothing in it is unusual.", MUTED))
    return told
