"""An hour of training with the app attached and somebody who never rests: nothing grows but the files."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
import pytest

from minigpt.curves import COLUMNS, MAX_ROWS
from minigpt.jobs import owner, send_command, wait_for
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.faults.harness import events_of, start_trainer
from tests.tui.test_terminal import Terminal

SOAK_SECONDS = float(os.environ.get("MINIGPT_SOAK_SECONDS", "3600"))
# What is loaded when it is first asked for is loaded by then.
WARM_UP = 0.25
SAMPLE_SECONDS = 2.0
# Allocators and caches breathe by so much.
BREATH_SHARE, BREATH_BYTES = 0.04, 3_000_000
BREATH_DESCRIPTORS = BREATH_THREADS = 2
# The app draws the run's curves: they grow with the run, up to so many steps.
CURVES_BYTES = MAX_ROWS * len(COLUMNS) * 8

# One round of the person: panes, charts, other sizes, questions, talking to the model, and steering it.
ROUND = [
    *("1", "c", "t", "l", "z", "v", "v", "m", "f", "o", "\x1b", "?", "\x1b", "e", "g"),
    *("2", "v", "v", "v", "/", "c", "a", "t", "\r", "\x1b", "\x1b"),
    *("3", "\x1b[B", "e", "\x1b[B", "\x1b[B", "\x1b", "\x1b[A"),
    *("5", "\x1b[B", "\x1b[A", "\r", "\x1b"),
    *("4", "i", "The cat", "\r", "", "", "\x1b", "\x1b", "u", "n"),
    *("1", "k", " ", "", " ", "\x1bOP", "\x1b[B", "\x1b"),
]
SIZES = [(24, 80), (40, 120), (60, 200), (12, 41)]


@dataclass
class Sampled:
    """What one process held, sample after sample."""

    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def add(self, process: psutil.Process) -> None:
        with process.oneshot():
            self.memory.append(process.memory_info().rss)
            self.descriptors.append(process.num_fds())
            self.threads.append(process.num_threads())

    def grown(self) -> tuple[float, float, float]:
        """Return by how much the last part is above the first after the warm-up: bytes, descriptors, threads."""
        return _grown(self.memory), _grown(self.descriptors), _grown(self.threads)

    def in_words(self) -> str:
        memory, descriptors, threads = self.grown()
        return (
            f"{statistics.median(self.memory) / 1e6:.0f} MB ({memory / 1e6:+.1f}), "
            f"{statistics.median(self.descriptors):.0f} descriptors ({descriptors:+.0f}), "
            f"{statistics.median(self.threads):.0f} threads ({threads:+.0f}) in {len(self.memory)} samples"
        )


def _grown(values: list[int]) -> float:
    warm = values[int(len(values) * WARM_UP) :]
    third = max(1, len(warm) // 3)
    return statistics.median(warm[-third:]) - statistics.median(warm[:third])


@pytest.mark.campaign
@pytest.mark.timeout(SOAK_SECONDS + 300)
def test_nothing_grows_in_an_hour(workspace: Workspace, tell_figure: Callable[[str, object], None]) -> None:
    trainer = start_trainer(workspace, "soak", "--quiet", training__max_steps=50_000_000, training__eval_every=2000)
    directory = workspace.run_directory("soak")
    found = {"trainer": Sampled(), "app": Sampled(), "chat": Sampled()}
    rounds = 0
    try:
        assert wait_for(directory, lambda event: event["type"] == "step", 120)
        with Terminal(workspace.root, "--run", "soak") as terminal:
            terminal.wait_for("● training", seconds=120)
            holder = owner(directory)
            assert holder is not None
            processes = {"trainer": psutil.Process(holder.pid), "app": psutil.Process(terminal.pid)}
            until, next_sample = time.monotonic() + SOAK_SECONDS, 0.0
            while time.monotonic() < until:
                for key in ROUND:
                    terminal.press(key)
                    terminal.read(0.5)
                    terminal.output = terminal.output[-100_000:]
                    if time.monotonic() >= next_sample:
                        next_sample = time.monotonic() + SAMPLE_SECONDS
                        for name, process in processes.items():
                            found[name].add(process)
                        for child in processes["app"].children():
                            with suppress(psutil.Error):  # it has just ended
                                if "chat" in child.cmdline():
                                    found["chat"].add(child)
                rounds += 1
                terminal.resize(*SIZES[rounds % len(SIZES)])
            assert psutil.pid_exists(terminal.pid), terminal.text[-2000:]
            send_command(directory, "stop")
            terminal.read(10)
            # The person may have left a dialog open, which takes every key.
            os.kill(terminal.pid, signal.SIGTERM)
            assert terminal.wait_for_end() == 0
        assert trainer.wait(60) == 3
    finally:
        trainer.kill()
    steps = max(event["step"] for event in events_of(directory) if event["type"] == "step")
    tell_figure("soak", f"{SOAK_SECONDS:.0f} s, {steps:,} steps, {rounds} rounds of {len(ROUND)} keys")
    for name, sampled in found.items():
        if len(sampled.memory) > 10:
            tell_figure(f"soak {name}", sampled.in_words())
    for name in ("trainer", "app"):
        memory, descriptors, threads = found[name].grown()
        bound = BREATH_BYTES + BREATH_SHARE * statistics.median(found[name].memory)
        if name == "app":
            bound += CURVES_BYTES
        assert (memory <= bound, descriptors <= BREATH_DESCRIPTORS, threads <= BREATH_THREADS) == (True, True, True), (
            name,
            found[name].in_words(),
        )


def test_a_trainer_holds_no_more_files_and_threads_at_the_end_than_at_the_beginning(workspace: Workspace) -> None:
    config = small_config(training__max_steps=60, training__eval_every=10, training__save_every=10)
    session = Session.new(workspace, config, run="short", say=lambda told: None)
    held: dict[int, tuple[int, int]] = {}
    myself = psutil.Process()

    def look(event: dict[str, object]) -> None:
        if event["type"] == "step" and event["step"] in (25, 55):
            held[int(str(event["step"]))] = (myself.num_fds(), myself.num_threads())

    assert session.train((look,)) == 0
    assert held[55] == held[25]
