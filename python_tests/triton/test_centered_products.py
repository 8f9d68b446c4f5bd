"""Distance correlation and kernel alignment by a Triton kernel: the direct formulas, with no matrix of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from hardened_interpreter import hardened
from strategies import KINDS, cloud

import msma_fast as mf
from msma_fast.triton_kernels import centered_products as kernels
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 32 rows: several of them meet each other in small sets."""
    monkeypatch.setattr(kernels, "TILES", (Configuration({"ROWS": 16, "BLOCK": 32}, 4),))


def pair(n: int, dx: int = 7, dy: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, dx))
    return x, np.resize(x, (n, dy)) ** 2 + rng.standard_normal((n, dy))


def check_sums(n: int) -> None:
    x, y = (torch.from_numpy(z) for z in pair(n, 5, 9))
    for form, scales in (("distance", (1.0, 1.0)), ("gaussian", (0.2, 0.1))):
        shifts = 0.3, -0.2
        sums, *rows = kernels.products(form, (x, scales[0], shifts[0]), (y, scales[1], shifts[1]))
        squares = [oracles.canonical_keys(z.numpy(), z.numpy(), "sqeuclidean") for z in (x, y)]
        a, b = (
            (np.sqrt(s) if form == "distance" else np.exp(-c * s)) - shift
            for s, c, shift in zip(squares, scales, shifts, strict=True)
        )
        np.testing.assert_allclose(sums, [(a * b).sum(), (a * a).sum(), (b * b).sum()], rtol=1e-12)
        for found, matrix in zip(rows, (a, b), strict=True):
            np.testing.assert_allclose(found, matrix.sum(1), rtol=1e-12, atol=1e-12 * n)


# One block, two (each meets the other once), three, four, five: an even and an odd way round.
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 90, 128, 157])
@pytest.mark.usefixtures("small")
def test_sums_and_rows_are_those_of_the_matrices(n: int) -> None:
    check_sums(n)


@pytest.mark.usefixtures("small")
def test_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PROGRAM_BLOCKS", 1)
    for n in (128, 157):
        check_sums(n)


def test_tiles_as_they_are_launched() -> None:
    check_sums(300)


@pytest.mark.parametrize("n", [2, 5, 137])
def test_distance_correlation_is_the_direct_formula(n: int) -> None:
    x, y = pair(n)
    assert mf.distance_correlation(x, y, backend="triton") == pytest.approx(
        oracles.distance_correlation(x, y), rel=1e-10
    )


def test_rbf_cka_has_the_median_distance_for_bandwidth() -> None:
    x, y = pair(75)  # an odd number of pairs has one median
    grams = []
    for z in (x, y):
        squared = oracles.canonical_keys(z, z, "euclidean")
        median = np.median(np.sqrt(squared[np.triu_indices(len(z), 1)]))
        grams.append(np.exp(-squared / (2 * median**2)))
    assert mf.cka(x, y, "rbf", backend="triton") == pytest.approx(oracles.kernel_cka(*grams), rel=1e-10)


def test_a_median_of_zero_leaves_only_equal_rows_alike() -> None:
    """The bandwidth is zero, the scale infinite: the kernel is 1 for equal rows, else 0."""
    x = np.zeros((30, 2))
    x[:5] = cloud("normal", 5, 2, 0)
    y = pair(30)[0]
    equal = (oracles.canonical_keys(x, x, "sqeuclidean") == 0).astype(float)
    squared = oracles.canonical_keys(y, y, "sqeuclidean")
    gaussian = np.exp(-squared / (2 * np.median(squared[np.triu_indices(30, 1)])))
    assert mf.cka(x, y, "rbf", backend="triton") == pytest.approx(oracles.kernel_cka(equal, gaussian), rel=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_and_strides(dtype: Any) -> None:
    x, y = (z.astype(dtype) for z in pair(90, 8, 6))
    x, y = x[:, ::2], np.asfortranarray(y)
    found = mf.distance_correlation(torch.from_numpy(x), torch.from_numpy(y), backend="triton")
    assert float(found) == pytest.approx(oracles.distance_correlation(x, y), rel=1e-10)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("all_equal", "huge_coordinate")])
def test_adversarial_points(kind: str) -> None:
    x, y = cloud(kind, 90, 5, 2), cloud("normal", 90, 4, 3)
    found = mf.distance_correlation(x, y, backend="triton")
    assert found == pytest.approx(oracles.distance_correlation(x, y), rel=1e-6)
    assert mf.distance_correlation(x, x, backend="triton") == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("kind", ["all_equal", "huge_coordinate"])
def test_sets_that_hardly_vary_are_the_torch_backends(kind: str) -> None:
    x, y = cloud(kind, 50, 4, 2), cloud("normal", 50, 3, 3)
    ours, theirs = (
        [mf.distance_correlation(x, y, backend=name), mf.cka(x, y, "rbf", backend=name)] for name in ("triton", "torch")
    )
    assert ours == pytest.approx(theirs, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("d", [3, 200])
def test_linear_cka_stays_a_matrix_product(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair(60, d, 5)
    monkeypatch.delattr(kernels, "products")
    assert mf.cka(x, y, backend="triton") == pytest.approx(oracles.linear_cka(x - x.mean(0), y), rel=1e-9)
    layers = [z.astype(np.float32) for z in (x, y)]
    ours, theirs = (mf.cka_matrix(layers, backend=name) for name in ("triton", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # of float32 products, by another library on a GPU


@pytest.mark.usefixtures("small")
def test_any_order_of_programs_gives_the_same_bits() -> None:
    found = []
    for seed in (1, 2):
        with hardened(seed):
            found.append(mf.distance_correlation(*pair(150), backend="triton"))
    assert found[0] == found[1]
