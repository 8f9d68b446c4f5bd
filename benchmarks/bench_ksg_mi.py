"""ksg_mi: KSG1 of correlated Gaussians. Peers clip at zero, and scikit-learn adds noise and scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma

import msma_fast as mf
from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import NumberJudge, ksg_estimate_of_columns
from benchmarks.peers import information as peers

K, RHO = 3, 0.75


def pair(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 samples whose coordinates have correlation RHO; one-dimensional where d = 1."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, n, d))
    y = RHO * x + np.sqrt(1 - RHO**2) * noise
    return (x[:, 0], y[:, 0]) if d == 1 else (x, y)


def definition(x: np.ndarray, y: np.ndarray) -> float:
    """psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>, chebyshev, by full matrices."""

    def matrix(sample: np.ndarray) -> np.ndarray:
        columns = sample.reshape(len(sample), -1).T
        full = np.zeros((len(sample), len(sample)))
        for column in columns:
            np.maximum(full, np.abs(column[:, None] - column), out=full)
        np.fill_diagonal(full, np.inf)
        return full

    a, b = matrix(x), matrix(y)
    reach = np.partition(np.maximum(a, b), K - 1, axis=1)[:, K - 1 : K]
    inside = digamma((a < reach).sum(1) + 1) + digamma((b < reach).sum(1) + 1)
    return float(digamma(K) + digamma(len(x)) - inside.mean())


def on_one_thread(run: Callable[..., Any]) -> Callable[..., Any]:
    def limited(*inputs: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run(*inputs)
        finally:
            torch.set_num_threads(threads)

    return limited


def ours(x: np.ndarray, y: np.ndarray) -> Any:
    return mf.ksg_mi(x, y, K)


def case_of(n: int, d: int, *contenders: Contender, note: str = "", **options: Any) -> Case:
    n = data.rows(n)

    def truth(x: np.ndarray, y: np.ndarray) -> float:
        return ksg_estimate_of_columns(x, y, K) if d == 1 else definition(x, y)

    return Case(
        "ksg_mi",
        f"{n:,} pairs, {d}-dimensional, k = {K}{note}",
        lambda: pair(n, d),
        contenders,
        lambda x, y: NumberJudge(truth(x, y), 1e-9),
        **options,
    )


US, ALONE = Contender(OURS, ours), Contender(OURS, on_one_thread(ours))
# ennemi, NPEET+ and scikit-learn estimate one pair on one thread.
ALL = (peers.npeet(K), peers.ennemi(K), peers.sklearn_information(K))
CASES = (
    case_of(2000, 1, US, *ALL, memory=True),
    case_of(10_000, 1, US, *ALL),
    case_of(10_000, 1, ALONE, *ALL, note=", everybody on one thread"),
    case_of(1_000_000, 1, US, peers.ennemi(K), slow=True),
    case_of(2000, 16, US, peers.npeet(K)),
    case_of(5000, 10, US, peers.npeet(K)),
)


@pytest.mark.parametrize("case", parameters(CASES))
def test_ksg_mi(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
