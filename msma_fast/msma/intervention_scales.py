"""Where an intervention acts: a scale's range of layers, found in the stacks of a model."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from msma_fast.activations.blocks import Stack
from msma_fast.msma.scales import ScalePartition


class Place(NamedTuple):
    """name: of the scale; layers: (first, last) among all the model's layers; first and last: within the stack."""

    name: str
    layers: tuple[int, int]
    stack: Stack
    first: int
    last: int

    @property
    def middle(self) -> int:
        """The layer that stands for the scale, within the stack."""
        return (self.first + self.last) // 2


def places(partition: Any, stacks: Sequence[Stack]) -> list[Place]:
    """Each range of a ScalePartition, or of pairs (first, last) of layers; "encoder local" where there are two stacks.

    Raises TypeError and ValueError for what is neither, for ranges that overlap, go out of order, cross stacks or leave the
    model's layers, and for a partition of other layers.
    """
    names = [name for stack in stacks for name in stack.names]
    bounds: list[tuple[int, int]] = []
    for stack in stacks:
        begin = bounds[-1][1] + 1 if bounds else 0
        bounds.append((begin, begin + len(stack.blocks)))
    if isinstance(partition, ScalePartition):
        if len(partition.names) != len(names):
            raise ValueError(
                f"partition: expected one of the model's {len(names)} layers, got one of {len(partition.names)}"
            )
        ranges = list(partition.ranges)
    else:
        ranges = _pairs(partition)
    before = -1
    for number, (first, last) in enumerate(ranges):
        if not before < first <= last < len(names):
            raise ValueError(
                f"partition[{number}]: expected layers {before + 1} <= first <= last <= {len(names) - 1}, in order and "
                f"without overlap, got ({first}, {last})"
            )
        if not any(begin <= first and last <= end for begin, end in bounds):
            raise ValueError(f"partition[{number}]: expected a range within one of {bounds}, got ({first}, {last})")
        before = last
    named = ScalePartition(tuple(ranges), (), tuple(names), tuple(bounds)).scale_names()
    found: list[Place] = []
    for name, (first, last) in zip(named, ranges, strict=True):
        stack, begin = next((stack, a) for stack, (a, b) in zip(stacks, bounds, strict=True) if a <= first <= b)
        full = name if len(stacks) == 1 else f"{stack.prefix} {name}"
        found.append(Place(full, (first, last), stack, first - begin, last - begin))
    return found


def choose(scale: Any, found: Sequence[Place]) -> Place:
    """By name, or by the range's index. Raises ValueError / TypeError for neither."""
    known = [place.name for place in found]
    if isinstance(scale, str):
        if scale not in known:
            raise ValueError(f"scale: expected one of {', '.join(map(repr, known))}, got {scale!r}")
        return found[known.index(scale)]
    if isinstance(scale, bool) or not isinstance(scale, numbers.Integral):
        raise TypeError(f"scale: expected a scale's name or a range's index, got {type(scale).__name__}")
    if not 0 <= int(scale) < len(found):
        raise ValueError(f"scale: expected an index below {len(found)}, got {scale}")
    return found[int(scale)]


def _pairs(partition: Any) -> list[tuple[int, int]]:
    if isinstance(partition, str) or not isinstance(partition, Sequence):
        raise TypeError(
            f"partition: expected a ScalePartition or a list of (first, last), got {type(partition).__name__}"
        )
    if not partition:
        raise ValueError("partition: expected at least one range (first, last), got none")
    pairs: list[tuple[int, int]] = []
    for number, one in enumerate(partition):
        if not isinstance(one, Sequence) or len(one) != 2 or not all(isinstance(end, numbers.Integral) for end in one):
            raise TypeError(f"partition[{number}]: expected a pair of integers (first, last), got {one!r}")
        pairs.append((int(one[0]), int(one[1])))
    return pairs
