"""intrinsic_dimension: TwoNN and MLE against the oracle, against known dimensions, and their invariances."""

from __future__ import annotations

import re

import numpy as np
import oracles
import pytest
import torch
from strategies import cloud

import msma_fast as mf


@pytest.mark.parametrize("fraction", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [50, 211])
def test_twonn_is_the_censored_formula(fraction: float, n: int, backend: str) -> None:
    x = cloud("normal", n, 6, 0)
    with mf.use_backend(backend):
        found = mf.intrinsic_dimension(x, fraction=fraction)
    assert float(found.estimate) == pytest.approx(oracles.twonn(x, fraction), rel=1e-12)
    assert 0 < float(found.standard_error) < float(found.estimate)


@pytest.mark.parametrize("k", [2, 5, 20])
def test_mle_is_the_inverse_of_averaged_inverses(k: int, backend: str) -> None:
    x = cloud("normal", 150, 4, 1)
    with mf.use_backend(backend):
        found = mf.intrinsic_dimension(x, "mle", k=k)
    assert float(found.estimate) == pytest.approx(oracles.mle_dimension(x, k), rel=1e-12)
    assert 0 < float(found.standard_error) < float(found.estimate)


def test_the_stated_figure_for_a_uniform_cube(backend: str) -> None:
    """estimators.md: uniform d = 5: plain truncation gives 6.53, the censored formula 4.87."""
    with mf.use_backend(backend):
        found = [mf.intrinsic_dimension(np.random.default_rng(s).random((2000, 5))).estimate for s in range(8)]
    error = np.std(found, ddof=1) / np.sqrt(8)
    assert np.mean(found) == pytest.approx(4.87, abs=0.05 + 3 * error)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_the_standard_error_covers_the_spread_over_samples(d: int, backend: str) -> None:
    with mf.use_backend(backend):
        found = [mf.intrinsic_dimension(np.random.default_rng(s).standard_normal((500, d))) for s in range(20)]
    spread = np.std([f.estimate for f in found], ddof=1)
    stated = np.mean([f.standard_error for f in found])
    assert 0.5 * spread < stated < 2 * spread


@pytest.mark.parametrize("method", ["twonn", "mle"])
def test_invariances(method: str, rng: np.random.Generator, backend: str) -> None:
    """Rotation, scaling and embedding into more coordinates change nothing but rounding."""
    x = rng.standard_normal((200, 3))
    rotation, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    with mf.use_backend(backend):
        first = mf.intrinsic_dimension(x, method).estimate
        other = mf.intrinsic_dimension(np.hstack([x * 7, np.zeros((200, 9))]) @ rotation, method).estimate
    assert other == pytest.approx(first, rel=1e-9)


def test_decimation_reports_an_estimate_at_every_scale(backend: str) -> None:
    x = np.random.default_rng(2).random((1600, 2))
    with mf.use_backend(backend):
        plain = mf.intrinsic_dimension(x)
        found = mf.intrinsic_dimension(x, decimations=(1, 2, 4))
    assert len(found.scales) == len(found.estimates) == 3
    assert np.all(np.isfinite(np.asarray(found.estimates)))
    assert np.max(np.asarray(found.estimates)) == pytest.approx(2, rel=0.25)
    assert np.min(np.asarray(found.estimates)) == pytest.approx(2, rel=0.25)
    assert len(plain.scales) == len(plain.estimates) >= 1
    assert np.asarray(plain.estimates)[0] == pytest.approx(float(plain.estimate), rel=1e-12)


def test_float32_and_torch(backend: str) -> None:
    x = cloud("normal", 120, 5, 3).astype(np.float32)
    with mf.use_backend(backend):
        found = [float(mf.intrinsic_dimension(z).estimate) for z in (x, torch.from_numpy(x), x.astype(np.float64))]
    assert found[0] == found[1]
    assert found[0] == pytest.approx(found[2], rel=1e-5)
    assert found[2] == pytest.approx(oracles.twonn(x), rel=1e-12)


@pytest.mark.parametrize("method", ["twonn", "mle"])
def test_duplicates_never_give_a_silent_nan(method: str, backend: str) -> None:
    """r1 = 0 divides by zero: an error that says so, or a finite number, never nan or inf."""
    x = cloud("duplicates", 80, 4, 4)
    with mf.use_backend(backend):
        try:
            estimate = float(mf.intrinsic_dimension(x, method).estimate)
        except ValueError as error:
            estimate = 0.0 if re.search("duplicate|equal|distinct", str(error)) else np.nan
    assert np.isfinite(estimate)
