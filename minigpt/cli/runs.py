"""`minigpt runs list|show|watch|delete` and `minigpt control`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.cli.progress import Careful, JsonLines, best_display
from minigpt.errors import JobFailed, UserError, printable
from minigpt.jobs import follow, is_running, send_command, wait_for
from minigpt.narration import duration, narrate, number, size
from minigpt.runs import RunSummary, delete_run, find_run, list_runs, summarise, to_json

CONTROLS = ("pause", "resume", "stop", "checkpoint", "evaluate", "sample", "set")
ACKNOWLEDGEMENT_SECONDS = 60


def add_runs_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|watch|delete", required=True)
    listing = actions.add_parser("list", help="every run, the newest first")
    showing = actions.add_parser("show", help="one run: where it stands, its checkpoints and notices")
    watching = actions.add_parser("watch", help="follow a run as it trains")
    for action in (showing, watching):
        action.add_argument("name", nargs="?", metavar="RUN", help="default: the newest")
    deleting = actions.add_parser("delete", help="remove a run and all its checkpoints for good")
    deleting.add_argument("name", metavar="RUN")
    deleting.add_argument("--yes", action="store_true", help="really do it")
    for action in (listing, showing, watching, deleting):
        action.add_argument("--json", action="store_true", help="write JSON")


def run_runs(options: argparse.Namespace) -> int:
    if options.action == "list":
        return _list(list_runs(workspace_of(options)), options.json)
    directory = find_run(workspace_of(options), options.name)
    if options.action == "delete":
        return _delete(directory, options.yes, options.json)
    return _show(directory, options.json) if options.action == "show" else _watch(directory, options.json)


def _list(runs: list[RunSummary], as_json: bool) -> int:
    if as_json:
        write_json([to_json(run) for run in runs])
        return 0
    if not runs:
        say("There are no runs yet: start one with `minigpt train`.")
        return 0
    width = max(len(run.run) for run in runs)
    print(f"{'run':<{width}}  {'state':<11}  {'step':>15}  {'best loss':>9}  {'parameters':>12}  corpus")
    for run in runs:
        step = f"{run.step:,}/{run.planned_steps:,}" if run.planned_steps else f"{run.step:,}"
        parameters = f"{run.parameters:,}" if run.parameters else "-"
        name = printable(run.run, single_line=True)
        print(
            f"{name:<{width}}  {run.state:<11}  {step:>15}  {number(run.best_val_loss):>9}  {parameters:>12}  "
            f"{printable(run.corpus or '-')}"
        )
    return 0


def _show(directory: Path, as_json: bool) -> int:
    run = summarise(directory)
    if as_json:
        write_json({**to_json(run), "evaluations": run.evaluations, "notices": run.notices, "files": run.saved_files()})
        return 0
    steps = f" of {run.planned_steps:,}" if run.planned_steps else ""
    print(f"{printable(run.run, single_line=True)}: {run.state}, step {run.step:,}{steps}")
    rows: dict[str, Any] = {
        "preset": run.preset,
        "corpus": run.corpus,
        "parameters": run.parameters and f"{run.parameters:,}",
        "device": run.device,
        "best loss": run.best_val_loss and f"{run.best_val_loss:.4f} at step {run.best_step:,}",
        "ended": run.reason,
        "time": run.started and run.last_event_time and duration(run.last_event_time - run.started),
    }
    for name, value in rows.items():
        if value:
            print(f"  {name:<11} {printable(str(value))}")
    print("  checkpoints")
    for path in sorted(directory.glob("*.pt"), key=lambda path: path.stat().st_mtime):
        print(f"    {printable(path.name, single_line=True):<32} {size(path.stat().st_size):>9}")
    for event in run.notices[-5:]:
        print(f"  {narrate(event)}")
    return 0


def _watch(directory: Path, as_json: bool) -> int:
    display = Careful(JsonLines() if as_json else best_display())
    last: dict[str, Any] = {}
    try:
        for event in follow(directory):
            last = event
            display(event)
    except KeyboardInterrupt:
        say(f"No longer watching; the run {directory.name} is not touched.")
        return 0
    finally:
        display.close()
    if not last:
        raise UserError(f"The run {directory.name} has no events yet.")
    if not as_json:
        say(f"The run {directory.name} is {summarise(directory).state}.")
    return 0


def _delete(directory: Path, confirmed: bool, as_json: bool) -> int:
    name = directory.name
    files = [path for path in directory.rglob("*") if path.is_file()]
    freed = sum(path.stat().st_size for path in files)
    told = f"the run {name} ({size(freed)} in {len(files)} file{'' if len(files) == 1 else 's'})"
    if not confirmed:
        raise UserError(f"Nothing was deleted. To remove {told}, for good, repeat the command with --yes.")
    delete_run(directory)
    if as_json:
        write_json({"deleted": name, "bytes": freed})
    else:
        say(f"Deleted {told}.")
    return 0


def add_control_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", metavar="RUN")
    parser.add_argument("action", choices=CONTROLS, metavar="|".join(CONTROLS))
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE", help="for set: lr_scale=0.5; for sample: prompt=...")
    parser.add_argument("--json", action="store_true", help="write the acknowledgement as JSON")


def run_control(options: argparse.Namespace) -> int:
    directory = find_run(workspace_of(options), options.run_name)
    arguments = dict(_assignment(text) for text in options.values)
    if not is_running(directory):
        raise UserError(
            f"The run {directory.name} is not training now ({summarise(directory).state}), so nothing would obey: "
            f"go on with it by `minigpt train --resume {directory.name}`."
        )
    answer = wait_for(directory, send_command(directory, options.action, arguments), ACKNOWLEDGEMENT_SECONDS)
    if answer is None:
        raise JobFailed(
            f"The run {directory.name} has not answered within {ACKNOWLEDGEMENT_SECONDS} s: it may be in a long step, "
            f"or have ended; see `minigpt runs show {directory.name}`."
        )
    if options.json:
        write_json(answer)
    elif answer.get("done"):
        say(narrate(answer) or "")
    if not answer.get("done"):
        raise UserError(f"{options.action} was not done: {answer.get('why')}.")
    return 0


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} has no value: write NAME=VALUE, such as lr_scale=0.5.")
    try:
        return name.strip(), msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name.strip(), value
