"""The compiled pairwise_distances against numpy float64: accuracy for every width and offset, values that leave float32's
normal range, exact zeros and symmetry, layouts, batches, every instruction set (in subprocesses), threads, gradients."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from subprocesses import printed

import msma_fast as mf
from msma_fast.backends import native

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

Array = np.ndarray[Any, Any]
# One rounding of the result below the normal range, where no relative bound can hold.
SUBNORMAL = float(np.finfo(np.float32).smallest_subnormal)
SHAPES = [(1, 1), (1, 17), (3, 2), (17, 33), (96, 96), (97, 95), (130, 577), (577, 16), (200, 100)]
WIDTHS = [1, 2, 3, 15, 16, 17, 64, 191, 192, 193, 400, 577, 1000]


def normal(n: int, d: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, n, d]).standard_normal((n, d)).astype(np.float32)


def squares(x: Array, y: Array) -> Array:
    """(n, m) float64 by direct differences, blocked over rows."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.stack([((row - y) ** 2).sum(1) for row in x])


def distances(x: Array, y: Array | None = None, metric: str = "euclidean", **options: Any) -> Array:
    found: Array = mf.pairwise_distances(x, y, metric=metric, backend="native", **options)
    return found


def assert_close(found: Array, truth: Array) -> None:
    assert found.dtype == np.float32
    assert found.shape == truth.shape
    with np.errstate(over="ignore"):
        infinite = np.isinf(truth.astype(np.float32))  # of a squared distance, beyond float32
    np.testing.assert_array_equal(np.isinf(found), infinite)
    off = np.abs(np.where(infinite, 0.0, found) - np.where(infinite, 0.0, truth)) - 1e-6 * np.where(infinite, 0, truth)
    assert off.max() <= SUBNORMAL, off.max()


def check(x: Array, y: Array | None = None) -> None:
    truth = squares(x, x if y is None else y)
    for metric, wanted in (("euclidean", np.sqrt(truth)), ("sqeuclidean", truth)):
        found = distances(x, y, metric)
        assert_close(found, wanted)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(found == 0, wanted.astype(np.float32) == 0)
        if y is None:
            assert np.array_equal(found, found.T)
            assert np.all(np.diag(found) == 0)


@pytest.mark.parametrize("d", [1, 5, 64, 193])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_odd_shapes(n: int, m: int, d: int) -> None:
    check(normal(n, d), normal(m, d, 1))
    check(normal(n, d))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("d", WIDTHS)
def test_every_width_and_offset(d: int, offset: float) -> None:
    check(normal(40, d) + np.float32(offset))
    check(normal(40, d) + np.float32(offset), normal(50, d, 1) + np.float32(offset))


@pytest.mark.parametrize("d", [16, 192, 4096, 50_000])
@pytest.mark.parametrize("step", [0.1, 1 / 3, 1 - 2**-20])
def test_equal_terms_whose_roundings_all_point_one_way(d: int, step: float) -> None:
    """A plain float32 sum of 50,000 equal terms is off by 1e-3."""
    x = np.float32(step) * np.arange(4, dtype=np.float32)[:, None] * np.ones(d, dtype=np.float32)
    check(x)


def test_a_huge_coordinate_does_not_drown_the_others() -> None:
    for place in (0, 100, 576):
        x = normal(60, 577)
        x[:, place] = np.float32(3e7)
        x[5, place] = np.float32(-3e7)
        check(x)


def test_a_huge_first_coordinate_that_differs() -> None:
    """Every later square is below half a unit of the sum, 400 times over: within the worst case of the pairwise order."""
    x = np.zeros((2, 400), dtype=np.float32)
    x[1], x[1, 0] = 1.0, 5900.0
    assert_close(distances(x), np.sqrt(squares(x, x)))


@pytest.mark.parametrize("d", [1, 17, 400])
@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30, 1e-22, 1e-16, 1e-13, 1e13, 1e18, 1e30, 1e37])
def test_scales_beyond_the_squares_of_float32(scale: float, d: int) -> None:
    x, y = (normal(n, d, n).astype(np.float64) * scale for n in (33, 47))
    check(x.astype(np.float32), y.astype(np.float32))
    check(x.astype(np.float32))


