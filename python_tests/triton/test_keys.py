"""Canonical keys by Triton kernels: the same bits as the plain reading, in the strict interpreter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.backends import triton as backend
from msma_fast.backends.torch import keys as plain
from msma_fast.backends.torch.kernel import Kernel, Rows

pytestmark = pytest.mark.usefixtures("strict")

KERNELS = [
    Kernel("sqeuclidean"),
    Kernel("manhattan"),
    Kernel("chebyshev"),
    Kernel("minkowski", 3),
    Kernel("minkowski", 16),
    Kernel("inner_product"),
    Kernel("cosine"),
]
SHAPES = [(1, 1, 1), (3, 70, 7), (17, 33, 8), (40, 31, 19), (16, 32, 100)]


def rows(kernel: Kernel, values: np.ndarray, dtype: Any) -> Rows:
    tensor = torch.from_numpy(values).to(dtype)
    return Rows(tensor, plain.row_norms(tensor) if kernel.kind == "cosine" else None)


def data(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "shifted":
        return x + 1e6
    if kind == "huge coordinate":
        x[:, 0] *= 1e30
    if kind == "lattice":
        return rng.integers(-2, 3, (n, d)) + 0.5
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel.kind}-{kernel.p}")
def test_keys_are_the_same_bits(kernel: Kernel, dtype: Any) -> None:
    for n, m, d in SHAPES:
        for kind in ("normal", "shifted", "huge coordinate", "lattice"):
            x, y = rows(kernel, data(kind, n, d, 1), dtype), rows(kernel, data(kind, m, d, 2), dtype)
            wanted = plain.block_keys(kernel, x, y)
            assert torch.equal(backend.block_keys(kernel, x, y), wanted)
            generator = torch.Generator().manual_seed(0)
            i, j = (torch.randint(0, size, (150,), generator=generator) for size in (n, m))
            assert torch.equal(backend.pair_keys(kernel, x, y, i, j), wanted[i, j])


def test_equal_rows_have_cosine_zero_and_nan_stays() -> None:
    kernel = Kernel("cosine")
    values = data("normal", 20, 9, 0)
    x = rows(kernel, values, torch.float32)
    assert (backend.block_keys(kernel, x, x).diagonal() == 0).all()
    values[3, 2] = math.nan
    for kernel in KERNELS:
        x = rows(kernel, values, torch.float64)
        wanted, found = plain.block_keys(kernel, x, x), backend.block_keys(kernel, x, x)
        assert torch.equal(found.isnan(), wanted.isnan())
        assert torch.equal(found.nan_to_num(), wanted.nan_to_num())


def test_no_pairs_and_no_rows() -> None:
    kernel, none = Kernel("sqeuclidean"), torch.empty(0, dtype=torch.int64)
    x = rows(kernel, data("normal", 5, 3, 0), torch.float32)
    assert backend.pair_keys(kernel, x, x, none, none).shape == (0,)
    assert backend.block_keys(kernel, Rows(x.values[:0]), x).shape == (0, 5)


@pytest.mark.parametrize(
    "metric",
    ["euclidean", "manhattan", "chebyshev", "minkowski", "cosine", "inner_product", "correlation", "hellinger"],
)
def test_the_engine_on_these_keys(metric: str) -> None:
    """Neighbours, counts and distances: indices and distances equal to the native backend's."""
    x = np.abs(data("normal", 60, 6, 3))
    x /= x.sum(1, keepdims=True)
    groups = np.arange(60) // 4
    options: dict[str, Any] = {"metric": metric} | ({"p": 3} if metric == "minkowski" else {})
    ours, theirs = (mf.knn(x, 5, groups=groups, window=2, backend=name, **options) for name in ("triton", "torch"))
    assert np.array_equal(ours.indices, theirs.indices)
    power = 1e-15 if metric in ("minkowski", "fisher_rao") else 0.0  # the maths library's, or its arcsine
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=power)
    radius = float(np.median(theirs.distances))
    counts = [mf.radius_count(x, radius, closed=True, backend=name, **options) for name in ("triton", "torch")]
    assert np.array_equal(*counts)
    both = [mf.pairwise_distances(x, backend=name, **options) for name in ("triton", "torch")]
    np.testing.assert_allclose(both[0], both[1], rtol=power)


def test_who_serves() -> None:
    assert mf.explain_backend("knn", np.ones((3, 2)), backend="triton").startswith("knn on cpu: triton")
    assert mf.explain_backend("knn", np.ones((3, 2))).startswith(("knn on cpu: native", "knn on cpu: triton"))
