"""Numbers for charts: short text, 1-2-5 ticks, ranges that seldom move, smoothing."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np

Range = tuple[float, float]

# Beyond this a span of two numbers overflows a float64.
HUGE = 1e300
SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
# A range is kept while the data still fill this part of it.
ENOUGH_FILLED = 0.7


def compact_number(value: float, digits: int = 4) -> str:
    """Return the number in few characters: 1.456, 5000, 20k, 1.5M, 2.4e-4."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    rounded = float(f"{value:.{digits}g}")
    size = abs(rounded)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        mantissa, exponent = f"{rounded:.{max(digits - 2, 0)}e}".split("e")
        return f"{_trim(mantissa)}e{int(exponent)}"
    for unit, suffix in SUFFIXES:
        if size >= unit and size >= 10_000:
            return _trim(f"{rounded / unit:.{_decimals(size / unit, digits)}f}") + suffix
    return _trim(f"{rounded:.{_decimals(size, digits)}f}")


def _decimals(size: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(size)))


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def nice_step(step: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `step`."""
    exponent = math.floor(math.log10(step) + 1e-12)
    part = step / 10.0**exponent * (1 + 1e-9)
    # Read from text, since 10.0 ** 29 is not quite 1e29.
    return float(f"{5 if part >= 5 else 2 if part >= 2 else 1}e{exponent}")


def nice_range(low: float, high: float, previous: Range | None = None, parts: int = 10) -> Range:
    """Return a range around the data with round ends; the previous one while it still fits well."""
    if not high - low > max(abs(low), abs(high)) * 1e-9 + 1e-290:
        padding = max(abs(low) * 0.05, 1e-9) if low else 1.0
        low, high = low - padding, high + padding
    if previous is not None:
        inside = previous[0] <= low and high <= previous[1]
        if inside and high - low >= ENOUGH_FILLED * (previous[1] - previous[0]):
            return previous
    step = nice_step((high - low) / parts)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` (at least one) round values inside the range, at steps of 1, 2 or 5."""
    span = high - low
    if not span > 0 or most < 1:
        return []
    step = nice_step(span / max(most, 1))
    while (math.floor(high / step + 1e-6) - math.ceil(low / step - 1e-6)) + 1 > most:
        step = _next_step(step)
    first = math.ceil(low / step - 1e-6)
    last = math.floor(high / step + 1e-6)
    # Rounding off what the multiplication added keeps 0.30000000000000004 out of the labels.
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _next_step(step: float) -> float:
    leading = round(step / 10.0 ** math.floor(math.log10(step) + 1e-9))
    return step * (2.5 if leading == 2 else 2)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values (not their logarithms) inside a range given as powers of ten."""
    smallest, largest = sys.float_info.min_10_exp, sys.float_info.max_10_exp
    decades = [power for power in ticks(low, high, most) if power == int(power) and smallest <= power <= largest]
    if len(decades) >= 3:
        return [10.0**power for power in decades]
    first, last = max(math.floor(low), smallest), min(math.ceil(high), largest)
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        values = [multiple * 10.0**power for power in range(first, last + 1) for multiple in multiples]
        values = [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
        if 3 <= len(values) <= most:
            return values
    if high - low < 2:
        return [value for value in ticks(10.0**low, 10.0**high, most) if value > 0]
    return [10.0**power for power in decades]


def tick_labels(values: list[float], text: Callable[[float], str] = compact_number) -> list[str]:
    """Return one label a tick, all with the same number of decimals where that is short."""
    if text is not compact_number:
        return [text(value) for value in values]
    largest = max(map(abs, values), default=0.0)
    decimals = max((_places(value) for value in values), default=0)
    if 0 < decimals <= 3 and largest < 1000:
        return [f"{value:.{decimals}f}" for value in values]
    for digits in (4, 6, 9, 12):
        labels = [compact_number(value, digits) for value in values]
        if len(set(labels)) == len(labels):
            break
    return labels


def _places(value: float) -> int:
    return len(f"{value:.9f}".rstrip("0").partition(".")[2])


def smooth(y: np.ndarray, weight: float) -> np.ndarray:
    """Return the bias-corrected exponential moving average; non-finite values stay gaps and disturb no others.

    `weight` in [0, 1) is the part of the average that the next value leaves in place. Raises ValueError outside it.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"the weight of a moving average is in [0, 1), not {weight}")
    y = np.asarray(y, dtype=np.float64)
    finite = np.isfinite(y)
    if weight == 0 or not finite.any():
        return np.where(finite, y, np.nan)
    values = y if finite.all() else y[finite]
    average = _decayed_sums(values * (1 - weight), weight)
    # After this many values the correction is 1 to the last bit.
    early = min(len(values), math.ceil(-38 / math.log(weight)))
    average[:early] /= -np.expm1(np.arange(1, early + 1) * math.log(weight))
    if len(values) == len(y):
        return average
    result = np.full(len(y), np.nan)
    result[finite] = average
    return result


def _decayed_sums(values: np.ndarray, weight: float, block: int = 16) -> np.ndarray:
    """Return s with s[i] = weight * s[i - 1] + values[i], a block at a time."""
    count = len(values)
    rows = -(-count // block)
    padded = np.zeros(rows * block)
    padded[:count] = values
    lags = np.subtract.outer(np.arange(block), np.arange(block))
    decay = np.where(lags >= 0, float(weight) ** np.maximum(lags, 0), 0.0)
    # Not as a matrix product: its library's idle threads spin for a while, and the processor is the trainer's.
    sums = np.einsum("rb,cb->rc", padded.reshape(rows, block), decay)
    if rows > 1:
        # What one block hands to the next is again such a sum, over the last value of each block.
        carried = _decayed_sums(sums[:, -1], weight**block) if weight**block > 0 else sums[:, -1]
        sums[1:] += np.outer(carried[:-1], float(weight) ** np.arange(1, block + 1))
    return sums.reshape(-1)[:count]
