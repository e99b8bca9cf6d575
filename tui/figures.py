"""A run's figures as rows of text, each told in the form a person reads; what is not known is left out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minigpt.errors import printable
from minigpt.narration import duration, number, size
from tui.widgets.rows import Part, Row

if TYPE_CHECKING:
    from minigpt.history import LogLine, RunHistory

LABEL = 7
BAR = 12
DIM, PLAIN, STRONG, GOOD, WARN, BAD = "text-muted", "foreground", "bold foreground", "success", "warning", "error"
# Silence of this many heartbeats is worth a word.
SILENT_SECONDS = 25

STATE_SIGNS = {
    "training": ("●", GOOD),
    "evaluating": ("●", GOOD),
    "saving": ("●", GOOD),
    "compiling": ("●", WARN),
    "starting": ("○", WARN),
    "paused": ("‖", WARN),
    "finished": ("✓", GOOD),
    "interrupted": ("■", WARN),
    "failed": ("✗", BAD),
    "crashed": ("✗", BAD),
}


def state_parts(history: RunHistory, starting: bool = False) -> list[Part]:
    """Return the run's state with its sign, and how long it has been silent where that is worth a word."""
    summary = history.summary
    state = "starting" if starting and summary.state in ("empty", "crashed") else summary.state
    sign, colour = STATE_SIGNS.get(state, ("·", DIM))
    parts = [(f"{sign} {state}", colour)]
    silent = time.time() - (summary.last_event_time or time.time())
    if state in ("training", "evaluating", "saving", "paused", "compiling") and silent > SILENT_SECONDS:
        parts.append((f" silent for {duration(silent)}", BAD))
    return parts


