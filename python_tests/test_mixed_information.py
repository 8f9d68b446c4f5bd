"""mixed_mi: the brute-force estimate on every backend and by either way; its limits, KSG1, the plug-in value and
the label estimator, which is compared with its peers here too."""

from __future__ import annotations

from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from scipy.special import digamma
from strategies import cloud

import msma_fast as mf
from msma_fast.backends.torch import joint

METRICS = ["chebyshev", "euclidean"]
EXCLUSIONS: list[dict[str, Any]] = [
    {"groups": np.arange(120) // 15},
    {"window": 6},
    {"groups": np.arange(120) % 3, "window": 4},
]


def rectified(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Half of x is exactly zero, y is rounded to halves where it is positive: atoms and densities in both."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    y = x[:, :1] + rng.standard_normal((n, 1))
    return np.where(x[:, :1] > 0, x, 0.0), np.where(y > 0, np.round(2 * y) / 2, y)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_brute_force_estimate(metric: str, dtype: Any, backend: str) -> None:
    x, y = (s.astype(dtype) for s in rectified(161))
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 2, (161, 11)).astype(dtype)
    for a, b in ((x, y), (wide, y), (x[:, 0], wide[:, :3]), (y, y)):
        for k in (1, 5, 70):
            found = mf.mixed_mi(a, b, k, metric=metric, backend=backend)
            assert isinstance(found, float)
            assert found == pytest.approx(information_oracles.mixed_mi(a, b, k, metric), abs=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", EXCLUSIONS, ids=range(3))
def test_exclusions_enter_every_count(metric: str, options: dict[str, Any], backend: str) -> None:
    x, y = rectified(120)
    for a, b in ((x, y), (np.round(x), np.round(y))):
        found = mf.mixed_mi(a, b, 4, metric=metric, backend=backend, **options)
        assert found == pytest.approx(information_oracles.mixed_mi(a, b, 4, metric, **options), abs=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "kind", ["duplicates", "lattice", "one_ulp", "all_equal", "shifted", "huge_coordinate", "scales"]
)
def test_ties_follow_the_canonical_keys(kind: str, metric: str, backend: str) -> None:
    x, y = cloud(kind, 90, 2, 1), cloud("lattice", 90, 1, 2)
    for a, b in ((x, y), (y, y), (x, x)):
        found = mf.mixed_mi(a, b, 3, metric=metric, backend=backend)
        assert found == pytest.approx(information_oracles.mixed_mi(a, b, 3, metric), abs=1e-12)


def test_the_fewest_rows_and_kinds_of_input(backend: str) -> None:
    x, y = rectified(6)
    assert mf.mixed_mi(x, y, 5, backend=backend) == pytest.approx(information_oracles.mixed_mi(x, y, 5), abs=1e-12)
    x, y = rectified(80)
    wanted = information_oracles.mixed_mi(x, y.astype(np.float32), 3)
    assert mf.mixed_mi(x, y[:, 0].astype(np.float32), backend=backend) == pytest.approx(wanted, abs=1e-12)
    halves = torch.from_numpy(x).to(torch.bfloat16), torch.from_numpy(y)
    wanted = information_oracles.mixed_mi(halves[0].double().numpy(), y, 3)
    assert mf.mixed_mi(*halves, backend=backend) == pytest.approx(wanted, abs=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rectified(97)
    wanted = mf.mixed_mi(x, y, backend="torch")
    monkeypatch.setattr(joint, "_BLOCK", 97 * 10)
    assert mf.mixed_mi(x, y, backend="torch") == wanted


@pytest.mark.parametrize("metric", METRICS)
def test_without_ties_it_is_ksg1_with_log_n(metric: str, backend: str) -> None:
    x, y = cloud("normal", 150, 2, 1), cloud("normal", 150, 3, 2)
    ksg = information_oracles.ksg_mi(x, y, 4, metric=metric).mi
    found = mf.mixed_mi(x, y, 4, metric=metric, backend=backend)
    assert found == pytest.approx(ksg + np.log(150) - digamma(150), abs=1e-12)


def test_of_discrete_samples_it_is_the_plug_in_value_with_digamma_counts(backend: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 3, 2000).astype(np.float64)
    y = np.where(rng.random(2000) < 0.6, x, rng.integers(0, 4, 2000))
    table = np.histogram2d(x, y, bins=(3, 4))[0]
    n_x, n_y = table.sum(1, keepdims=True), table.sum(0, keepdims=True)
    terms = digamma(table) + np.log(2000) - digamma(n_x) - digamma(n_y)
    found = mf.mixed_mi(x, y, backend=backend)
    assert found == pytest.approx((table * terms).sum() / 2000, abs=1e-12)
    plug_in = (table * np.log(table * 2000 / n_x / n_y)).sum() / 2000
    assert found == pytest.approx(plug_in, abs=0.005)


def test_a_constant_tells_nothing(backend: str) -> None:
    x, _ = rectified(90)
    found = mf.mixed_mi(x, np.zeros(90), backend=backend)
    assert found == pytest.approx(information_oracles.mixed_mi(x, np.zeros(90)), abs=1e-12)
    assert mf.mixed_mi(np.ones(90), np.zeros(90), backend=backend) == pytest.approx(np.log(90) - digamma(90), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_with_labels_far_apart_it_is_ross_with_log_n(k: int, backend: str) -> None:
    """No neighbour of another label then comes near, and m_x is the number of rows of the label."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 300)
    y = labels + rng.uniform(0, 2, 300)
    found = mf.mixed_mi(100.0 * labels, y, k, backend=backend)
    assert found == pytest.approx(
        information_oracles.ross_mi(y, labels, k, "chebyshev") + np.log(300) - digamma(300), abs=1e-12
    )


@pytest.mark.parametrize("rare", [False, True])
def test_label_information_is_that_of_scikit_learn(rare: bool, backend: str) -> None:
    """Ross 2014, with rare labels as scikit-learn has them. Its distances are roots of squares, exact for integers, and the
    public function would rescale them and add noise."""
    from sklearn.feature_selection._mutual_info import _compute_mi_cd

    rng = np.random.default_rng(5)
    labels = np.array([0] * 60 + [1] * 40 + [2] * 3 + [3] * 2 + [4, 5]) if rare else rng.integers(0, 3, 200)
    x = np.round(1e6 * (rng.standard_normal(len(labels)) + labels))
    assert len(np.unique(x)) == len(x)
    for k in (1, 4):
        found = mf.ross_mi(x, labels, k, backend=backend)
        assert found == pytest.approx(_compute_mi_cd(x, labels, k), abs=1e-12)


def test_label_information_is_that_of_ennemi(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition. Its digamma is an expansion good to 1e-6, so it gets scipy's for the comparison."""
    import ennemi
    from ennemi import _entropy_estimators

    monkeypatch.setattr(_entropy_estimators, "_psi", digamma)
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 200)
    x = rng.standard_normal(200) + labels
    theirs = ennemi.estimate_mi(labels, x, k=3, discrete_y=True, preprocess=False).item()
    assert mf.ross_mi(x, labels, 3, backend=backend) == pytest.approx(theirs, abs=1e-10)
