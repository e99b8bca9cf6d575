"""A run's figures as rows of text, each told in the form a person reads; what is not known is left out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minigpt.errors import printable
from minigpt.narration import duration, narrate, number, size
from minigpt.refusals import SILENT_SECONDS, cannot_write
from tui.ladder import rung_passed, rungs_in_words
from tui.parts import BAD, DIM, GOOD, PLAIN, STRONG, WARN, bar, short
from tui.time_left import time_left
from tui.widgets.rows import Part, Row

if TYPE_CHECKING:
    from minigpt.history import LogLine, RunHistory

CURE_KEY = "a"
LABEL = 7
# No progress for so long, and for the time of so many steps, is worth one too.
STUCK_SECONDS, STUCK_STEPS = 60, 10

STATE_SIGNS = {
    "training": ("●", GOOD),
    "evaluating": ("●", GOOD),
    "saving": ("●", GOOD),
    "compiling": ("●", WARN),
    "starting": ("○", WARN),
    "paused": ("‖", WARN),
    "waiting": ("○", WARN),
    "finished": ("✓", GOOD),
    "interrupted": ("■", WARN),
    "failed": ("✗", BAD),
    "crashed": ("✗", BAD),
}


def status_facts(history: RunHistory, starting: bool = False, disk_full: bool = False) -> list[list[Part]]:
    """Return how a run stands, for the line at the top: its name, state, step and device."""
    summary = history.summary
    facts: list[list[Part]] = [
        [(printable(summary.run, single_line=True), PLAIN)],
        state_parts(history, starting, disk_full),
    ]
    planned = history.pace.planned_steps or summary.planned_steps
    if planned:
        facts.append([(f"step {summary.step:,}/{planned:,}", PLAIN)])
    if summary.device:
        facts.append([(printable(summary.device, single_line=True), DIM)])
    return facts


def state_parts(history: RunHistory, starting: bool = False, disk_full: bool = False) -> list[Part]:
    """Return the run's state with its sign, and what of it is worth a word: that it waits, or has been silent.

    `disk_full` says that there is no room where it lies for the run to tell why it is silent.
    """
    summary = history.summary
    # What the last session left says nothing of the one that begins.
    state = "starting" if starting else summary.state
    sign, colour = STATE_SIGNS.get(state, ("·", DIM))
    parts = [(f"{sign} {state}", colour)]
    silent = time.time() - (summary.last_event_time or time.time())
    if state in ("training", "evaluating", "saving", "paused", "compiling") and (disk_full or silent > SILENT_SECONDS):
        parts.append((f" silent for {duration(silent)}{': the disk is full' if disk_full else ''}", BAD))
    elif not starting and cannot_write(summary):
        parts.append((" until it can write", BAD))
    elif state == "training" and summary.last_progress is not None:
        # A side thread tells that the process lives, whatever the training itself is stuck in.
        still = time.time() - summary.last_progress
        if still > max(STUCK_SECONDS, STUCK_STEPS * (history.pace.seconds_per_step or 0)):
            parts.append((f" no step for {duration(still)}", BAD))
    return parts


def run_rows(history: RunHistory, smoothed: float | None) -> list[Row]:
    """Return the figures of the training."""
    summary, curves = history.summary, history.curves
    rows = [_progress("step", summary.step, history.pace.planned_steps or summary.planned_steps, "{:,.0f}")]
    if summary.epoch is not None:
        rows.append(_progress("epoch", summary.epoch, summary.planned_epochs, "{:.3g}"))
    rows.append(_row("left", "left", time_left(history)))
    loss = smoothed if smoothed is not None else summary.last_loss
    rows.append(_row("loss", "train", [(number(loss), STRONG)]))
    validation = _latest(history, "validation")
    if validation:
        rows.append(_row("validation", "val", _validation(history, validation)))
        perplexity = [(number(validation.get("perplexity"), 2), PLAIN), (" on val", DIM)]
        perplexity += rung_passed(summary.ladder, _loss(validation))
        rows.append(_row("perplexity", "ppl", perplexity))
    if len(curves):
        rows += _step_figures(history)
    if summary.parameters:
        rows.append(_row("parameters", "params", [(f"{summary.parameters:,}", PLAIN)]))
    if summary.ladder:
        rows.append(_row("ladder", "ladder", rungs_in_words(summary.ladder)))
    return rows


def _step_figures(history: RunHistory) -> list[Row]:
    curves, summary = history.curves, history.summary
    last = {name: float(curves[name][-1]) for name in ("learning_rate", "grad_norm", "tokens_per_s", "mfu", "tokens")}
    # Every step tells these three; a dash where it was no finite number.
    rows = [_row("tokens_per_s", "tok/s", [(_finite(last["tokens_per_s"], "{:,.0f}"), PLAIN)])]
    rows.append(_row("lr", "lr", [(_finite(last["learning_rate"], "{:.2e}"), PLAIN)]))
    rows.append(_row("grad_norm", "gnorm", [(_finite(last["grad_norm"], "{:.3g}"), PLAIN)]))
    if last["mfu"] == last["mfu"]:
        source = str(history.start.get("peak_source") or "")
        of = [(f" of {source}", DIM)] if source else []
        # More than all of it: the peak was measured while something else was running.
        share = f"{last['mfu']:.0%}" if last["mfu"] <= 1 else "over 100%: its peak was measured on a busy machine"
        rows.append(_row("mfu", "mfu", [(share, PLAIN), *(of if last["mfu"] <= 1 else [])]))
    if last["tokens"] == last["tokens"]:
        per = f"  {last['tokens'] / summary.parameters:.2g} a param" if summary.parameters else ""
        rows.append(_row("tokens", "tokens", [(short(last["tokens"]), PLAIN), (per, DIM)]))
    return rows


def _validation(history: RunHistory, validation: Mapping[str, Any]) -> list[Part]:
    summary = history.summary
    parts: list[Part] = [(number(validation.get("loss")), STRONG)]
    if summary.best_val_loss is not None:
        parts.append((f"  best {number(summary.best_val_loss)} @{summary.best_step or 0:,}", DIM))
    return parts


def device_rows(history: RunHistory, width: int) -> list[Row]:
    """Return the readings of every GPU and of the host; a line for what the device can report, none for the rest."""
    told, listed = history.device.get("host"), history.device.get("gpus")
    gpus = [gpu for gpu in listed if isinstance(gpu, dict)] if isinstance(listed, list) else []
    rows = [row for gpu in gpus for row in _gpu_rows(gpu, len(gpus) > 1)]
    host = _numbers(told if isinstance(told, dict) else {})
    if "cpu_percent" in host:
        heat: list[Part] = [(f"  {host['cpu_temperature']:.0f} °C", DIM)] if "cpu_temperature" in host else []
        rows.append(
            _row("cpu", "cpu", [*bar(host["cpu_percent"] / 100), (f"{host['cpu_percent']:.0f} %", PLAIN), *heat])
        )
    if "memory_used" in host and "memory_total" in host:
        own = f"  ours {size(host['process_memory'])}" if "process_memory" in host else ""
        parts = [*_share(host["memory_used"], host["memory_total"]), (own, DIM)]
        rows.append(_row("ram", "ram", parts))
    if "disk_free" in host:
        total = f" of {size(host['disk_total'])}" if "disk_total" in host else ""
        rows.append(_row("disk", "disk", [(f"{size(host['disk_free'])} free", PLAIN), (total, DIM)]))
    if not rows:
        words = "nothing to be read here" if history.device else "readings come every 5 s"
        rows.append(Row("memory", ((words, DIM),)))
    return rows


def _gpu_rows(told: Mapping[str, Any], several: bool) -> list[Row]:
    gpu = _numbers(told)
    name = f"gpu{told.get('index', '')}" if several else "gpu"
    ours = PLAIN if told.get("ours", True) else DIM
    rows = []
    facts: list[Part] = []
    if "utilisation" in gpu:
        facts += [*bar(gpu["utilisation"] / 100, colour="success"), (f"{gpu['utilisation']:.0f} %", ours)]
    if "temperature" in gpu:
        facts.append((f"  {gpu['temperature']:.0f} °C", DIM))
    if "power" in gpu:
        cap = f"/{gpu['power_cap']:.0f}" if "power_cap" in gpu else ""
        facts.append((f"  {gpu['power']:.0f}{cap} W", DIM))
    if facts:
        rows.append(_row("gpu", name, facts))
    if "memory_used" in gpu and "memory_total" in gpu:
        facts = _share(gpu["memory_used"], gpu["memory_total"])
        if "memory_ours" in gpu:
            facts.append((f"  ours {size(gpu['memory_ours'])}", DIM))
        if gpu.get("memory_others"):
            facts.append((f"  others {size(gpu['memory_others'])}", WARN))
        rows.append(_row("gpu_memory", "vram", facts))
    if "clock_sm" in gpu:
        highest = f" of {gpu['clock_max']:.0f}" if "clock_max" in gpu else ""
        reasons = told.get("throttle")
        why = ", ".join(map(str, reasons)) if isinstance(reasons, list) else ""
        held = [(f"  held back: {why}", WARN)] if why else []
        rows.append(_row("clock", "clock", [(f"{gpu['clock_sm']:.0f}{highest} MHz", ours), *held]))
    return rows


def _numbers(told: Mapping[str, Any]) -> dict[str, float]:
    """Return the readings that are numbers; what a device cannot tell may also stand there as null."""
    return {
        name: value
        for name, value in told.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def evaluation_rows(history: RunHistory) -> list[Row]:
    """Return the table of evaluations, oldest first: step, epoch, train, validation, gap, verdict."""
    by_step: dict[int, dict[str, Mapping[str, Any]]] = {}
    for event in history.summary.evaluations:
        if isinstance(event.get("step"), int) and not event.get("whole"):
            by_step.setdefault(event["step"], {})[str(event.get("split"))] = event
    rows: list[Row] = []
    best: float | None = None
    earlier_gap: float | None = None
    for step, splits in sorted(by_step.items()):
        train, validation = _loss(splits.get("train")), _loss(splits.get("validation"))
        epoch = next(iter(splits.values())).get("epoch")
        gap = None if train is None or validation is None else validation - train
        words, colour = verdict(best, validation, gap, earlier_gap)
        cells = f"{step:>6,} {number(epoch, 2):>5} {number(train):>6} {number(validation):>6} {number(gap, 2):>5} "
        rows.append(Row("evaluations", ((cells, PLAIN), (words, colour))))
        if validation is not None and (best is None or validation < best):
            best = validation
        earlier_gap = gap if gap is not None else earlier_gap
    return rows


EVALUATION_HEADER = Row("evaluations", ((f"{'step':>6} {'epoch':>5} {'train':>6} {'val':>6} {'gap':>5} verdict", DIM),))


def verdict(
    best: float | None, validation: float | None, gap: float | None, earlier_gap: float | None
) -> tuple[str, str]:
    """Return in words how an evaluation compares with those before it."""
    if validation is None:
        return ("no validation text", DIM)
    if best is None:
        return ("the start", DIM)
    if validation < best:
        return ("best yet", GOOD)
    if gap is not None and earlier_gap is not None and gap > earlier_gap and gap > 0:
        return ("by heart?", WARN)
    return ("no better", DIM)


# What a person asked for, and what came of it.
ALWAYS_TOLD = ("app", "command")
LOG_FILTERS = {
    "all": None,
    "warnings": {"warning", "error", "end"},
    "evaluations": {"eval", "checkpoint"},
    "commands": {"command", "start", "end", "phase"},
}
_LOG_SIGNS = {
    "warning": ("!", WARN),
    "error": ("✗", BAD),
    "eval": ("●", GOOD),
    "command": ("»", "accent"),
    "checkpoint": ("↓", DIM),
    "end": ("■", PLAIN),
    "app": ("·", "accent"),
}


def log_rows(lines: Sequence[LogLine], chosen: str, curable: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the log's lines of the chosen kinds; `curable` is the notice that the cure key is for now."""
    kinds = LOG_FILTERS[chosen]
    shown = [line for line in lines if kinds is None or line.kind in kinds or line.kind in ALWAYS_TOLD]
    marked = _line_of(curable, shown) if curable is not None else None
    return [_log_row(line, curable if line is marked else None) for line in shown]


