"""Round numbers for axes, and the one way numbers are written in the report."""

from __future__ import annotations

import math
from collections.abc import Iterable


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high], about `about` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten inside [low, high]; the powers alone, or every second, third, ... of them, when that would
    be more than seven."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in mantissas if low * 0.999 <= m * 10.0**p <= high * 1.001]
        if len(found) <= 7:
            return found
    return found[:: -(-len(found) // 7)]


def layer_ticks(count: int) -> list[int]:
    """Layer indices worth a label: every 1, 2, 5, 10, ... so that there are at most nine."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if (count - 1) / s <= 8 or s == 1000)
    return list(range(0, count, step))


def limits(values: Iterable[float | None], *, include: float | None = None, about: int = 5) -> tuple[float, float]:
    """Round limits that hold every finite value (and `include`); never an empty range."""
    found = [v for v in values if v is not None] + ([] if include is None else [include])
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if low == high and include is None:
        low, high = low - 0.5, high + 0.5
    elif low == high:
        high = low + 1
    ticks = linear_ticks(low, high, about)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return round(math.floor(low / step + 1e-9) * step, 12), round(math.ceil(high / step - 1e-9) * step, 12)


def number(value: float | None, digits: int = 3) -> str:
    """A number for the eye: thousands separated, `digits` significant digits, never an exponent below a
    million.
    """
    if value is None:
        return "not available"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 10**digits):
        return f"{int(value):,}".replace("-", "−")
    if value == 0:
        return "0"
    decimals = min(6, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    text = f"{value:,.{decimals}f}" if abs(value) >= 1e-6 else f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def tick(value: float) -> str:
    """A number on an axis: no trailing zeros."""
    if abs(value) >= 1e6:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    if 0 < abs(value) < 1e-4:
        mantissa, power = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    return f"{value:,.6f}".rstrip("0").rstrip(".").replace("-", "−")


def percent(value: float | None) -> str:
    return "not available" if value is None else f"{100 * value:.{0 if value >= 0.1 or value == 0 else 1}f} %"
