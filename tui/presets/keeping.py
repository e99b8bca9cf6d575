"""What the Presets pane does to files: open one in the form, save, copy and delete, each after its question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.timer import Timer

from minigpt.errors import UserError, printable
from minigpt.preset_files import delete_preset, duplicate, free_name, save_values
from minigpt.workspace import checked_name
from tui.corpora.children import in_thread
from tui.panes.pane import Pane
from tui.presets.draft import Draft
from tui.presets.files import Preset, Stamps, load_preset_file, load_presets, stamps
from tui.presets.form import PresetForm
from tui.presets.listed import COLUMNS
from tui.presets.probing import Probing
from tui.widgets.browser import Browser
from tui.widgets.dialogs import Ask, Choice, confirm

# How long after a change it is kept for the next session, and how often is looked whether others changed a file.
KEEP_SECONDS, LOOK_SECONDS = 1.0, 2.0
EXPLAIN = (
    "Ready-made configurations, the smallest first. Parameters are the numbers that a model learns: with more of them "
    "it can learn more, and takes longer.",
    "What the preset's file says, setting by setting. Left out settings keep their usual value.",
)


class PresetKeeper(Pane):
    """A pane with the presets and, in front of them or not, the form; the files are touched in threads."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.presets: dict[str, Preset] = {}
        self.probing = Probing(self, self.tell_of_probe)
        self._keeping: Timer | None = None
        self._stamps: Stamps | None = None
        empty = "No preset could be found: MiniGPT's own files are missing. Install it again."
        self.browser = Browser(COLUMNS, "presets", empty, EXPLAIN)
        self.form = PresetForm()

    def compose(self) -> ComposeResult:
        yield self.browser
        yield self.form

    @property
    def editing(self) -> bool:
        """Whether the form is in front."""
        return self.has_class("-form")

    @property
    def current(self) -> Preset | None:
        """The preset that keys are about: the one in the form, else the one under the cursor."""
        if self.editing and self.form.draft is not None:
            return self.presets.get(self.form.draft.name)
        return self.presets.get(self.browser.listing.key or "")

    def usable(self) -> Preset | None:
        """Return the preset that keys are about; says what is wrong where it cannot be used."""
        preset = self.current
        if preset is not None and preset.problems:
            told = "\n".join(preset.problems)
            mend = f"Mend {preset.path} in an editor: it is read again by itself once it is saved there."
            self.minigpt.tell("This preset cannot be used", printable(f"{told}\n\n{mend}"))
            return None
        return preset

    # The form

    def open(self, name: str, path: Path) -> None:
        """Read a preset and show it in the form."""
        workspace = self.minigpt.workspace
        self.thread(lambda: Draft.read(name, path, workspace), self.show_form, "open")

    def show_form(self, draft: Draft) -> None:
        """Bring the form to the front with a draft in it."""
        self.add_class("-form")
        self.form.open(draft, self.minigpt.state.corpus)
        self.name_form()
        self.refresh_bindings()

    def name_form(self) -> None:
        """Say above the form what is in it, and whether that is saved; keep what is not for the next session."""
        draft = self.form.draft
        self._keep(draft)
        self.tell_of_probe()
        if draft is not None:
            origin = "built in: saving makes a copy of your own" if draft.builtin else "your own"
            self.form.name_it(f"{draft.name}  ({f'{changes_in_words(draft)}, not saved' if draft.changes else origin})")

    def tell_of_probe(self) -> None:
        """Have the form say how the probe of its preset stands."""
        if self.form.draft is not None:
            name = self.form.draft.name
            self.form.tell_of_probe(self.probing.doing(name), self.probing.trouble(name))

    def _keep(self, draft: Draft | None) -> None:
        state = self.minigpt.state
        changes = draft.typed() if draft is not None else {}
        name = draft.name if draft is not None and changes else ""
        if (state.preset_draft, state.preset_changes) != (name, changes):
            state.preset_draft, state.preset_changes = name, changes
            if self._keeping is not None:
                self._keeping.stop()
            self._keeping = self.set_timer(KEEP_SECONDS, self.minigpt.remember)

    def restore(self) -> None:
        """Show the changes that were not saved when the app was last left without a word."""
        state, workspace = self.minigpt.state, self.minigpt.workspace
        preset, changes = self.presets.get(state.preset_draft), dict(state.preset_changes)
        if preset is None or preset.problems or not changes or self.editing:
            return
        name, path = preset.name, preset.path

        def read() -> Draft:
            draft = Draft.read(name, path, workspace)
            draft.put_typed(changes)
            return draft

        def show(draft: Draft) -> None:
            self.show_form(draft)
            self.notify(f"{name}: what you changed and did not save is here again.", markup=False)

        self.thread(read, show, "open")

    # Files that others change

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self.look)

    def on_unmount(self) -> None:
        self.probing.close()

    def look(self) -> None:
        """Read the presets again where one was changed by another program."""
        if self.display and self.presets:
            workspace = self.minigpt.workspace
            in_thread(self, lambda: stamps(workspace), self._looked, lambda _: None, "look")

    def _looked(self, found: Stamps) -> None:
        before, self._stamps = self._stamps, found
        if before is not None and before != found:
            self.read()

    def catch_up(self) -> None:
        """Show the form's file as others have changed it, unless that would lose changes: saving asks about these."""
        draft, preset = self.form.draft, self.current
        if not self.editing or draft is None or preset is None or preset.problems or draft.changes:
            return
        if not self.form.typing and preset.path == draft.path and preset.text.removeprefix("\ufeff") != draft.text:
            self.open(preset.name, preset.path)

    # Saving

    def action_save(self) -> None:
        if not self.form.finish_typing():
            return
        self.form.focus_main()
        if self.form.draft is not None and not self.form.draft.changes:
            self.notify(f"{self.form.draft.name} has no changes to save.", markup=False)
        else:
            self.save(lambda: None)

    def save(self, then: Callable[[], object]) -> None:
        """Save the draft, under a new name where it is a built-in, and go on."""
        draft = self.form.draft
        if draft is None or not draft.changes:
            then()
        elif draft.problems:
            self.minigpt.tell("This cannot be saved yet", printable("\n".join(draft.problems)))
        elif draft.builtin:
            text = f"{draft.name} comes with MiniGPT and stays as it is. What shall your copy be called?"
            name = free_name(draft.name, self.presets)
            self._ask_name("Save as", text, name, lambda name: self._save_as(draft, name, then))
        else:

            def go_on(outdated: bool) -> None:
                self._ask_which(draft, then) if outdated else self._save_into(draft, then)

            self.thread(draft.is_outdated, go_on, "save")

    def _ask_which(self, draft: Draft, then: Callable[[], object]) -> None:
        """Ask what counts where the file was changed by another program."""
        changes = changes_in_words(draft)
        text = (
            f"{printable(str(draft.path))} was changed by another program since it was opened here. Saving puts your "
            f"{changes} into the file as it is now; reading it again drops your {changes}."
        )
        answers = [("mine", "1 Save mine", "primary"), ("reload", "2 Read again", "error"), ("no", "3 Stay", "default")]

        def answered(answer: str | None) -> None:
            if answer == "mine":
                self._save_into(draft, then)
            elif answer == "reload":
                self.open(draft.name, draft.path)

        self.app.push_screen(Choice("The file has changed", text, answers), answered)

    def _save_into(self, draft: Draft, then: Callable[[], object]) -> None:
        changes = dict(draft.changes)

        def save() -> Path:
            save_values(draft.path, changes)
            return draft.path

        self._write(draft, save, then)

    def _ask_name(self, title: str, text: str, name: str, then: Callable[[str], object]) -> None:
        """Ask for the name of a new preset until it can be one."""

        def answered(given: str | None) -> None:
            wanted = (given or "").strip().removesuffix(".toml")
            if not wanted:
                return
            trouble = self._trouble_with(wanted)
            if trouble:
                self._ask_name(title, printable(trouble), wanted, then)
            else:
                then(wanted)

        self.app.push_screen(Ask(title, text, name), answered)

    def _trouble_with(self, name: str) -> str:
        try:
            checked_name(name, "preset")
        except UserError as error:
            return str(error)
        return f"There is a preset {name} already: choose another name." if name in self.presets else ""

    def _save_as(self, draft: Draft, name: str, then: Callable[[], object]) -> None:
        changes, workspace = dict(draft.changes), self.minigpt.workspace
        self._write(draft, lambda: duplicate(draft.name, name, workspace, changes), then)

    def _write(self, saved: Draft, work: Callable[[], Path], then: Callable[[], object]) -> None:
        """Write a preset's file in a thread, show it as it then is, and go on."""
        workspace = self.minigpt.workspace

        def write() -> tuple[Draft, Preset]:
            path = work()
            return Draft.read(path.stem, path, workspace), load_preset_file(path.stem, path, workspace)

        self.thread(write, lambda made: self._saved(saved, made[0], made[1], then), "save")

    def _saved(self, saved: Draft, draft: Draft, preset: Preset, then: Callable[[], object]) -> None:
        # It goes in at once: what follows may ask for it before the folder has been read again.
        self.presets[preset.name] = preset
        taken = self.form.take(draft, saved)
        self.name_form()
        self.notify(f"Saved in {printable(str(draft.path))}", markup=False)
        self.read()
        # What was to follow is about the preset that was in the form then.
        if taken:
            then()

    def action_copy(self) -> None:
        preset = self.usable()
        if preset is None:
            return
        text = f"A copy of {preset.name}, to be changed as you like. What shall it be called?"
        free = free_name(preset.name, self.presets)
        self._ask_name("New preset", text, free, lambda name: self._copy(preset.name, name))

    def _copy(self, source: str, name: str) -> None:
        workspace = self.minigpt.workspace

        def copy() -> Draft:
            path = duplicate(source, name, workspace)
            return Draft.read(path.stem, path, workspace)

        self.thread(copy, self._copied, "save")

    def _copied(self, draft: Draft) -> None:
        self.read()
        self.show_form(draft)

    def action_remove(self) -> None:
        preset = self.current
        if preset is None:
            return
        if not preset.own:
            self.minigpt.tell("This preset stays", f"{preset.name} comes with MiniGPT: only your own can be deleted.")
            return
        question = confirm("Delete the preset?", f"{printable(str(preset.path))} will be gone for good.", "Delete it")
        self.app.push_screen(question, lambda answer: self._remove(preset.path) if answer == "yes" else None)

    def _remove(self, path: Path) -> None:
        self.thread(lambda: delete_preset(path), lambda _: self.read(), "save")

    def with_saved(self, work: Callable[[str], object]) -> None:
        """Do something with the preset as it is in its file: unsaved changes are saved first, after asking."""
        preset = self.usable()
        if preset is None:
            return
        draft = self.form.draft if self.editing else None
        if draft is None or not draft.changes:
            work(preset.name)
            return

        def go_on() -> None:
            if self.form.draft is not None:
                work(self.form.draft.name)

        answers = [("save", "Save and go on", "primary"), ("stay", "Cancel", "default")]
        question = Choice("Save the changes first?", "This is done with the preset as its file says.", answers)
        self.app.push_screen(question, lambda answer: self.save(go_on) if answer == "save" else None)

    def read(self) -> None:
        workspace = self.minigpt.workspace
        self.in_thread(lambda: load_presets(workspace), "presets")

    def thread(self, work: Callable[[], Any], then: Callable[[Any], object], group: str) -> None:
        in_thread(self, work, then, lambda words: self.minigpt.tell("This could not be done", words), group)


def changes_in_words(draft: Draft) -> str:
    """Return how many settings a draft changes."""
    count = len(draft.changes)
    return f"{count} change{'' if count == 1 else 's'}"
