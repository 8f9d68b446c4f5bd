"""radius_count among the points themselves, at the median distance of the 15th neighbour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import KnnJudge, RadiusJudge, sample
from benchmarks.peers import neighbors as peers

K = 15
N = data.rows(8192)


def with_radius(x: np.ndarray) -> tuple[np.ndarray, float]:
    """The points and a radius, from the oracle's neighbours of 64 rows."""
    return x, float(np.median(np.sqrt(KnnJudge(x, K, rows=sample(len(x), 64)).keys[:, -1])))


def case_of(name: str, points: Callable[[], np.ndarray], n: int, d: int, **options: Any) -> Case:
    ours = Contender(OURS, lambda x, radius: mf.radius_count(x, radius, closed=True))
    contenders = [ours, peers.faiss_count(), peers.torch_count(), peers.sklearn_count()]
    if d <= 16:
        contenders.append(peers.scipy_tree_count())
    return Case(
        "radius_count",
        f"{n:,} x {d}, {name}",
        lambda: with_radius(points()),
        tuple(contenders),
        RadiusJudge,
        flops=2.0 * n * n * d,
        precision="int8" if d > 8 else "float32",
        **options,
    )


def random(n: int, d: int, **options: Any) -> Case:
    n, d = data.rows(n), data.width(d)
    return case_of("random", lambda: data.random_points(n, d), n, d, **options)


CASES = (
    case_of(f"{data.MODEL} layer 15", lambda: data.smollm2_layer(15, N), N, 576, memory=True),
    random(20_000, 64),
    random(20_000, 8),
    random(4096, 4096),
    random(50_000, 576, slow=True),
)


@pytest.mark.parametrize("case", parameters(CASES))
def test_radius_count(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
