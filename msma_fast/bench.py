"""`msma-fast bench`: knn beside what is installed, and how times are compared.

Contenders run in turn, round by round, so that a drift of the machine hits all alike; what counts is the ratio within a
round, and its median over the rounds. The full suite is in benchmarks/ of the source tree (`make bench`).
"""

from __future__ import annotations

import gc
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import msma_fast as mf

# After a parallel region the threads of an OpenMP runtime spin for a while, at the cost of whoever runs next.
_PAUSE = 0.05
_COVERAGE = 0.9


class Interval(NamedTuple):
    """A median and an interval between order statistics that covers the true median with probability `coverage`."""

    median: float
    low: float
    high: float
    coverage: float


def interval(values: Sequence[float]) -> Interval:
    """The narrowest [v_(j), v_(n+1-j)] with coverage 1 - 2 P(Binomial(n, 1/2) < j) >= 0.9, else the whole range.

    It assumes nothing of the distribution but independent rounds. Raises ValueError without values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("values: expected at least one round, got none")
    ordered = sorted(values)
    tail = [2.0 * sum(math.comb(n, i) for i in range(j)) / 2**n for j in range(n // 2 + 2)]
    j = max((j for j in range(1, n // 2 + 1) if 1 - tail[j] >= _COVERAGE), default=1)
    return Interval(statistics.median(ordered), ordered[j - 1], ordered[n - j], max(0.0, 1 - tail[min(j, len(tail) - 1)]))


def settle() -> None:
    """Before each timed call: nothing to collect, no thread still spinning."""
    gc.collect()
    time.sleep(_PAUSE)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call after `settle`; its result is freed outside the measured time."""
    settle()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    del result
    return seconds
