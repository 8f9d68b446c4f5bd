"""Contenders in turn: each round times every peer, the matrix product that serves as a yardstick, then us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.case import Contender
from benchmarks.data import QUICK
from msma_fast.bench import Interval, interval, settle, timed

# Large enough for the full rate, small enough to cost little in every round.
_YARDSTICK = 256 if QUICK else 2048
YARDSTICK_FLOPS = 2.0 * _YARDSTICK**3


class Race:
    """seconds[name] grows by one time each round; the order of the peers turns, so that nobody always follows us."""

    def __init__(self, peers: Sequence[Contender], inputs: tuple[Any, ...], *, yardstick: bool) -> None:
        self.peers, self.inputs = list(peers), inputs
        self.seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
        self.yardstick: list[float] = []
        self._matrix = torch.randn(_YARDSTICK, _YARDSTICK) if yardstick else None
        self._round = 0

    def others(self) -> None:
        """One round of everybody but us; we are timed directly after it."""
        turn = self._round % max(1, len(self.peers))
        for peer in self.peers[turn:] + self.peers[:turn]:
            self.seconds[peer.name].append(peer.repeat * timed(lambda run=peer.run: run(*self.inputs)))  # type: ignore[misc]
        if self._matrix is not None:
            matrix = self._matrix
            self.yardstick.append(timed(lambda: torch.mm(matrix, matrix)))
        self._round += 1
        settle()


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Interval:
    """Of t_peer / t_ours within each round: above 1 where we are faster."""
    return interval([a / b for a, b in zip(peer, ours, strict=True)])


def gemm_equivalents(flops: float, ours: Sequence[float], yardstick: Sequence[float]) -> Interval:
    """(flops / t_ours) / (rate of a float32 matrix product in the same round).

    flops counts every ordered pair once, 2 d each, whatever was really computed: a screen in lower precision, or one
    that uses symmetry, can exceed 1.
    """
    return interval([(flops / a) / (YARDSTICK_FLOPS / b) for a, b in zip(ours, yardstick, strict=True)])