def _line_of(notice: Mapping[str, Any], lines: Sequence[LogLine]) -> LogLine | None:
    """Return the line that tells of a notice."""
    text = narrate(notice, pointer=False)
    return next((line for line in reversed(lines) if line.text == text and line.time == notice.get("time")), None)


def _log_row(line: LogLine, curable: Mapping[str, Any] | None) -> Row:
    sign, colour = _LOG_SIGNS.get(line.kind, ("·", DIM))
    clock = time.strftime("%H:%M:%S", time.localtime(line.time))
    text = " ".join(line.text.split())
    # Before the text, whose end may be cut.
    key = (
        [(f"[{CURE_KEY}: {printable(str(curable['cure']['label']), single_line=True)}] ", "accent")] if curable else []
    )
    words = (text, colour if line.kind == "error" else PLAIN)
    return Row("log", ((f"{clock} ", DIM), (f"{sign} ", colour), *key, words))


def _progress(key: str, done: float, planned: float | None, form: str) -> Row:
    if not planned:
        return _row(key, key, [(form.format(done), PLAIN)])
    return _row(key, key, [*bar(done / planned), (f"{form.format(done)}/{form.format(planned)}", PLAIN)])


def _share(used: float, total: float) -> list[Part]:
    return [*bar(used / max(total, 1), colour="success"), (f"{used / 1e9:.3g}/{total / 1e9:.3g} GB", PLAIN)]


def _row(key: str, label: str, parts: Sequence[Part]) -> Row:
    # Labels and names come from files too.
    cells = [(f"{label:<{LABEL}}", DIM), *parts]
    return Row(key, tuple((printable(text, single_line=True), colour) for text, colour in cells))


def _finite(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "-"


def _latest(history: RunHistory, split: str) -> Mapping[str, Any] | None:
    events = (event for event in reversed(history.summary.evaluations) if event.get("split") == split)
    return next((event for event in events if not event.get("whole")), None)


def _loss(event: Mapping[str, Any] | None) -> float | None:
    loss = event.get("loss") if event else None
    return loss if isinstance(loss, (int, float)) and not isinstance(loss, bool) else None
