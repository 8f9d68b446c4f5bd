"""KSG, its matrix and the label estimator: equal to the oracle, close to known values and to peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from scipy.special import digamma
from strategies import cloud

import msma_fast as mf

METHODS = ["ksg1", "ksg2"]


def paired(n: int, dx: int = 2, dy: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dx))
    return x, 0.8 * x[:, :1] + rng.standard_normal((n, dy))


def gaussian(n: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    z = np.random.default_rng(seed).standard_normal((n, 2))
    return z[:, 0], rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]


def mean_and_error(estimate: Callable[[int], Any], seeds: int = 12) -> tuple[float, float]:
    values = [float(estimate(seed)) for seed in range(seeds)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(seeds))


# ---- equal to the oracle ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ksg_is_the_brute_force_estimate(method: str, metric: str, dtype: Any, backend: str) -> None:
    x, y = (z.astype(dtype) for z in paired(173))
    for k in (1, 4, 60):
        found = mf.ksg_mi(x, y, k, method=method, metric=metric, backend=backend)
        assert float(found) == pytest.approx(information_oracles.ksg_mi(x, y, k, method, metric).mi, abs=1e-12)


EXCLUSIONS: list[dict[str, Any]] = [
    {"groups": np.arange(120) // 15},
    {"window": 6},
    {"groups": np.arange(120) % 3, "window": 4},
    {"groups": np.random.default_rng(0).integers(0, 9, 120)},
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", EXCLUSIONS, ids=range(4))
def test_exclusions_enter_neighbours_counts_and_digamma(method: str, options: dict[str, Any], backend: str) -> None:
    x, y = paired(120)
    found = mf.ksg_mi(x, y, 5, method=method, backend=backend, **options)
    assert float(found) == pytest.approx(information_oracles.ksg_mi(x, y, 5, method, **options).mi, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind", ["duplicates", "lattice", "one_ulp", "all_equal", "shifted", "huge_coordinate", "scales"]
)
def test_ties_follow_the_canonical_keys(method: str, kind: str, backend: str) -> None:
    x, y = cloud(kind, 90, 2, 1), cloud("lattice", 90, 1, 2)
    for metric in ("chebyshev", "euclidean"):
        found = mf.ksg_mi(x, y, 3, method=method, metric=metric, backend=backend)
        assert float(found) == pytest.approx(information_oracles.ksg_mi(x, y, 3, method, metric).mi, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_several_k_in_one_pass(method: str, backend: str) -> None:
    x, y = paired(80)
    found = mf.ksg_mi(x, y, (7, 1, 3), method=method, backend=backend)
    assert found.shape == (3,)
    assert found.dtype == np.float64
    alone = [float(mf.ksg_mi(x, y, k, method=method, backend=backend)) for k in (7, 1, 3)]
    np.testing.assert_allclose(found, alone, atol=1e-13)


def test_batches(rng: np.random.Generator, backend: str) -> None:
    x, y = rng.standard_normal((4, 50, 2)), rng.standard_normal((4, 50, 1))
    y[1:] += x[1:, :, :1]
    one, several = mf.ksg_mi(x, y, 3, backend=backend), mf.ksg_mi(x, y, [2, 3], backend=backend)
    assert one.shape == (4,)
    assert several.shape == (4, 2)
    wanted = [information_oracles.ksg_mi(a, b, 3).mi for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(one, wanted, atol=1e-12)
    np.testing.assert_allclose(several[:, 1], wanted, atol=1e-12)


def test_one_dimensional_input_kinds_and_dtypes(backend: str) -> None:
    x, y = gaussian(90, 0.7, 3)
    wanted = information_oracles.ksg_mi(x, y, 3).mi
    assert float(mf.ksg_mi(x, y, backend=backend)) == pytest.approx(wanted, abs=1e-12)
    assert float(mf.ksg_mi(x[:, None], y, backend=backend)) == pytest.approx(wanted, abs=1e-12)
    tensor = mf.ksg_mi(torch.from_numpy(x), torch.from_numpy(y), [3, 4], backend=backend)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float64
    assert float(tensor[0]) == pytest.approx(wanted, abs=1e-12)
    half_x, half_y = (torch.from_numpy(z).to(torch.bfloat16) for z in (x, y))
    wanted = information_oracles.ksg_mi(half_x.double().numpy(), half_y.double().numpy(), 3).mi
    assert float(mf.ksg_mi(half_x, half_y, backend=backend)) == pytest.approx(wanted, abs=1e-12)


def test_diagnostics(backend: str) -> None:
    x, y = paired(100)
    wanted = information_oracles.ksg_mi(x, y, 4, window=2)
    found = mf.ksg_mi(x, y, 4, window=2, diagnostics=True, backend=backend)
    assert float(found.mi) == pytest.approx(wanted.mi, abs=1e-12)
    np.testing.assert_allclose(found.local, wanted.local, atol=1e-12)
    assert np.array_equal(found.n_x, wanted.n_x)
    assert np.array_equal(found.n_y, wanted.n_y)
    assert float(found.ceiling) == pytest.approx(wanted.ceiling, abs=1e-12)
    assert float(found.tie_fraction) == 0
    assert isinstance(found.verdict, str)
    assert found.verdict != "ok"


def test_ties_and_saturation_are_reported(backend: str) -> None:
    x = cloud("duplicates", 100, 2, 5)
    tied = mf.ksg_mi(x, cloud("normal", 100, 2, 6), diagnostics=True, backend=backend)
    assert 0 < float(tied.tie_fraction) <= 1
    y = cloud("normal", 200, 2, 7)
    saturated = mf.ksg_mi(y, -y, diagnostics=True, backend=backend)
    assert float(saturated.mi) == pytest.approx(float(saturated.ceiling), abs=1e-12)
    assert len(saturated.reasons) > 0
    assert saturated.verdict != "no warning"


def test_noise_is_seeded_and_breaks_ties(backend: str) -> None:
    x, y = cloud("lattice", 150, 1, 8), cloud("lattice", 150, 1, 9)

    def mi(**options: Any) -> float:
        return float(mf.ksg_mi(x, y, 3, backend=backend, **options))

    assert mi(noise=1e-8, seed=1) == mi(noise=1e-8, seed=1)
    assert mi(noise=1e-8, seed=1) != mi(noise=1e-8, seed=2)
    assert mi(noise=1e-8, seed=1) != mi()
    noisy = mf.ksg_mi(x, y, 3, noise=1e-8, diagnostics=True, backend=backend)
    assert float(noisy.tie_fraction) == 0
    assert mi() == pytest.approx(information_oracles.ksg_mi(x, y, 3).mi, abs=1e-12)


def test_noise_on_constant_and_on_huge_columns() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(200)
    for constant in (0.0, 1.0, -1e200):
        x = np.full(200, constant)
        assert abs(mf.ksg_mi(x, np.zeros(200), noise=1e-6)) < 0.3  # both are nothing but noise now
        assert mf.ksg_mi(x, y, noise=1e-6, diagnostics=True).tie_fraction == 0
    x = y + rng.standard_normal(200)
    assert mf.ksg_mi(x * 1e300, y * 1e300, noise=1e-9) == pytest.approx(mf.ksg_mi(x, y), abs=0.05)
    with pytest.raises(ValueError, match="seed"):
        mf.ksg_mi(x, y, seed=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
def test_the_matrix_is_all_pairs(method: str, metric: str, backend: str) -> None:
    layers = [cloud("normal", 70, d, d) for d in (2, 5, 1)]
    layers[1][:, :2] += layers[0]
    options: dict[str, Any] = {"method": method, "metric": metric, "groups": np.arange(70) // 6}
    found = mf.ksg_mi_matrix(layers, 3, backend=backend, **options)
    assert found.shape == (3, 3)
    assert np.array_equal(found, found.T)
    np.testing.assert_allclose(found, information_oracles.ksg_matrix(layers, k=3, **options), atol=1e-12)
    several = mf.ksg_mi_matrix(layers, (3, 8), backend=backend, **options)
    assert several.shape == (3, 3, 2)
    np.testing.assert_allclose(several[..., 1], information_oracles.ksg_matrix(layers, k=8, **options), atol=1e-12)


def test_the_matrix_of_one_array_and_its_default_metric(backend: str) -> None:
    layers = np.random.default_rng(1).standard_normal((4, 60, 3))
    found = mf.ksg_mi_matrix(layers, backend=backend)
    np.testing.assert_allclose(found, information_oracles.ksg_matrix(list(layers), k=3), atol=1e-12)
    np.testing.assert_allclose(np.diag(found), digamma(60) - digamma(3), atol=1e-12)
    tensor = mf.ksg_mi_matrix(torch.from_numpy(layers), backend=backend)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), found)


def test_label_information_is_the_brute_force_estimate(rng: np.random.Generator, backend: str) -> None:
    labels = rng.integers(0, 3, 140)
    x = rng.standard_normal(140) + labels
    for k in (1, 3, 9):
        with mf.use_backend(backend):
            found = mf.ross_mi(x, labels, k)
        assert float(found) == pytest.approx(information_oracles.ross_mi(x, labels, k, "chebyshev"), abs=1e-12)
    wide = rng.standard_normal((140, 4)) + labels[:, None]
    with mf.use_backend(backend):
        found = mf.ross_mi(wide, labels)
    either = [information_oracles.ross_mi(wide, labels, 3, metric) for metric in ("chebyshev", "euclidean")]
    assert min(abs(float(found) - value) for value in either) < 1e-12


def test_rare_labels(rng: np.random.Generator, backend: str) -> None:
    """A label with fewer than k others uses them all; a row alone with its label is left out."""
    labels = np.array([0] * 60 + [1] * 40 + [2] * 3 + [3] * 2 + [4, 5])
    x = rng.standard_normal(len(labels)) + labels
    with mf.use_backend(backend):
        found = mf.ross_mi(x, labels, 5)
    assert float(found) == pytest.approx(information_oracles.ross_mi(x, labels, 5, "chebyshev"), abs=1e-12)


def test_label_information_of_a_discrete_variable_is_the_plug_in_value(backend: str) -> None:
    rng = np.random.default_rng(12)
    labels = rng.integers(0, 3, 1500)
    x = np.where(rng.random(1500) < 0.7, labels, rng.integers(0, 3, 1500)).astype(np.float64)
    joint = np.histogram2d(x, labels, bins=3)[0] / 1500
    plug_in = (joint * np.log(joint / joint.sum(0) / joint.sum(1)[:, None])).sum()
    with mf.use_backend(backend):
        assert float(mf.ross_mi(x, labels)) == pytest.approx(plug_in, abs=0.01)


# ---- known values -------------------------------------------------------------------------------------
# On the automatic backend: that every backend gives the same estimate is shown above.


@pytest.mark.parametrize(("rho", "truth"), [(0.0, 0.0), (0.6, 0.22314), (0.75, 0.41334), (0.9, 0.83037)])
@pytest.mark.parametrize("method", METHODS)
def test_gaussian_pairs(rho: float, truth: float, method: str) -> None:
    mean, error = mean_and_error(lambda s: mf.ksg_mi(*gaussian(600, rho, s), method=method))
    assert abs(mean - truth) < 3 * error + 2e-5


# The last number of a row is the estimator's own bias at this n, seen with an independent k-d tree code as well:
# sharp edges and shared scales are hard for it. It shrinks with n.
STUDENT = [(1, 1, 1, 0.22417, 0.005), (2, 2, 1, 0.43195, 0.06), (2, 2, 2, 0.19315, 0.05), (3, 3, 2, 0.29092, 0.15)]


@pytest.mark.parametrize(("dx", "dy", "df", "truth", "bias"), STUDENT)
def test_student_pairs(dx: int, dy: int, df: int, truth: float, bias: float) -> None:
    """Uncorrelated but dependent through a common scale. Monotone maps of coordinates change nothing."""

    def estimate(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((2000, dx + dy)) / np.sqrt(rng.chisquare(df, 2000) / df)[:, None]
        z = np.arcsinh(z)
        return mf.ksg_mi(z[:, :dx], z[:, dx:], 3)

    mean, error = mean_and_error(estimate, 5)
    assert truth - bias - 3 * error < mean < truth + 3 * error


@pytest.mark.parametrize(("e", "truth", "bias"), [(0.1, 1.70944, 0.03), (0.75, 0.33333, 0.015)])
def test_uniform_noise(e: float, truth: float, bias: float) -> None:
    def estimate(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        x = rng.random(3000)
        return mf.ksg_mi(x, x + rng.uniform(-e, e, 3000), 3)

    mean, error = mean_and_error(estimate, 5)
    assert truth - bias - 3 * error < mean < truth + 3 * error


@pytest.mark.parametrize(("m", "truth"), [(2, 0.34657), (5, 1.05492)])
def test_uniform_label_against_its_uniform_shift(m: int, truth: float) -> None:
    def estimate(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        label = rng.integers(0, m, 800)
        return mf.ross_mi(label + rng.uniform(0, 2, 800), label)

    mean, error = mean_and_error(estimate)
    assert abs(mean - truth) < 3 * error + 0.005


@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
def test_a_variable_with_itself_gives_the_ceiling(metric: str) -> None:
    x = cloud("normal", 211, 3, 10)
    for k in (1, 5):
        found = mf.ksg_mi(x, x, k, metric=metric)
        assert float(found) == pytest.approx(digamma(211) - digamma(k), abs=1e-12)


@pytest.mark.parametrize("texts", [16, 4, 2])
@pytest.mark.parametrize("method", METHODS)
def test_same_text_exclusion_does_not_bias_independent_gaussians(texts: int, method: str) -> None:
    """With psi(N) in place of <psi(N_i)> these are 0.07, 0.29 and 0.69."""

    def estimate(seed: int) -> Any:
        z = np.random.default_rng(seed).standard_normal((400, 2))
        groups = np.arange(400) % texts
        return mf.ksg_mi(z[:, 0], z[:, 1], 3, method=method, groups=groups)

    mean, error = mean_and_error(estimate)
    assert abs(mean) < 3 * error
    assert 3 * error < 0.06


def test_the_estimate_is_not_clipped() -> None:
    found = [float(mf.ksg_mi(*gaussian(60, 0.0, s))) for s in range(20)]
    assert min(found) < 0 < max(found)


def test_rotation_leaves_the_euclidean_estimate(rng: np.random.Generator) -> None:
    x, y = paired(150, 4, 3)
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    first = float(mf.ksg_mi(x, y, 4, metric="euclidean"))
    assert float(mf.ksg_mi(x @ rotation, y, 4, metric="euclidean")) == pytest.approx(first, abs=1e-12)


# ---- peers, where the definitions coincide ------------------------------------------------------------


def test_agreement_with_ennemi(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition. Its digamma is an expansion good to 1e-6, so it gets scipy's for the comparison."""
    import ennemi
    from ennemi import _entropy_estimators

    monkeypatch.setattr(_entropy_estimators, "_psi", digamma)
    x, y = gaussian(300, 0.8, 11)
    for k in (1, 3, 10):
        theirs = ennemi.estimate_mi(y, x, k=k, preprocess=False).item()
        assert mf.ksg_mi(x, y, k, backend=backend) == pytest.approx(theirs, abs=1e-10)


def test_agreement_with_npeet_plus(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition, once its noise of 1e-10 is left out."""
    import npeet_plus

    monkeypatch.setattr(npeet_plus.estimators, "add_noise", lambda x, intens=0: x)
    for dx, dy in ((1, 1), (3, 2), (7, 5)):
        x, y = paired(300, dx, dy)
        for k in (1, 3, 10):
            theirs = npeet_plus.mi(x, y, k=k, base=np.e)
            assert mf.ksg_mi(x, y, k, backend=backend) == pytest.approx(theirs, abs=1e-10)


def test_agreement_with_scikit_learn(backend: str) -> None:
    """It rescales x and y and adds noise of 1e-10 that cannot be turned off."""
    from sklearn.feature_selection import mutual_info_regression

    x, y = (sample / sample.std() for sample in gaussian(300, 0.8, 11))
    theirs = mutual_info_regression(x[:, None], y, n_neighbors=3, random_state=0)[0]
    assert mf.ksg_mi(x, y, 3, backend=backend) == pytest.approx(theirs, abs=1e-6)
