"""`minigpt train`: train a model, or go on with one."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.cli.common import add_setting_flags, given_settings, with_given, workspace_of
from minigpt.cli.main import say
from minigpt.cli.progress import Careful, Display, JsonLines, Silent, best_display
from minigpt.cli.train_report import report_forecast, report_result
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.presets import DEFAULT_PRESET, load_preset, read_file, unusual, with_values
from minigpt.runs import CONFIG, find_run, fork_name, new_run_name
from minigpt.start import MEMORY_SETTINGS, start
from minigpt.text.texts import find_corpora, joint_name
from minigpt.training.turns import EXIT_INTERRUPTED, Turn, Withdrawn
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.training.forking import Origin
    from minigpt.training.session import Session

Say = Callable[[str], None]

LOOK_SECONDS = 0.2
LONGER = {"training.max_epochs", "training.max_steps"}


@dataclass
class Asked:
    """What a new run is to be, as it was asked for: nothing that changes while it waits for its turn changes that."""

    config: Config
    preset: str = ""
    origin: Path | None = None  # the checkpoint that a fork begins with
    kept: Path | None = None  # where that is kept meanwhile


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--preset", metavar="NAME", help=f"start from a preset (default: {DEFAULT_PRESET})")
    source.add_argument("--config", metavar="FILE", type=Path, help="start from a TOML or JSON file")
    source.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN|FILE",
        help="go on with a run or checkpoint (alone: the last interrupted run); --epochs N or --steps N lengthens it, "
        "--micro-batch-size N or --gradient-checkpointing makes it take less memory",
    )
    source.add_argument(
        "--fork",
        metavar="RUN[:CHECKPOINT]|FILE",
        help="start a new run that begins with the weights of a checkpoint (default: the run's best), with the run's "
        "settings but for those given here",
    )
    parser.add_argument("--run", metavar="NAME", help="the new run's name")
    parser.add_argument("--dry-run", action="store_true", help="do everything but train: sizes, memory, time")
    parser.add_argument(
        "--after", metavar="RUN", help="begin when that run has ended, and all that were queued behind it before"
    )
    parser.add_argument("--detach", action="store_true", help="train in the background, free of this terminal")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--quiet", action="store_true", help="print the run's name alone")
    output.add_argument("--json", action="store_true", help="print the run's events")
    add_setting_flags(parser, ["corpus", "tokenizer", "model", "training", "generation"])


def run_train(options: argparse.Namespace) -> int:
    # A dropped link must not end anything, the preparation of a large text included.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    workspace = workspace_of(options)
    tell = (lambda message: None) if options.quiet else say
    if options.detach:
        return _detach(options, workspace)
    if options.after:
        return _train_in_turn(options, workspace, tell)
    return _begin(options, workspace, tell)


def _train_in_turn(options: argparse.Namespace, workspace: Workspace, tell: Say) -> int:
    """Join the queue under the run's name, and train when its turn has come."""
    if options.dry_run:
        raise UserError("--after and --dry-run do not go together: a dry run is over in seconds.")
    after = find_run(workspace, options.after)
    asked = config = file = None
    if options.resume is None:
        asked = _asked(options, workspace)
        config, file = asked.config, asked.origin
        run = options.run = options.run or _name_of(workspace, asked)
    else:
        _changes(options)
        run, file = _run_in_queue(workspace, options)
        config = _config_of(file) if file is not None else None
    try:
        directory = workspace.run_directory(run)
        with Turn(workspace, directory, after, config) as turn, ExitStack() as keeping:
            if file is not None:
                from minigpt.training.resuming import kept

                # The run that it is of may be at work, and remove or replace it.
                own = keeping.enter_context(kept(file, directory))
                if asked is not None:
                    asked.kept = own
                else:
                    options.resume = str(own)
            if turn.behind:
                say(f"Waiting for the end of {turn.in_words()}.")
            turn.wait()
            return _begin(options, workspace, tell, turn, asked)
    except Withdrawn:
        say("Taken out of the queue before it began.")
        return EXIT_INTERRUPTED


def _run_in_queue(workspace: Workspace, options: argparse.Namespace) -> tuple[str, Path | None]:
    """Return the run that waits: the one to go on with, or a new one for a checkpoint's file, with that file."""
    from minigpt.training.resuming import checkpoint_to_resume, is_file, run_to_resume

    target = options.resume
    if not is_file(target):
        options.resume = run_to_resume(workspace, target or None).name
        return options.resume, None
    if not options.run:
        raise UserError("--after and --resume FILE go on in a new run: name it with --run NAME, or --resume its RUN.")
    return options.run, checkpoint_to_resume(workspace, target)


def _config_of(checkpoint: Path) -> Config:
    """Return the settings of the run that a checkpoint is of; one that was copied away knows its own."""
    file = checkpoint.parent / CONFIG
    if file.is_file():
        return read_file(file)
    from minigpt.model.checkpoint import load

    return load(checkpoint).config


def _begin(
    options: argparse.Namespace, workspace: Workspace, tell: Say, turn: Turn | None = None, asked: Asked | None = None
) -> int:
    if options.resume is None and asked is None:
        asked = _asked(options, workspace)
    # Settings are checked: now torch may take its second to load.
    from minigpt.training.session import Session

    if asked is None:
        changes = _changes(options)
        session = Session.resume(workspace, options.resume or None, **changes, run=options.run, say=tell, turn=turn)
    else:
        for warning in unusual(asked.config):
            tell(f"Note: {warning}")
        origin = _origin(asked.origin, asked.kept, tell) if asked.origin is not None else None
        session = Session.new(workspace, asked.config, preset=asked.preset, run=options.run, origin=origin, say=tell)
    if options.dry_run:
        report_forecast(session, options.json)
        return 0
    return _train(session, options, turn)


