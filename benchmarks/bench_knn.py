"""knn among the points themselves, against faiss, torch, scikit-learn and scipy.

Capped cases run again in processes of their own, where we and the peers are held to an older instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import KnnJudge, judge_with
from benchmarks.peers import neighbors as peers

K = 15
LAYERS = (0, 1, 8, 15, 25, 30)
N = data.rows(8192)


def ours(k: int, metric: str = "euclidean", name: str = OURS, repeat: float = 1.0) -> Contender:
    return Contender(
        name, lambda x, *_: mf.knn(x, k, metric=metric), lambda found: (found.distances, found.indices), repeat=repeat
    )


def euclidean(name: str, points: Callable[[], np.ndarray], n: int, d: int, k: int, **options: Any) -> Case:
    """faiss, torch and scikit-learn, and in few dimensions also trees."""
    contenders = [ours(k), peers.faiss_knn(k), peers.torch_knn(k), peers.sklearn_knn(k)]
    if d <= 16:
        contenders += [peers.sklearn_knn(k, "kd_tree"), peers.sklearn_knn(k, "ball_tree"), peers.scipy_tree_knn(k)]
    return Case(
        "knn",
        f"{n:,} x {d}, {name}, k = {k}",
        lambda: (points(),),
        tuple(contenders),
        judge_with(KnnJudge, k),
        flops=2.0 * n * n * d,
        precision="int8" if d > 8 else "float32",
        **options,
    )


def real(layer: int) -> Case:
    return euclidean(
        f"{data.MODEL} layer {layer}",
        lambda: data.smollm2_layer(layer, N),
        N,
        576,
        K,
        memory=layer == LAYERS[0],
        capped=layer == 15,
    )


def real_50k() -> Case:
    n = data.rows(50_000)
    return euclidean(f"{data.MODEL} layer 15", lambda: data.smollm2_layer_15(n), n, 576, K, slow=True)


def random(n: int, d: int, k: int, **options: Any) -> Case:
    n, d = data.rows(n), data.width(d)
    return euclidean("random", lambda: data.random_points(n, d), n, d, k, **options)


def other_metric(metric: str) -> Case:
    return Case(
        "knn",
        f"{N:,} x 64, random, k = {K}, {metric}",
        lambda: (data.random_points(N, 64),),
        (
            ours(K, metric),
            peers.sklearn_knn(K, metric=metric),
            peers.torch_knn(K, metric),
            peers.scipy_cdist_knn(K, metric),
        ),
        judge_with(KnnJudge, K, metric),
    )


def growth() -> Case:
    """Ten times the rows are a hundred times the pairs: does the rate hold?"""
    few, many = data.rows(20_000), data.rows(200_000)

    def at_few(x: np.ndarray) -> Any:
        return mf.knn(x[:few], K)

    return Case(
        "knn",
        f"{many:,} x 64, random, k = {K}, against our rate at {few:,}",
        lambda: (data.random_points(many, 64),),
        (ours(K), Contender(f"{OURS} at {few:,}, scaled", at_few, repeat=(many / few) ** 2)),
        judge_with(KnnJudge, K),
        flops=2.0 * many * many * 64,
        precision="int8",
        slow=True,
        judged=False,
    )


CASES = (
    *(real(layer) for layer in LAYERS),
    real_50k(),
    random(20_000, 64, K, capped=True),
    random(20_000, 8, 5),
    random(4096, 4096, K),
    random(8192, 576, K),
    other_metric("manhattan"),
    other_metric("chebyshev"),
    growth(),
)


@pytest.mark.parametrize("case", parameters(CASES))
def test_knn(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