def test_tiny_distances_among_ordinary_points() -> None:
    """Squares that underflow: zero only where rows are equal."""
    x = normal(50, 9)
    x[10:] = 0.0
    x[11, 3] = 1e-30
    x[12, 3] = -1e-30
    x[13, 8] = 1e-45
    x[20:] = x[20:21] + np.float32(0)
    check(x)
    check(x, x[::-1].copy())


def test_one_row_of_a_huge_scale() -> None:
    x = normal(40, 30)
    x[7] *= np.float32(1e30)
    check(x)


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_duplicates_are_at_zero(shift: float) -> None:
    x = normal(150, 70) + np.float32(shift)
    x[100:130] = x[:30]
    found = distances(x)
    assert np.all(found[range(100, 130), range(30)] == 0)
    assert np.count_nonzero(found == 0) == 150 + 60


def test_non_finite_values_reach_the_result() -> None:
    x, y = normal(20, 33), normal(30, 33, 1)
    x[3, 5], x[4, 32], y[7, 0] = np.nan, np.inf, -np.inf
    found = distances(x, y, check_finite=False)
    with np.errstate(invalid="ignore"):
        truth = np.sqrt(squares(x, y))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(truth))
    ordinary = np.isfinite(truth)
    assert np.all(np.abs(found[ordinary] - truth[ordinary]) <= 1e-6 * truth[ordinary])


def test_float64_is_the_canonical_key_and_its_correct_root() -> None:
    for n, m, d in ((1, 1, 1), (7, 5, 3), (131, 70, 17), (150, 300, 577)):
        x, y = normal(n, d).astype(np.float64), normal(m, d, 1).astype(np.float64)
        for points in (y, None):
            keys = oracles.canonical_keys(x, x if points is None else points, "euclidean")
            np.testing.assert_array_equal(distances(x, points, "sqeuclidean"), keys)
            np.testing.assert_array_equal(distances(x, points), np.sqrt(keys))


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "inner_product", "cosine", "correlation", "hellinger"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_metrics_are_their_keys_rounded_once(metric: str, dtype: Any) -> None:
    x, y = (np.abs(normal(n, 37, n)) for n in (150, 140))
    if metric == "hellinger":
        x, y = (rows / rows.sum(1, keepdims=True, dtype=np.float64) for rows in (x, y))
    x, y = x.astype(dtype), y.astype(dtype)
    for points in (y, None):
        keys = oracles.canonical_keys(x, x if points is None else points, metric)
        truth = oracles.to_distance(keys, metric, 2.0).astype(dtype)
        np.testing.assert_array_equal(distances(x, points, metric), truth)


# -- layouts and batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strided_rows_are_read_where_they_lie(dtype: torch.dtype) -> None:
    wide = torch.from_numpy(normal(260, 150)).to(dtype)
    for view in (
        wide[:, :64],
        wide[::2],
        wide[1::3, 7:100],
        wide[:, ::2],
        wide.T,
        wide[:, 3:4],
        wide[:1].expand(50, 150),
    ):
        other = view.flip(0)
        for points in (None, other):
            plain = None if points is None else points.contiguous()
            expected = mf.pairwise_distances(view.contiguous(), plain, backend="native")
            assert torch.equal(mf.pairwise_distances(view, points, backend="native"), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "fisher_rao"])
def test_a_batch_is_its_problems(metric: str, dtype: torch.dtype) -> None:
    for b, n, m, d in ((1, 5, 4, 3), (40, 6, 9, 5), (3, 100, 130, 33)):
        x = torch.from_numpy(normal(b * n, d)).view(b, n, d).softmax(-1).to(dtype)
        y = torch.from_numpy(normal(b * m, d, 1)).view(b, m, d).softmax(-1).to(dtype)
        for points in (None, y):
            found = mf.pairwise_distances(x, points, metric=metric, backend="native")
            for i in range(b):
                alone = mf.pairwise_distances(
                    x[i], None if points is None else points[i], metric=metric, backend="native"
                )
                assert torch.equal(found[i], alone)
    transposed = torch.from_numpy(normal(60, 8)).view(4, 15, 8).transpose(0, 1)
    expected = mf.pairwise_distances(transposed.contiguous(), backend="native")
    assert torch.equal(mf.pairwise_distances(transposed, backend="native"), expected)


