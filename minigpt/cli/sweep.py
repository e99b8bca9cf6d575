"""`minigpt presets fit|sweep`: the batch that fits in memory, the learning rate that learns best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.cli.tasks import add_task_argument, run_as_task
from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.planning.fit import Fitting, fit, trial_line
from minigpt.planning.halving import DEFAULT_COUNT, Record, distinct, main_rate, rate_settings, rates_around, rung_steps
from minigpt.planning.labels import POINTER, task_label
from minigpt.presets import is_builtin, load_preset, preset_paths, with_values
from minigpt.tasks import TaskProcess
from minigpt.text.storage import write_file
from minigpt.workspace import Workspace


def add_fit(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `minigpt presets fit`."""
    parser = actions.add_parser("fit", help="the largest micro-batch that fits in memory, found by trying")
    _add_common(parser)
    parser.add_argument("--trial", metavar="WINDOWS", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(run=run_fit)


def add_sweep(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `minigpt presets sweep`."""
    parser = actions.add_parser("sweep", help="learning rates tried in short runs, the better half of which goes on")
    _add_common(parser)
    parser.add_argument("--rates", metavar="A,B,C", help="the rates to try: with muon, muon_learning_rate")
    parser.add_argument("--low", metavar="RATE", type=float, help="the lowest (default: an eighth of the preset's)")
    parser.add_argument("--high", metavar="RATE", type=float, help="the highest (default: 8 times the preset's)")
    parser.add_argument(
        "--count", metavar="N", type=int, default=DEFAULT_COUNT, help=f"how many (default: {DEFAULT_COUNT})"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, help="how far the last two train (default: a twentieth of a run, 100 to 1000)"
    )
    parser.add_argument("--fresh", action="store_true", help="do all of it anew, even where it was done before")
    parser.set_defaults(run=run_sweep)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="PRESET")
    parser.add_argument("--corpus", metavar="NAME", help="the text (default: the preset's)")
    parser.add_argument("--save", action="store_true", help="write the outcome into the preset's file")
    parser.add_argument("--json", action="store_true", help="write JSON")
    add_task_argument(parser)


def run_fit(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    config = _config(options, workspace)
    if options.trial is not None:
        return _run_trial(config, workspace, options)
    path = _file_to_save_in(options, workspace)

    def work(task: TaskProcess) -> Fitting:
        found = fit(workspace, options.name, options.corpus, task)
        task.result = msgspec.to_builtins(found)
        return found

    found = run_as_task(options, task_label("fit", options.name), f"fit {options.name}", work)
    if isinstance(found, int):
        return found
    if options.json:
        write_json(found)
    else:
        print("\n".join(map(trial_line, found.trials)))
        print(printable(found.text))
        _tell(found.changes, path)
    _save(path, found.changes)
    return 0 if found.changes else 1


def _run_trial(config: Config, workspace: Workspace, options: argparse.Namespace) -> int:
    """Answer as one of fit's own processes; 0 windows ask for no more than how a run is set up."""
    from minigpt.planning.trial import describe_setup, try_windows
    from minigpt.training.session import Session

    session = Session.new(workspace, config, preset=options.name, say=say)
    write_json(try_windows(session, options.trial) if options.trial else describe_setup(session))
    return 0


def run_sweep(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    config = _config(options, workspace)
    rates = _rates(options, config)
    # What cannot be is said before anything is done.
    for rate in rates:
        rate_settings(config, rate)
    if options.steps is not None:
        rung_steps(len(rates), options.steps)
    path = _file_to_save_in(options, workspace)

    def work(task: TaskProcess) -> Record:
        from minigpt.planning.sweep import sweep

        record = sweep(
            workspace,
            config,
            preset=options.name,
            rates=rates,
            steps=options.steps,
            task=task,
            say=say,
            announce=lambda directory: write_file(task.directory / POINTER, directory.name.encode()),
            fresh=options.fresh,
        )
        assert record.recommendation is not None
        task.result = {"recommendation": msgspec.to_builtins(record.recommendation)}
        return record

    record = run_as_task(options, task_label("sweep", options.name), f"sweep {options.name}", work)
    if isinstance(record, int):
        return record
    found = record.recommendation
    assert found is not None
    if options.json:
        write_json(record)
    else:
        _print_table(record)
        print(printable(found.text))
        _tell({} if found.own else found.settings, path)
    _save(path, found.settings)
    return 0


def _config(options: argparse.Namespace, workspace: Workspace) -> Config:
    config = load_preset(options.name, workspace)
    if options.corpus is None:
        return config
    return with_values(config, {"corpus.name": options.corpus, "corpus.mixture": []}, "command line")


def _rates(options: argparse.Namespace, config: Config) -> list[float]:
    if options.rates is None:
        rate = main_rate(config)
        return rates_around(getattr(config.training, rate.partition(".")[2]), options.low, options.high, options.count)
    if options.low is not None or options.high is not None:
        raise UserError("--rates names every rate, so --low and --high do not go with it: leave them out.")
    try:
        return distinct(float(rate) for rate in options.rates.split(",") if rate.strip())
    except ValueError as error:
        raise UserError(f"--rates {options.rates!r} are not numbers: write --rates 0.005,0.01,0.02.") from error


def _print_table(record: Record) -> None:
    rows = [["rate", *(f"step {step:,}" for step in record.rungs), ""]]
    for candidate in record.candidates:
        losses = [f"{measure.loss:.4f}" if (measure := candidate.measure(step)) else "" for step in record.rungs]
        best = record.recommendation is not None and candidate.rate == record.recommendation.rate
        rows.append([f"{candidate.rate:g}", *losses, "best" if best else "diverged" * (candidate.state == "diverged")])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


# Taking the outcome over


def _file_to_save_in(options: argparse.Namespace, workspace: Workspace) -> Path | None:
    """Return the preset's file where --save asks for it; raises UserError, before anything is done, for a built-in."""
    path = preset_paths(workspace)[options.name]
    if not options.save:
        return None
    if is_builtin(path, workspace):
        raise UserError(
            f"{options.name} came with MiniGPT and stays as it is: make a copy of your own with "
            f"`minigpt presets new NAME --from {options.name}`, and name that one."
        )
    return path


def _tell(changes: dict[str, Any], path: Path | None) -> None:
    """Say where the outcome goes, or how to use it."""
    if changes and path is None:
        say("Use it with: " + " ".join(f"--set {key}={value}" for key, value in changes.items()))


def _save(path: Path | None, changes: dict[str, Any]) -> None:
    if path is None or not changes:
        return
    from minigpt.preset_files import save_values

    save_values(path, changes)
    say(f"Saved in {path}.")
