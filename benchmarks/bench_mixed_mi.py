"""mixed_mi: a rectified sample, half of it exactly zero, against a noisy copy; the peer does the same by scipy's trees."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.special import digamma

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import NumberJudge
from benchmarks.peers import information as peers

K = 3


def rectified(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, noise = np.random.default_rng(0).standard_normal((2, n))
    return np.maximum(x, 0.0), np.maximum(x + noise, 0.0)


def definition(x: np.ndarray, y: np.ndarray) -> float:
    """<psi(k_i) + log n - psi(m_x) - psi(m_y)>, row by row; each row counts itself."""
    total = 0.0
    for i in range(len(x)):
        a, b = np.abs(x - x[i]), np.abs(y - y[i])
        joint = np.maximum(a, b)
        reach = np.partition(joint, K)[K]
        limit = reach if reach == 0 else np.nextafter(reach, 0)
        k_i = (joint == 0).sum() if reach == 0 else K
        total += digamma(k_i) - digamma((a <= limit).sum()) - digamma((b <= limit).sum())
    return float(total / len(x) + np.log(len(x)))


def case_of(n: int) -> Case:
    n = data.rows(n)
    return Case(
        "mixed_mi",
        f"{n:,} pairs, one-dimensional, half zeros, k = {K}",
        partial(rectified, n),
        (Contender(OURS, lambda x, y: mf.mixed_mi(x, y, K)), peers.scipy_mixed(K)),
        lambda x, y: NumberJudge(definition(x, y), 1e-9),
    )


CASES = (case_of(8192),)


@pytest.mark.parametrize("case", parameters(CASES))
def test_mixed_mi(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
