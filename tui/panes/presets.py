"""The Presets pane: every ready-made configuration, and what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.worker import Worker, WorkerState

from minigpt.errors import printable
from minigpt.preset_files import Difference, diff
from minigpt.presets import read_file
from tui.presets.diff import DiffScreen
from tui.presets.draft import Draft
from tui.presets.files import Preset
from tui.presets.form import PresetForm
from tui.presets.keeping import PresetKeeper, changes_in_words
from tui.presets.listed import preset_facts, preset_row
from tui.presets.toml import highlighted
from tui.widgets.dialogs import Choice
from tui.widgets.listing import Listing
from tui.widgets.pick import Pick

HELP = """\
A **preset** is a ready-made configuration: how large the model is, how it learns, and on what text.

- **Enter** chooses the one under the cursor for the next run; `●` marks the chosen one.
- **e** opens its settings as a form: **Enter** types a value, the arrow keys go through those that have few, **u**
  takes a change back, **Delete** makes it as usual, `[` and `]` go from section to section. What is wrong or unusual is
  said as you type. **s** saves. Built-in presets stay as they are: saving asks for a name and makes a copy of your own.
- Beside the form (**v** where there is no room beside it) stands what the settings come to on the chosen corpus:
  parameters, memory, length, disk, and warnings. **p** times five steps on this machine, from which the time follows;
  that goes on when you leave, and **p** again stops it.
- **c** compares with another preset. **f** finds the largest micro-batch that fits, **w** a good learning rate.
- **n** makes a copy, **d** deletes one of your own.
- Your own presets are TOML files in `configs/` of the workspace; comments you write in them stay. A file that cannot
  be used is listed with what is wrong in it.
