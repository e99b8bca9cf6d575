"""What will be trained, before it is: the chosen preset and corpus, and the key that starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Label, Static

from minigpt.errors import UserError, one_line, printable

if TYPE_CHECKING:
    from minigpt.config import Config, TrainingSettings
    from tui.app import MiniGPTApp


class Ready(VerticalScroll):
    """The way to the first run: one key, or Enter on Start."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    Ready { align: center middle; height: 1fr; }
    Ready #card { width: 76; max-width: 100%; height: auto; border: round $primary; padding: 1 2; }
    .-short Ready #card { padding: 0 1; }
    Ready Static { height: auto; }
    Ready .choice { height: auto; }
    Ready .choice #preset, Ready .choice #corpus { width: 1fr; }
    Ready .choice Label { width: 9; color: $text-muted; }
    Ready #start { margin: 1 0; width: auto; }
    .-short Ready #start { margin: 0; }
    Ready #last { color: $text-muted; }
    .-low Ready #card { border: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, can_focus=False)

    @property
    def minigpt(self) -> MiniGPTApp:
        return cast("MiniGPTApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="card") as card:
            card.border_title = "ready to train"
            with Horizontal(classes="choice"):
                yield Label("preset")
                yield Static(id="preset")
            with Horizontal(classes="choice"):
                yield Label("corpus")
                yield Static(id="corpus")
            start = Button("Start training", id="start", variant="primary", compact=True)
            start.tooltip = "Train the chosen preset on the chosen corpus (s)"
            yield start
            yield Static(id="advice")
            yield Static(id="last")

    def on_mount(self) -> None:
        self.refresh_choice()

    def focus_main(self) -> None:
        self.query_one("#start").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.minigpt.start_run()

    def refresh_choice(self) -> None:
        """Show the choice at once, and what has to be read from disk when it has been."""
        state = self.minigpt.state
        self._show_choice(state.preset, state.corpus, "", None)
        self.look_again()

    def look_again(self) -> None:
        """Read from disk what there is to say of the choice and of the last run, and show it then."""
        self.run_worker(self._look_up, name="look up choice", group="choice", thread=True, exclusive=True)

    def _look_up(self) -> None:
        # Imported here, in a thread: the first frame needs none of it.
        from minigpt.presets import load_preset, preset_paths, preset_summary, unusual
        from minigpt.runs import newest_run, summarise

        workspace, state = self.minigpt.workspace, self.minigpt.state
        preset, corpus = state.preset, state.corpus
        summary, config, trouble = "", None, ""
        try:
            config = load_preset(preset, workspace)
            path = preset_paths(workspace).get(preset)
            summary = preset_summary(path) if path else ""
            trouble = "\n".join(f"Note: {word}" for word in unusual(config))
        except (UserError, OSError) as error:
            trouble = str(error)
        last = ""
        try:
            newest = newest_run(workspace)
            if newest is not None:
                run = summarise(newest)
                best = f", best validation loss {run.best_val_loss:.3f}" if run.best_val_loss is not None else ""
                name = one_line(run.run)
                last = f"Last run: {name}, {run.state} at step {run.step:,}{best}. 4 talks to it, 5 shows all runs."
        except OSError:
            last = ""
        self.app.call_later(self._show_choice, preset, corpus, summary, config, trouble, last)

    def _show_choice(
        self, preset: str, corpus: str, summary: str, config: Config | None, trouble: str = "", last: str = ""
    ) -> None:
        about_preset = [printable(summary)] if summary else []
        if config is not None:
            model, training = config.model, config.training
            size = f"{model.n_layers} layers of {model.d_model}, context {model.max_seq_len}"
            about_preset.append(", ".join([size, *_length(training)]) + ".")
        about_corpus = "Little stories and questions, made here: no download." if corpus == "sample" else ""
        self.query_one("#preset", Static).update(_choice(preset, "3", " ".join(about_preset)))
        self.query_one("#corpus", Static).update(_choice(corpus, "2", about_corpus))
        advice = printable(trouble)
        if not advice:
            advice = "s or Enter starts. Training goes on when you quit, or when the link drops; come back any time."
        self.query_one("#advice", Static).update(Content(advice))
        self.query_one("#last", Static).update(Content(last))


def _length(training: TrainingSettings) -> list[str]:
    """Return in words how long a run is to be, or nothing where its preset leaves that open."""
    if training.max_steps:
        return [f"{training.max_steps:,} steps"]
    return [f"{training.max_epochs:g} epochs"] if training.max_epochs else []


def _choice(name: str, key: str, about: str) -> Content:
    """Return what was chosen, the key that changes it, and what it is."""
    head = Content.assemble((one_line(name), "bold"), (f"  ({key} changes it)", "$foreground-muted"))
    return Content("\n").join([head, Content(about)]) if about else head