def bar(fraction: float, width: int = BAR, colour: str = "primary") -> list[Part]:
    """Return a thin bar."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return [("━" * filled, colour), ("─" * (width - filled), DIM), (" ", "")]


def run_rows(history: RunHistory, smoothed: float | None) -> list[Row]:
    """Return the figures of the training."""
    summary, curves = history.summary, history.curves
    rows = [_progress("step", summary.step, history.pace.planned_steps or summary.planned_steps, "{:,.0f}")]
    if summary.epoch is not None:
        rows.append(_progress("epoch", summary.epoch, summary.planned_epochs, "{:.3g}"))
    rows.append(_row("left", "left", _time_left(history)))
    loss = smoothed if smoothed is not None else summary.last_loss
    rows.append(_row("loss", "train", [(number(loss), STRONG)]))
    validation = _latest(history, "validation")
    if validation:
        rows.append(_row("validation", "val", _validation(history, validation)))
        rows.append(_row("perplexity", "ppl", [(number(validation.get("perplexity"), 2), PLAIN), (" on val", DIM)]))
    if len(curves):
        rows += _step_figures(history)
    if summary.parameters:
        rows.append(_row("parameters", "params", [(f"{summary.parameters:,}", PLAIN)]))
    return rows


def _step_figures(history: RunHistory) -> list[Row]:
    curves, summary = history.curves, history.summary
    last = {name: float(curves[name][-1]) for name in ("learning_rate", "grad_norm", "tokens_per_s", "mfu", "tokens")}
    rows = [_row("tokens_per_s", "tok/s", [(f"{last['tokens_per_s']:,.0f}", PLAIN)])]
    rows.append(_row("lr", "lr", [(f"{last['learning_rate']:.2e}", PLAIN)]))
    rows.append(_row("grad_norm", "gnorm", [(f"{last['grad_norm']:.3g}", PLAIN)]))
    if last["mfu"] == last["mfu"]:
        source = str(history.start.get("peak_source") or "")
        of = [(f" of {printable(source, single_line=True)}", DIM)] if source else []
        rows.append(_row("mfu", "mfu", [(f"{last['mfu']:.0%}", PLAIN), *of]))
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


def _time_left(history: RunHistory) -> list[Part]:
    summary = history.summary
    if summary.ended is not None or summary.state in ("crashed", "finished", "interrupted", "failed"):
        spent = (summary.last_event_time or 0) - (summary.started or 0)
        return [(f"over, after {duration(max(0.0, spent))}", PLAIN)]
    left = history.pace.seconds_left
    if left is None:
        return [("not known yet", DIM)]
    # The pace is known up to the last event; what passed since then is gone.
    until = time.localtime(time.time() + left)
    form = "%H:%M" if left < 12 * 3600 else "%a %H:%M"
    return [(duration(left), PLAIN), (f"  until {time.strftime(form, until)}", DIM)]


def device_rows(history: RunHistory, width: int) -> list[Row]:
    """Return the readings of every GPU and of the host; a line for what the device can report, none for the rest."""
    readings = history.device
    host = readings.get("host") or {}
    gpus = [gpu for gpu in readings.get("gpus") or [] if isinstance(gpu, dict)]
    rows = [row for gpu in gpus for row in _gpu_rows(gpu, len(gpus) > 1)]
    if isinstance(host.get("cpu_percent"), (int, float)):
        heat: list[Part] = [(f"  {host['cpu_temperature']:.0f} °C", DIM)] if host.get("cpu_temperature") else []
        rows.append(
            _row("cpu", "cpu", [*bar(host["cpu_percent"] / 100), (f"{host['cpu_percent']:.0f} %", PLAIN), *heat])
        )
    if host.get("memory_used") and host.get("memory_total"):
        own = f"  ours {size(host['process_memory'])}" if host.get("process_memory") else ""
        parts = [*_share(host["memory_used"], host["memory_total"]), (own, DIM)]
        rows.append(_row("ram", "ram", parts))
    if host.get("disk_free") is not None:
        total = f" of {size(host['disk_total'])}" if host.get("disk_total") else ""
        rows.append(_row("disk", "disk", [(f"{size(host['disk_free'])} free", PLAIN), (total, DIM)]))
    if not rows:
        rows.append(Row("memory", (("readings come every 5 s", DIM),)))
    return rows


def _gpu_rows(gpu: Mapping[str, Any], several: bool) -> list[Row]:
    name = f"gpu{gpu.get('index', '')}" if several else "gpu"
    ours = PLAIN if gpu.get("ours", True) else DIM
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
        why = ", ".join(map(str, gpu.get("throttle") or []))
        held = [(f"  held back: {why}", WARN)] if why else []
        rows.append(_row("clock", "clock", [(f"{gpu['clock_sm']:.0f}{highest} MHz", ours), *held]))
    return rows


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


def log_rows(lines: Sequence[LogLine], chosen: str) -> list[Row]:
    """Return the log's lines of the chosen kinds."""
    kinds = LOG_FILTERS[chosen]
    return [_log_row(line) for line in lines if kinds is None or line.kind in kinds]


def _log_row(line: LogLine) -> Row:
    sign, colour = _LOG_SIGNS.get(line.kind, ("·", DIM))
    clock = time.strftime("%H:%M:%S", time.localtime(line.time))
    text = " ".join(line.text.split())
    return Row("log", ((f"{clock} ", DIM), (f"{sign} ", colour), (text, colour if line.kind == "error" else PLAIN)))


def short(value: float) -> str:
    """Return a count in few characters: 1.23M."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:g}"


def _progress(key: str, done: float, planned: float | None, form: str) -> Row:
    if not planned:
        return _row(key, key, [(form.format(done), PLAIN)])
    return _row(key, key, [*bar(done / planned), (f"{form.format(done)}/{form.format(planned)}", PLAIN)])


def _share(used: float, total: float) -> list[Part]:
    return [*bar(used / max(total, 1), colour="success"), (f"{used / 1e9:.3g}/{total / 1e9:.3g} GB", PLAIN)]


def _row(key: str, label: str, parts: Sequence[Part]) -> Row:
    return Row(key, ((f"{label:<{LABEL}}", DIM), *parts))


def _latest(history: RunHistory, split: str) -> Mapping[str, Any] | None:
    events = (event for event in reversed(history.summary.evaluations) if event.get("split") == split)
    return next((event for event in events if not event.get("whole")), None)


def _loss(event: Mapping[str, Any] | None) -> float | None:
    loss = event.get("loss") if event else None
    return loss if isinstance(loss, (int, float)) and not isinstance(loss, bool) else None
