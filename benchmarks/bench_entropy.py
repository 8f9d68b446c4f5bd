"""knn_entropy and knn_kl_divergence of Gaussian samples under chebyshev, the metric of the peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import digamma

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import NumberJudge
from benchmarks.peers import information as peers

K = 5


def samples(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(0).standard_normal((2, n, d))
    return x, y + 0.5


def _reach(x: np.ndarray, points: np.ndarray, place: int) -> np.ndarray:
    """(n,) the distance at that place among the sorted ones of each row."""
    return np.array([np.partition(cdist(row[None], points, "chebyshev")[0], place)[place] for row in x])


def entropy(x: np.ndarray) -> float:
    """psi(n) - psi(k) + <log (2 r)^d>."""
    return float(digamma(len(x)) - digamma(K) + x.shape[1] * np.log(2 * _reach(x, x, K)).mean())


def divergence(x: np.ndarray, y: np.ndarray) -> float:
    """d <log(s / r)> + log(m / (n - 1))."""
    ratio = _reach(x, y, K - 1) / _reach(x, x, K)
    return float(x.shape[1] * np.log(ratio).mean() + np.log(len(y) / (len(x) - 1)))


def entropy_case(n: int, d: int) -> Case:
    n = data.rows(n)
    return Case(
        "knn_entropy",
        f"{n:,} rows, {d}-dimensional, k = {K}",
        lambda: samples(n, d)[:1],
        (Contender(OURS, lambda x: mf.knn_entropy(x, K)), peers.npeet_entropy(K), peers.ennemi_entropy(K)),
        lambda x: NumberJudge(entropy(x), 1e-9),
    )


def divergence_case(n: int, d: int) -> Case:
    n = data.rows(n)
    return Case(
        "knn_kl_divergence",
        f"{n:,} rows each, {d}-dimensional, k = {K}",
        partial(samples, n, d),
        (Contender(OURS, lambda x, y: mf.knn_kl_divergence(x, y, K, metric="chebyshev")), peers.npeet_divergence(K)),
        lambda x, y: NumberJudge(divergence(x, y), 1e-9),
    )


CASES = (entropy_case(8192, 1), entropy_case(8192, 8), divergence_case(8192, 3))


@pytest.mark.parametrize("case", parameters(CASES))
def test_entropy(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
