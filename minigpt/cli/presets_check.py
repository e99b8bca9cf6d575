"""`minigpt presets check`: what a configuration will take, before training."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from minigpt.cli.common import add_setting_flags, with_given, workspace_of, write_json
from minigpt.cli.tasks import add_task_argument, run_as_task
from minigpt.config import Config
from minigpt.errors import printable
from minigpt.narration import duration, size
from minigpt.planning.outlook import Outlook, outlook
from minigpt.planning.probe import Probe, cached_probe, make_probe
from minigpt.presets import load_preset, read_file
from minigpt.tasks import TaskProcess
from minigpt.workspace import Workspace


def add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` to the actions of `minigpt presets`."""
    check = actions.add_parser("check", help="what a preset will take: size, memory, time, disk, and warnings")
    check.add_argument("name", metavar="PRESET|FILE", help="a preset's name, or a configuration file")
    check.add_argument("--probe", action="store_true", help="measure the time of a step, by making five now")
    check.add_argument("--json", action="store_true", help="write JSON")
    add_setting_flags(check, ["corpus", "tokenizer", "model", "training"])
    add_task_argument(check)
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    config = with_given(_configuration(options.name, workspace), options)
    # A corpus of the command line takes the place of the preset's mixture.
    corpus = getattr(options, "setting:corpus.name")
    if options.probe:

        def work(task: TaskProcess) -> Probe:
            made = make_probe(workspace, config, corpus, task)
            whole = outlook(workspace, config, corpus, made).seconds
            figures = {"seconds_per_step": made.seconds_per_step, "memory_measured": made.memory_measured}
            task.result = {**figures, "seconds": whole}
            return made

        name = Path(options.name).stem
        made = run_as_task(options, "probe", f"try five steps of {name}", work)
        if isinstance(made, int):
            return made
        probe: Probe | None = made
    else:
        probe = cached_probe(workspace, config, corpus)
    found = outlook(workspace, config, corpus, probe)
    if options.json:
        write_json(found)
    else:
        _print(options.name, found)
    return 0


def _configuration(name: str, workspace: Workspace) -> Config:
    return read_file(Path(name)) if name.endswith((".toml", ".json")) else load_preset(name, workspace)


def _print(name: str, found: Outlook) -> None:
    memory = found.memory
    rows = [("Preset", printable(name, single_line=True)), ("Device", printable(found.device, single_line=True))]
    rows.append(("Parameters", f"{found.parameters:,}"))
    rows += [(f"  {part}", f"{count:,} ({count / found.parameters:.0%})") for part, count in found.parts if count]
    rows.append(("Compute", f"{found.flops_per_token:,} FLOPs a token"))
    free = f" of {size(memory.available)} free" if memory.available is not None else ""
    measured = f"; five steps took {size(found.memory_measured)}" if found.memory_measured is not None else ""
    rows.append(("Memory", f"about {size(memory.total)}{free}{measured}"))
    rows.append(("  weights", size(memory.weights)))
    rows.append(("  gradients", size(memory.gradients)))
    rows.append(("  optimizer", f"{size(memory.optimizer)}, and {size(memory.workspace)} to work in"))
    rows.append(("  activations", f"{size(memory.activations)} ({found.micro_batch_size} windows at once)"))
    rows.append(("  the rest", f"{size(memory.overhead)} for the process itself and its allocator"))
    rows += [("Text", _text(found)), ("Length", _length(found)), ("Time", _time(found))]
    disk = f"up to {size(found.disk_needed)} ({size(found.checkpoint_bytes)} a checkpoint)"
    rows.append(("Disk", disk + (f", {size(found.disk_free)} free" if found.disk_free is not None else "")))
    for label, value in rows:
        print(f"{label:<17} {value}")
    for warning in found.warnings:
        print(f"! {printable(warning.message)}")


def _text(found: Outlook) -> str:
    if found.train_tokens is None or found.tokens_per_parameter is None:
        return "not there yet"
    about = "" if found.train_tokens_exact else "about "
    return f"{about}{found.train_tokens:,} tokens to learn from, {found.tokens_per_parameter:.2g} a parameter"


def _length(found: Outlook) -> str:
    if found.steps is None:
        return "not known without the text"
    epochs = f" = {found.epochs:.3g} epochs" if found.epochs is not None else ""
    return f"{found.steps:,} steps{epochs} = {found.tokens or 0:,} tokens"


def _time(found: Outlook) -> str:
    if found.seconds_per_step is None:
        return "not measured yet: --probe makes five steps"
    each = f"{1000 * found.seconds_per_step:,.0f} ms a step, {_when(found)}"
    return each if found.seconds is None else f"about {duration(found.seconds)} of training ({each})"


def _when(found: Outlook) -> str:
    seconds = time.time() - (found.measured or 0)
    when = "just now" if seconds < 60 else " ".join(duration(seconds).split()[:2]) + " ago"
    others = ", ".join(printable(name, single_line=True) for name in found.measured_beside)
    return f"measured {when}" + (f" while others were at work: {others}" if others else "")
