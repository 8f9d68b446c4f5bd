"""The comparator of kNN results: what counts as the same answer, and what does not. It has its own test.

check_knn(found, keys, allowed, k, ...) takes the oracle's (n, m) keys and mask of admissible pairs:

  exact mode (band=None)  indices identical in (key, index) order; distances equal to the key's distance
                          rounded once to the returned dtype (`ulps=1` where that is the promise).
  band mode               band (n, m) is the absolute uncertainty of each key. Two columns may stand in
                          another order, or for each other, only where their keys differ by at most the
                          larger of their bands. Such swaps are counted, returned and printed.
In both: distinct admissible indices; valid in exactly the first min(k, admissible) places, -1 and inf after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles

Array = np.ndarray


class Mismatch(AssertionError):
    """The result is not the answer."""


@dataclass(frozen=True)
class KnnReport:
    rows: int
    swaps: int  # places that hold another column than the oracle's order does, all within the band
    padded: int  # places without a neighbour


def check_knn(
    found: tuple[Any, Any, Any],
    keys: Array,
    allowed: Array,
    k: int,
    *,
    to_distance: Callable[[Array], Array],
    dtype: Any,
    band: Array | None = None,
    ulps: int = 0,
) -> KnnReport:
    """Raise Mismatch unless `found` = (distances, indices, valid), each (n, k), is right."""
    distances, indices, valid = (_as_numpy(part) for part in found)
    _check_form(distances, indices, valid, keys, k, np.dtype(dtype))
    _check_padding(distances, indices, valid, allowed, k)
    _check_members(indices, valid, allowed)
    order = oracles.ranking(keys, allowed)[:, :k]
    differs = valid & (indices != order)
    if band is None:
        _fail_at(differs, "index {1} where (key, index) order has {2}", indices, order)
        band = np.zeros(keys.shape)
    else:
        _check_order(indices, valid, keys, band)
        _check_nothing_missing(indices, valid, keys, band, allowed)
    _check_distances(distances, indices, valid, keys, band, to_distance, ulps)
    report = KnnReport(len(keys), int(differs.sum()), int((~valid).sum()))
    if report.swaps:
        print(f"kNN comparison: {report.swaps} near-tie swaps in {report.rows} rows")
    return report


def _as_numpy(part: Any) -> Array:
    return np.asarray(part.detach().cpu()) if hasattr(part, "detach") else np.asarray(part)


def _fail_at(wrong: Array, message: str, *values: Array) -> None:
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        shown = message.format(place, *(repr(v[place].item()) for v in values))
        raise Mismatch(f"at row, place {place} of {int(wrong.sum())} wrong: {shown}")


def _check_form(distances: Array, indices: Array, valid: Array, keys: Array, k: int, dtype: np.dtype[Any]) -> None:
    for name, part, wanted in (
        ("distances", distances, dtype),
        ("indices", indices, np.int64),
        ("valid", valid, bool),
    ):
        if part.shape != (len(keys), k):
            raise Mismatch(f"{name} has shape {part.shape}, expected {(len(keys), k)}")
        if part.dtype != wanted:
            raise Mismatch(f"{name} has dtype {part.dtype}, expected {np.dtype(wanted)}")


def _check_padding(distances: Array, indices: Array, valid: Array, allowed: Array, k: int) -> None:
    expected = np.arange(k)[None, :] < allowed.sum(1)[:, None]
    _fail_at(valid != expected, "valid is {1}, expected {2}", valid, expected)
    _fail_at(~valid & (indices != -1), "index {1} in a place without a neighbour, expected -1", indices)
    _fail_at(~valid & (distances != np.inf), "distance {1} in a place without a neighbour, expected inf", distances)


def _check_members(indices: Array, valid: Array, allowed: Array) -> None:
    m = allowed.shape[1]
    _fail_at(valid & ((indices < 0) | (indices >= m)), "index {1} outside the points", indices)
    is_allowed = np.take_along_axis(allowed, np.clip(indices, 0, m - 1), axis=1)
    _fail_at(valid & ~is_allowed, "index {1} is excluded (self, group or window)", indices)
    for row in range(len(indices)):
        kept = indices[row][valid[row]]
        if len(np.unique(kept)) != len(kept):
            raise Mismatch(f"row {row} holds an index twice: {kept.tolist()}")


def _check_order(indices: Array, valid: Array, keys: Array, band: Array) -> None:
    found, slack = _at(keys, indices), _at(band, indices)
    for later in range(1, indices.shape[1]):
        for earlier in range(later):
            tolerance = np.maximum(slack[:, earlier], slack[:, later])
            wrong = valid[:, later] & _exceeds(found[:, earlier], found[:, later], tolerance)
            if wrong.any():
                row = int(np.argmax(wrong))
                pair = indices[row, earlier], indices[row, later]
                raise Mismatch(f"row {row}: column {pair[0]} stands before {pair[1]}, which is truly nearer")


def _check_nothing_missing(indices: Array, valid: Array, keys: Array, band: Array, allowed: Array) -> None:
    left_out = allowed.copy()
    rows, places = np.nonzero(valid)
    left_out[rows, indices[rows, places]] = False
    found, slack = _at(keys, indices), _at(band, indices)
    for place in range(indices.shape[1]):
        tolerance = np.maximum(slack[:, place : place + 1], band)
        wrong = left_out & valid[:, place : place + 1] & _exceeds(found[:, place : place + 1], keys, tolerance)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise Mismatch(f"row {row}: column {column} is missing, truly nearer than {indices[row, place]}")


def _check_distances(
    distances: Array,
    indices: Array,
    valid: Array,
    keys: Array,
    band: Array,
    to_distance: Callable[[Array], Array],
    ulps: int,
) -> None:
    key, slack = _at(keys, indices), _at(band, indices)
    floor = 0.0 if keys.min() >= 0 else -np.inf  # sums of squares and their like cannot fall below zero
    with np.errstate(over="ignore"):  # a float64 distance beyond float32 is returned as inf
        low = to_distance(np.maximum(floor, key - slack)).astype(distances.dtype)
        high = to_distance(key + slack).astype(distances.dtype)
    # A banded key goes through one more rounding on its way to a distance than its own interval shows.
    for _ in range(max(ulps, int(slack.any()))):
        low, high = np.nextafter(low, -np.inf, dtype=low.dtype), np.nextafter(high, np.inf, dtype=high.dtype)
    wrong = valid & ~((low <= distances) & (distances <= high))
    _fail_at(wrong, "distance {1}, expected within [{2}, {3}]", distances, low, high)


def _exceeds(a: Array, b: Array, tolerance: Array) -> Array:
    """a > b + tolerance, also where both are infinite."""
    return np.asarray(a > b + tolerance)


def _at(matrix: Array, indices: Array) -> Array:
    return np.take_along_axis(matrix, np.clip(indices, 0, matrix.shape[1] - 1), axis=1)


def check_knn_oracle(
    found: tuple[Any, Any, Any],
    x: Array,
    k: int,
    y: Array | None = None,
    *,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    groups: Any = None,
    point_groups: Any = None,
    window: int = 0,
    dtype: Any = None,
    plain: bool = False,
) -> KnnReport:
    """check_knn against the canonical keys, bit for bit where promised, or (plain) within the band."""
    points = x if y is None else y
    keys_of = oracles.plain_keys if plain else oracles.canonical_keys
    banded = plain or metric in oracles.BAND_METRICS or p != int(p)
    root = metric in oracles.LIBRARY_ROOT_METRICS and (metric != "minkowski" or p > 2)
    return check_knn(
        found,
        keys_of(x, points, metric, p, metric_tensor),
        oracles.admissible(len(x), None if y is None else len(y), groups, point_groups, window),
        k,
        to_distance=lambda keys: oracles.to_distance(keys, metric, p),
        dtype=dtype or (np.float64 if x.dtype == np.float64 else np.float32),
        band=oracles.key_band(x, points, metric, p, metric_tensor) if banded else None,
        ulps=int(root),
    )
