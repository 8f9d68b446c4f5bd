"""The right answers, in float64 and in the documented order of operations, sharing no code with the package.

canonical key of a difference a: lane l = j mod 8 accumulates a_j a_j (|a_j| for manhattan) in increasing j, the lanes
combine as ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)); chebyshev is the largest |a_j|.

A plain float64 distance, off by at most 2 (d + 4) 2^-53 of itself, first says which pairs can matter; only those get a
canonical key. Rows are judged on a sample, or all of them where they are few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma

from benchmarks.case import Fault

Array = np.ndarray
SAMPLE = 512
_PLAIN = {"euclidean": "sqeuclidean", "manhattan": "cityblock", "chebyshev": "chebyshev"}


def canonical_keys(difference: Array, metric: str) -> Array:
    """(..., d) differences to (...) keys."""
    if metric == "chebyshev":
        return np.asarray(np.abs(difference).max(-1))
    terms = np.abs(difference) if metric == "manhattan" else difference * difference
    d = terms.shape[-1]
    # Zeros behind the last coordinate change no lane, since terms are not negative.
    padded = np.zeros((*terms.shape[:-1], -(-d // 8) * 8))
    padded[..., :d] = terms
    lane = np.add.accumulate(padded.reshape(*terms.shape[:-1], -1, 8), axis=-2)[..., -1, :]
    even = (lane[..., 0] + lane[..., 4]) + (lane[..., 2] + lane[..., 6])
    odd = (lane[..., 1] + lane[..., 5]) + (lane[..., 3] + lane[..., 7])
    return np.asarray(even + odd)


def distances(keys: Array, metric: str) -> Array:
    return np.sqrt(keys) if metric == "euclidean" else keys


def sample(n: int, size: int = SAMPLE) -> Array:
    """Row numbers to judge: all of a few, else a seeded sample."""
    if n <= 2 * size:
        return np.arange(n)
    return np.sort(np.random.default_rng(1).choice(n, size, replace=False))


class Candidates(NamedTuple):
    """Pairs that can matter, row by row in increasing column: row numbers (P,), columns (P,), canonical keys (P,)."""

    row: Array
    column: Array
    key: Array


def _plain(x: Array, rows: Array, metric: str) -> tuple[Array, float]:
    """(distances of the rows to all points, their own at infinity; how far one may be off, relatively)."""
    plain = cdist(x[rows], x, _PLAIN[metric])
    plain[np.arange(len(rows)), rows] = np.inf
    return plain, 2 * (x.shape[1] + 4) * 2.0**-53


def _keys_at(x: Array, rows: Array, row: Array, column: Array, metric: str) -> Array:
    """Canonical keys of pairs, a block of them at a time: (P, d) differences are never held at once."""
    step = max(1, 2**22 // x.shape[1])
    parts = [
        canonical_keys(x[rows[row[i : i + step]]] - x[column[i : i + step]], metric) for i in range(0, len(row), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


class KnnJudge:
    """Answers are (distances, indices), each (n, k), or indices alone; self-search, ordered by (canonical key, index)."""

    def __init__(self, points: Array, k: int, metric: str = "euclidean", rows: Array | None = None) -> None:
        self.x, self.k, self.metric = points.astype(np.float64), k, metric
        self.rows = sample(len(points)) if rows is None else rows
        plain, error = _plain(self.x, self.rows, metric)
        reach = np.partition(plain, k - 1, axis=1)[:, k - 1 : k] * (1 + 4 * error)
        row, column = np.nonzero(plain <= reach)
        key = _keys_at(self.x, self.rows, row, column, metric)
        order = np.lexsort((column, key, row))
        first = np.searchsorted(row, np.arange(len(self.rows)))[:, None] + np.arange(k)
        self.indices, self.keys = column[order][first], key[order][first]

    def gate(self, answer: Any) -> str | None:
        found = [np.asarray(part)[self.rows] for part in answer]
        wrong = found[1] != self.indices
        if wrong.any():
            row, place = (int(i) for i in np.argwhere(wrong)[0])
            return (
                f"{int(wrong.sum())} of {wrong.size} neighbours; row {self.rows[row]}, place {place}: expected index "
                f"{self.indices[row, place]}, got {found[1][row, place]}"
            )
        right = distances(self.keys, self.metric).astype(found[0].dtype)
        if (found[0] != right).any():
            return f"{int((found[0] != right).sum())} of {right.size} distances are not the rounded canonical ones"
        return None

    def fault(self, answer: Any) -> Fault:
        """A place is wrong unless its key equals the canonical key of that rank: equal keys may stand in any order."""
        found = np.asarray(answer[1] if isinstance(answer, tuple) else answer)[self.rows]
        inside = (found >= 0) & (found < len(self.x)) & (found != self.rows[:, None])
        repeated = np.zeros_like(inside)
        for place in range(1, self.k):
            repeated[:, place] = (found[:, place : place + 1] == found[:, :place]).any(1)
        row = np.repeat(np.arange(len(self.rows)), self.k)
        keys = _keys_at(self.x, self.rows, row, np.where(inside, found, 0).ravel(), self.metric).reshape(found.shape)
        valid = inside & ~repeated
        wrong = ~valid | (keys != self.keys)
        outside = ~valid | (keys > self.keys[:, -1:])
        note = (
            f"{int(outside.sum())} not among the {self.k} nearest, {int((wrong & ~outside).sum())} in the wrong place"
        )
        return Fault("wrong neighbours", float(wrong.sum()), wrong.size, note if wrong.any() else "")


class RadiusJudge:
    """Answers are counts (n,) of distance <= radius, compared in float32, self excluded by index."""

    def __init__(self, points: Array, radius: float, metric: str = "euclidean") -> None:
        x = points.astype(np.float64)
        self.rows = sample(len(x))
        plain, _ = _plain(x, self.rows, metric)
        plain = distances(plain, metric)
        limit = np.float32(radius)
        near = np.abs(plain - float(limit)) <= 1e-6 * float(limit)  # a float32 decides between these
        self.counts = ((plain < float(limit)) & ~near).sum(1)
        row, column = np.nonzero(near)
        exact = distances(_keys_at(x, self.rows, row, column, metric), metric).astype(np.float32)
        np.add.at(self.counts, row, exact <= limit)

    def gate(self, answer: Any) -> str | None:
        fault = self.fault(answer)
        return f"{fault.value:.0f} of {fault.of} counts are wrong" if fault.value else None

    def fault(self, answer: Any) -> Fault:
        wrong = np.asarray(answer)[self.rows] != self.counts
        return Fault("wrong counts", float(wrong.sum()), wrong.size)


class DistanceJudge:
    """Answers are (n, m) matrices; relative to the true distance, on a few rows."""

    def __init__(self, x: Array, y: Array | None, tolerance: float) -> None:
        self.rows, self.tolerance, self.is_self = sample(len(x), 64), tolerance, y is None
        self.exact = cdist(x[self.rows].astype(np.float64), (x if y is None else y).astype(np.float64))

    def gate(self, answer: Any) -> str | None:
        fault = self.fault(answer)
        if fault.value > self.tolerance or fault.note:
            return f"relative error {fault.value:.2g}, expected at most {self.tolerance:.0e}; {fault.note}"
        return None

    def fault(self, answer: Any) -> Fault:
        found = np.asarray(answer)[self.rows].astype(np.float64)
        apart = self.exact > 0
        error = np.abs(found - self.exact)
        largest = float((error[apart] / self.exact[apart]).max(initial=0.0))
        own = float(error[~apart].max(initial=0.0))
        return Fault("largest relative error", largest, None, f"equal points up to {own:.2g} apart" if own else "")


class NumberJudge:
    """Answers are one number; `truth` is computed from the definition."""

    def __init__(self, truth: float, tolerance: float) -> None:
        self.truth, self.tolerance = truth, tolerance

    def gate(self, answer: Any) -> str | None:
        if abs(float(answer) - self.truth) <= self.tolerance:
            return None
        return f"expected {self.truth!r} within {self.tolerance:g}, got {float(answer)!r}"

    def fault(self, answer: Any) -> Fault:
        return Fault("difference from the definition", abs(float(answer) - self.truth))


class ArrayJudge:
    """Answers are arrays; relative to the largest entry of `truth`."""

    def __init__(self, truth: Array, tolerance: float) -> None:
        self.truth, self.tolerance = truth, tolerance

    def gate(self, answer: Any) -> str | None:
        value = self.fault(answer).value
        return None if value <= self.tolerance else f"expected an error of at most {self.tolerance:g}, got {value:.2g}"

    def fault(self, answer: Any) -> Fault:
        error = np.abs(np.asarray(answer, dtype=np.float64) - self.truth).max() / np.abs(self.truth).max()
        return Fault("largest error over the largest entry", float(error))


class EntriesJudge:
    """Answers are matrices; `truth` holds the entries (row, column) that were computed from the definition."""

    def __init__(self, truth: dict[tuple[int, int], float], tolerance: float) -> None:
        self.truth, self.tolerance = truth, tolerance

    def _worst(self, answer: Any) -> float:
        return max(abs(float(answer[place]) - value) for place, value in self.truth.items())

    def gate(self, answer: Any) -> str | None:
        worst = self._worst(answer)
        return None if worst <= self.tolerance else f"an entry is off by {worst:g}, expected at most {self.tolerance:g}"

    def fault(self, answer: Any) -> Fault:
        return Fault("largest difference of an entry", self._worst(answer), note=f"{len(self.truth)} entries")


def judge_with(make: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A judge that takes the first input and fixed arguments."""
    return lambda first, *_: make(first, *arguments)


