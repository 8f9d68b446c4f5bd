"""Contenders in turn: each round times every peer, the matrix products that serve as yardsticks, then us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.case import Contender
from benchmarks.data import QUICK
from msma_fast.bench import Interval, interval, settle, timed

# Large enough for the full rate, small enough to cost little in every round.
_YARDSTICK = 256 if QUICK else 2048
YARDSTICK_FLOPS = 2.0 * _YARDSTICK**3


def _product(precision: str) -> Callable[[], Any]:
    """torch's square matrix product in a precision."""
    if precision == "int8":
        small = torch.randint(-100, 100, (_YARDSTICK, _YARDSTICK), dtype=torch.int8)
        return lambda: torch._int_mm(small, small)
    matrix = torch.randn(_YARDSTICK, _YARDSTICK)
    return lambda: torch.mm(matrix, matrix)


class Race:
    """seconds[name] grows by one time each round; the order of the peers turns, so that nobody always follows us."""

    def __init__(self, peers: Sequence[Contender], inputs: tuple[Any, ...], *, yardsticks: Sequence[str]) -> None:
        self.peers, self.inputs = list(peers), inputs
        self.seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
        self.yardsticks: dict[str, list[float]] = {precision: [] for precision in yardsticks}
        self._products = {precision: _product(precision) for precision in yardsticks}
        self._round = 0

    def others(self) -> None:
        """One round of everybody but us; we are timed directly after it."""
        turn = self._round % max(1, len(self.peers))
        for peer in self.peers[turn:] + self.peers[:turn]:
            self.seconds[peer.name].append(peer.repeat * timed(lambda run=peer.run: run(*self.inputs)))  # type: ignore[misc]
        for precision, product in self._products.items():
            self.yardsticks[precision].append(timed(product))
        self._round += 1
        settle()


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Interval:
    """Of t_peer / t_ours within each round: above 1 where we are faster."""
    return interval([a / b for a, b in zip(peer, ours, strict=True)])


def gemm_equivalents(flops: float, ours: Sequence[float], yardstick: Sequence[float]) -> Interval:
    """(flops / t_ours) / (rate of a matrix product in the same round).

    flops counts every ordered pair once, 2 d each, whatever was really computed: a screen in lower precision, or one
    that uses symmetry, can exceed 1.
    """
    return interval([(flops / a) / (YARDSTICK_FLOPS / b) for a, b in zip(ours, yardstick, strict=True)])
