"""distance_correlation, cka and stress of two layers, against plain torch with full matrices."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import NumberJudge
from benchmarks.peers import pairs as peers

N = data.rows(4096)


def two_layers() -> tuple[np.ndarray, np.ndarray]:
    x, y = (data.smollm2_layer(layer, data.rows(8192))[:N] for layer in (15, 25))
    return x, y


def _centred(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean())


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The square root of the biased V-statistic, over full float64 matrices of direct differences."""
    a, b = (_centred(cdist(points, points)) for points in (x.astype(np.float64), y.astype(np.float64)))
    return math.sqrt((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (points.astype(np.float64) - points.mean(0, dtype=np.float64) for points in (x, y))
    return float(np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))


def stress(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (cdist(points, points) for points in (x.astype(np.float64), y.astype(np.float64)))
    return float(((a - b) ** 2).sum() / 2)


_NAME = f"{N:,} x 576, {data.MODEL} layers 15 and 25"
CASES = (
    Case(
        "similarity",
        f"distance_correlation, {_NAME}",
        two_layers,
        (Contender(OURS, lambda x, y: mf.distance_correlation(x, y)), peers.torch_distance_correlation()),
        lambda x, y: NumberJudge(distance_correlation(x, y), 1e-6),
        flops=2 * 2.0 * N * N * 576,
        memory=True,
    ),
    Case(
        "similarity",
        f"cka, {_NAME}",
        two_layers,
        (Contender(OURS, lambda x, y: mf.cka(x, y)), peers.torch_cka()),
        lambda x, y: NumberJudge(linear_cka(x, y), 1e-6),
        flops=3 * 2.0 * N * 576 * 576,
    ),
    Case(
        "similarity",
        f"stress and both gradients, {_NAME}",
        two_layers,
        (Contender(OURS, lambda x, y: peers.value_and_gradients(mf.stress, x, y)), peers.torch_stress()),
        lambda x, y: NumberJudge(stress(x, y), 1e-6 * stress(x, y)),
        flops=2 * 2.0 * N * N * 576,
        memory=True,
    ),
)


@pytest.mark.parametrize("case", parameters(CASES))
def test_similarity(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