def _origin(path: Path, kept: Path | None, tell: Say) -> Origin:
    """Return what a fork begins with, and say which checkpoint that is."""
    from minigpt.training.forking import Origin

    origin = Origin.open(path, kept)
    tell(f"Beginning with the weights of {origin.path.name} of {origin.name}, from step {origin.checkpoint.step:,}.")
    return origin


def _asked(options: argparse.Namespace, workspace: Workspace) -> Asked:
    if options.fork is not None:
        return _asked_fork(options, workspace)
    if options.config is not None:
        return Asked(_with_one_text(read_file(options.config), options), options.config.stem)
    preset = options.preset or DEFAULT_PRESET
    return Asked(_with_one_text(load_preset(preset, workspace), options), preset)


def _asked_fork(options: argparse.Namespace, workspace: Workspace) -> Asked:
    """Return the settings of the run that is forked, with the command line's, its preset, and the checkpoint."""
    from minigpt.training.resuming import checkpoint_to_fork, recorded_preset

    path = checkpoint_to_fork(workspace, options.fork)
    preset = recorded_preset(path.parent) if (path.parent / CONFIG).is_file() else ""
    return Asked(_with_one_text(_config_of(path), options), preset, path)


def _with_one_text(config: Config, options: argparse.Namespace) -> Config:
    """Return `config` with what the command line sets; a corpus that it names takes the place of the preset's mixture.

    Raises UserError where the command line names a mixture too.
    """
    if {"corpus.name", "corpus.mixture"} <= given_settings(options).keys():
        raise UserError(
            "--corpus and --mix do not go together: name one corpus with --corpus, or each with its weight, as in "
            "--mix stories:0.7 --mix facts:0.3."
        )
    changed = with_given(config, options)
    if "corpus.name" in given_settings(options):
        changed = with_values(changed, {"corpus.mixture": []}, "command line")
    return changed


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Return a resumed run's new end and what saves memory; raises UserError when other settings are to change too."""
    from minigpt.training.resuming import is_file

    given = given_settings(options)
    other = sorted(given.keys() - LONGER - MEMORY_SETTINGS)
    if other or (options.run and not is_file(options.resume)):
        raise UserError(
            f"--resume goes on with the run's own settings, and {other[0] if other else '--run'} would change them: "
            "leave it out, or start a new run with your changes, from its weights with `minigpt train --fork RUN` or "
            "anew with `minigpt train --config checkpoints/RUN/config.toml`."
        )
    training = with_given(Config(), options).training
    names = [key.partition(".")[2] for key in sorted(given.keys() & MEMORY_SETTINGS)]
    memory = {name: getattr(training, name) for name in names}
    return {"epochs": training.max_epochs, "steps": training.max_steps, "memory": memory}


def _train(session: Session, options: argparse.Namespace, turn: Turn | None) -> int:
    run = session.directory.name
    display: Display = best_display()
    if options.quiet:
        print(run, flush=True)
        display = Silent()
    elif options.json:
        display = JsonLines()
    careful = Careful(display)
    started = time.monotonic()
    try:
        exit_code = session.train((careful,), turn)
    finally:
        careful.close()
    if careful.display is None or options.json or options.quiet:
        return exit_code
    try:
        report_result(session, exit_code, time.monotonic() - started)
    except OSError:  # the terminal went away; the run is safe
        pass
    return exit_code


def _detach(options: argparse.Namespace, workspace: Workspace) -> int:
    """Start the same command in a process of its own, and return when it trains or has failed."""
    if options.dry_run:
        raise UserError("--detach and --dry-run do not go together: a dry run is over in seconds.")
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "--quiet", "--json")]
    arguments.remove("train")
    if options.resume is not None:
        run = options.run or _run_to_go_on_in(workspace, options.resume, arguments)
    else:
        run = options.run or _name_of(workspace, _asked(options, workspace))
        arguments += [] if options.run else ["--run", run]
    started = start(workspace, run, arguments)
    while started.outcome() is None:
        time.sleep(LOOK_SECONDS)
    print(run)
    does = f"Queued behind {options.after}" if options.after else "Training"
    say(f"{does} as process {started.pid}. Watch it with `minigpt runs watch {run}`.")
    return 0


def _run_to_go_on_in(workspace: Workspace, target: str, arguments: list[str]) -> str:
    """Return the run's name; of a file that cannot go on in its own run, it goes into the arguments."""
    from minigpt.training.resuming import checkpoint_to_resume, directory_to_go_on_in, is_file, run_to_resume

    own = run_to_resume(workspace, target or None).name
    if not is_file(target):
        return own
    from minigpt.model.checkpoint import load

    path = checkpoint_to_resume(workspace, target)
    run = directory_to_go_on_in(workspace, path, load(path).step, say).name
    if run != own:
        arguments += ["--run", run]
    return run


def _name_of(workspace: Workspace, asked: Asked) -> str:
    if asked.origin is not None:
        from minigpt.training.resuming import run_of

        return fork_name(workspace, run_of(asked.origin))
    return new_run_name(workspace, f"{asked.preset}-{joint_name(find_corpora(workspace, asked.config))}")
