"""Gaussian kernel sums by Triton kernels: direct float64 sums, gradients by the formula, the same bits every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from hardened_interpreter import hardened
from strategies import KINDS, cloud

import msma_fast as mf
from msma_fast.triton_kernels import gaussian_kernel_sums as kernels
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of columns in small sets."""
    monkeypatch.setattr(kernels, "SUMS", (Configuration({"ROWS": 16, "BLOCK": 32}, 4),))
    monkeypatch.setattr(kernels, "GRADIENTS", (Configuration({"ROWS": 16, "BLOCK": 16, "BLOCK_D": 16}, 4),))


SHAPES = [(1, 1, 1), (2, 1, 3), (17, 257, 8), (97, 43, 41)]


def gradient(rows: torch.Tensor) -> np.ndarray:
    assert rows.grad is not None
    return rows.grad.numpy()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_sums_are_the_direct_sums(n: int, m: int, d: int, dtype: Any) -> None:
    x, y = cloud("normal", n, d, 0).astype(dtype), cloud("normal", m, d, 1).astype(dtype)
    widths = np.array([0.5, 2.0, 9.0]) * d**0.5
    cross, own = (mf.gaussian_kernel_sums(x, z, widths, backend="triton") for z in (y, None))
    for b, width in enumerate(widths):
        assert cross[b] == pytest.approx(oracles.gaussian_kernel_sum(x, y, width), rel=1e-13)
        assert own[b] == pytest.approx(oracles.gaussian_kernel_sum(x, None, width), rel=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_points(kind: str) -> None:
    x, y = cloud(kind, 90, 5, 2), cloud(kind, 70, 5, 3)
    for z in (y, None, x):
        found = mf.gaussian_kernel_sums(x, z, 1.3, backend="triton")
        assert found == pytest.approx(oracles.gaussian_kernel_sum(x, z, 1.3), rel=1e-13)


@pytest.mark.usefixtures("small")
def test_more_bandwidths_than_one_launch_takes() -> None:
    x = cloud("normal", 40, 3, 0)
    widths = np.geomspace(0.1, 30.0, 35)
    found = mf.gaussian_kernel_sums(x, None, widths, backend="triton")
    np.testing.assert_allclose(found, [oracles.gaussian_kernel_sum(x, None, width) for width in widths], rtol=1e-13)


@pytest.mark.usefixtures("small")
def test_many_blocks_are_shared_out() -> None:
    """More column blocks than shares, so that a program walks over several of them."""
    x, y = cloud("normal", 33, 2, 0), cloud("normal", 66 * 32 + 9, 2, 1)
    found = mf.gaussian_kernel_sums(x, y, 1.0, backend="triton")
    assert found == pytest.approx(oracles.gaussian_kernel_sum(x, y, 1.0), rel=1e-13)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("n", [31, 33, 150])
def test_one_set_of_several_blocks(n: int) -> None:
    x = cloud("normal", n, 3, 0)
    found = mf.gaussian_kernel_sums(x, None, 1.0, backend="triton")
    assert found == pytest.approx(oracles.gaussian_kernel_sum(x, None, 1.0), rel=1e-13)


def wanted_gradients(x: np.ndarray, y: np.ndarray, widths: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    """Of x and of y in the sum over both, and of x in its own."""

    def pull(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        keys = oracles.canonical_keys(u, v, "sqeuclidean")
        weights = sum(-s / h**2 * np.exp(-keys / (2 * h**2)) for s, h in zip(shares, widths, strict=True))
        return oracles.weighted_differences(weights, u, v)

    return [pull(x, y), pull(y, x), 2 * pull(x, x)]


def found_gradients(x: np.ndarray, y: np.ndarray, widths: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    weights = torch.from_numpy(shares)
    a, b, own = (torch.from_numpy(z).requires_grad_() for z in (x, y, x.copy()))
    (mf.gaussian_kernel_sums(a, b, widths, backend="triton") * weights).sum().backward()
    (mf.gaussian_kernel_sums(own, None, widths, backend="triton") * weights).sum().backward()
    return [gradient(z) for z in (a, b, own)]


@pytest.mark.parametrize(("n", "m", "d"), [(2, 1, 1), (131, 67, 5), (40, 83, 41)])
def test_gradients_are_the_formula(n: int, m: int, d: int) -> None:
    x, y = cloud("normal", n, d, 4), cloud("normal", m, d, 5)
    x[-1], y[0] = x[0], x[0]
    data = x, y, np.array([1.0, 3.0]), np.array([0.7, -0.2])
    for found, wanted in zip(found_gradients(*data), wanted_gradients(*data), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13 * max(1.0, np.abs(wanted).max()))


@pytest.mark.usefixtures("small")
def test_gradients_over_many_blocks() -> None:
    """More column blocks than shares, so that a program adds up several of them."""
    x, y = cloud("normal", 20, 19, 4), cloud("normal", 150, 19, 5)
    data = x, y, np.array([4.0, 9.0]), np.array([0.7, -0.2])
    for found, wanted in zip(found_gradients(*data), wanted_gradients(*data), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("kind", ["duplicates", "lattice", "shifted", "huge_coordinate", "all_equal"])
def test_gradients_of_adversarial_points(kind: str) -> None:
    """The error promised is relative to the longest row less the mean, coordinate by coordinate."""
    x, y = cloud(kind, 70, 5, 6), cloud(kind, 50, 5, 7)
    data = x, y, np.array([1.3]), np.array([1.0])
    reach = np.abs(np.concatenate([x, y]) - x.mean(0)).max(0) + 1.0
    for found, wanted in zip(found_gradients(*data), wanted_gradients(*data), strict=True):
        assert (np.abs(found - wanted) <= 1e-12 * reach).all()


def test_strides_and_half_gradients_keep_their_dtype() -> None:
    x = torch.randn(18, 8, generator=torch.Generator().manual_seed(0))[::2, ::2].to(torch.bfloat16).requires_grad_()
    y = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).T.requires_grad_()
    found = mf.mmd(x, y, 1.0, backend="triton")
    assert float(found.detach()) == pytest.approx(
        float(mf.mmd(x.detach(), y.detach(), 1.0, backend="torch")), rel=1e-12
    )
    found.backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert y.grad.dtype == torch.float32


def test_the_divergence_is_the_torch_backends() -> None:
    x, y = cloud("normal", 60, 3, 8), cloud("normal", 45, 3, 9) + 0.5
    ours, theirs = (mf.cauchy_schwarz_divergence(x, y, 1.5, backend=name) for name in ("triton", "torch"))
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_any_order_of_programs_gives_the_same_bits() -> None:
    x = torch.from_numpy(cloud("normal", 90, 3, 0)).requires_grad_()
    found = []
    for seed in (1, 2):
        with hardened(seed):
            total = mf.gaussian_kernel_sums(x, None, [0.5, 2.0], backend="triton")
            found.append((total.detach(), torch.autograd.grad(total.sum(), x)[0]))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
