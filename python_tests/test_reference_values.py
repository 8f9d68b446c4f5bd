"""Closed-form truths: the estimators come within three standard errors over seeds, or within a bias that is stated.

Gaussian pairs, Student-t, uniform noise, labels, the ceiling, exclusions and the flagged trap of `ksg_mi` and `ross_mi` are
in test_information.py; here are the other values and the other estimators. On the automatic backend: that every backend gives
the same estimate is shown where each estimator is compared with its oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import msma_fast as mf

Rng = np.random.Generator
METRICS = ["chebyshev", "euclidean"]
COVARIANCE = np.array([[1, 0.3, 0.5, 0.2], [0.3, 1, 0.1, 0.4], [0.5, 0.1, 1, 0.3], [0.2, 0.4, 0.3, 1]])


@pytest.fixture(autouse=True)
def _one_thread_here(torch_threads: None) -> None:
    """Many small problems: a second thread would only spin."""
    torch.set_num_threads(1)


def mean_and_error(estimate: Callable[[Rng], float], seeds: int = 12) -> tuple[float, float]:
    values = [estimate(np.random.default_rng(seed)) for seed in range(seeds)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(seeds))


def log_det(*columns: int) -> float:
    return math.log(np.linalg.det(COVARIANCE[np.ix_(columns, columns)]))


def gaussian(rng: Rng, n: int) -> np.ndarray:
    return rng.standard_normal((n, 4)) @ np.linalg.cholesky(COVARIANCE).T


# ---- mutual information ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
def test_a_strongly_dependent_gaussian_pair(method: str) -> None:
    def estimate(rng: Rng) -> float:
        z = rng.standard_normal((600, 2))
        return mf.ksg_mi(z[:, 0], 0.99 * z[:, 0] + math.sqrt(1 - 0.99**2) * z[:, 1], method=method)

    mean, error = mean_and_error(estimate)
    assert abs(mean - 1.95852) < 3 * error
    assert 3 * error < 0.05


@pytest.mark.parametrize("metric", METRICS)
def test_gaussian_blocks_follow_the_determinants(metric: str) -> None:
    truth = (log_det(0, 1) + log_det(2, 3) - log_det(0, 1, 2, 3)) / 2

    def estimate(rng: Rng) -> float:
        z = gaussian(rng, 1000)
        return mf.ksg_mi(z[:, :2], z[:, 2:], metric=metric)

    mean, error = mean_and_error(estimate)
    assert abs(mean - truth) < 3 * error
    assert 3 * error < 0.03


def test_five_and_five_student_coordinates() -> None:
    """Uncorrelated but dependent through a common scale; the bias is KSG's own at this n in ten dimensions."""

    def estimate(rng: Rng) -> float:
        z = rng.standard_normal((2000, 10)) / np.sqrt(rng.chisquare(3, 2000) / 3)[:, None]
        z = np.arcsinh(z)
        return mf.ksg_mi(z[:, :5], z[:, 5:])

    mean, error = mean_and_error(estimate, 5)
    assert 0.29854 - 0.15 - 3 * error < mean < 0.29854 + 3 * error


# ---- mixtures and labels --------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "truth"), [(2, 0.34657), (5, 1.05492)])
def test_a_uniform_label_against_its_uniform_shift(m: int, truth: float) -> None:
    def estimate(rng: Rng) -> float:
        x = rng.integers(0, m, 2000).astype(np.float64)
        return mf.mixed_mi(x, x + rng.uniform(0, 2, 2000))

    mean, error = mean_and_error(estimate)
    assert abs(mean - truth) < 3 * error
    assert 3 * error < 0.012


def test_mixtures_of_gaussians_and_atoms() -> None:
    """x is a coin with probability 1/2, else a normal number far from it, and y a noisy copy: the kind of row is known from
    both, log 2; then the coin flips with probability 0.1, or the pair has correlation 0.6."""
    truth = math.log(2) + (math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)) / 2 - 0.25 * math.log(1 - 0.6**2)

    def estimate(rng: Rng) -> float:
        coin, kind = rng.integers(0, 2, 2000), rng.random(2000) < 0.5
        z = rng.standard_normal((2000, 2))
        flipped = np.where(rng.random(2000) < 0.1, 1 - coin, coin)
        x = np.where(kind, coin, 100 + z[:, 0])
        return mf.mixed_mi(x, np.where(kind, flipped, 100 + 0.6 * z[:, 0] + 0.8 * z[:, 1]))

    mean, error = mean_and_error(estimate)
    assert abs(mean - truth) < 3 * error
    assert 3 * error < 0.03


# ---- conditional information ----------------------------------------------------------------------------