def test_empty_batches() -> None:
    assert mf.pairwise_distances(torch.zeros(4, 1, 3), backend="native").shape == (4, 1, 1)


# -- instruction sets, threads, memory ----------------------------------------------------------------------------------


def sweep() -> str:
    """Every path of the kernel against the oracle; the instruction set in use."""
    for n, m, d in ((1, 1, 1), (97, 130, 17), (200, 33, 193), (96, 96, 400)):
        check(normal(n, d), normal(m, d, 1))
        check(normal(n, d) + np.float32(1e3))
    check(normal(40, 17) * np.float32(1e-30))
    test_equal_terms_whose_roundings_all_point_one_way(4096, 0.1)
    test_tiny_distances_among_ordinary_points()
    test_a_large_result_is_written_past_the_caches()
    test_float64_is_the_canonical_key_and_its_correct_root()
    return native.instruction_set()


@pytest.mark.parametrize("cap", ["scalar", "avx2", "avx512"])
def test_every_instruction_set(cap: str) -> None:
    code = "import test_native_pairwise_distances as t; print(t.sweep())"
    out = printed(code, MSMA_FAST_CPU=cap)
    assert out in (cap, native.instruction_set())  # a machine may have less than the cap allows


def test_a_large_result_is_written_past_the_caches() -> None:
    """Whole lines (m a multiple of 16) and split ones, with and without a ragged last square."""
    for n, m in ((1536, 1536), (1500, 1504), (1501, 1499)):
        x, y = normal(n, 3), normal(m, 3, 1)
        assert_close(distances(x, y), np.sqrt(squares(x, y)))
        found = distances(x)
        assert_close(found, np.sqrt(squares(x, x)))
        assert np.array_equal(found, found.T)


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    x, y = torch.from_numpy(normal(500, 65)), torch.from_numpy(normal(300, 65, 1))
    problems: list[Any] = [(x, None), (x, y), (y, x), (x.double(), None), (x.double(), y.double()), (x[:3], y)]
    torch.set_num_threads(1)
    expected = [mf.pairwise_distances(*pair, backend="native") for pair in problems]
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        for pair, wanted in zip(problems, expected, strict=True):
            assert torch.equal(mf.pairwise_distances(*pair, backend="native"), wanted)


