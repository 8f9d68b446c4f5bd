"""The strength at which a change has a wanted effect, told from a few measurements.

The effect is taken to be continuous and 0 at strength 0; it need not grow with the strength everywhere. Between a strength
with too little of it and one with too much, the next is where a line through both in logarithms meets the target (small
effects are powers of the strength), kept away from both ends by a tenth of the way, so that the bracket shrinks whatever the
curve is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

TOLERANCE = 0.02  # of the target
_MEASUREMENTS = 40
_SMALLEST = 1e-7
_LARGEST_STEP = 30.0


class OutOfReachError(ValueError):
    """No strength has the effect that was asked for."""


class _Point(NamedTuple):
    log_strength: float
    log_effect: float

    @classmethod
    def of(cls, strength: float, effect: float) -> _Point:
        return cls(math.log(strength), math.log(effect) if 0 < effect < math.inf else math.copysign(700, effect - 1))


def match(
    name: str,
    target: float,
    effect: Callable[[float], float],
    *,
    start: float,
    largest: float,
    power: float,
    known: Mapping[float, float] | None = None,
) -> float:
    """The strength s in [1e-7, largest] at which effect(s) is the target within 2 %.

    start -- the first strength tried; power: effect ~ s ** power for small s, for the first steps
    known -- effects by strength, measured before: the search starts from the least strengths that enclose the target

    Raises OutOfReachError, with figures and under the argument's `name`, where no such strength is found: the effect is too
    small at the largest strength, too large at the smallest, or jumps over the target.
    """
    seen = {strength: value for strength, value in (known or {}).items() if _SMALLEST <= strength <= largest}
    for strength in sorted(seen):
        if abs(seen[strength] - target) <= TOLERANCE * target:
            return strength
    low, high = _enclosing(seen, target)
    strength = min(start, largest)
    if low is not None and high is not None:
        strength = _next(high, low, high, math.log(target), power, largest)
    for _ in range(_MEASUREMENTS):
        value = effect(strength)
        value = math.inf if math.isnan(value) else value  # states that overflowed
        seen[strength] = value
        if abs(value - target) <= TOLERANCE * target:
            return strength
        if value < target and strength == largest and high is None:
            best = max(seen, key=lambda one: seen[one])
            raise OutOfReachError(
                f"{name}: expected a target within reach, got {target:.4g}; the most found is {seen[best]:.4g}, at "
                f"strength {best:.4g} of at most {largest:.4g}"
            )
        if not value < target and strength == _SMALLEST and low is None:
            raise OutOfReachError(
                f"{name}: expected a target within reach, got {target:.4g}; the least found is {value:.4g}, at "
                f"strength {strength:.4g}"
            )
        point = _Point.of(strength, value)
        if value < target:
            low = point
        else:
            high = point
        strength = _next(point, low, high, math.log(target), power, largest)
    raise OutOfReachError(
        f"{name}: expected an effect that changes continuously with the strength, got none within 2 % of {target:.4g} "
        f"after {_MEASUREMENTS} measurements, the last {value:.4g} at strength {strength:.4g}"
    )


def _enclosing(seen: Mapping[float, float], target: float) -> tuple[_Point | None, _Point | None]:
    """The first strengths, next to each other, of which one has too little and the other too much."""
    for one, other in pairwise(sorted(seen)):
        if seen[one] < target < seen[other]:
            return _Point.of(one, seen[one]), _Point.of(other, seen[other])
    return None, None


def _next(point: _Point, low: _Point | None, high: _Point | None, wanted: float, power: float, largest: float) -> float:
    if low is None or high is None:
        step = (wanted - point.log_effect) / power
        step = math.copysign(min(max(abs(step), 0.05), math.log(_LARGEST_STEP)), step)
        # A little further than aimed at, so that the target is soon enclosed.
        return min(max(math.exp(point.log_strength + 1.02 * step), _SMALLEST), largest)
    share = (wanted - low.log_effect) / (high.log_effect - low.log_effect)
    share = min(max(share, 0.1), 0.9)
    return math.exp(low.log_strength + share * (high.log_strength - low.log_strength))
