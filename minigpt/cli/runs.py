"""`minigpt runs list|show|watch|rename|note|delete|verify|compare` and `minigpt control`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.cli.progress import Careful, JsonLines, best_display
from minigpt.cli.runs_compare import add_compare, run_compare
from minigpt.cli.runs_show import print_list, print_run
from minigpt.errors import JobFailed, UserError, one_line, printable
from minigpt.events import outline
from minigpt.jobs import follow, is_running, send_command, wait_for
from minigpt.narration import narrate, size
from minigpt.notices import latest_cure
from minigpt.refusals import at_stake, waits_to_write
from minigpt.runs import (
    SORT_KEYS,
    delete_run,
    disk_use,
    find_run,
    list_runs,
    matching,
    note_of,
    rename_run,
    set_note,
    sorted_runs,
    summarise,
    to_json,
)

CONTROLS = ("pause", "resume", "stop", "checkpoint", "evaluate", "sample", "set", "cure")
ACKNOWLEDGEMENT_SECONDS = 60
EXIT_NOT_REPRODUCED = 1


def add_runs_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="list|show|watch|rename|note|delete|verify|compare", required=True
    )
    listing = actions.add_parser("list", help="every run, the newest first")
    listing.add_argument("--sort", metavar="|".join(SORT_KEYS), default="started", help="the newest first, if left out")
    listing.add_argument("--reverse", action="store_true", help="the other way round")
    listing.add_argument(
        "--filter",
        metavar="TEXT",
        default="",
        help="only those with these words in name, state, preset, corpus or note",
    )
    showing = actions.add_parser("show", help="one run: where it stands, its checkpoints and notices")
    watching = actions.add_parser("watch", help="follow a run as it trains")
    for action in (showing, watching):
        action.add_argument("name", nargs="?", metavar="RUN", help="default: the newest")
    renaming = actions.add_parser("rename", help="give a run another name")
    noting = actions.add_parser("note", help="write a note to a run, or show the one there is")
    deleting = actions.add_parser("delete", help="remove a run and all its checkpoints for good")
    verifying = actions.add_parser(
        "verify", help="repeat some steps of a run: do the same losses come out, bit for bit?"
    )
    for action in (renaming, noting, deleting, verifying):
        action.add_argument("name", metavar="RUN")
    renaming.add_argument("new_name", metavar="NAME")
    noting.add_argument("text", nargs="?", help="the note, in place of the one before; '' removes it")
    deleting.add_argument("--yes", action="store_true", help="really do it")
    verifying.add_argument(
        "--from", dest="checkpoint", metavar="CHECKPOINT", help="default: the last that enough steps follow"
    )
    verifying.add_argument("--steps", type=_count, metavar="N", help="how many steps to repeat (default: 20)")
    for action in (listing, showing, watching, renaming, noting, deleting, verifying):
        action.add_argument("--json", action="store_true", help="write JSON")
    add_compare(actions)


def run_runs(options: argparse.Namespace) -> int:
    if options.action == "compare":
        return run_compare(options)
    if options.action == "list":
        return _list(options)
    directory = find_run(workspace_of(options), options.name)
    actions = {"show": _show, "watch": _watch, "rename": _rename, "note": _note, "delete": _delete, "verify": _verify}
    return actions[options.action](directory, options)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise UserError(f"--steps takes a number of steps, 1 or more, not {text!r}.")
    return int(text)


def _list(options: argparse.Namespace) -> int:
    runs = list_runs(workspace_of(options))
    found = sorted_runs(matching(runs, options.filter), options.sort, options.reverse)
    if options.json:
        write_json([to_json(run) for run in found])
    elif found:
        print_list(found, workspace_of(options).checkpoints)
    elif runs:
        say(f"None of the {len(runs):,} runs has {options.filter!r} in its name, state, preset, corpus or note.")
    else:
        say("There are no runs yet: start one with `minigpt train`.")
    return 0


def _show(directory: Path, options: argparse.Namespace) -> int:
    print_run(directory, options.json)
    return 0


def _watch(directory: Path, options: argparse.Namespace) -> int:
    display = Careful(JsonLines() if options.json else best_display())
    last: dict[str, Any] = {}
    try:
        for event in follow(directory):
            last = event
            display(event)
    except KeyboardInterrupt:
        say(f"No longer watching; the run {one_line(directory.name)} is not touched.")
        return 0
    finally:
        display.close()
    if not last:
        raise UserError(f"The run {one_line(directory.name)} has no events yet.")
    if not options.json:
        say(f"The run {one_line(directory.name)} is {summarise(directory).state}.")
    return 0


def _rename(directory: Path, options: argparse.Namespace) -> int:
    renamed = rename_run(directory, options.new_name)
    if options.json:
        write_json({"run": renamed.name, "before": directory.name})
    else:
        say(f"The run {one_line(directory.name)} is called {renamed.name} now.")
    return 0


def _note(directory: Path, options: argparse.Namespace) -> int:
    if options.text is not None:
        set_note(directory, options.text)
    note = note_of(directory)
    if options.json:
        write_json({"run": directory.name, "note": note})
    elif options.text is None and note:
        print(printable(note))
    else:
        said = "has this note now" if note else "has no note"
        say(f"The run {one_line(directory.name)} {said}{f': {note}' if note else ''}.")
    return 0


def _delete(directory: Path, options: argparse.Namespace) -> int:
    name, freed = directory.name, disk_use(directory)
    count = sum(path.is_file() for path in directory.rglob("*"))
    told = f"the run {name} ({size(freed)} in {count} file{'' if count == 1 else 's'})"
    if not options.yes:
        raise UserError(f"Nothing was deleted. To remove {told}, for good, repeat the command with --yes.")
    delete_run(directory)
    if options.json:
        write_json({"deleted": name, "bytes": freed})
    else:
        say(f"Deleted {told}.")
    return 0


def _verify(directory: Path, options: argparse.Namespace) -> int:
    # Torch takes its second to load, and the other actions need none.
    from minigpt.training.verify import DEFAULT_STEPS, verify

    found = verify(workspace_of(options), directory, options.checkpoint, options.steps or DEFAULT_STEPS, say)
    if options.json:
        write_json({**msgspec.structs.asdict(found), "comparable": found.comparable, "message": found.in_words()})
    else:
        print(found.in_words())
    return 0 if found.reproduced else EXIT_NOT_REPRODUCED


def add_control_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", metavar="RUN")
    parser.add_argument(
        "action",
        choices=CONTROLS,
        metavar="|".join(CONTROLS),
        help="cure does what the run's latest notice advises, where that is something it can do",
    )
    parser.add_argument(
        "values",
        nargs="*",
        metavar="NAME=VALUE",
        help="for set: lr_scale=0.5 or micro_batch_size=4; for sample: prompt=...",
    )
    parser.add_argument(
        "--anyway", action="store_true", help="for stop: even where a full disk has what was learned lost by that"
    )
    parser.add_argument("--json", action="store_true", help="write the acknowledgement as JSON")


def run_control(options: argparse.Namespace) -> int:
    directory = find_run(workspace_of(options), options.run_name)
    run = one_line(directory.name)
    command, arguments = options.action, dict(_assignment(text) for text in options.values)
    if command == "cure":
        command, arguments = _cure(directory)
    if not is_running(directory):
        raise UserError(
            f"The run {run} is not training now ({summarise(directory).state}), so nothing would obey: "
            f"go on with it by `minigpt train --resume {run}`."
        )
    if command == "stop" and not options.anyway:
        _require_nothing_lost(directory)
    answer = wait_for(directory, send_command(directory, command, arguments), ACKNOWLEDGEMENT_SECONDS)
    if answer is None and not is_running(directory):
        state = summarise(directory).state
        raise JobFailed(f"The run {run} ended before it could obey: it is {state} now.")
    if answer is None:
        raise JobFailed(
            f"The run {run} has not answered within {ACKNOWLEDGEMENT_SECONDS} s: it may be in a long step, "
            f"or have ended; see `minigpt runs show {run}`."
        )
    if options.json:
        write_json(answer)
    elif answer.get("done"):
        say(narrate(answer) or "")
    if not answer.get("done"):
        raise UserError(f"{command} was not done: {answer.get('why')}.")
    return 0


def _require_nothing_lost(directory: Path) -> None:
    """Raise UserError where the run waits because it cannot write, and so could not save what it has learned."""
    summary = summarise(directory)
    if waits_to_write(directory, summary):
        raise UserError(
            f"The run {one_line(directory.name)} was not stopped, for it cannot write its files now and "
            f"{at_stake(summary)}, would be lost: make room, or give back the right to write, and it goes on by "
            "itself (`stop --anyway` has it try once more, and end)."
        )


def _cure(directory: Path) -> tuple[str, dict[str, Any]]:
    """Return the command, with its arguments, that the run's latest notice advises; raises UserError without one."""
    name = printable(directory.name, single_line=True)
    events: list[dict[str, Any]] = []
    for event in outline(directory):
        # What was advised before a resumption is not to be done after it.
        events = [] if event.get("type") == "start" else events
        if event.get("type") in ("notice", "command"):
            events.append(event)
    cure = latest_cure(events)
    if cure is None:
        raise UserError(f"No notice of the run {name} waits for a cure: `minigpt runs show {name}` has the notices.")
    label = printable(str(cure["label"]), single_line=True)
    if "command" not in cure:
        changes = " ".join(
            f"--set {key}={msgspec.json.encode(value).decode()}" for key, value in cure["settings"].items()
        )
        raise UserError(
            f"The cure ({label}) needs other settings than this run can take on: start a new one from its weights with "
            f"`minigpt train --fork {name} {printable(changes, single_line=True)}`."
        )
    say(f"{label[0].upper()}{label[1:]}.")
    return str(cure["command"]), dict(cure["args"])


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} has no value: write NAME=VALUE, such as lr_scale=0.5.")
    try:
        return name.strip(), msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name.strip(), value
