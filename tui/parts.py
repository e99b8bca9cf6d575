"""What rows of figures are made of: colours, bars, counts in few characters."""

from __future__ import annotations

from tui.widgets.rows import Part

BAR = 12
DIM, PLAIN, STRONG, GOOD, WARN, BAD = "foreground-muted", "foreground", "bold foreground", "success", "warning", "error"


def bar(fraction: float, width: int = BAR, colour: str = "primary") -> list[Part]:
    """Return a thin bar."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return [("━" * filled, colour), ("─" * (width - filled), DIM), (" ", "")]


def short(value: float) -> str:
    """Return a count in few characters: 1.23M."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:g}"
