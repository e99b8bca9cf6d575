"""The Presets pane: a form of all settings, what they come to, saving, copying and comparing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from minigpt.config import Config, settings
from minigpt.errors import UserError
from minigpt.jobs import COMMANDS, EVENTS
from minigpt.presets import load_preset, read_file, with_values
from minigpt.tasks import TaskProcess
from minigpt.workspace import Workspace
from tests.tui.scene import Scene, app_of, on_screen, until
from tests.tui.screens import differences
from tui.panes.presets import PresetsPane
from tui.presets.draft import Draft
from tui.presets.fields import BAD, UNUSUAL, parsed, value_text, verdict
from tui.presets.figures import Prospects, rows_of
from tui.state import UIState
from tui.widgets.dialogs import Ask, Choice, message

SMALL, MIDDLE = (80, 24), (120, 40)
PRESETS = {
    "first": "# The first.\n[training]\nmax_steps = 600\n",
    "second": "# The second.\n\n[model]\nd_model = 256  # twice as wide\nn_layers = 8\n",
}


class Harness(App[None]):
    """As much of the app as the pane asks for."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    CSS = "Pane { height: 1fr; } .dialog { width: 64; height: auto; } .dialog-text { height: auto; }"

    def __init__(self, workspace: Workspace, preset: str) -> None:
        super().__init__()
        self.workspace, self.state = workspace, UIState(preset=preset)
        self.pane = PresetsPane(id="presets")

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.shown()

    def choose_preset(self, name: str) -> None:
        self.state.preset = name

    def remember(self) -> None:
        self.remembered = True

    def tell(self, title: str, text: str) -> None:
        self.push_screen(message(title, text))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two built-in presets, one of one's own, one that is broken; and figures that follow at once."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for name, text in PRESETS.items():
        (folder / f"{name}.toml").write_text(text)
    found = Workspace(tmp_path / "workspace")
    found.configs.mkdir(parents=True)
    own(found).write_text("# My own.\n[training]\nlearning_rate = 0.5  # hot\n")
    own(found, "broken").write_text("[model]\nd_modle = 3\n")
    for user in ("minigpt.presets", "tui.presets.files"):
        monkeypatch.setattr(f"{user}.builtin_presets", lambda: folder)
    monkeypatch.setattr("tui.presets.form.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("tui.presets.form.prospects_of", worked_out)
    return found


def worked_out(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
    """Stand in for the planning, which has tests of its own."""
    problems = tuple(draft.problems)
    return Prospects(f"{corpus} {draft.value('model.d_model')}", None, problems, toml="" if problems else draft.toml())


@asynccontextmanager
async def list_of(workspace: Workspace, preset: str, size: tuple[int, int] = MIDDLE) -> AsyncIterator[Pilot[None]]:
    """Run the pane with the cursor on a preset."""
    async with Harness(workspace, preset).run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


@asynccontextmanager
async def form_of(workspace: Workspace, preset: str, size: tuple[int, int] = MIDDLE) -> AsyncIterator[Pilot[None]]:
    """Run the pane with a preset in the form."""
    async with list_of(workspace, preset, size) as pilot:
        await press(pilot, "e")
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    while any(not worker.is_finished for worker in pilot.app.workers):
        await pilot.pause(0.005)
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settled(pilot)


def screen(pilot: Pilot[None]) -> str:
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def dialog(pilot: Pilot[None]) -> str:
    top = pilot.app.screen
    return f"{top.title_text}: {top.text}" if isinstance(top, Choice) else ""


def pane_of(pilot: Pilot[None]) -> PresetsPane:
    assert isinstance(pilot.app, Harness)
    return pilot.app.pane


def draft_of(pilot: Pilot[None]) -> Draft:
    draft = pane_of(pilot).form.draft
    assert draft is not None
    return draft


async def type_value(pilot: Pilot[None], key: str, text: str, *then: str) -> None:
    """Type a setting's value in the form, letter by letter."""
    pane_of(pilot).form.fields.go_to(key)
    await press(pilot, "enter", *("full_stop" if letter == "." else letter for letter in text), *then)


def line_of(pilot: Pilot[None], name: str) -> str:
    return next(line for line in screen(pilot).splitlines() if f" {name} " in line)


def own(workspace: Workspace, name: str = "mine") -> Path:
    return workspace.configs / f"{name}.toml"


# -- values as text


@pytest.mark.parametrize("preset", ["tiny", "gpt2-from-scratch", "dolma-75m"])
def test_every_value_can_be_typed_as_it_is_shown(preset: str, tmp_path: Path) -> None:
    for config in (Config(), load_preset(preset, Workspace(tmp_path))):
        for item in settings().values():
            value = item.value_in(config)
            assert parsed(item, value_text(item, value)) == value


def test_a_list_is_typed_as_one_text_or_as_several() -> None:
    item = settings()["training.sample_prompts"]
    assert parsed(item, "The cat") == ["The cat"]
    assert parsed(item, '["The cat", "A dog"]') == ["The cat", "A dog"]
    assert parsed(item, " ") == []
    with pytest.raises(ValueError, match="list of texts"):
        parsed(item, '["The cat')


def test_a_value_is_judged_by_what_is_possible_and_what_is_usual() -> None:
    item = settings()["training.learning_rate"]
    assert verdict(item, "11").sign == BAD
    assert "from 0 to 10" in verdict(item, "fast").words
    unusual = verdict(item, "0.5")
    assert (unusual.sign, item.about.too_high in unusual.words) == (UNUSUAL, True)
    assert verdict(item, "0.01").sign not in (BAD, UNUSUAL)


# -- the form


@pytest.mark.asyncio
async def test_the_form_has_every_setting_with_its_value(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        fields = pane_of(pilot).form.fields
        assert [row.key for row in fields.rows if row.key in settings()] == list(settings())
        config = load_preset("second", workspace)
        for row in fields.rows:
            if row.key in settings():
                item = settings()[row.key]
                assert (value_text(item, item.value_in(config)) or "none") in row.text


@pytest.mark.parametrize("size", [SMALL, MIDDLE, (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.asyncio
async def test_the_form_looks_as_it_did(
    workspace: Workspace, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
        return Prospects(corpus, OUTLOOK, toml=draft.toml())  # type: ignore[arg-type]

    monkeypatch.setattr("tui.presets.form.prospects_of", planned)
    async with form_of(workspace, "second", size) as pilot:
        await type_value(pilot, "model.n_heads", "32", "up")
        await pilot.pause(0.02)
        await settled(pilot)
        changed = differences(f"presets-form-{size[0]}x{size[1]}", screen(pilot) + "\n")
        assert not changed, changed


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_is_typed_is_judged_at_each_letter(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        await type_value(pilot, "training.learning_rate", "5")
        assert "! above the usual 0.03" in screen(pilot)
        await press(pilot, "5")
        assert "✗ must be a number from 0 to 10" in screen(pilot)
        await press(pilot, "enter")
        assert isinstance(pilot.app.focused, Input), "a value that is not allowed is not taken"
        await press(pilot, "backspace", "backspace", *"0", "full_stop", *"02", "enter")
        assert line_of(pilot, "learning_rate").split()[1:5] == ["●", "learning_rate", "0.02", "was"]


@pytest.mark.asyncio
async def test_escape_leaves_a_value_as_it_was(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        await type_value(pilot, "model.d_model", "96", "escape")
        assert pane_of(pilot).form.draft is not None
        assert not draft_of(pilot).changes
        assert line_of(pilot, "d_model").split()[1:3] == ["d_model", "128"]


@pytest.mark.asyncio
async def test_arrow_keys_go_through_the_choices(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        pane_of(pilot).form.fields.go_to("model.family")
        seen = []
        for _ in range(3):
            await press(pilot, "right")
            seen.append(draft_of(pilot).value("model.family"))
        assert seen == ["gpt2", "llama", "qwen3"]
        assert not draft_of(pilot).changes, "back where it began, nothing is changed"


@pytest.mark.asyncio
async def test_a_change_can_be_taken_back_or_made_usual(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        await type_value(pilot, "model.d_model", "64", "enter", "delete")
        draft = pane_of(pilot).form.draft
        assert draft is not None
        assert draft.changes == {"model.d_model": 128}
        await press(pilot, "u")
        assert draft.changes == {}


@pytest.mark.asyncio
async def test_sections_are_a_key_away(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        fields = pane_of(pilot).form.fields
        seen = []
        for _ in range(4):
            await press(pilot, "right_square_bracket")
            seen.append(fields.current.text.split()[0])  # type: ignore[union-attr]
        assert seen == ["[tokenizer]", "[model]", "[training]", "[generation]"]
        await press(pilot, "left_square_bracket")
        assert fields.current.text.startswith("[training]")  # type: ignore[union-attr]


@pytest.mark.asyncio
async def test_each_setting_has_its_help(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        for key in ("model.dropout", "training.eval_every", "training.compile"):
            pane_of(pilot).form.fields.go_to(key)
            await settled(pilot)
            about, shown = settings()[key].about, " ".join(screen(pilot).split())
            for words in (about.meaning, about.too_low, about.too_high, about.auto):
                assert all(word in shown for word in words.split())


# -- saving


@pytest.mark.asyncio
async def test_a_preset_of_ones_own_keeps_its_comments(workspace: Workspace) -> None:
    own(workspace).write_text("# My own.\n[training]\nlearning_rate = 0.5  # hot\n")
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter", "s")
        assert own(workspace).read_text() == "# My own.\n[training]\nlearning_rate = 0.01  # hot\n"
        await press(pilot, "escape")
        assert not pane_of(pilot).editing


@pytest.mark.asyncio
async def test_a_built_in_preset_becomes_a_copy(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        await type_value(pilot, "model.n_layers", "2", "enter", "ctrl+s")
        await press(pilot, "enter")  # the name that is proposed
        assert own(workspace, "second-2").read_text().endswith("d_model = 256  # twice as wide\nn_layers = 2\n")
        assert load_preset("second", workspace).model.n_layers == 8
        assert draft_of(pilot).name == "second-2"
        await press(pilot, "escape")
        assert pane_of(pilot).browser.listing.key == "second-2"


@pytest.mark.asyncio
async def test_settings_that_contradict_each_other_are_not_saved(workspace: Workspace) -> None:
    before = own(workspace).read_text()
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "model.n_heads", "3", "enter")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "does not divide" in screen(pilot)
        await press(pilot, "s")
        assert "does not divide model.d_model" in dialog(pilot)
    assert own(workspace).read_text() == before


@pytest.mark.asyncio
async def test_leaving_asks_about_changes(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        for answer, saved, editing in (("3", 0.5, True), ("2", 0.5, False), ("1", 0.01, False)):
            if not pane_of(pilot).editing:
                await press(pilot, "e")
            await type_value(pilot, "training.learning_rate", "0.01", "enter", "escape")
            assert "1 change, not saved" in dialog(pilot)
            await press(pilot, answer)
            assert pane_of(pilot).editing is editing
            assert read_file(own(workspace)).training.learning_rate == saved


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_goes_wrong_is_told(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        own(workspace).write_text("[training\n")
        await press(pilot, "s", "1")
        assert "not valid TOML" in dialog(pilot)
        await press(pilot, "enter", "escape")
        assert "Save the changes?" in dialog(pilot), "nothing that was typed is lost"


@pytest.mark.asyncio
async def test_quitting_asks_about_changes(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        left: list[bool] = []
        pane = pane_of(pilot)

        def leave() -> None:
            left.append(True)

        assert not pane.asks_to_leave(leave)
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        for answer, gone in (("3", False), ("1", True)):
            assert pane.asks_to_leave(leave)
            await settled(pilot)
            assert "1 change, not saved" in dialog(pilot)
            await press(pilot, answer)
            assert bool(left) is gone
        assert read_file(own(workspace)).training.learning_rate == 0.01
        assert pilot.app.state.preset_changes == {}  # type: ignore[attr-defined]
        await type_value(pilot, "training.learning_rate", "0.02", "enter")
        assert pane.asks_to_leave(leave)
        await press(pilot, "2")
        assert len(left) == 2 and read_file(own(workspace)).training.learning_rate == 0.01


@pytest.mark.asyncio
async def test_what_a_hang_up_left_unsaved_is_there_again(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        state = pilot.app.state  # type: ignore[attr-defined]
        assert (state.preset_draft, state.preset_changes) == ("mine", {"training.learning_rate": "0.01"})
    harness = Harness(workspace, "mine")
    harness.state = state
    state.preset_changes["model.gone"] = "1"
    async with harness.run_test(size=MIDDLE) as pilot:
        await settled(pilot)
        assert draft_of(pilot).changes == {"training.learning_rate": 0.01}


@pytest.mark.asyncio
async def test_a_save_that_ends_late_leaves_another_preset_alone(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        saved = draft_of(pilot)
        other = Draft.read("first", workspace.configs.parent.parent / "presets" / "first.toml", workspace)
        other.put("model.d_model", 64)
        pane = pane_of(pilot)
        pane.show_form(other)
        assert not pane.form.take(Draft.read("mine", own(workspace), workspace), saved)
        assert pane.form.draft is other and other.changes == {"model.d_model": 64}


@pytest.mark.parametrize(("answer", "text"), [("1", "0.01  # cold"), ("3", "0.1  # cold")])
@pytest.mark.asyncio
async def test_what_another_program_wrote_is_not_saved_over_unasked(
    workspace: Workspace, answer: str, text: str
) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        own(workspace).write_text("[training]\nlearning_rate = 0.1  # cold\n")
        await press(pilot, "s")
        assert "changed by another program" in dialog(pilot)
        await press(pilot, answer)
        assert own(workspace).read_text() == f"[training]\nlearning_rate = {text}\n"
        assert bool(draft_of(pilot).changes) is (answer == "3")


@pytest.mark.asyncio
async def test_the_form_shows_what_another_program_wrote(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        own(workspace).write_text("[training]\nlearning_rate = 0.125\n")
        pane_of(pilot).read()
        await settled(pilot)
        assert draft_of(pilot).value("training.learning_rate") == 0.125


@pytest.mark.asyncio
async def test_a_name_that_is_taken_is_asked_for_again(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "n", *"mine", "enter")
        assert isinstance(pilot.app.screen, Ask)
        assert "There is a preset mine already" in pilot.app.screen.text
        assert pilot.app.screen.query_one(Input).value == "mine"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_longest_help_is_whole_on_a_small_screen(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        for key in settings():
            pane_of(pilot).form.fields.go_to(key)
            await settled(pilot)
            assert "A good start:" in screen(pilot), key


# -- the list


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_copy_is_made_and_deleted_after_a_yes(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "d")
        assert "comes with MiniGPT" in dialog(pilot)
        await press(pilot, "enter", "n", "enter", "escape")
        assert own(workspace, "second-2").is_file()
        assert pane_of(pilot).browser.listing.key == "second-2"
        await press(pilot, "d", "enter")
        assert own(workspace, "second-2").is_file(), "the harmless answer has the focus"
        await press(pilot, "d", "2")
        assert not own(workspace, "second-2").exists()


@pytest.mark.asyncio
async def test_two_presets_are_compared(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "c", "down", "enter")
        shown = screen(pilot)
        assert "3 settings differ" in shown
        assert line_of(pilot, "model.d_model").split()[2:4] == ["256", "128"]
        await press(pilot, "escape")
        assert pane_of(pilot).browser.listing.has_focus


@pytest.mark.asyncio
async def test_a_broken_preset_cannot_be_opened(workspace: Workspace) -> None:
    async with form_of(workspace, "broken") as pilot:
        assert "Did you mean 'model.d_model'?" in dialog(pilot)
        assert not pane_of(pilot).editing


# -- what it comes to

OUTLOOK = SimpleNamespace(
    parameters=1_000_000,
    parts=(("token embedding", 250_000), ("positions", 0), ("MLP", 750_000)),
    flops_per_token=6_200_000,
    memory=SimpleNamespace(
        weights=4e6,
        gradients=4e6,
        optimizer=8e6,
        activations=84e6,
        workspace=3e6,
        overhead=7e6,
        total=100e6,
        available=50e6,
    ),
    tokens_per_parameter=2.5,
    train_tokens_exact=True,
    seconds_per_step=0.2,
    memory_measured=None,
    micro_batch_size=16,
    device="CPU",
    train_tokens=2_500_000,
    steps=600,
    epochs=1.5,
    tokens=3_750_000,
    seconds=125.0,
    checkpoint_bytes=12e6,
    disk_needed=60e6,
    disk_free=9e9,
    warnings=(SimpleNamespace(code="memory", message="This does not fit: 100 MB are needed and 50 MB are free."),),
)


@pytest.mark.parametrize("width", [20, 44, 76])
def test_figures_say_all_there_is(width: int) -> None:
    rows = list(rows_of(Prospects("tale", OUTLOOK, unusual=("x is high",)), width))  # type: ignore[arg-type]
    text = " ".join(" ".join(row.text for row in rows).split())
    for figure in ("tale", "1,000,000", "250k 25%", "6.2M FLOPs", "100 MB of 50 MB free", "84 MB", "2.5M tokens"):
        assert figure in text
    for figure in (
        "600 steps = 1.5 epochs",
        "2 min 5 s",
        "12 MB a checkpoint",
        "up to 60 MB of 9 GB free",
        "x is high",
    ):
        assert figure in text
    assert "This does not fit" in text.replace("  ", " ")
    assert "positions" not in text
    assert all(len(row.text) <= width for row in rows if row.key == "memory" and "!" in row.text)


@pytest.mark.asyncio
async def test_the_figures_follow_what_is_typed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked_out(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
        return Prospects(f"{corpus} {draft.value('model.d_model')}")

    monkeypatch.setattr("tui.presets.form.prospects_of", worked_out)
    async with form_of(workspace, "first") as pilot:
        assert "sample 128" in screen(pilot)
        await type_value(pilot, "model.d_model", "96")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "sample 96" in screen(pilot)


@pytest.mark.asyncio
async def test_on_a_small_screen_the_figures_are_a_key_away(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        titles = ["─ first  (built in", "─ what it comes to", "─ the file", "─ first  (built in"]
        for title in titles:
            assert [shown for shown in titles[:3] if shown in screen(pilot)] == [title]
            await press(pilot, "v")
        await press(pilot, "escape", "escape")
        assert pane_of(pilot).browser.listing.has_focus


@pytest.mark.asyncio
async def test_the_file_is_shown_as_it_would_be_saved(workspace: Workspace) -> None:
    async with form_of(workspace, "second", (120, 50)) as pilot:
        await type_value(pilot, "model.d_model", "64", "enter")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "d_model = 64  # twice as wide" in screen(pilot)
        assert load_preset("second", workspace).model.d_model == 256, "nothing is saved yet"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """The tasks that were started, each with its directory: the test does their work."""
    tasks: list[tuple[list[str], Path]] = []

    def launch(arguments: list[str], directory: Path, log: str = "") -> int:
        tasks.append((arguments, directory))
        return os.getpid()

    monkeypatch.setattr("minigpt.tasks.launch", launch)
    monkeypatch.setattr("tui.corpora.tasks.is_alive", lambda _: not (tasks[-1][1] / EVENTS).exists())
    monkeypatch.setattr("tui.presets.probing.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("tui.presets.form.prospects_of", lambda *_: Prospects("sample", OUTLOOK))
    return tasks


Launched = list[tuple[list[str], Path]]


@pytest.mark.asyncio
async def test_five_steps_are_made_by_a_task_that_goes_on_without_the_app(
    workspace: Workspace, launched: Launched
) -> None:
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await type_value(pilot, "model.d_model", "96", "enter", "p")
        await until(pilot, lambda: "starting …  p stops it" in screen(pilot))
    ((arguments, directory),) = launched
    asked = ["presets", "check", "mine", "--corpus", "sample", "--probe", "--set", "model.d_model=96"]
    assert arguments[3:11] == asked and "--task" in arguments
    with TaskProcess(directory, "try five steps of mine") as task:
        task.report("trying five steps")
        async with form_of(workspace, "mine", (120, 50)) as pilot:
            await until(pilot, lambda: "trying five steps …  p stops it" in screen(pilot))
            pane_of(pilot).action_probe()
            await until(pilot, (directory / COMMANDS).is_file)
            assert len(launched) == 1, "the second time it is stopped"
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await until(pilot, lambda: "200 ms a step" in screen(pilot))


@pytest.mark.asyncio
async def test_five_steps_that_come_to_nothing_say_why(workspace: Workspace, launched: Launched) -> None:
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await press(pilot, "p")
        with suppress(UserError), TaskProcess(launched[0][1], "try five steps of mine"):
            raise UserError("The text is too short.")
        await until(pilot, lambda: "It could not be measured: mine: The text is too short." in dialog(pilot))
        await press(pilot, "enter")
        assert "✗ not measured: The text is too short." in screen(pilot)
    async with form_of(workspace, "mine") as pilot:
        assert not dialog(pilot), "it is said once"


@pytest.mark.asyncio
async def test_fitting_is_done_with_what_is_saved(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter", "f")
        assert "Save the changes first?" in dialog(pilot)
        await press(pilot, "1")
        assert read_file(own(workspace)).training.learning_rate == 0.01
        assert type(pilot.app.screen).__name__ == "FitScreen"
        await press(pilot, "escape")
        assert pane_of(pilot).editing


def test_a_draft_that_contradicts_itself_says_why(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nn_heads = 4\n")
    draft = Draft.read("mine", path, Workspace(tmp_path))
    draft.put("model.n_heads", 3)
    assert draft.config is None
    assert draft.problems[0].startswith("model.n_heads = 3 does not divide")
    draft.put("model.d_model", 96)
    assert draft.config == with_values(Config(), {"model.n_heads": 3, "model.d_model": 96}, "test")


@pytest.mark.asyncio
async def test_a_preset_without_an_end_can_be_chosen_for_the_next_run(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.use_presets()
        async with on_screen(scene) as pilot:
            app_of(pilot).choose_preset("mine")
            await until(pilot, lambda: "4 layers of 128, context 256." in screen(pilot))


@pytest.mark.asyncio
async def test_q_asks_before_changes_are_left_behind(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.use_presets()
        async with on_screen(scene, SMALL) as pilot:
            app = app_of(pilot)
            app.open_pane("presets")
            await until(pilot, lambda: "mine" in screen(pilot))
            pane = app.query_one(PresetsPane)
            pane.open("mine", own(scene.workspace))
            await until(pilot, lambda: pane.form.draft is not None)
            pane.form.put("training.learning_rate", 0.01)
            app.open_pane("train")
            await pilot.press("q")
            await until(pilot, lambda: "1 change, not saved" in dialog(pilot))
            assert "3 Stay" in screen(pilot)
            await pilot.press("1")
            await until(pilot, lambda: not app.is_running)
        assert read_file(own(scene.workspace)).training.learning_rate == 0.01
