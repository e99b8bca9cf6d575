"""`minigpt doctor`: what this machine has, and whether training works on it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from minigpt.cli.common import workspace_of, write_json
from minigpt.config import Config
from minigpt.errors import JobFailed, UserError, printable
from minigpt.host import host_memory
from minigpt.jobs import RunLock, is_running
from minigpt.narration import size
from minigpt.presets import with_values
from minigpt.text.storage import scratch_directory
from minigpt.workspace import Workspace

LEAST_MEMORY, LEAST_DISK = 2e9, 2e9
STEPS = 10
TRIAL = {
    "tokenizer.kind": "char",
    "model.d_model": 64,
    "model.n_layers": 2,
    "model.n_heads": 2,
    "model.max_seq_len": 64,
    "training.max_steps": STEPS,
    "training.batch_size": 8,
}


class Check(msgspec.Struct):
    """One thing looked at: whether it is well, what was found, and what to do if it is not."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def run_doctor(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    checks = []
    for look in (_python, _torch, _accelerator, _memory, _disk, _terminal, _locking, _logout, _training):
        try:
            check = look(workspace)
        except (UserError, JobFailed, OSError, ImportError, RuntimeError) as error:
            # A broken driver or torch speaks through RuntimeError; the checks after it may still tell why.
            check = Check(look.__name__.strip("_"), False, str(error), "See the message; nothing was changed.")
        checks.append(check)
        if not options.json:
            _print(check)
    well = all(check.ok for check in checks)
    if options.json:
        write_json({"ok": well, "checks": checks})
    elif well:
        print("\nAll is well: `minigpt train` will work here.")
    else:
        print("\nNot all is well: see the advice above.")
    return 0 if well else 1


def _print(check: Check) -> None:
    print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<12} {printable(check.detail)}", flush=True)
    if check.advice:
        print(f"     {'':<12} -> {printable(check.advice)}")


def _python(workspace: Workspace) -> Check:
    return Check("python", sys.version_info >= (3, 10), f"Python {platform.python_version()} on {platform.platform()}")


def _torch(workspace: Workspace) -> Check:
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    advice = "" if version >= (2, 9) else "MiniGPT needs 2.9 or newer: pip install --upgrade torch"
    return Check("torch", version >= (2, 9), f"torch {torch.__version__}, built for {built_for}", advice)


def _accelerator(workspace: Workspace) -> Check:
    from minigpt.device import choose, peak_flops, unusable_gpu_advice

    advice = unusable_gpu_advice()
    device = choose()
    flops, source = peak_flops(device)
    detail = f"{device.label}, {device.threads} CPU threads, {flops / 1e12:.2f} TFLOP/s ({source})"
    return Check("device", advice is None, detail, advice or "")


def _memory(workspace: Workspace) -> Check:
    available, total = host_memory()
    enough = available > LEAST_MEMORY
    detail, advice = f"{size(available)} free of {size(total)}", ""
    if not enough:
        advice = "Close other programs, or train the preset tiny only."
    machine = psutil.virtual_memory().total
    if total < machine:
        detail += f" that this container or job may take (the machine has {size(machine)})"
        advice = advice and advice[:-1] + "; or give the container more."
    return Check("memory", enough, detail, advice)


def _disk(workspace: Workspace) -> Check:
    workspace.require_writable()
    free = shutil.disk_usage(workspace.root).free
    advice = "" if free > LEAST_DISK else "Make room, or choose another folder with --workspace."
    return Check("disk", free > LEAST_DISK, f"{size(free)} free in {workspace.root}", advice)


def _terminal(workspace: Workspace) -> Check:
    columns, lines = shutil.get_terminal_size()
    encoding = (sys.stdout.encoding or "").lower()
    detail = f"{os.environ.get('TERM', 'no TERM')}, {columns}x{lines}, {encoding or 'unknown encoding'}"
    advice = "" if encoding.startswith("utf") else "Set a UTF-8 locale, for example: export LANG=C.UTF-8"
    return Check("terminal", not advice, detail, advice)


def _locking(workspace: Workspace) -> Check:
    workspace.require_writable()
    with scratch_directory(workspace.checkpoints / "_doctor") as scratch:
        # One below: the folder itself is locked for as long as it is needed.
        folder = scratch / "run"
        folder.mkdir()
        before = is_running(folder)
        with RunLock(folder):
            during = is_running(folder)
        after = is_running(folder)
    works = (before, during, after) == (False, True, False)
    advice = "" if works else "This file system has no flock: choose a --workspace on a local disk."
    return Check("locking", works, "file locks work" if works else "file locks do not work", advice)


def _logout(workspace: Workspace) -> Check:
    """Notice systemd's setting that ends everything a person started when they log out."""
    files = [Path("/etc/systemd/logind.conf"), *Path("/etc/systemd/logind.conf.d").glob("*.conf")]
    killing = False
    for file in files:
        try:
            lines = [line.strip().lower() for line in file.read_text(errors="replace").splitlines()]
        except OSError:
            continue
        killing = killing or "killuserprocesses=yes" in lines
    if killing:
        advice = "Run `loginctl enable-linger`, or start training with `systemd-run --user --scope`."
        return Check("logout", False, "logging out ends all your processes (KillUserProcesses=yes)", advice)
    return Check("logout", True, "training goes on when you log out")


def _training(workspace: Workspace) -> Check:
    """Train a few steps on built-in text, and generate."""
    from minigpt.inference.generate import LoadedModel
    from minigpt.runs import best_checkpoint
    from minigpt.training.session import Session

    quiet: Callable[[str], None] = lambda message: None  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="minigpt-doctor-") as folder:
        session = Session.new(Workspace(Path(folder)), with_values(Config(), TRIAL, "doctor"), say=quiet)
        losses: list[float] = []

        def follow(event: dict[str, Any]) -> None:
            if event["type"] == "step":
                losses.append(event["loss"])
            elif event.get("code") in ("save-failed", "events-unwritten"):  # nobody is there to make room
                raise JobFailed(f"{folder} could not be written: make room there, or set TMPDIR to another folder.")

        exit_code = session.train((follow,))
        path = best_checkpoint(session.directory)
        if exit_code or path is None:
            return Check("training", False, f"{STEPS} steps ended with exit code {exit_code}", "Report this.")
        text = LoadedModel.open(path).generate("Once", max_new_tokens=20, seed=0)
    fell = losses[-1] < losses[0]
    detail = f"{STEPS} steps: loss {losses[0]:.2f} -> {losses[-1]:.2f}; wrote {len(text)} characters"
    return Check("training", fell, detail, "" if fell else "The loss did not fall: report this.")
