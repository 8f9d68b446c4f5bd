"""knn_entropy and knn_kl_divergence: the brute-force estimates, their laws, and peers where definitions coincide."""

from __future__ import annotations

import math
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from scipy.special import digamma
from strategies import cloud

import msma_fast as mf

METRICS = ["chebyshev", "euclidean"]
EXCLUSIONS: list[dict[str, Any]] = [
    {"groups": np.arange(120) // 15},
    {"window": 6},
    {"groups": np.arange(120) % 3, "window": 4},
    {"groups": np.random.default_rng(0).integers(0, 9, 120)},
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 13, 40])
def test_they_are_the_brute_force_estimates(metric: str, dtype: Any, d: int, backend: str) -> None:
    x, y = cloud("normal", 157, d, 1).astype(dtype), (cloud("normal", 101, d, 2) + 0.5).astype(dtype)
    for k in (1, 3, 60):
        entropy = mf.knn_entropy(x, k, metric=metric, backend=backend)
        assert isinstance(entropy, float)
        assert entropy == pytest.approx(information_oracles.knn_entropy(x, k, metric), abs=1e-11)
        divergence = mf.knn_kl_divergence(x, y, k, metric=metric, backend=backend)
        assert isinstance(divergence, float)
        assert divergence == pytest.approx(information_oracles.knn_kl_divergence(x, y, k, metric), abs=1e-11)


