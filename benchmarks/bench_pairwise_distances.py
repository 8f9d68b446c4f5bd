"""pairwise_distances: full euclidean matrices, of points with themselves and with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import DistanceJudge
from benchmarks.peers import pairs as peers

N = data.rows(8192)
_OURS = Contender(OURS, lambda x, y: mf.pairwise_distances(x, y))


def float32(name: str, inputs: Callable[[], tuple[Any, Any]], *others: Contender, **options: Any) -> Case:
    """1e-6 relative is what is promised."""
    contenders = (_OURS, peers.torch_cdist(), *others, peers.sklearn_pairwise())
    judge = lambda x, y: DistanceJudge(x, y, 1e-6)  # noqa: E731
    return Case("pairwise_distances", name, inputs, contenders, judge, flops=2.0 * N * N * 576, **options)


def float64(n: int) -> Case:
    return Case(
        "pairwise_distances",
        f"{n:,} x 576, random, self, float64",
        lambda: (data.random_points(n, 576).astype(np.float64), None),
        (_OURS, peers.scipy_cdist(), peers.torch_cdist(), peers.torch_cdist(direct=True)),
        lambda x, y: DistanceJudge(x, y, 1e-12),
    )


CASES = (
    float32(
        f"{N:,} x 576, {data.MODEL} layer 15, self, float32",
        lambda: (data.smollm2_layer(15, N), None),
        peers.torch_cdist(direct=True),
        memory=True,
    ),
    float32(
        f"{N:,} x 576, {data.MODEL} layers 15 and 25, cross, float32",
        lambda: (data.smollm2_layer(15, N), data.smollm2_layer(25, N)),
    ),
    float64(data.rows(4096)),
)


@pytest.mark.parametrize("case", parameters(CASES))
def test_pairwise_distances(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
