"""knn: self-search, n = 8192, d = 576, k = 15, euclidean. Peers: faiss-cpu, scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from benchmarks.conftest import ROUNDS

K = 15


def _faiss(x: np.ndarray) -> np.ndarray:
    import faiss

    return faiss.knn(x, x, K + 1)[1][:, 1:]


def _sklearn(x: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x).kneighbors(return_distance=False)


def _ours(backend: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: mf.knn(x, K, backend=backend).indices


RUNS = {
    "msma_fast native": _ours("native"),
    "msma_fast torch": _ours("torch"),
    "faiss": _faiss,
    "scikit-learn": _sklearn,
}


def _canonical(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Neighbours of some rows by direct float64 differences."""
    found = []
    for row in rows:
        squares = ((x.astype(np.float64) - x[row].astype(np.float64)) ** 2).sum(1)
        squares[row] = np.inf
        found.append(np.argsort(squares, kind="stable")[:K])
    return np.stack(found)


@pytest.mark.benchmark(group="knn 8192 x 576, k = 15")
@pytest.mark.parametrize("name", RUNS)
def test_knn(benchmark: Any, points: np.ndarray, name: str) -> None:
    if name == "msma_fast native" and not next(b for b in mf.backends() if b.name == "native").available:
        pytest.skip("the native module is not built")
    rows = np.arange(0, 8192, 512)
    wrong = int((RUNS[name](points)[rows] != _canonical(points, rows)).sum())
    benchmark.extra_info["wrong neighbours of 240"] = wrong
    if name.startswith("msma_fast"):
        assert wrong == 0
    benchmark.pedantic(RUNS[name], args=(points,), **ROUNDS)
