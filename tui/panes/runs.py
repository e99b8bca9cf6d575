"""The Runs pane: every run of the workspace, how it stands, and what can be done with it and its checkpoints."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import DescendantFocus
from textual.timer import Timer
from textual.widgets import Input

from minigpt.runs import RunSummary
from tui.corpora.children import in_thread
from tui.panes.pane import Pane
from tui.panes.run_facts import Saved
from tui.runs.desk import Replay, RunDesk
from tui.runs.foot import Foot
from tui.runs.keys import HELP, KEYS, OF_RUNS
from tui.runs.one import OneRun
from tui.runs.onward import Onward
from tui.runs.replaying import replay
from tui.runs.roster import FIELDS, Roster
from tui.runs.table import RunTable
from tui.widgets.listing import Listing, Row

EXPLAIN = (
    "All runs. The best loss is the lowest one on text kept aside: lower is better, but only runs on the same text "
    "with the same tokenizer compare. The arrow says by which column they are in order; s takes the next."
)
EMPTY = "There are no runs yet. Go to Train (key 1) and press s: the preset and the text are chosen already."
NOTHING_FOUND = "No run has these words in its name, state, preset, corpus or note. Esc shows all again."
REFRESH_SECONDS = 3.0
# With hundreds of runs they are asked for less often: on a CPU run the processor is the trainer's.
LARGEST_SHARE = 0.01


class Words(Input):
    """The words that runs are to have."""

    explain = "Words that a run is to have in its name, state, preset, corpus or note. Enter keeps them, Esc ends it."


class RunsPane(Pane):
    """A table of runs that follows those at work while it is shown, and the checkpoints of the one under the cursor."""

    TITLE = "Runs"
    HELP = HELP
    # The size classes are the screen's, which scoped rules do not see.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    RunsPane {
        layout: vertical;
        & > Words { display: none; margin: 0 1; background: $boost; }
        &.-filtering > Words { display: block; }
        & > RunTable { height: 2fr; min-height: 3; }
        & > .one { height: 3fr; }
        & CheckpointTable { display: none; height: 1fr; width: 1fr; }
        & Details { height: 1fr; width: 1fr; }
        &.-inside CheckpointTable { display: block; }
        &.-inside Details { display: none; }
    }
    .-short RunsPane > .one { height: 2fr; }
    .-normal RunsPane > .one, .-wide RunsPane > .one { layout: horizontal; }
    .-normal RunsPane CheckpointTable, .-wide RunsPane CheckpointTable { display: block; }
    .-normal RunsPane Details, .-wide RunsPane Details { display: block; layout: vertical; }
    .-normal RunsPane Details > .facts { width: 1fr; }
    .-normal RunsPane Details > .more { width: 1fr; margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]

    def __init__(self, *, id: str | None = None, classes: str | None = None, verifier: Replay | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.runs: dict[str, RunSummary] = {}
        self.listing = RunTable("Looking …", EXPLAIN)
        self._foot = Foot(self.listing, lambda: self.desk.doing)
        self.desk = RunDesk(self, verifier or replay, self._reload, self._foot.say)
        self.one = OneRun(self.desk.directory, self._foot.say)
        self.checkpoints = self.one.checkpoints
        self.onward = Onward(self)
        self._roster: Roster | None = None
        self._front = False
        self._timer: Timer | None = None
        self._wanted: str | None = None  # where the cursor goes with the next list

    def compose(self) -> ComposeResult:
        yield self.listing
        yield Words(placeholder="words to look for, then Enter", compact=True)
        yield self.one

    def on_mount(self) -> None:
        state = self.minigpt.state
        if state.runs_order in FIELDS:
            self.listing.sort_by(state.runs_order, state.runs_falling)

    def shown(self) -> None:
        self._front = True
        self.listing.focus()
        self._load()

    def hidden(self) -> None:
        self._front = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in OF_RUNS:
            return not self._inside
        if action == "talk":
            return self._inside
        return self._inside or self.has_class("-filtering") if action == "back" else True

    # What is shown

    def _load(self) -> None:
        self._roster = self._roster or Roster(self.minigpt.workspace)
        in_thread(self, self._roster.look, self._take, self._not_read, "runs")

    def _reload(self, wanted: str | None = None) -> None:
        self._wanted = wanted or self._wanted
        self._foot.say("")
        self._load()

    def _not_read(self, problem: str) -> None:
        self._foot.trouble = f"not read: {problem}"
        self._foot.refresh()
        self._look_again()

    def _look_again(self) -> None:
        """Ask again in a while, once: a slow disk is not asked while it still answers."""
        if self._timer is not None:
            self._timer.stop()
        cost = self._roster.cost if self._roster is not None else 0.0
        self._timer = self.set_timer(max(REFRESH_SECONDS, cost / LARGEST_SHARE), self._refresh)

    def _refresh(self) -> None:
        if self._front:
            self._load()

    def _take(self, found: tuple[list[RunSummary], dict[str, Row]]) -> None:
        runs, lines = found
        wanted = self._wanted or (None if self.runs else self.minigpt.state.run)
        self._wanted = None
        self.runs = {run.run: run for run in runs}
        self._foot.runs, self._foot.trouble = len(runs), ""
        self.listing.take(runs, lines)
        if wanted:
            self.listing.move_to(wanted)
        self._arranged()
        self.one.look_for_files()
        self._look_again()

    def _arranged(self) -> None:
        """Show what follows from another list, order or filter."""
        if not self.listing.rows:
            self.listing.empty = NOTHING_FOUND if self.runs else EMPTY
            self.listing.refresh()
        self._foot.refresh()
        self.one.show(self._current)

    @property
    def _current(self) -> RunSummary | None:
        return self.runs.get(self.listing.key or "")

    @property
    def _inside(self) -> bool:
        """Whether the keys mean a checkpoint."""
        return self.is_attached and self.screen.focused is self.checkpoints

    @property
    def _checkpoint(self) -> Saved | None:
        """The checkpoint under the cursor, if the keys mean one."""
        return self.checkpoints.current if self._inside else None

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self.one.show(self._current, top=True)
        self.one.look_for_files()

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_watch()

    def on_checkpoint_table_opened(self) -> None:
        self.action_chat()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self.set_class(event.widget is self.checkpoints, "-inside")

    # The list

    def action_enter_checkpoints(self) -> None:
        if self._current is not None:
            self.add_class("-inside")
            self.checkpoints.focus()

    def action_back(self) -> None:
        if not self._inside:
            self.query_one(Words).value = ""
            self.remove_class("-filtering")
        self.listing.focus()

    def action_sort(self) -> None:
        self.listing.sort_next()
        self._sorted()

    def action_turn_round(self) -> None:
        self.listing.sort_by(self.listing.sorted_by, not self.listing.falling)
        self._sorted()

    def _sorted(self) -> None:
        state = self.minigpt.state
        state.runs_order, state.runs_falling = self.listing.sorted_by, self.listing.falling
        self.minigpt.remember()
        self._arranged()

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one(Words).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.listing.filter(event.value)
        self._arranged()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_class(bool(self.listing.words), "-filtering")
        self.listing.focus()

    def action_mark(self) -> None:
        self.listing.toggle_mark()
        self._foot.refresh()

    def action_unmark(self) -> None:
        self.listing.marks.clear()
        self.listing.refill()
        self._foot.refresh()

    @property
    def _marked(self) -> list[RunSummary]:
        return [run for name, run in self.runs.items() if name in self.listing.marks]

    # What can be done

    def action_compare(self) -> None:
        marked = [run.run for run in self._marked]
        if len(marked) == 1 and self._current is not None and self._current.run not in marked:
            marked.append(self._current.run)
        if len(marked) < 2:
            self.minigpt.tell(
                "Which runs?", "Mark two or more with the space bar, then m compares them: curves, results, settings."
            )
            return
        from tui.compare.screen import CompareScreen

        self.app.push_screen(CompareScreen(marked))

    def action_watch(self) -> None:
        if (run := self._current) is not None:
            self.minigpt.watch_run(run.run)

    def action_resume(self) -> None:
        if (run := self._current) is not None:
            self.onward.resume(run, self._checkpoint, self.checkpoints.files)

    def action_fork(self) -> None:
        if (run := self._current) is not None:
            self.onward.fork(run, self._checkpoint or self.one.best, self.runs)

    def action_talk(self) -> None:
        self.action_chat()

    def action_chat(self) -> None:
        if (run := self._current) is not None:
            self.onward.chat(run, self._checkpoint)

    def action_annotate(self) -> None:
        if (run := self._current) is not None:
            self.desk.annotate(run)

    def action_rename(self) -> None:
        if (run := self._current) is not None:
            self.desk.rename(run)

    def action_verify(self) -> None:
        if (run := self._current) is not None:
            saved = self._checkpoint
            self.desk.verify(run, None if saved is None else saved.file.name)

    def action_delete(self) -> None:
        if (run := self._current) is not None:
            self.desk.delete(run, self._marked)
