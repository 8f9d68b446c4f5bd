"""mi_permutation_test of two layers, against as many estimates by plain torch with kept distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import NumberJudge, ksg_estimate
from benchmarks.peers import information as peers

K, PERMUTATIONS = 3, 200
N = 2048 if not data.QUICK else 256


def two_layers() -> tuple[np.ndarray, np.ndarray]:
    x, y = (data.smollm2_layer(layer, data.rows(8192))[:N] for layer in (10, 20))
    return x, y


def last_null(x: np.ndarray, y: np.ndarray, metric: str) -> float:
    """The estimate under the last permutation of seed 0."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(PERMUTATIONS):
        order = torch.randperm(len(x), generator=generator).numpy()
    return ksg_estimate(x.astype(np.float64), y[order].astype(np.float64), K, metric)


def case_of(metric: str) -> Case:
    def ours(x: np.ndarray, y: np.ndarray) -> Any:
        return mf.mi_permutation_test(x, y, K, PERMUTATIONS, metric=metric, seed=0)

    return Case(
        "mi_permutation_test",
        f"{PERMUTATIONS} permutations, {N:,} x 576, {metric}, k = {K}, {data.MODEL} layers 10 and 20",
        two_layers,
        (
            Contender(OURS, ours, lambda found: float(found.null[-1])),
            peers.torch_permutations(K, metric, PERMUTATIONS),
        ),
        lambda x, y: NumberJudge(last_null(x, y, metric), 1e-9),
        slow=True,
        memory=True,
    )


CASES = (case_of("euclidean"), case_of("chebyshev"))


@pytest.mark.parametrize("case", parameters(CASES))
def test_mi_permutation_test(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