def chain(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X <- Z -> Y with unit noise."""
    z = rng.standard_normal(n)
    return z + rng.standard_normal(n), z + rng.standard_normal(n), z


@pytest.mark.parametrize("metric", METRICS)
def test_a_common_cause_explains_the_dependence(metric: str) -> None:
    mean, error = mean_and_error(lambda rng: mf.ksg_cmi(*chain(rng, 1000), metric=metric))
    assert abs(mean) < 3 * error
    assert 3 * error < 0.03
    mean, error = mean_and_error(lambda rng: mf.ksg_mi(*chain(rng, 1000)[:2], metric=metric))
    assert abs(mean - 0.14384) < 3 * error
    assert 3 * error < 0.04


def test_conditional_gaussians_follow_the_determinants() -> None:
    truth = (log_det(0, 2, 3) + log_det(1, 2, 3) - log_det(2, 3) - log_det(0, 1, 2, 3)) / 2

    def estimate(rng: Rng) -> float:
        z = gaussian(rng, 2000)
        return mf.ksg_cmi(z[:, 0], z[:, 1], z[:, 2:])

    mean, error = mean_and_error(estimate)
    assert abs(mean - truth) < 3 * error
    assert 3 * error < 0.02


def test_two_independent_causes_of_a_condition() -> None:
    """X -> Z <- Y: independent, but given their sum I(X; Y | Z) = 1/2 log(var(x | z)^2 / det) = log(2 / sqrt 3)."""

    def estimate(rng: Rng) -> float:
        x, y = rng.standard_normal((2, 1500))
        return mf.ksg_cmi(x, y, x + y + rng.standard_normal(1500))

    mean, error = mean_and_error(estimate)
    assert abs(mean - math.log(2 / math.sqrt(3))) < 3 * error
    assert 3 * error < 0.03


# ---- entropy and divergence -----------------------------------------------------------------------------

# The last number is the estimator's own bias at this n: its balls reach where the density is no longer flat.
DIMENSIONS = [(1, 0.0), (2, 0.01), (3, 0.03), (5, 0.09)]


@pytest.mark.parametrize(("d", "bias"), DIMENSIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_entropy_of_a_standard_normal(d: int, bias: float, metric: str) -> None:
    truth = 1.41894 * d
    mean, error = mean_and_error(lambda rng: mf.knn_entropy(rng.standard_normal((3000, d)), metric=metric))
    assert truth - bias - 3 * error < mean < truth + 3 * error
    assert 3 * error < 0.03


def test_the_entropy_of_a_uniform_interval_is_the_log_of_its_length() -> None:
    mean, error = mean_and_error(lambda rng: mf.knn_entropy(3 * rng.random((3000, 1))))
    assert abs(mean - math.log(3)) < 3 * error


@pytest.mark.parametrize(("d", "bias"), [(1, 0.0), (2, 0.0), (3, 0.03), (5, 0.12)])
@pytest.mark.parametrize("metric", METRICS)
def test_the_divergence_of_shifted_normals(d: int, bias: float, metric: str) -> None:
    def estimate(rng: Rng) -> float:
        return mf.knn_kl_divergence(rng.standard_normal((4000, d)), rng.standard_normal((4000, d)) + 0.5, metric=metric)

    mean, error = mean_and_error(estimate)
    assert 0.125 * d - bias - 3 * error < mean < 0.125 * d + 3 * error
    assert 3 * error < 0.035


def test_the_divergence_of_equal_densities_and_unequal_sizes_is_zero() -> None:
    mean, error = mean_and_error(lambda rng: mf.knn_kl_divergence(rng.standard_normal(500), rng.standard_normal(3000)))
    assert abs(mean) < 3 * error


# ---- exclusions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [16, 4, 2])
def test_same_text_exclusion_biases_no_estimator(texts: int) -> None:
    """With psi(N), log N or n - 1 for what is left of the neighbours these would be off by 0.07, 0.29 and 0.69."""
    groups = np.arange(400) % texts

    def pair(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        x, y = rng.standard_normal((2, 400))
        return x, y

    estimates: list[tuple[Callable[[Rng], float], float]] = [
        (lambda rng: mf.knn_entropy(rng.standard_normal(400), groups=groups), 1.41894),
        (lambda rng: mf.mixed_mi(*pair(rng), groups=groups), 0.0),
        (lambda rng: mf.ksg_cmi(*pair(rng), rng.standard_normal(400), groups=groups), 0.0),
        (lambda rng: mf.knn_kl_divergence(*pair(rng), groups=groups), 0.0),
    ]
    for estimate, truth in estimates:
        mean, error = mean_and_error(estimate)
        assert abs(mean - truth) < 3 * error
        assert 3 * error < 0.06
