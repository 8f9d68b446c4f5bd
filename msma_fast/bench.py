"""`msma-fast bench`: knn beside what is installed, and how times are compared.

Contenders run in turn, round by round, so that a drift of the machine hits all alike; what counts is the ratio within a
round, and its median over the rounds. The full suite is in benchmarks/ of the source tree (`make bench`).
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import msma_fast as mf

_N, _D, _K, _ROUNDS, _JUDGED = 8192, 576, 15, 5, 64
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
    return Interval(
        statistics.median(ordered), ordered[j - 1], ordered[n - j], max(0.0, 1 - tail[min(j, len(tail) - 1)])
    )


def settle() -> None:
    """Before each timed call: no thread is spinning any more. (A full garbage collection would take longer than many calls;
    arrays are freed by their reference counts.)"""
    time.sleep(_PAUSE)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call after `settle`; its result is freed outside the measured time."""
    settle()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    del result
    return seconds


def _torch(x: np.ndarray) -> np.ndarray:
    points = torch.from_numpy(x)
    parts = [torch.topk(torch.cdist(rows, points), _K + 1, largest=False).indices for rows in points.split(2048)]
    return torch.cat(parts)[:, 1:].numpy()


def _faiss(x: np.ndarray) -> np.ndarray:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    found: np.ndarray = faiss.knn(x, x, _K + 1)[1][:, 1:]
    return found


def _sklearn(x: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    found: np.ndarray = NearestNeighbors(n_neighbors=_K, algorithm="brute").fit(x).kneighbors(return_distance=False)
    return found


# name: (the module it needs, the search)
_PEERS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "torch": ("torch", _torch),
    "faiss": ("faiss", _faiss),
    "scikit-learn": ("sklearn", _sklearn),
}


def _ours(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = mf.knn(x, _K).indices
    return found


def _wrong(x: np.ndarray, found: np.ndarray) -> int:
    """Places of the first rows whose distance, in float64, is not that of the true neighbour of that rank."""
    points = torch.from_numpy(x).double()
    wrong = 0
    for row in range(min(_JUDGED, len(x))):
        squares = ((points - points[row]) ** 2).sum(1)
        squares[row] = torch.inf
        right = squares.sort().values[:_K]
        wrong += int((squares[torch.from_numpy(found[row].astype(np.int64))] != right).sum())
    return wrong


def bench(n: int = _N, rounds: int = _ROUNDS) -> str:
    """knn of n x 576 normal points: median times, ratios within a round, wrong neighbours. Plain text.

    Raises RuntimeError where our own neighbours are wrong: then there is nothing to time.
    """
    x = np.random.default_rng(0).standard_normal((n, _D), dtype=np.float32)
    mistakes = {"msma_fast": _wrong(x, _ours(x))}
    if mistakes["msma_fast"]:
        raise RuntimeError(f"knn: expected no wrong neighbours, got {mistakes['msma_fast']}; nothing was timed")
    runs = {name: run for name, (module, run) in _PEERS.items() if importlib.util.find_spec(module) is not None}
    mistakes |= {name: _wrong(x, run(x)) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in mistakes}
    for _ in range(rounds):
        for name, run in {"msma_fast": _ours, **runs}.items():
            seconds[name].append(timed(lambda run=run: run(x)))  # type: ignore[misc]
    lines = [f"knn, {n} x {_D} random points, k = {_K}, {torch.get_num_threads()} threads, {rounds} rounds in turn", ""]
    lines.append(f"{'':<14} {'median s':>9}  {'t / t ours':>20}  wrong of {min(_JUDGED, n) * _K}")
    for name, times in seconds.items():
        ratio = interval([a / b for a, b in zip(times, seconds["msma_fast"], strict=True)])
        compared = "" if name == "msma_fast" else f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        lines.append(f"{name:<14} {interval(times).median:>9.3f}  {compared:>20}  {mistakes[name]}")
    lines += [f"{name:<14} not installed" for name in _PEERS if name not in runs]
    return "\n".join(lines)