def test_their_default_metrics_and_k() -> None:
    x, y = cloud("normal", 80, 3, 1), cloud("normal", 70, 3, 2)
    assert mf.knn_entropy(x) == pytest.approx(information_oracles.knn_entropy(x, 3, "chebyshev"), abs=1e-12)
    assert mf.knn_kl_divergence(x, y) == pytest.approx(
        information_oracles.knn_kl_divergence(x, y, 5, "euclidean"), abs=1e-12
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", EXCLUSIONS, ids=range(4))
def test_exclusions_enter_neighbours_and_their_numbers(metric: str, options: dict[str, Any], backend: str) -> None:
    x, y = cloud("normal", 120, 2, 1), cloud("normal", 90, 2, 2)
    found = mf.knn_entropy(x, 4, metric=metric, backend=backend, **options)
    assert found == pytest.approx(information_oracles.knn_entropy(x, 4, metric, **options), abs=1e-12)
    found = mf.knn_kl_divergence(x, y, 4, metric=metric, backend=backend, **options)
    assert found == pytest.approx(information_oracles.knn_kl_divergence(x, y, 4, metric, **options), abs=1e-12)


@pytest.mark.parametrize("kind", ["shifted", "huge_coordinate", "scales", "clusters"])
@pytest.mark.parametrize("metric", METRICS)
def test_hard_clouds(kind: str, metric: str, backend: str) -> None:
    both = cloud(kind, 150, 3, 4)
    x, y = both[:90], both[90:]
    assert mf.knn_entropy(x, 3, metric=metric, backend=backend) == pytest.approx(
        information_oracles.knn_entropy(x, 3, metric), abs=1e-11
    )
    assert mf.knn_kl_divergence(x, y, 3, metric=metric, backend=backend) == pytest.approx(
        information_oracles.knn_kl_divergence(x, y, 3, metric), abs=1e-11
    )


def test_the_fewest_rows_and_kinds_of_input(backend: str) -> None:
    x, y = cloud("normal", 5, 1, 1), cloud("normal", 4, 1, 2)
    assert mf.knn_entropy(x, 4, backend=backend) == pytest.approx(information_oracles.knn_entropy(x, 4), abs=1e-12)
    found = mf.knn_kl_divergence(x[:, 0], y, 4, backend=backend)
    assert found == pytest.approx(information_oracles.knn_kl_divergence(x, y, 4), abs=1e-12)
    x, y = cloud("normal", 60, 2, 3), cloud("normal", 50, 2, 4)
    narrow = torch.from_numpy(x).to(torch.bfloat16)
    wanted = information_oracles.knn_entropy(narrow.double().numpy())
    assert mf.knn_entropy(narrow, backend=backend) == pytest.approx(wanted, abs=1e-12)
    found = mf.knn_kl_divergence(x.astype(np.float32), y, backend=backend)
    assert found == pytest.approx(information_oracles.knn_kl_divergence(x.astype(np.float32), y), abs=1e-12)


def test_distances_that_float32_cannot_hold(backend: str) -> None:
    """Rows of float32 whose distances would be 0 or inf there: the estimate follows the scale d log s all the same."""
    x = cloud("normal", 60, 2, 5).astype(np.float32)
    base = mf.knn_entropy(x, metric="euclidean", backend=backend)
    for exponent in (-100, 120):
        scaled = x * np.float32(2.0) ** exponent
        found = mf.knn_entropy(scaled, metric="euclidean", backend=backend)
        assert found == pytest.approx(base + 2 * exponent * math.log(2), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_a_power_of_two_and_a_shift(metric: str) -> None:
    """Scaling by s adds d log s to the entropy and nothing to the divergence; a common shift adds nothing to either."""
    x, y = np.round(cloud("normal", 100, 3, 6), 6), np.round(cloud("normal", 80, 3, 7), 6)
    h, d = mf.knn_entropy(x, metric=metric), mf.knn_kl_divergence(x, y, metric=metric)
    assert mf.knn_entropy(8 * x + 3, metric=metric) == pytest.approx(h + 3 * math.log(8), abs=1e-10)
    assert mf.knn_kl_divergence(8 * x + 3, 8 * y + 3, metric=metric) == pytest.approx(d, abs=1e-10)


def test_repeated_rows_are_refused_with_their_number(backend: str) -> None:
    x = cloud("normal", 50, 2, 8)
    x[10:14] = x[0]  # five equal rows: each has four neighbours at distance 0
    for k in (1, 4):
        with pytest.raises(ValueError, match=rf"5 of 50 rows .* at least k = {k} times"):
            mf.knn_entropy(x, k, backend=backend)
        with pytest.raises(ValueError, match=rf"5 of 50 rows .* at least k = {k} times"):
            mf.knn_kl_divergence(x, cloud("normal", 40, 2, 9), k, backend=backend)
    assert mf.knn_entropy(x, 5, backend=backend) == pytest.approx(information_oracles.knn_entropy(x, 5), abs=1e-12)
    # Rows of one group are not neighbours, so that their repetitions do no harm.
    groups = np.where(np.isin(np.arange(50), [0, 10, 11, 12, 13]), 0, np.arange(50))
    wanted = information_oracles.knn_entropy(x, 3, groups=groups)
    assert mf.knn_entropy(x, 3, groups=groups, backend=backend) == pytest.approx(wanted, abs=1e-12)
    with pytest.raises(ValueError, match="30 of 30 rows"):
        mf.knn_entropy(np.ones((30, 2)), backend=backend)


def test_shared_rows_are_refused_with_their_number(backend: str) -> None:
    x, y = cloud("normal", 50, 2, 10), cloud("normal", 60, 2, 11)
    y[3], y[40] = x[7], x[9]
    with pytest.raises(ValueError, match=r"y: .*2 of 50 rows of x at distance 0"):
        mf.knn_kl_divergence(x, y, backend=backend)
    with pytest.raises(ValueError, match="50 of 50"):
        mf.knn_kl_divergence(x, x, backend=backend)


def test_agreement_with_npeet_plus(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definitions under chebyshev, once its noise of 1e-10 is left out of the entropy."""
    import npeet_plus

    monkeypatch.setattr(npeet_plus.estimators, "add_noise", lambda x, intens=0: x)
    for d in (1, 4):
        x, y = cloud("normal", 300, d, 12), cloud("normal", 200, d, 13) + 0.5
        for k in (1, 5):
            theirs = npeet_plus.entropy(x, k=k, base=np.e)
            assert mf.knn_entropy(x, k, backend=backend) == pytest.approx(theirs, abs=1e-10)
            theirs = npeet_plus.kldiv(x, y, k=k, base=np.e)
            found = mf.knn_kl_divergence(x, y, k, metric="chebyshev", backend=backend)
            assert found == pytest.approx(theirs, abs=1e-10)


def test_agreement_with_ennemi(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition. Its digamma is an expansion good to 1e-6, so it gets scipy's for the comparison."""
    import ennemi
    from ennemi import _entropy_estimators

    monkeypatch.setattr(_entropy_estimators, "_psi", digamma)
    x = cloud("normal", 300, 3, 14)
    theirs = float(ennemi.estimate_entropy(x, k=4, multidim=True))
    assert mf.knn_entropy(x, 4, backend=backend) == pytest.approx(theirs, abs=1e-10)
