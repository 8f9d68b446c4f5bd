"""gaussian_kernel_sums, mmd and cauchy_schwarz_divergence: direct sums, known values, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import KINDS, cloud

import msma_fast as mf


def gradient(rows: torch.Tensor) -> np.ndarray:
    assert rows.grad is not None
    return rows.grad.numpy()


@pytest.mark.parametrize(("n", "m", "d"), [(2, 1, 1), (1, 7, 3), (131, 257, 5), (300, 83, 17), (33, 400, 600)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_the_direct_sums(n: int, m: int, d: int, dtype: Any, backend: str) -> None:
    x, y = cloud("normal", n, d, 0).astype(dtype), cloud("normal", m, d, 1).astype(dtype)
    widths = np.array([0.5, 2.0, 9.0]) * d**0.5
    cross, own = (mf.gaussian_kernel_sums(x, z, widths, backend=backend) for z in (y, None))
    assert cross.dtype == own.dtype == np.float64
    for b, width in enumerate(widths):
        assert cross[b] == pytest.approx(oracles.gaussian_kernel_sum(x, y, width), rel=1e-12)
        assert own[b] == pytest.approx(oracles.gaussian_kernel_sum(x, None, width), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_points(kind: str, backend: str) -> None:
    x, y = cloud(kind, 90, 5, 2), cloud(kind, 70, 5, 3)
    width = 1.3
    for z in (y, None, x):
        found = mf.gaussian_kernel_sums(x, z, width, backend=backend)
        assert isinstance(found, float)
        assert found == pytest.approx(oracles.gaussian_kernel_sum(x, z, width), rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(2, 1, 1), (131, 257, 5), (300, 83, 17)])
def test_gradients_are_the_formula(n: int, m: int, d: int, backend: str) -> None:
    x, y = cloud("normal", n, d, 4), cloud("normal", m, d, 5)
    x[-1], y[0] = x[0], x[0]
    widths, shares = np.array([1.0, 3.0]), np.array([0.7, -0.2])
    sums = torch.from_numpy(shares)
    a, b = (torch.from_numpy(z).requires_grad_() for z in (x, y))
    (mf.gaussian_kernel_sums(a, b, widths, backend=backend) * sums).sum().backward()
    own = torch.from_numpy(x).requires_grad_()
    (mf.gaussian_kernel_sums(own, None, widths, backend=backend) * sums).sum().backward()

    def weights(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        keys = oracles.canonical_keys(u, v, "sqeuclidean")
        return sum(-s / h**2 * np.exp(-keys / (2 * h**2)) for s, h in zip(shares, widths, strict=True))

    for found, wanted in (
        (gradient(a), oracles.weighted_differences(weights(x, y), x, y)),
        (gradient(b), oracles.weighted_differences(weights(y, x), y, x)),
        (gradient(own), 2 * oracles.weighted_differences(weights(x, x), x, x)),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("y_rows", [0, 4])
def test_gradcheck_and_opcheck(y_rows: int, backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 6, 3, 6)).requires_grad_()
    y = torch.from_numpy(cloud("normal", y_rows, 3, 7)).requires_grad_() if y_rows else None
    widths = torch.tensor([0.7, 2.0], dtype=torch.float64)

    def sums(a: torch.Tensor, b: torch.Tensor | None = None) -> Any:
        return mf.gaussian_kernel_sums(a, b, widths, backend=backend)

    assert torch.autograd.gradcheck(sums, (x,) if y is None else (x, y))
    torch.library.opcheck(torch.ops.msma_fast.gaussian_kernel_sums.default, (x, y, widths, backend))
    grad = torch.ones(2, dtype=torch.float64)
    detached = (x.detach(), None if y is None else y.detach())
    torch.library.opcheck(torch.ops.msma_fast.gaussian_kernel_sums_backward.default, (grad, *detached, widths, backend))


def test_half_gradients_keep_their_dtype(backend: str) -> None:
    x = torch.randn(9, 4, dtype=torch.bfloat16, requires_grad=True)
    y = torch.randn(5, 4, requires_grad=True)
    found = mf.mmd(x, y, 1.0, backend=backend)
    assert found.dtype == torch.float64
    found.backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert y.grad is not None
    assert y.grad.dtype == torch.float32


def test_mmd_is_the_definition(backend: str) -> None:
    x, y = cloud("normal", 40, 3, 8), cloud("normal", 29, 3, 9) + 0.5
    for width in (0.3, 2.0):
        own = [oracles.gaussian_kernel_sum(z, None, width) for z in (x, y)]
        cross = 2 * oracles.gaussian_kernel_sum(x, y, width) / (40 * 29)
        unbiased = own[0] / (40 * 39) + own[1] / (29 * 28) - cross
        biased = (own[0] + 40) / 40**2 + (own[1] + 29) / 29**2 - cross
        assert mf.mmd(x, y, width, backend=backend) == pytest.approx(unbiased, rel=1e-12)
        assert mf.mmd(x, y, width, unbiased=False, backend=backend) == pytest.approx(biased, rel=1e-12)
    several = mf.mmd(x, y, [0.3, 2.0], backend=backend)
    assert several.shape == (2,)
    assert several[1] == mf.mmd(x, y, 2.0, backend=backend)


def test_equal_samples_are_at_zero(rng: np.random.Generator, backend: str) -> None:
    x = rng.standard_normal((150, 6)) + 1e6
    y = x[rng.permutation(150)]
    assert mf.mmd(x, y, 1.5, unbiased=False, backend=backend) == pytest.approx(0.0, abs=1e-14)
    assert mf.cauchy_schwarz_divergence(x, y, 1.5, backend=backend) == pytest.approx(0.0, abs=1e-13)


def test_unbiased_mmd_averages_to_zero(rng: np.random.Generator, backend: str) -> None:
    samples = rng.standard_normal((60, 2, 60, 3))
    values = [mf.mmd(x, y, 1.5, backend=backend) for x, y in samples]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 4 * np.std(values) / 60**0.5


def test_cauchy_schwarz_divergence_of_two_normals(rng: np.random.Generator, backend: str) -> None:
    """Parzen windows of variance h^2 / 2 on unit normals: normals of variance 1 + h^2 / 2, divergence (2 m)^2 / (4 s^2)."""
    x, y = (rng.standard_normal((1500, 1)) + shift for shift in (-1.0, 1.0))
    width = 0.5
    wanted = 4.0 / (4 * (1 + width**2 / 2))
    assert mf.cauchy_schwarz_divergence(x, y, width, backend=backend) == pytest.approx(wanted, rel=0.08)
    assert mf.cauchy_schwarz_divergence(x, y + 1e3, width, backend=backend) == np.inf


def test_minimising_mmd_moves_a_sample_onto_another(backend: str) -> None:
    x = torch.zeros(40, 2, dtype=torch.float64) + 0.1 * torch.from_numpy(cloud("normal", 40, 2, 10))
    y = torch.from_numpy(cloud("normal", 60, 2, 11)) + 2
    x.requires_grad_()
    first = float(mf.mmd(x.detach(), y, 2.0, backend=backend))
    for _ in range(60):
        (gradient,) = torch.autograd.grad(mf.mmd(x, y, 2.0, backend=backend), x)
        with torch.no_grad():
            x -= 20 * gradient
    assert float(mf.mmd(x.detach(), y, 2.0, backend=backend)) < 0.05 * first