def test_flushed_subnormals_change_nothing() -> None:
    x = normal(30, 20) * np.float32(1e-20)
    x[3] = x[4] + np.float32(1e-42)
    expected = distances(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        found = distances(x)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


PEAK = """
import resource, torch, msma_fast as mf
x = torch.randn({n}, {d}, dtype=torch.{dtype}, requires_grad={grad})
g = torch.ones({n}, {n}, dtype=torch.{dtype}) if {grad} else None
mf.pairwise_distances(torch.randn(300, {d}, dtype=torch.{dtype}), backend="native")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = torch.randn(9, 3, requires_grad=True)
mf.pairwise_distances(small, backend="native").sum().backward()
before = peak()
out = mf.pairwise_distances(x, backend="native")
if {grad}:
    out.backward(g)
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize(
    ("n", "d", "dtype", "grad", "room"),
    [(8000, 8, "float32", False, 64), (5600, 8, "float64", False, 64), (6000, 8, "float32", True, 160)],
)
def test_memory_is_the_result_and_some_scratch(n: int, d: int, dtype: str, grad: bool, room: int) -> None:
    """Peak growth in MiB; a float64 (n, m) temporary would take 240 to 490 MiB more."""
    code = PEAK.format(n=n, d=d, dtype=dtype, grad=grad)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    result = n * n * (4 if dtype == "float32" else 8) / 2**20
    assert float(done.stdout) <= result + room


# -- gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "inner_product"])
def test_gradients(metric: str) -> None:
    x = torch.from_numpy(normal(7, 5).astype(np.float64)).requires_grad_()
    y = torch.from_numpy(normal(4, 5, 1).astype(np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mf.pairwise_distances(a, b, metric=metric, backend="native"), (x, y))
    off = ~torch.eye(7, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda a: mf.pairwise_distances(a, metric=metric, backend="native")[off], (x,))
    batch = torch.from_numpy(normal(12, 3).astype(np.float64)).view(3, 4, 3).requires_grad_()
    other = batch.detach().flip(1).add(0.5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: mf.pairwise_distances(a, b, metric=metric, backend="native"), (batch, other)
    )


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_gradients_of_several_blocks_against_the_formula(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from msma_fast.backends.torch import gradients

    monkeypatch.setattr(gradients, "_BLOCK", 1000)
    x, y, g = normal(90, 7) + np.float32(1e4), normal(60, 7, 1) + np.float32(1e4), normal(90, 60, 2)
    y[3] = x[5]
    left, right = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y).requires_grad_()
    mf.pairwise_distances(left, right, metric=metric, backend="native").backward(torch.from_numpy(g))
    a = x.astype(np.float64)[:, None] - y.astype(np.float64)[None]
    length = np.sqrt((a**2).sum(-1))
    slope = 2.0 * g if metric == "sqeuclidean" else np.divide(g, length, out=np.zeros_like(length), where=length > 0)
    terms = slope[..., None] * a
    assert left.grad is not None
    assert right.grad is not None
    np.testing.assert_allclose(left.grad.numpy(), terms.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(right.grad.numpy(), -terms.sum(0), rtol=1e-5, atol=1e-5)


# -- the boundary -------------------------------------------------------------------------------------------------------


def boundary(**changes: Any) -> None:
    from msma_fast import _native

    x = np.ones((2, 4, 6), dtype=np.float32)
    arguments: dict[str, Any] = {"kind": "sqeuclidean", "p": 0, "tensor": None, "x": x, "x_norms": None}
    arguments |= {"y": x[:, :3], "y_norms": None, "root": True, "divisor": 1.0, "threads": 1}
    arguments |= {"out": np.empty((2, 4, 3), dtype=np.float32)}
    _native.pairwise_distances(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((4, 6), dtype=np.float32)}, "x: expected a float32 or float64 array of shape"),
        ({"x": np.ones((2, 4, 6), dtype=np.float16)}, "x: expected a float32 or float64 array"),
        ({"x": np.ones((2, 4, 12), dtype=np.float32)[:, :, ::2]}, "contiguous rows, got dtype float32"),
        ({"x": np.ones((2, 4, 0), dtype=np.float32)}, "d >= 1"),
        ({"y": np.ones((2, 3, 6))}, "y: expected a float32 array"),
        ({"y": np.ones((1, 3, 6), dtype=np.float32)}, "y: expected b = 2 as in x"),
        ({"y": np.ones((2, 3, 5), dtype=np.float32)}, "y: expected d = 6 as in x"),
        (
            {"out": np.empty((2, 3, 4), dtype=np.float32)},
            r"out: expected a contiguous float32 array of shape \(2, 4, 3\)",
        ),
        ({"out": np.empty((2, 4, 3))}, r"out: expected a contiguous float32 array of shape \(2, 4, 3\)"),
        ({"out": np.empty((2, 4, 6), dtype=np.float32)[:, :, ::2]}, "out: expected a contiguous"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"kind": "cosine"}, "x.norms: expected a float64 array for cosine, got None"),
        ({"kind": "nearness"}, "kind: expected one of"),
    ],
)
def test_the_boundary_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    boundary()
    with pytest.raises(ValueError, match=message):
        boundary(**changes)


def test_a_result_of_its_own_is_returned_each_time() -> None:
    x = normal(5, 3)
    first = distances(x)
    kept = first.copy()
    distances(x + 1)
    gc.collect()
    np.testing.assert_array_equal(first, kept)
