"""Which series each chart of the Train pane shows, made from a run's history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigpt.history import RunHistory
from minigpt.narration import duration
from minigpt.runs.clock import seconds_at_work
from tui.figures import short
from tui.view import View
from tui.widgets.chart import Series, smooth

TITLES = {
    "loss": "loss",
    "perplexity": "perplexity",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_s": "tokens/s",
    "memory": "memory, GB",
}
RECENT_SHARE, RECENT_LEAST = 0.2, 50
# Beyond e^20 a perplexity says nothing and would flatten the rest.
MAX_LOSS = 20.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """What one chart shows; `log` where its axis is always logarithmic."""

    title: str
    series: list[Series]
    x_limits: tuple[float, float] | None
    x_format: Callable[[float], str]
    log: bool = False
    message: str = ""


def plot(name: str, history: RunHistory, view: View) -> Plot:
    """Return what the chart of that name shows of a run now."""
    curves = history.curves
    x = _x(history, view.axis)
    limits = _limits(history, view, x)
    inside = slice(0, None) if limits is None else slice(int(np.searchsorted(x, limits[0])), None)
    x = x[inside]
    if name in ("loss", "perplexity"):
        series = _losses(name, history, view, x, curves["loss"][inside], limits)
    elif name == "memory":
        series = _memory(history, view, limits)
    else:
        column = curves[{"lr": "learning_rate"}.get(name, name)][inside].copy()
        series = _noisy(TITLES[name], x, column, view) if name != "lr" else [_line(TITLES[name], x, column, "accent")]
    axis_format = duration if view.axis == "time" else short
    message = "" if any(len(one.x) for one in series) else "nothing to show yet"
    return Plot(TITLES[name], series, limits, axis_format, name == "perplexity", message)


def smoothed_loss(history: RunHistory, weight: float) -> float | None:
    """Return the end of the smoothed loss curve, from as much of it as weighs."""
    recent = history.curves["loss"][-1000:]
    recent = recent[np.isfinite(recent)]
    return float(smooth(recent, weight)[-1]) if len(recent) else None


def _losses(
    name: str, history: RunHistory, view: View, x: Floats, loss: Floats, limits: tuple[float, float] | None
) -> list[Series]:
    change = (lambda y: np.exp(np.minimum(y, MAX_LOSS))) if name == "perplexity" else (lambda y: y.copy())
    line = smooth(loss, view.smoothing)
    series = []
    if view.smoothing:
        series.append(Series("each step", x.copy(), change(loss), "raw", "primary", ""))
    value = f"{change(line[-1:])[0]:.3f}" if len(line) and np.isfinite(line[-1]) else None
    series.append(Series("train", x.copy(), change(line), "line", "primary", value))
    val_x, val_y = _evaluations(history, view.axis, limits)
    if len(val_x):
        series.append(Series("val", val_x, change(val_y), "points", "warning", f"{change(val_y[-1:])[0]:.3f}"))
    return series


def _noisy(name: str, x: Floats, y: Floats, view: View) -> list[Series]:
    line = _line(name, x, smooth(y, view.smoothing), "primary")
    return [Series("each step", x.copy(), y, "raw", "primary", ""), line] if view.smoothing else [line]


def _line(name: str, x: Floats, y: Floats, colour: str) -> Series:
    value = None
    if len(y) and np.isfinite(y[-1]):
        value = f"{y[-1]:,.0f}" if abs(y[-1]) >= 1000 else f"{y[-1]:.4g}"
    return Series(name, x.copy(), y, "line", colour, value)


def _memory(history: RunHistory, view: View, limits: tuple[float, float] | None) -> list[Series]:
    rows = np.array(history.memory, dtype=np.float64).reshape(-1, 3)
    x = _place(history, view.axis, rows[:, 0], rows[:, 1])
    # Several readings fall on one step when steps are slow; the axis must rise.
    x, first = np.unique(x, return_index=True)
    y = rows[first, 2] / 1e9
    shown = x >= limits[0] if limits else np.ones(len(x), dtype=bool)
    return [_line("in use", x[shown], y[shown], "success")]


def _evaluations(history: RunHistory, axis: str, limits: tuple[float, float] | None) -> tuple[Floats, Floats]:
    told = [
        (event["step"], event["time"], event["loss"])
        for event in history.summary.evaluations
        if event.get("split") == "validation"
        and not event.get("whole")
        and isinstance(event.get("step"), int)
        and isinstance(event.get("time"), (int, float))
        and isinstance(event.get("loss"), (int, float))
    ]
    rows = np.array(told, dtype=np.float64).reshape(-1, 3)
    x = _place(history, axis, rows[:, 0], rows[:, 1])
    shown = x >= limits[0] if limits else np.ones(len(x), dtype=bool)
    return x[shown], rows[shown, 2]


def _x(history: RunHistory, axis: str) -> Floats:
    curves = history.curves
    if axis == "tokens":
        return curves["tokens"].copy()
    if axis == "time":
        # As comparisons count it: the nights between sessions are none of it. A clock that goes backwards must not
        # fold the curve.
        return np.asarray(np.maximum.accumulate(seconds_at_work(curves["time"], history.sessions)))
    return curves["step"].copy()


def _place(history: RunHistory, axis: str, steps: Floats, times: Floats) -> Floats:
    """Return where on the axis something lies that happened at these steps and times."""
    curves = history.curves
    if axis == "step" or not len(curves):
        return steps
    if axis == "time":
        return np.maximum.accumulate(seconds_at_work(times, history.sessions))
    return np.interp(steps, curves["step"], curves["tokens"], left=0.0)


def _limits(history: RunHistory, view: View, x: Floats) -> tuple[float, float] | None:
    if view.recent and len(x) > RECENT_LEAST:
        # Not a fifth of the rows: of a long run, the latest steps stand closer together.
        steps = history.curves["step"]
        first = int(np.searchsorted(steps, steps[-1] - RECENT_SHARE * (steps[-1] - steps[0])))
        return float(x[min(first, len(x) - RECENT_LEAST)]), float(x[-1])
    summary = history.summary
    planned = {"step": history.pace.planned_steps or summary.planned_steps, "tokens": summary.planned_tokens}
    end = planned.get(view.axis)
    if not end:
        return None
    return 0.0, max(float(end), float(x[-1]) if len(x) else 0.0)
