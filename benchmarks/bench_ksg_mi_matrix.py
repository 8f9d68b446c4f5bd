"""ksg_mi_matrix of all layers of a model, and of all columns of a table. NPEET+ has chebyshev distances alone: in the
euclidean case it estimates another number of the same samples, and only its time is meant; it also adds noise to every
sample, and scikit-learn to every column, which it scales."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import EntriesJudge, ksg_estimate, ksg_estimate_of_columns
from benchmarks.peers import information as peers

K, LAYERS = 3, 31
N = 2048 if not data.QUICK else 256
JUDGED = ((0, 1), (3, 30), (12, 13), (15, 15), (22, 8))


def layers() -> tuple[np.ndarray]:
    """(31, n, 576) float32: the embedding and the states after every block."""
    return (np.stack([data.smollm2_layer(layer, data.rows(8192))[:N] for layer in range(LAYERS)]),)


def judge(points: np.ndarray, metric: str) -> EntriesJudge:
    wide = points.astype(np.float64)
    return EntriesJudge({(a, b): ksg_estimate(wide[a], wide[b], K, metric) for a, b in JUDGED}, 1e-9)


def case_of(metric: str) -> Case:
    def ours(points: np.ndarray) -> np.ndarray:
        return np.asarray(mf.ksg_mi_matrix(points, K, metric=metric))

    return Case(
        "ksg_mi_matrix",
        f"{LAYERS} layers, {N:,} x 576, {metric}, k = {K}, {data.MODEL}",
        layers,
        (Contender(OURS, ours), peers.torch_matrix(K, metric), peers.npeet_matrix(K)),
        lambda points: judge(points, metric),
        slow=True,
        judged=False,
    )


COLUMNS, ROWS = data.width(200), data.rows(2000)


def columns() -> tuple[np.ndarray]:
    """(COLUMNS, ROWS, 1) float64: each column is noise and a mixture of eight common factors."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((COLUMNS, 8)) @ rng.standard_normal((8, ROWS)) / np.sqrt(8)
    return ((common + rng.standard_normal((COLUMNS, ROWS)))[:, :, None],)


def judge_of_columns(table: np.ndarray) -> EntriesJudge:
    places = [*((0, b) for b in range(1, COLUMNS, 7)), (COLUMNS - 1, COLUMNS // 2), (3, 3)]
    return EntriesJudge({(a, b): ksg_estimate_of_columns(table[a, :, 0], table[b, :, 0], K) for a, b in places}, 1e-9)


OF_COLUMNS = Case(
    "ksg_mi_matrix",
    f"{COLUMNS} columns, {ROWS:,} rows, all pairs, k = {K}",
    columns,
    (
        Contender(OURS, lambda table: np.asarray(mf.ksg_mi_matrix(table, K))),
        peers.sklearn_columns(K, COLUMNS),
        peers.sklearn_columns_once(K, COLUMNS),
    ),
    judge_of_columns,
    slow=True,
    judged=False,
)
CASES = (case_of("euclidean"), case_of("chebyshev"), OF_COLUMNS)


@pytest.mark.parametrize("case", parameters(CASES))
def test_ksg_mi_matrix(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
