"""The app without a screen: a run's story in lines, for a screen reader or a log."""

from __future__ import annotations

import sys
import time

from minigpt.cli.progress import Careful, Lines
from minigpt.errors import JobFailed, UserError, printable
from minigpt.jobs import follow
from minigpt.runs import find_run, summarise
from minigpt.start import running_runs, start_new
from minigpt.workspace import Workspace
from tui.state import load_state

LOOK_SECONDS = 0.2


def run_plain(workspace: Workspace, run: str | None, train: str | None) -> int:
    """Tell of a run in lines until it ends or Ctrl-C; training goes on. Raises UserError."""
    pid = None
    if train is not None:
        started = start_new(workspace, train, load_state(workspace).corpus)
        try:
            while started.outcome() is None:
                time.sleep(LOOK_SECONDS)
        except JobFailed as error:
            print(printable(str(error)), file=sys.stderr)
            return 1
        directory, pid = started.directory, started.pid
    else:
        running = running_runs(workspace)
        if run is None and not running:
            raise UserError("No run is training: start one with `minigpt-tui --plain --train tiny`.")
        directory = find_run(workspace, run or running[0])
    display = Careful(Lines())
    try:
        for event in follow(directory, pid=pid):
            display(event)
    except KeyboardInterrupt:
        print(f"No longer watching; {directory.name} is not touched.", file=sys.stderr)
        return 0
    summary = summarise(directory)
    print(f"The run {directory.name} is {summary.state}.", file=sys.stderr)
    return 0
