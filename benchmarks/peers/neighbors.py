"""knn and radius_count among the points themselves: faiss, torch, scikit-learn, scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from benchmarks.case import Contender
from benchmarks.peers import without_self

# A block of rows keeps torch's and scipy's distance matrix at a few hundred MiB for 50,000 points.
_BLOCK = 2048
_P = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": math.inf}
_SCIPY = {"euclidean": "euclidean", "manhattan": "cityblock", "chebyshev": "chebyshev"}


def faiss_knn(k: int) -> Contender:
    def run(x: np.ndarray) -> Any:
        import faiss

        return faiss.knn(x, x, k + 1)

    return Contender("faiss", run, without_self, needs="faiss")


def torch_knn(k: int, metric: str = "euclidean") -> Contender:
    """torch.cdist and topk; above 25 rows the euclidean distance goes through a matrix product by default."""

    def run(x: np.ndarray) -> Any:
        t = torch.from_numpy(x)
        parts = [torch.topk(torch.cdist(rows, t, p=_P[metric]), k + 1, largest=False) for rows in t.split(_BLOCK)]
        return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])

    return Contender("torch", run, without_self)


def sklearn_knn(k: int, algorithm: str = "brute", metric: str = "euclidean") -> Contender:
    def run(x: np.ndarray) -> Any:
        from sklearn.neighbors import NearestNeighbors

        jobs = torch.get_num_threads() if algorithm != "brute" else None
        return NearestNeighbors(n_neighbors=k, algorithm=algorithm, metric=metric, n_jobs=jobs).fit(x).kneighbors()

    name = "scikit-learn" if algorithm == "brute" else f"scikit-learn {algorithm}"
    return Contender(name, run, needs="sklearn")


def scipy_tree_knn(k: int) -> Contender:
    def run(x: np.ndarray) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(x).query(x, k + 1, workers=torch.get_num_threads())

    return Contender("scipy cKDTree", run, without_self, needs="scipy")


def scipy_cdist_knn(k: int, metric: str) -> Contender:
    """cdist and argpartition, in float64, on one thread: neither has more."""

    def rows_of(block: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from scipy.spatial.distance import cdist

        full = cdist(block, x, _SCIPY[metric])
        few = np.argpartition(full, k, axis=1)[:, : k + 1]
        values = np.take_along_axis(full, few, 1)
        order = np.argsort(values, axis=1, kind="stable")
        return np.take_along_axis(values, order, 1), np.take_along_axis(few, order, 1)

    def run(x: np.ndarray) -> Any:
        parts = [rows_of(x[i : i + _BLOCK], x) for i in range(0, len(x), _BLOCK)]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    return Contender("scipy cdist", run, without_self, needs="scipy")


def _minus_self(counts: Any) -> np.ndarray:
    return np.asarray(counts) - 1


def faiss_count() -> Contender:
    def run(x: np.ndarray, radius: float) -> Any:
        import faiss

        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        return index.range_search(x, radius * radius)[0]

    return Contender("faiss", run, lambda limits: _minus_self(np.diff(limits.astype(np.int64))), needs="faiss")


def torch_count() -> Contender:
    def run(x: np.ndarray, radius: float) -> Any:
        t = torch.from_numpy(x)
        return torch.cat([(torch.cdist(rows, t) <= radius).sum(1) for rows in t.split(_BLOCK)])

    return Contender("torch", run, _minus_self)


def sklearn_count() -> Contender:
    """It has no count: the lists are made, and counted outside the measured time."""

    def run(x: np.ndarray, radius: float) -> Any:
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(radius=radius, algorithm="brute").fit(x)
        return search.radius_neighbors(return_distance=False)

    return Contender("scikit-learn", run, lambda lists: np.array([len(one) for one in lists]), needs="sklearn")


def scipy_tree_count() -> Contender:
    def run(x: np.ndarray, radius: float) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(x).query_ball_point(x, radius, workers=torch.get_num_threads(), return_length=True)

    return Contender("scipy cKDTree", run, _minus_self, needs="scipy")
