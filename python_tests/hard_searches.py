"""Rows that are hard to search, and searches that have to be the torch backend's, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

import msma_fast as mf


def data(kind: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "shifted":
        x += 1e6
    if kind == "huge coordinate":
        x[0, 0] = 1e30
    if kind == "massive tokens":
        x[:3] *= 1000
    if kind == "duplicates":
        x = x[rng.integers(0, n // 3, n)]
    if kind == "lattice":
        x = np.round(x * 2)
    return x + 0.0


def same(backend: str, x: np.ndarray, k: int, y: np.ndarray | None = None, **options: Any) -> Any:
    """The statistics of the backend's search."""
    ours, stats = mf.knn(x, k, y, backend=backend, return_stats=True, **options)
    theirs = mf.knn(x, k, y, backend="torch", **options)
    assert np.array_equal(ours.indices, theirs.indices)
    assert np.array_equal(ours.distances, theirs.distances)
    assert np.array_equal(ours.valid, theirs.valid)
    return stats