def ksg_estimate(x: Array, y: Array, k: int, metric: str) -> float:
    """KSG1 of (n, d) samples: psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>, by full matrices.

    Where float64 distances of another order of operations could mistake a comparison, canonical keys decide it.
    """

    def keys(points: Array) -> tuple[Array, Array]:
        plain, error = _plain(points, np.arange(len(points)), metric)
        return plain, np.full_like(plain, 0.0 if metric == "chebyshev" else 2 * error)

    (a, error), (b, _) = keys(x), keys(y)
    joint = np.maximum(a, b)
    n_x, n_y = np.zeros(len(x), int), np.zeros(len(x), int)
    for i in range(len(x)):
        close = np.nonzero(joint[i] <= np.partition(joint[i], k - 1)[k - 1] * (1 + 4 * error[i]))[0]
        row = np.full(len(close), i)
        mine = [_keys_at(points, np.arange(len(points)), row, close, metric) for points in (x, y)]
        reach = np.sort(np.maximum(*mine))[k - 1]
        for plain, points, counts in ((a, x, n_x), (b, y, n_y)):
            open_ = np.nonzero(np.abs(plain[i] - reach) <= 4 * error[i] * reach)[0]
            counts[i] = (plain[i] < reach * (1 - 4 * error[i])).sum()
            exact = _keys_at(points, np.arange(len(points)), np.full(len(open_), i), open_, metric)
            counts[i] += ((exact < reach) & ~(plain[i, open_] < reach * (1 - 4 * error[i, open_]))).sum()
    return float(digamma(k) + digamma(len(x)) - (digamma(n_x + 1) + digamma(n_y + 1)).mean())


