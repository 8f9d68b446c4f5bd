"""The scales of a partition by name, and which map leads from one to another."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from msma_fast.msma.scales import ScalePartition


class Scales(NamedTuple):
    """ranges: of layers, shallow ones first within each stack; stack: the stack of each; names."""

    ranges: tuple[tuple[int, int], ...]
    stack: tuple[int, ...]
    names: tuple[str, ...]
    n_layers: int

    @classmethod
    def of(cls, partition: ScalePartition | Sequence[tuple[int, int]], layers: Sequence[str]) -> Scales:
        """Raises ValueError where the partition is of other layers, or has no stack of two scales."""
        if not isinstance(partition, ScalePartition):
            partition = ScalePartition.uncut(layers).fixed(partition)
        if len(partition.names) != len(layers):
            raise ValueError(f"partition: expected one of {len(layers)} layers, got one of {len(partition.names)}")
        stack = tuple(
            number
            for first, _ in partition.ranges
            for number, (start, end) in enumerate(partition.stacks)
            if start <= first <= end
        )
        if len(set(stack)) == len(stack):
            raise ValueError(f"partition: expected at least two scales in a stack, got {list(partition.ranges)}")
        plain = partition.scale_names()
        prefixes = [layers[start].rpartition(".")[0] for start, _ in partition.stacks]
        names = [f"{prefixes[of]} {name}" for of, name in zip(stack, plain, strict=True)]
        return cls(partition.ranges, stack, tuple(plain if len(prefixes) == 1 else names), len(layers))

    def pairs(self) -> list[tuple[int, int]]:
        """(source, target) of every map: each scale and the next shallower of its stack, deep ones first."""
        return [(n, n - 1) for n in range(len(self.ranges) - 1, 0, -1) if self.stack[n] == self.stack[n - 1]]

    def number(self, argument: str, scale: Any) -> int:
        whole = isinstance(scale, numbers.Integral) and type(scale) is not bool
        if whole and 0 <= int(scale) < len(self.ranges):
            return int(scale)
        if isinstance(scale, str) and scale in self.names:
            return self.names.index(scale)
        raise ValueError(f"{argument}: expected one of {list(self.names)} or its number, got {scale!r}")

    def path(self, source: str | int, target: str | int) -> list[int]:
        """The scales from source down to target."""
        first, last = self.number("source", source), self.number("target", target)
        if not (last < first and self.stack[first] == self.stack[last]):
            raise ValueError(
                f"target: expected a scale before {self.names[first]} in its stack, got {self.names[last]}: maps lead from "
                "deeper scales to shallower ones"
            )
        return list(range(first, last - 1, -1))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"ranges": [list(each) for each in self.ranges], "stack": list(self.stack), "names": list(self.names),
                "n_layers": self.n_layers}  # fmt: skip

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Scales:
        ranges = tuple((int(a), int(b)) for a, b in kept["ranges"])
        return cls(ranges, tuple(kept["stack"]), tuple(kept["names"]), int(kept["n_layers"]))
