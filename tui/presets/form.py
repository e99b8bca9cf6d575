"""A preset's settings as a form: all of them in lines, help below, and what they would come to beside.

form.open(draft, corpus)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from minigpt.config import settings
from minigpt.errors import printable
from tui.corpora.children import in_thread
from tui.presets.draft import Draft
from tui.presets.fields import can_turn, parsed, turns, value_text, verdict
from tui.presets.figures import KEYS, Figures, Prospects
from tui.presets.help import field_help, section_help
from tui.presets.prospects import prospects_of
from tui.presets.rows import CHANGED, VALUE_COLUMN, FieldRows, ValueField, field_rows, section_of
from tui.presets.toml import TomlText
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from minigpt.workspace import Workspace
    from tui.app import MiniGPTApp

# How long nothing must have been typed before the figures are worked out anew.
PAUSE_SECONDS = 0.3
VIEWS = ("fields", "figures", "toml")
# However long the help of a setting is, so many lines are left to the settings, their frame included.
LEAST_FIELDS = 8
LEGEND = f"{CHANGED} changed   ! unusual   grey: left out of the file"


class PresetForm(Container):
    """The form; what is changed in it is a draft until it is saved."""

    # The size classes are the screen's, which scoped rules do not see.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    PresetForm {
        layout: horizontal;
        & .side { height: 1fr; width: 1fr; }
        & .fields { height: 1fr; layers: base field; border: round $panel-lighten-2; padding: 0 1; }
        & .fields, & Figures, & TomlText {
            border: round $panel-lighten-2;
            border-title-color: $text-muted;
            border-subtitle-color: $text-muted;
        }
        & .fields:focus-within, & Figures:focus, & TomlText:focus {
            border: round $primary;
            border-title-color: $text;
        }
        & Figures, & TomlText { padding: 0 1; height: 1fr; }
        & .help { height: 10; padding: 0 2; }
    }
    .-short PresetForm .help { height: 6; }
    .-low PresetForm .help { display: none; }
    PresetForm .right { display: none; }
    PresetForm TomlText { display: none; }
    PresetForm.-toml TomlText { display: block; }
    PresetForm.-toml Figures { display: none; }
    .-narrow PresetForm.-figures .left, .-narrow PresetForm.-toml .left { display: none; }
    PresetForm.-figures .right, PresetForm.-toml .right { display: block; }
    .-normal PresetForm .right, .-wide PresetForm .right { display: block; }
    .-normal PresetForm .left { width: 5fr; }
    .-normal PresetForm .right { width: 4fr; }
    .-wide PresetForm .left { width: 4fr; }
    .-wide PresetForm .right { layout: horizontal; width: 5fr; }
    .-wide PresetForm Figures, .-wide PresetForm TomlText { display: block; width: 1fr; }
    .-normal.-tall PresetForm Figures, .-normal.-tall PresetForm TomlText { display: block; }
    .-normal.-tall PresetForm Figures { height: 5fr; }
    .-normal.-tall PresetForm TomlText { height: 3fr; }
    """

    class Changed(Message):
        """Something was changed in the draft, or changed back."""

    def __init__(self) -> None:
        super().__init__()
        self.draft: Draft | None = None
        self.corpus = ""
        self.view = VIEWS[0]
        self._prospects: Prospects | None = None
        self._probe = "", ""  # what a probe of the preset does, and why the last one came to nothing
        self.fields = FieldRows(id="preset-fields")
        self.field = ValueField()
        self.figures = Figures(id="preset-figures")
        self.toml = TomlText()
        self._before: Any = None  # the value that was there when somebody began to type
        self._timer: Timer | None = None
        self._help = Content("")
        self._help_lines = 0

    @property
    def workspace(self) -> Workspace:
        return cast("MiniGPTApp", self.app).workspace

    def compose(self) -> ComposeResult:
        with Vertical(classes="side left"):
            with Container(classes="fields") as box:
                box.border_subtitle = LEGEND
                yield self.fields
                yield self.field
            yield Static(classes="help", markup=False)
        with Vertical(classes="side right"):
            self.figures.border_title, self.figures.border_subtitle = "what it comes to", KEYS
            yield self.figures
            self.toml.border_title = "the file"
            yield self.toml

    # A draft in the form

    def open(self, draft: Draft, corpus: str) -> None:
        """Show a draft; the cursor stays where it is when it is the same preset again."""
        same = self.draft is not None and self.draft.name == draft.name
        self.draft, self.corpus = draft, corpus
        self._end_typing()
        self.show_view("fields")
        self._show_fields()
        if not same:
            self.fields.go_to(next(iter(settings())))
        self.refresh_figures(at_once=True)

    def take(self, draft: Draft, saved: Draft) -> bool:
        """Show a draft as it is after saving; what was changed while it was being saved is a change still.

        Returns False, and shows nothing, where the one that was saved is not in the form any more.
        """
        if self.draft is not saved:
            return False
        changes = dict(self.draft.changes)
        self.draft = draft
        for key, value in changes.items():
            draft.put(key, value)
        self._show_fields()
        self.refresh_figures(at_once=True)
        return True

    def name_it(self, title: str) -> None:
        """Say what is in the form, and whether it is saved."""
        box = self.query_one(".fields", Container)
        if str(box.border_title or "") != title:
            box.border_title = Content(printable(title, single_line=True))

    def focus_main(self) -> None:
        """Put the focus where one goes on: on the settings, or on what stands in their place."""
        if not self.typing:
            self.show_view(self.view)

    @property
    def typing(self) -> bool:
        """Whether a value is being typed."""
        return bool(self.field.display)

    def put(self, key: str, value: Any) -> None:
        """Change a setting, and show what comes of it."""
        assert self.draft is not None
        self.draft.put(key, value)
        self._show_fields()
        self.refresh_figures()
        self.post_message(self.Changed())

    def undo(self) -> None:
        """Make the setting under the cursor what it is in the file."""
        if self.draft is not None and self.fields.setting:
            self.put(self.fields.setting, self.draft.saved(self.fields.setting))

    def as_usual(self) -> None:
        """Make the setting under the cursor what it is where nobody sets it."""
        if self.draft is not None and self.fields.setting:
            self.put(self.fields.setting, settings()[self.fields.setting].default)

    def show_view(self, view: str) -> None:
        """Show the fields, the figures or the file; where there is room, beside the fields."""
        self.view = view
        for name in VIEWS:
            self.set_class(name == view, f"-{name}")
        places: dict[str, Widget] = {"fields": self.fields, "figures": self.figures, "toml": self.toml}
        self.call_after_refresh(places[view].focus)

    def next_view(self) -> None:
        self.show_view(VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)])

    # Typing a value

    @on(Rows.Selected)
    def _begin(self, event: Rows.Selected) -> None:
        event.stop()
        key = self.fields.setting
        if self.draft is None or not key or event.row is not self.fields.current:
            return
        if can_turn(settings()[key]):
            self._turn(key, 1)
            return
        self._before = self.draft.value(key)
        text = value_text(settings()[key], self._before)
        self._place()
        self.field.begin(text)
        self._show_help()

    def _place(self) -> None:
        """Put the field on the line of the cursor."""
        row = self.fields.cursor - self.fields.top
        column = min(VALUE_COLUMN, max(0, self.fields.size.width - 12))
        self.field.styles.offset = Offset(column, row)
        self.field.styles.width = max(1, self.fields.size.width - column)

    def on_resize(self) -> None:
        self.call_after_refresh(self._make_room, self._help)
        if self.typing:
            self.call_after_refresh(self._place)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if not self.typing or self.draft is None:
            return
        try:
            self.put(self.fields.setting, parsed(settings()[self.fields.setting], event.value))
        except ValueError:
            self.draft.put(self.fields.setting, self._before)
        self._show_help()

    def on_value_field_done(self, event: ValueField.Done) -> None:
        event.stop()
        if self.finish_typing():
            self.fields.focus()
            if event.by:
                self.fields.action_move(event.by)

    def finish_typing(self) -> bool:
        """Take what is being typed; returns whether it could be taken. Without typing there is nothing to take."""
        if not self.typing:
            return True
        key = self.fields.setting
        try:
            value = parsed(settings()[key], self.field.value)
        except (ValueError, KeyError):
            self.app.bell()
            self._show_help()
            return False
        self._end_typing()
        self.put(key, value)
        return True

    def on_value_field_left(self, event: ValueField.Left) -> None:
        event.stop()
        self._end_typing()
        self.put(self.fields.setting, self._before)
        self.fields.focus()

    def on_descendant_blur(self) -> None:
        # A click elsewhere: what can be used was taken as it was typed.
        if self.typing and not self.field.has_focus:
            self._end_typing()
            self._show_fields()

    def _end_typing(self) -> None:
        self.field.display = False

    # Going through a few values

    def on_field_rows_turned(self, event: FieldRows.Turned) -> None:
        event.stop()
        self._turn(event.key, event.by)

    def _turn(self, key: str, by: int) -> None:
        assert self.draft is not None
        values = turns(settings()[key])
        value = self.draft.value(key)
        index = values.index(value) + by if value in values else 0
        self.put(key, values[index % len(values)])

    # What is shown

    def on_rows_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._show_help()

    def _show_fields(self) -> None:
        assert self.draft is not None
        self.fields.show(list(field_rows(self.draft)))
        self._show_help()

    def _show_help(self) -> None:
        row = self.fields.current
        if row is None or self.draft is None:
            return
        section = section_of(row)
        if section:
            text = section_help(section)
        else:
            item = settings()[row.key]
            typed = self.field.value if self.typing else value_text(item, self.draft.value(row.key))
            text = field_help(item, verdict(item, typed), typed=self.typing)
        # Its height is fixed but for the longest: nothing has to be laid out anew.
        if not text.is_same(self._help):
            self._help = text
            self.query_one(".help", Static).update(text, layout=False)
            self._make_room(text)

    def _make_room(self, text: Content) -> None:
        """Let the help be as high as its text where that is longer than usual."""
        box = self.query_one(".help", Static)
        if not self.is_mounted or not box.size.width:
            return
        lines = len(text.wrap(box.size.width))
        needed = min(lines, max(0, self.size.height - LEAST_FIELDS))
        if self._help_lines != needed:
            self._help_lines = needed
            box.styles.min_height = needed
            if self.typing:
                # The line on which somebody types may be another now.
                self.call_after_refresh(self._place)

    def refresh_figures(self, at_once: bool = False) -> None:
        """Work the figures out anew, once nothing has been typed for a moment."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = None if at_once else self.set_timer(PAUSE_SECONDS, self._work_out)
        if at_once:
            self._work_out()

    def _work_out(self) -> None:
        draft = self.draft
        if draft is None:
            return
        # What the thread works on must not change under its hands.
        taken = replace(draft, changes=dict(draft.changes))
        workspace, corpus = self.workspace, self.corpus
        work = lambda: prospects_of(workspace, taken, corpus)  # noqa: E731
        in_thread(self, work, self._show_prospects, self._show_trouble, "outlook")

    def tell_of_probe(self, doing: str, trouble: str) -> None:
        """Say among the figures what a probe of the preset does, or why it came to nothing; take up what it found."""
        if (doing, trouble) == self._probe:
            return
        ended = bool(self._probe[0]) and not doing
        self._probe = doing, trouble
        if ended:
            self.refresh_figures(at_once=True)
        elif self._prospects is not None:
            self._show_prospects(self._prospects)

    def _show_prospects(self, prospects: Prospects) -> None:
        self._prospects = prospects
        self.figures.show_prospects(replace(prospects, probing=self._probe[0], not_probed=self._probe[1]))
        if prospects.toml:
            self.toml.show(prospects.toml)

    def _show_trouble(self, words: str) -> None:
        self._show_prospects(Prospects(self.corpus, problems=(words,)))
