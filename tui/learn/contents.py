"""All topics in one list, and a field that looks for words in them."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option
from textual.worker import Worker, WorkerState

from minigpt.learn import KINDS, Topic, contents, find, topic

TO_THE_LIST = ("down", "up", "pagedown", "pageup", "tab")


class Contents(ModalScreen[str | None]):
    """Choose a topic; gives its name, or None for Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "dismiss(None)", "Close", id="contents.close", tooltip="Close without choosing")
    ]
    DEFAULT_CSS = """
    Contents { align: center middle; }
    Contents > Vertical {
        width: 95%; max-width: 104; height: 95%; border: round $primary; padding: 0 1; background: $surface;
    }
    Contents Input { height: 1; margin-bottom: 1; }
    Contents OptionList {
        height: 1fr; border: none; padding: 0; background: transparent; scrollbar-size-vertical: 1;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "What there is to read"
            box.border_subtitle = "type to search · ↑↓ choose · Enter open · Esc close"
            yield Input(placeholder="a word: loss, NaN, slow, batch …", compact=True)
            yield OptionList(compact=True)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._look("")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(OptionList).action_select()

    def on_key(self, event: Key) -> None:
        rows = self.query_one(OptionList)
        if event.key in TO_THE_LIST and self.query_one(Input).has_focus and rows.option_count:
            event.stop()
            event.prevent_default()
            rows.focus()
            if event.key == "down":
                rows.action_cursor_down()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_id)

    def _look(self, words: str) -> None:
        # All files are read for this: off the event loop.
        self.run_worker(
            lambda: _rows(words), name="contents", group="contents", thread=True, exclusive=True, exit_on_error=False
        )

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.worker.group != "contents" or event.state is not WorkerState.SUCCESS:
            return
        found: list[tuple[Content, str | None]] = event.worker.result or []
        rows = self.query_one(OptionList)
        rows.clear_options()
        rows.add_options(Option(text, id=name, disabled=name is None) for text, name in found)
        rows.action_first()


def _rows(words: str) -> list[tuple[Content, str | None]]:
    """Return the lines of the list: with no words, all topics under the names of their kinds."""
    if words.strip():
        return [_row(topic(name)) for name in find(words)] or [(Content("Nothing has to do with that."), None)]
    rows: list[tuple[Content, str | None]] = []
    for kind, topics in contents().items():
        rows += [(Content.styled(KINDS[kind], "bold"), None), *map(_row, topics)]
    return rows


def _row(found: Topic) -> tuple[Content, str]:
    title = found.name if found.kind == "settings" else found.title
    return Content.assemble(f"  {title}  ", (found.sentence, "$foreground-muted")), found.name