def ksg_estimate_of_columns(x: Array, y: Array, k: int) -> float:
    """KSG1 of two samples (n,) in n log n: the k-th joint distance by scipy's tree, the counts by bisection of the sorted
    values with |x_i - x_j| itself, which rounding leaves monotone along them."""
    points = np.column_stack([x, y]).astype(np.float64)
    reach = cKDTree(points).query(points, [k + 1], p=np.inf, workers=-1)[0][:, 0]  # the row itself is the first

    def inside(values: Array) -> Array:
        ordered = np.sort(values)
        first = _first(lambda at: values - ordered[at] < reach, len(values))
        end = _first(lambda at: ordered[at] - values >= reach, len(values))
        return np.maximum(end - first - 1, 0)  # without the row itself; nothing is nearer than a reach of zero

    terms = digamma(inside(points[:, 0]) + 1) + digamma(inside(points[:, 1]) + 1)
    return float(digamma(k) + digamma(len(points)) - terms.mean())


def _first(holds: Callable[[Array], Array], n: int) -> Array:
    """For each of n rows the first place in 0..n - 1 from where on holds(places) is true, n where there is none."""
    low, high = np.zeros(n, int), np.full(n, n)
    for _ in range(n.bit_length()):
        middle = np.minimum((low + high) // 2, n - 1)
        true = holds(middle)
        open_ = low < high
        high = np.where(open_ & true, middle, high)
        low = np.where(open_ & ~true, middle + 1, low)
    return low


def token_probabilities(h: Array, weight: Array) -> Array:
    """softmax(W h), (n, V) float64."""
    logits = h.astype(np.float64) @ weight.T.astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def fisher_metrics(h: Array, weight: Array) -> Array:
    """W^T (diag p - p p^T) W, (n, d, d) float64."""
    wide, found = weight.astype(np.float64), []
    for p in token_probabilities(h, weight):
        mean = p @ wide
        found.append((wide * p[:, None]).T @ wide - np.outer(mean, mean))
    return np.stack(found)


def fisher_rao(p: Array, q: Array) -> Array:
    """4 arcsin(|sqrt p - sqrt q| / 2), (n, m)."""
    return np.asarray(4 * np.arcsin(np.minimum(cdist(np.sqrt(p), np.sqrt(q)) / 2, 1.0)))
