"""ksg_cmi: Frenzel-Pompe of two Gaussian samples with a common cause. npeet-plus adds noise of 1e-10."""

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
Samples = tuple[np.ndarray, np.ndarray, np.ndarray]


def triple(n: int, d: int) -> Samples:
    """Two float64 samples and the condition that both come from; one-dimensional where d = 1."""
    x, y, z = np.random.default_rng(0).standard_normal((3, n, d))
    x, y = x + z, y + z
    return (x[:, 0], y[:, 0], z[:, 0]) if d == 1 else (x, y, z)


def definition(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    """psi(k) - <psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)>, chebyshev, row by row."""
    x, y, z = (sample.reshape(len(sample), -1) for sample in (x, y, z))
    total = 0.0
    for i in range(len(x)):
        a, b, c = (np.delete(np.abs(sample - sample[i]).max(1), i) for sample in (x, y, z))
        xz, yz = np.maximum(a, c), np.maximum(b, c)
        reach = np.partition(np.maximum(xz, b), K - 1)[K - 1]
        n_xz, n_yz, n_z = ((near < reach).sum() for near in (xz, yz, c))
        total += digamma(n_xz + 1) + digamma(n_yz + 1) - digamma(n_z + 1)
    return float(digamma(K) - total / len(x))


def case_of(n: int, d: int, memory: bool = False) -> Case:
    n = data.rows(n)
    contenders = [Contender(OURS, lambda x, y, z: mf.ksg_cmi(x, y, z, K)), peers.npeet_conditional(K)]
    if d == 1:
        contenders.append(peers.ennemi_conditional(K))
    return Case(
        "ksg_cmi",
        f"{n:,} rows, {d}-dimensional samples, k = {K}",
        partial(triple, n, d),
        tuple(contenders),
        lambda x, y, z: NumberJudge(definition(x, y, z), 1e-9),
        memory=memory,
    )


CASES = (case_of(2000, 1, memory=True), case_of(8192, 1), case_of(4096, 5))


@pytest.mark.parametrize("case", parameters(CASES))
def test_ksg_cmi(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
