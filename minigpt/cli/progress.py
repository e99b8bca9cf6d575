"""How `minigpt train` and `minigpt runs watch` show a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from minigpt.errors import printable, safe_json
from minigpt.narration import clock, duration, narrate, number

Event = dict[str, Any]
Listener = Callable[[Event], None]

REFRESHES_PER_SECOND = 2
PLAIN_LINES_A_RUN = 20


class Careful:
    """Passes events on until whoever looks is gone: a closed terminal or pipe must not stop the training."""

    def __init__(self, display: Display) -> None:
        self.display: Display | None = display

    def __call__(self, event: Event) -> None:
        if self.display is None:
            return
        try:
            self.display.show(event)
        except (LookupError, TypeError, ValueError, OverflowError):
            return  # a damaged event is not shown; those that follow are
        except Exception:  # noqa: BLE001 - whatever is wrong with the display, the training matters more
            self.display = None

    def close(self) -> None:
        if self.display is not None:
            try:
                self.display.close()
            except OSError:
                self.display = None


class Display:
    """Shows events as they happen."""

    def show(self, event: Event) -> None:
        raise AssertionError("each display shows events in its own way")

    def close(self) -> None:
        """Leave the screen tidy."""


class Silent(Display):
    """Shows nothing."""

    def show(self, event: Event) -> None:
        return


class JsonLines(Display):
    """Writes every event as a line of JSON to stdout."""

    def show(self, event: Event) -> None:
        sys.stdout.write(safe_json(msgspec.json.encode(event).decode()) + "\n")
        sys.stdout.flush()


class Lines(Display):
    """Writes a line for everything worth telling."""

    def __init__(self) -> None:
        self.every = 1

    def show(self, event: Event) -> None:
        if event["type"] == "start":
            self.every = max(1, int(event.get("planned_steps") or 1) // PLAIN_LINES_A_RUN)
        line = narrate(event, self.every)
        if line is not None:
            print(f"{clock(event)}  {line}", flush=True)


class Live(Display):
    """A progress bar with loss, speed and time left, and above it evaluations, one sample at a time, and notices."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}", style="cyan", markup=False),
        )
        self.progress = Progress(*columns, console=self.console, refresh_per_second=REFRESHES_PER_SECOND)
        self.task: TaskID | None = None
        self.shown_at = 0.0
        self.began = (0, 0.0)
        self.phase = "starting"
        self.step: Event = {}
        self.losses: dict[str, float | None] = {}
        self.smoothed: float | None = None
        self.sampled_at: int | None = None

    def show(self, event: Event) -> None:
        teller = getattr(self, f"_show_{event['type']}", None)
        if teller is not None:
            teller(event)

    def close(self) -> None:
        self.progress.stop()

    def _show_start(self, event: Event) -> None:
        self._line(narrate(event) or "")
        steps = int(event["planned_steps"])
        if self.task is None:
            self.task = self.progress.add_task("starting", total=steps, figures="")
        self.progress.update(self.task, total=steps)
        self.began = (int(event.get("resumed_from") or 0), time.monotonic())
        # Within a session the run may go back to a checkpoint.
        self.step, self.smoothed = {}, None
        self.progress.start()

    def _show_step(self, event: Event) -> None:
        self.step = event
        loss = event.get("loss")
        if loss is not None:
            self.smoothed = loss if self.smoothed is None else 0.9 * self.smoothed + 0.1 * loss
        if time.monotonic() - self.shown_at > 1 / REFRESHES_PER_SECOND:
            self._refresh()

    def _show_phase(self, event: Event) -> None:
        self.phase = printable(str(event.get("phase")), single_line=True)
        self._refresh()

    def _refresh(self) -> None:
        if self.task is None:
            return
        self.shown_at = time.monotonic()
        step = int(self.step.get("step") or self.began[0])
        total = self.progress.tasks[0].total or 1
        done_here = step - self.began[0]
        # Evaluations and saves are in the elapsed time, and so in the time left.
        left = (time.monotonic() - self.began[1]) / done_here * (total - step) if done_here else None
        figures = [f"step {step:,}/{total:,.0f}", f"loss {number(self.smoothed)}"]
        if self.console.width >= 100:
            figures.append(f"val {number(self.losses.get('validation'))}")
            figures.append(f"{self.step.get('tokens_per_s') or 0:,.0f} tok/s")
        if left is not None:
            figures.append(f"{duration(left)} left")
        self.progress.update(self.task, completed=step, description=self.phase, figures="  ".join(figures))

    def _show_eval(self, event: Event) -> None:
        self.losses[event["split"]] = event.get("loss")
        if event["split"] == "validation":
            train = f"train {number(self.losses.get('train'))}  " if "train" in self.losses else ""
            best = "  best so far" if event.get("best") else ""
            whole = " (whole split)" if event.get("whole") else ""
            self._line(
                f"step {event['step']:>6,}  {train}validation {number(event.get('loss'))}{whole}  "
                f"perplexity {number(event.get('perplexity'), 2)}{best}",
                "green" if best else "",
            )

    def _show_sample(self, event: Event) -> None:
        # One prompt's sample a time is enough to see it learn; all of them are in the events.
        if event["step"] != self.sampled_at:
            self.sampled_at = event["step"]
            text = " ".join(f"{event['prompt']}{event['text']}".split())
            self._line(f"             {text[: max(20, self.console.width - 16)]}", "dim")

    def _show_notice(self, event: Event) -> None:
        self._line(narrate(event) or "", {"error": "red", "warning": "yellow"}.get(event["severity"], ""))

    def _show_command(self, event: Event) -> None:
        steps = (event.get("args") or {}).get("max_steps")
        if event.get("done") and steps and self.task is not None:
            self.progress.update(self.task, total=steps)
        self._line(narrate(event) or "", "magenta")

    def _line(self, text: str, style: str = "") -> None:
        # Text, not markup: what a model or a user wrote may hold square brackets.
        self.console.print(Text(printable(text), style=style))


def best_display() -> Display:
    """Return the live display where stdout is a terminal, plain lines elsewhere."""
    console = Console()
    return Live(console) if console.is_terminal and not console.is_dumb_terminal else Lines()
