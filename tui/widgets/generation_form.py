"""How the next answer is made: conversation or completion, a ready-made style, and each setting by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, Static

from minigpt.config import SettingItem, settings
from minigpt.presets import allowed, convert
from tui.chat.conversations import COMPLETION, CONVERSATION

FIELDS = ("temperature", "max_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
CUSTOM = "your own"
STYLES: dict[str, dict[str, Any]] = {
    "focused": {"temperature": 0.3, "top_k": 20, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1},
    "balanced": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.2},
    "creative": {"temperature": 1.1, "top_k": 200, "top_p": 0.98, "min_p": 0.0, "repetition_penalty": 1.2},
}
_LENGTH = 200


def style_values(name: str) -> dict[str, Any]:
    """Return the settings of a ready-made style, all but the seed."""
    return {"max_new_tokens": _LENGTH, **STYLES[name]}


class Cycle(Static, can_focus=True):
    """One of a few values; the arrow keys, Enter and a click go on to the next."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,enter,space", "turn(1)", "Next", show=False, id="cycle.next", tooltip="The next choice"),
        Binding("left", "turn(-1)", "Previous", show=False, id="cycle.previous", tooltip="The choice before"),
    ]
    DEFAULT_CSS = """
    Cycle { width: 1fr; height: 1; &:focus { background: $block-cursor-background; color: $block-cursor-foreground; } }
    """

    class Turned(Message):
        """Somebody chose another value."""

        def __init__(self, cycle: Cycle) -> None:
            super().__init__()
            self.cycle = cycle

        @property
        def control(self) -> Cycle:
            return self.cycle

    def __init__(self, values: Sequence[str], explain: str, id: str) -> None:
        super().__init__(id=id, markup=False)
        self.values, self.explain, self.value = list(values), explain, values[0]

    def on_mount(self) -> None:
        self.choose(self.value)

    def choose(self, value: str) -> None:
        """Show a value, without a message; it need not be one of those that the keys reach."""
        self.value = value
        self.update(Content(f"< {value} >"))

    def action_turn(self, by: int) -> None:
        index = self.values.index(self.value) + by if self.value in self.values else 0
        self.choose(self.values[index % len(self.values)])
        self.post_message(self.Turned(self))

    def on_click(self) -> None:
        self.action_turn(1)


class SettingField(Horizontal):
    """A setting's name and its value, and below them what is wrong with it."""

    DEFAULT_CSS = """
    SettingField { height: auto; }
    SettingField Label { width: 20; height: 1; }
    SettingField Input { width: 1fr; height: 1; }
    """

    def __init__(self, item: SettingItem) -> None:
        super().__init__()
        self.item = item

    def compose(self) -> ComposeResult:
        yield Label(self.item.name, markup=False)
        field = Input(id=self.item.name, compact=True, placeholder="auto" if self.item.optional else "")
        field.explain = help_text(self.item)  # type: ignore[attr-defined]
        yield field


def help_text(item: SettingItem) -> str:
    """Return a setting's meaning, what it accepts, and what its extremes do."""
    about = item.about
    text = f"{about.meaning} {allowed(item)[0].upper()}{allowed(item)[1:]}."
    for word, effect in (("Low", about.too_low), ("High", about.too_high)):
        text += f" {word}: {effect}." if effect else ""
    return text + (f" Left empty: {about.auto}." if about.auto else "")


class GenerationForm(VerticalScroll, can_focus=False):
    """The settings beside the text."""

    DEFAULT_CSS = """
    GenerationForm {
        padding: 0 1;
        border: round $panel-lighten-2;
        border-title-color: $foreground-muted;
        scrollbar-size-vertical: 1;
        & .row { height: 1; }
        & .row Label { width: 20; }
        & .problem { color: $text-error; height: auto; display: none; }
        & .help { color: $foreground-muted; height: auto; margin-top: 1; }
    }
    """

    class Changed(Message):
        """Somebody changed a setting or the mode."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.items = [settings()[f"generation.{name}"] for name in FIELDS]
        self._setting = False

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Label("mode")
            yield Cycle(
                [CONVERSATION, COMPLETION],
                "Conversation: the model answers what you say. Completion: it goes on with your text.",
                id="mode",
            )
        with Horizontal(classes="row"):
            yield Label("style")
            yield Cycle(
                list(STYLES), "Ready-made settings: focused repeats what is likely, creative takes chances.", id="style"
            )
        for item in self.items:
            yield SettingField(item)
            yield Static("", classes="problem", id=f"problem-{item.name}", markup=False)
        yield Static("", classes="help", markup=False)

    def on_mount(self) -> None:
        self.border_title = "settings"
        self.set_values({})

    @property
    def mode(self) -> str:
        return self.query_one("#mode", Cycle).value

    @mode.setter
    def mode(self, value: str) -> None:
        self.query_one("#mode", Cycle).choose(COMPLETION if value == COMPLETION else CONVERSATION)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show settings; those that are missing or impossible are as in "balanced"."""
        ready = style_values("balanced")
        for item in self.items:
            try:
                value = convert(item, values[item.name])
            except (KeyError, ValueError):
                value = ready.get(item.name)
            with self.prevent(Input.Changed):
                self._field(item.name).value = "" if value is None else f"{value}"
            self._judge(item)
        self._name_style()

    def values(self) -> dict[str, Any]:
        """Return the settings by name; raises ValueError naming the first field that holds none."""
        found: dict[str, Any] = {}
        for item in self.items:
            try:
                found[item.name] = self._convert(item)
            except ValueError as error:
                raise ValueError(item.name) from error
        return found

    def show_problem(self, name: str) -> None:
        """Put the focus on a field that is wrong."""
        self._field(name).focus()

    def focus_first(self) -> None:
        """Put the focus on the first setting."""
        self.query_one("#mode", Cycle).focus()

    def _field(self, name: str) -> Input:
        return self.query_one(f"#{name}", Input)

    def _convert(self, item: SettingItem) -> Any:
        text = self._field(item.name).value.strip()
        return convert(item, "auto" if not text and item.optional else text, from_text=True)

    def _judge(self, item: SettingItem) -> None:
        problem = self.query_one(f"#problem-{item.name}", Static)
        try:
            self._convert(item)
        except ValueError as error:
            problem.update(f"must be {error}")
            problem.display = True
        else:
            problem.display = False

    def _name_style(self) -> None:
        try:
            values = self.values()
        except ValueError:
            values = {}
        values.pop("seed", None)
        style = next((name for name in STYLES if style_values(name) == values), CUSTOM)
        self.query_one("#style", Cycle).choose(style)

    @on(Cycle.Turned, "#style")
    def _take_style(self, event: Cycle.Turned) -> None:
        event.stop()
        seed = self._field("seed").value
        self.set_values(style_values(event.cycle.value))
        with self.prevent(Input.Changed):
            self._field("seed").value = seed
        self.post_message(self.Changed())

    @on(Cycle.Turned, "#mode")
    def _take_mode(self, event: Cycle.Turned) -> None:
        event.stop()
        self.post_message(self.Changed())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._judge(next(item for item in self.items if item.name == event.input.id))
        self._name_style()
        self.post_message(self.Changed())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.focus_next()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.query_one(".help", Static).update(getattr(event.widget, "explain", ""))