"""


class PresetsPane(PresetKeeper):
    """A list of presets with the file of the one under the cursor, and a form in which one is changed."""

    TITLE = "Presets"
    HELP = HELP
    DEFAULT_CSS = """
    PresetsPane PresetForm { display: none; }
    PresetsPane.-form PresetForm { display: block; }
    PresetsPane.-form Browser { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Choose", id="presets.choose", tooltip="Use this preset for the next run"),
        Binding("e", "edit", "Edit", id="presets.edit", tooltip="See and change its settings, with what they come to"),
        Binding(
            "s,ctrl+s",
            "save",
            "Save",
            id="presets.save",
            tooltip="Save the changes; a built-in becomes one of your own",
        ),
        Binding("v", "view", "View", id="presets.view", tooltip="The settings, what they come to, or the file"),
        Binding("c", "compare", "Compare", id="presets.compare", tooltip="Which settings differ from another preset's"),
        Binding(
            "f", "fit", "Fit", show=False, id="presets.fit", tooltip="Find the largest micro-batch that fits in memory"
        ),
        Binding(
            "w", "sweep", "Sweep", show=False, id="presets.sweep", tooltip="Find a good learning rate by short runs"
        ),
        Binding("n", "copy", "Copy", id="presets.copy", tooltip="Make a copy of it as a preset of your own"),
        Binding(
            "p",
            "probe",
            "Measure",
            show=False,
            id="presets.probe",
            tooltip="Time five steps here; again, stop it",
        ),
        Binding("u", "undo", "Undo", show=False, id="presets.undo", tooltip="Make this setting what the file says"),
        Binding("delete,backspace", "as_usual", "As usual", show=False, id="presets.usual", tooltip="The usual value"),
        Binding("d", "remove", "Delete", show=False, id="presets.remove", tooltip="Delete your own preset; asks first"),
        Binding("escape", "close", "Back", id="presets.close", tooltip="Back to the list; asks about unsaved changes"),
    ]
    FORM_KEYS: ClassVar[frozenset[str]] = frozenset({"save", "view", "undo", "as_usual", "close"})
    LIST_KEYS: ClassVar[frozenset[str]] = frozenset({"choose", "edit", "remove", "copy"})

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in self.FORM_KEYS:
            return self.editing
        return not (action in self.LIST_KEYS and self.editing)

    def shown(self) -> None:
        if self.editing:
            self.form.focus_main()
            self.form.corpus = self.minigpt.state.corpus
            self.form.refresh_figures(at_once=True)
        else:
            self.browser.listing.focus()
        self.read()
        self.probing.look()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.worker.group != "presets":
            return
        if event.state is WorkerState.SUCCESS and event.worker.result is not None:
            self._take(event.worker.result)
        elif event.state is WorkerState.ERROR:
            self.browser.note(f"not read: {event.worker.error}")

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self._show_details(top=True)

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_choose()

    # Choosing

    def action_choose(self) -> None:
        preset = self.usable()
        if preset is None:
            return
        self.minigpt.choose_preset(preset.name)
        self._show_rows()
        self._show_details()

    # The form

    def action_edit(self) -> None:
        preset = self.usable()
        if preset is not None:
            self.open(preset.name, preset.path)

    def on_preset_form_changed(self, event: PresetForm.Changed) -> None:
        event.stop()
        self.name_form()

    def action_view(self) -> None:
        self.form.next_view()

    def action_undo(self) -> None:
        self.form.undo()

    def action_as_usual(self) -> None:
        self.form.as_usual()

    def action_close(self) -> None:
        draft = self.form.draft
        if self.form.view != "fields":
            self.form.show_view("fields")
        elif draft is not None and draft.changes:
            answers = [("save", "Save", "primary"), ("drop", "Drop them", "error"), ("stay", "Stay here", "default")]
            text = f"In {draft.name}: {changes_in_words(draft)}, not saved."
            self.app.push_screen(Choice("Save the changes?", text, answers), self._leave)
        else:
            self.close_form()

    def asks_to_leave(self, leave: Callable[[], object]) -> bool:
        draft = self.form.draft
        if draft is None or not draft.changes:
            return False
        answers = [("save", "1 Save", "primary"), ("drop", "2 Leave without", "error"), ("stay", "3 Stay", "default")]
        text = f"In {draft.name}: {changes_in_words(draft)}, not saved. Training goes on in any case."

        def answered(answer: str | None) -> None:
            if answer == "save" and self.form.finish_typing():
                self.save(leave)
            elif answer == "drop":
                self.close_form()
                leave()

        self.app.push_screen(Choice("Leave MiniGPT?", text, answers), answered)
        return True

    def _leave(self, answer: str | None) -> None:
        if answer == "save":
            self.save(lambda: self.close_form())
        elif answer == "drop":
            self.close_form()

    def close_form(self) -> None:
        if self.form.draft is not None:
            self.browser.listing.move_to(self.form.draft.name)
        self.form.draft = None
        self.name_form()
        self.remove_class("-form")
        self.refresh_bindings()
        self.browser.listing.focus()

    # Comparing, measuring, fitting, sweeping

    def action_compare(self) -> None:
        preset = self.usable()
        if preset is None:
            return
        others = [other for other in self.presets.values() if not other.problems]
        if not self.editing:
            others = [other for other in others if other.name != preset.name]
        rows = [Content(printable(f"{other.name}  {other.summary}", single_line=True)) for other in others]
        title = f"Compare {preset.name} with"
        self.app.push_screen(
            Pick(title, rows, "There is no other preset."), lambda chosen: self._compare(preset, others, chosen)
        )

    def _compare(self, preset: Preset, others: Sequence[Preset], chosen: tuple[str, int] | None) -> None:
        if chosen is None:
            return
        other = others[chosen[1]]
        draft = self.form.draft if self.editing else None
        config = draft.config if draft is not None else None
        one = f"{preset.name} (changed)" if draft is not None and draft.changes else preset.name

        def show(differences: list[Difference]) -> None:
            self.app.push_screen(DiffScreen(one, other.name, differences))

        self.thread(lambda: diff(config or read_file(preset.path), read_file(other.path)), show, "diff")

    def action_probe(self) -> None:
        preset = self.usable()
        if preset is None:
            return
        if self.probing.doing(preset.name):
            self.probing.stop(preset.name)
            return
        corpus = self.minigpt.state.corpus
        draft = self.form.draft if self.editing else None
        self.notify(f"Five steps of {preset.name} are being tried on {printable(corpus)}.", markup=False)
        self.probing.start(preset.name, corpus, draft.flags() if draft is not None else [])

    def action_fit(self) -> None:
        from tui.sweeps.fit import FitScreen

        corpus = self.minigpt.state.corpus
        self.with_saved(lambda name: self.app.push_screen(FitScreen(name, corpus, partial(self._take_over, name))))

    def action_sweep(self) -> None:
        from tui.sweeps.sweep import SweepScreen

        corpus = self.minigpt.state.corpus
        self.with_saved(lambda name: self.app.push_screen(SweepScreen(name, corpus, partial(self._take_over, name))))

    def _take_over(self, name: str, changes: Mapping[str, Any]) -> None:
        """Put what was found out into the form, where it can be looked at and saved."""
        preset, workspace = self.presets.get(name), self.minigpt.workspace
        if preset is None:
            return

        def read() -> Draft:
            draft = Draft.read(name, preset.path, workspace)
            for key, value in changes.items():
                draft.put(key, value)
            return draft

        self.thread(read, self.show_form, "open")

    # The list

    def _take(self, presets: Iterable[Preset]) -> None:
        first = not self.presets
        self.presets = {preset.name: preset for preset in presets}
        self._show_rows()
        if first:
            self.browser.listing.move_to(self.minigpt.state.preset)
            self.restore()
        self._show_details()
        self.catch_up()

    def _show_rows(self) -> None:
        chosen = self.minigpt.state.preset
        self.browser.listing.set_rows(preset_row(preset, preset.name == chosen) for preset in self.presets.values())

    def _show_details(self, top: bool = False) -> None:
        preset = self.presets.get(self.browser.listing.key or "")
        if preset is None:
            self.browser.show_details(Content(""), Content(""), top)
        else:
            facts = preset_facts(preset, preset.name == self.minigpt.state.preset)
            self.browser.show_details(facts, highlighted(preset.text), top)
