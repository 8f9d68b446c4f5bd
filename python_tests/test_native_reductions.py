"""The compiled reductions: the same bits for every thread count, run and instruction set, close to the torch backend, and
strict at their boundary."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from strategies import KINDS, cloud
from subprocesses import printed

import msma_fast as mf
from msma_fast.backends import native

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

SETS = ["scalar", "avx2", "avx512"]


def everything(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """Every reduction and gradient: x (n, d), y (m, d), z (n, dz)."""
    a, b, c = (torch.from_numpy(rows).requires_grad_() for rows in (x, y, z))
    with mf.use_backend("native"):
        sums = mf.gaussian_kernel_sums(a, b, [0.5, 4.0]), mf.gaussian_kernel_sums(a, None, [0.5, 4.0]), mf.stress(a, c)
        gradients = [
            *torch.autograd.grad(sums[0].sum(), (a, b)),
            *torch.autograd.grad(sums[1].sum(), a),
            *torch.autograd.grad(sums[2], (a, c)),
        ]
        plain = [
            mf.distance_histogram(x, np.linspace(0, 9, 33)),
            mf.distance_histogram(x, np.linspace(0, 9, 33), points=y),
            mf.distance_correlation(x, z),
            mf.cka(x, z, "rbf"),
        ]
    return [*(tensor.detach().numpy() for tensor in (*sums, *gradients)), *map(np.asarray, plain)]


def case(seed: int = 0, n: int = 700, m: int = 431) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return cloud("normal", n, 21, seed), cloud("normal", m, 21, seed + 1), cloud("clusters", n, 5, seed + 2)


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    torch.set_num_threads(1)
    wanted = everything(*case())
    for threads in (2, 3, 7, 2):
        torch.set_num_threads(threads)
        for got, expected in zip(everything(*case()), wanted, strict=True):
            assert got.tobytes() == expected.tobytes()


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 6, 7, 8])
def test_every_pair_of_blocks_is_visited_once(blocks: int) -> None:
    """Blocks have 128 rows at most; even and odd numbers of them are paired differently."""
    torch.set_num_threads(4)
    for n in (128 * (blocks - 1) + 1, 128 * blocks):
        x = cloud("lattice", n, 2, 9)
        found = mf.distance_histogram(x, [0.0, 100.0], backend="native")
        assert found.tolist() == [n * (n - 1) // 2]
        for m in (1, 128, 300, 1100):
            found = mf.distance_histogram(x, [0.0, 100.0], points=cloud("lattice", m, 2, 8), backend="native")
            assert found.tolist() == [n * m]


def digest() -> str:
    state = hashlib.sha256()
    for array in everything(*case(n=150, m=71)):
        state.update(array.tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set_gives_the_same_bits(cap: str) -> None:
    out = printed("import test_native_reductions as t; print(t.digest())", MSMA_FAST_CPU=cap)
    assert out == digest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_torch_backend_agrees(kind: str) -> None:
    x, y = cloud(kind, 200, 9, 0), cloud("normal", 200, 6, 1)
    for measure in (
        lambda backend: mf.stress(x, y, backend=backend),
        lambda backend: mf.gaussian_kernel_sums(x, None, 2.0, backend=backend),
        lambda backend: mf.distance_correlation(x, y, backend=backend),
        lambda backend: mf.cka(x, y, "rbf", backend=backend),
        lambda backend: mf.cka(x[:5], y[:5], backend=backend),
    ):
        assert measure("native") == pytest.approx(measure("torch"), rel=1e-11, abs=1e-14)
    edges = np.linspace(0, 20, 41)
    counts = [mf.distance_histogram(x, edges, backend=backend) for backend in ("native", "torch")]
    assert np.array_equal(*counts)


def test_rows_far_from_zero_keep_their_gradient() -> None:
    """Differences are taken before they are weighted, so a coordinate that two rows share cancels exactly."""
    x = torch.from_numpy(cloud("normal", 90, 4, 3))
    x[:, 0] = torch.where(torch.arange(90) % 2 == 0, 1e30, 0.0)
    x.requires_grad_()
    mf.gaussian_kernel_sums(x, None, 2.0, backend="native").backward()
    assert x.grad is not None
    assert torch.equal(x.grad[:, 0], torch.zeros(90, dtype=torch.float64))


def boundary(function: str, **changes: Any) -> Any:
    from msma_fast import _native

    x, y, ones = np.ones((4, 3)), np.zeros((4, 3)), np.ones(2)
    arguments: dict[str, dict[str, Any]] = {
        "count_keys": {
            "kind": "cosine", "x": x, "x_norms": np.ones(4), "y": None, "y_norms": None,
            "groups": None, "window": 0, "thresholds": ones,
        },
        "centered_products": {
            "x": x, "form_a": "distance", "scale_a": 1.0, "shift_a": 0.0,
            "y": y, "form_b": "gaussian", "scale_b": 1.0, "shift_b": 0.0,
        },
        "gaussian_kernel_sums": {"x": x, "y": y, "scales": ones},
        "gaussian_kernel_gradients": {"x": x, "y": y, "scales": ones, "weights": ones},
        "stress": {"x": x, "y": y, "wants_x": True, "wants_y": False},
    }  # fmt: skip
    return getattr(_native, function)(**(arguments[function] | {"threads": 1} | changes))


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        *((name, {"x": np.ones((4, 3), np.float32)}, "x: expected a contiguous float64 .* got dtype float32")
          for name in ("count_keys", "centered_products", "gaussian_kernel_sums", "gaussian_kernel_gradients", "stress")),
        *((name, {"threads": 0}, "threads: expected at least 1, got 0")
          for name in ("count_keys", "centered_products", "gaussian_kernel_sums", "gaussian_kernel_gradients", "stress")),
        ("count_keys", {"kind": "mahalanobis"}, "kind: expected one without parameters"),
        ("count_keys", {"x_norms": None}, "x_norms: expected a float64 array for cosine, got None"),
        ("count_keys", {"groups": np.ones(4, np.int64)}, r"groups: expected a contiguous int32 .* \(4,\)"),
        ("count_keys", {"window": -1}, "window: expected at least 0, got -1"),
        ("count_keys", {"thresholds": np.ones(0)}, "thresholds: expected .* k >= 1"),
        ("count_keys", {"y": np.ones((2, 3)), "y_norms": np.ones(2), "window": 1}, "groups, window: expected None and 0"),
        ("count_keys", {"y": np.ones((2, 5))}, "y: expected d = 3 as in x"),
        ("centered_products", {"y": np.ones((5, 3))}, "y: expected 4 rows as in x"),
        ("centered_products", {"form_b": "cosine"}, "form_b: expected one of distance, gaussian, product, got 'cosine'"),
        ("gaussian_kernel_gradients", {"weights": np.ones(3)}, r"weights: expected .* \(2,\)"),
        ("stress", {"y": np.ones((5, 3))}, "y: expected 4 rows as in x"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused(function: str, changes: dict[str, Any], message: str) -> None:
    boundary(function)
    with pytest.raises(ValueError, match=message):
        boundary(function, **changes)
