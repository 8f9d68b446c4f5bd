"""ksg_mi: n = 2000, 1-D pair, k = 3. Peers: ennemi, NPEET+, scikit-learn (all KSG1 up to clipping)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from benchmarks.conftest import ROUNDS

N, K, RHO = 2000, 3, 0.75
TRUTH = -0.5 * np.log(1 - RHO**2)


def _ours(x: np.ndarray, y: np.ndarray) -> float:
    return mf.ksg_mi(x, y, K)


def _ennemi(x: np.ndarray, y: np.ndarray) -> float:
    from ennemi import estimate_mi

    return float(estimate_mi(y, x, k=K)[0, 0])


def _npeet(x: np.ndarray, y: np.ndarray) -> float:
    import npeet_plus

    return float(npeet_plus.mi(x[:, None], y[:, None], k=K, base=np.e))


def _sklearn(x: np.ndarray, y: np.ndarray) -> float:
    from sklearn.feature_selection import mutual_info_regression

    return float(mutual_info_regression(x[:, None], y, n_neighbors=K)[0])


RUNS = {"msma_fast": _ours, "ennemi": _ennemi, "npeet-plus": _npeet, "scikit-learn": _sklearn}


@pytest.mark.benchmark(group="ksg_mi n = 2000, 1-D pair")
@pytest.mark.parametrize("name", RUNS)
def test_ksg_mi(benchmark: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(N)
    y = RHO * x + np.sqrt(1 - RHO**2) * rng.standard_normal(N)
    found = RUNS[name](x, y)
    benchmark.extra_info["nats"] = found
    assert abs(found - TRUTH) < 0.1
    benchmark.pedantic(RUNS[name], args=(x, y), **ROUNDS)
