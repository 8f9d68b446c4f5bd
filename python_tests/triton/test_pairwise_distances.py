"""All distances and their gradients by Triton kernels, in the strict interpreter: against float64 oracles, the torch backend
where bits are promised, and gradcheck."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import KINDS, cloud, probabilities

import msma_fast as mf
from msma_fast.backends import triton_pairwise_distances as backend

pytestmark = [
    pytest.mark.usefixtures("strict"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numpy tells of overflow and logarithms of zero
]

SUBNORMAL = float(np.finfo(np.float32).smallest_subnormal)
ROOTED = ("euclidean", "mahalanobis", "hellinger", "fisher_rao", "jensen_shannon", "minkowski")
CANONICAL = [
    metric for metric in oracles.METRICS if metric not in ("euclidean", "sqeuclidean", "manhattan", "chebyshev")
]
DIRECT = ["euclidean", "sqeuclidean", "manhattan", "chebyshev"]


def rows(metric: str, n: int, d: int, seed: int, zeros: bool = True) -> np.ndarray:
    if metric in oracles.PROBABILITY_METRICS:
        return probabilities(n, d, seed, zeros)
    return cloud("normal", n, d, seed)


def options(metric: str, d: int, p: float = 3.0) -> dict[str, Any]:
    if metric != "mahalanobis":
        return {"metric": metric} | ({"p": p} if metric == "minkowski" else {})
    a = np.random.default_rng(8).standard_normal((d, d))
    return {"metric": metric, "metric_tensor": a @ a.T + np.eye(d)}


def distances(x: Any, y: Any = None, **how: Any) -> Any:
    return mf.pairwise_distances(x, y, backend="triton", **how)


def truth_of(x: np.ndarray, y: np.ndarray, metric: str) -> np.ndarray:
    """float64 by direct differences."""
    a = np.abs(x.astype(np.float64)[:, None] - y.astype(np.float64)[None])
    if metric == "chebyshev":
        return np.asarray(a.max(-1))
    total = (a if metric == "manhattan" else a * a).sum(-1)
    return np.asarray(np.sqrt(total) if metric == "euclidean" else total)


def check_direct(x: np.ndarray, y: np.ndarray | None, metric: str) -> None:
    """euclidean, manhattan and chebyshev within 1.02e-6, sqeuclidean within 1.14e-6; zeros exactly where rows are equal."""
    found = distances(x, y, metric=metric)
    truth = truth_of(x, x if y is None else y, metric)
    assert found.dtype == np.float32
    with np.errstate(over="ignore"):
        infinite = np.isinf(truth.astype(np.float32))
        assert np.array_equal(found == 0, truth.astype(np.float32) == 0)
    assert np.array_equal(np.isinf(found), infinite)
    limit = {"sqeuclidean": 1.14e-6, "manhattan": 1.02e-6}.get(metric, 6.5e-7 if metric == "euclidean" else 6e-8)
    off = np.abs(np.where(infinite, 0, found) - np.where(infinite, 0, truth)) - limit * np.where(infinite, 0, truth)
    assert off.max() <= SUBNORMAL, off.max()
    if y is None:
        assert np.array_equal(found, found.T)
        assert np.all(np.diag(found) == 0)


# -- float32, direct ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", DIRECT)
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (2, 67, 15), (65, 3, 16), (71, 130, 17)])
def test_odd_shapes(n: int, m: int, d: int, metric: str) -> None:
    x, y = (cloud("normal", size, d, seed).astype(np.float32) for size, seed in ((n, 0), (m, 1)))
    y[0] = x[-1]
    check_direct(x, y, metric)
    check_direct(x, None, metric)
    check_direct(y, None, metric)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", DIRECT)
def test_hard_points(kind: str, metric: str) -> None:
    x = cloud(kind, 70, 12, 7).astype(np.float32)
    check_direct(x, None, metric)
    check_direct(x[:30], x[20:], metric)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30, 1e-22, 1e-13, 1e13, 1e18, 1e30, 1e37])
def test_squares_beyond_the_normal_range(scale: float) -> None:
    with np.errstate(under="ignore"):
        x = (cloud("normal", 30, 9, 6) * scale).astype(np.float32)
    x[1] = x[0]
    for metric in DIRECT:
        check_direct(x, None, metric)


def test_tiny_and_huge_distances_among_ordinary_ones() -> None:
    x = cloud("normal", 70, 9, 6).astype(np.float32)
    x[:, 1:] = 0
    x[1], x[2], x[3], x[65], x[66] = 0, 0, 0, 3e38, -3e38
    x[1, 4], x[2, 4] = 1e-40, 1e-30
    for metric in DIRECT:
        check_direct(x, None, metric)
        check_direct(x, x[::-1].copy(), metric)


@pytest.mark.parametrize("step", [0.1, 1 / 3])
def test_equal_terms_whose_roundings_all_point_one_way(step: float) -> None:
    """A plain float32 sum of 5000 equal terms is off by 1e-5."""
    x = np.float32(step) * np.arange(2, dtype=np.float32)[:, None] * np.ones(5000, dtype=np.float32)
    for metric in DIRECT:
        check_direct(x, None, metric)


# -- canonical --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_float64_is_the_canonical_key_and_its_distance(metric: str) -> None:
    """The bits of the torch backend where they are promised, a few units in the last place of the formula elsewhere."""
    for n, m, d in ((1, 1, 1), (3, 18, 7), (17, 5, 9)):
        if metric == "correlation" and d == 1:
            continue  # a constant row
        x, y = rows(metric, n, d, 1), rows(metric, m, d, 2)
        y[0] = x[-1]
        how = options(metric, d)
        for points in (y, None):
            found = distances(x, points, **how)
            theirs = mf.pairwise_distances(x, points, backend="torch", **how)
            if metric in ("kl", "jensen_shannon"):
                np.testing.assert_allclose(found, theirs, rtol=1e-12, atol=1e-15)
            elif metric in ("minkowski", "fisher_rao"):  # the key is; its power, or arcsine, is the maths library's
                np.testing.assert_allclose(found, theirs, rtol=1e-15)
            else:
                assert np.array_equal(found, theirs)


@pytest.mark.parametrize("metric", CANONICAL)
def test_float32_rows_against_the_plain_formula(metric: str) -> None:
    d = 9
    x, y = (rows(metric, size, d, seed).astype(np.float32) for size, seed in ((35, 1), (18, 2)))
    y[3] = x[5]
    how = options(metric, d)
    for points in (y, None):
        other = x if points is None else points
        found = distances(x, points, **how)
        key = oracles.plain_keys(x, other, **how)
        truth = oracles.to_distance(key, metric, 3.0)
        band = oracles.key_band(x, other, **how)
        scale = truth if metric in ROOTED else band * 2.0**53 / (4 * (d + 4))
        assert found.dtype == np.float32
        assert np.array_equal(np.isinf(found), np.isinf(truth))
        finite = np.isfinite(truth)
        low = oracles.to_distance(np.maximum(key - band, 0 if metric in ROOTED else -np.inf), metric, 3.0)
        high = oracles.to_distance(key + band, metric, 3.0)
        off = np.maximum(low - found, found - high)[finite] - 3e-7 * np.abs(scale[finite])
        assert off.max() <= SUBNORMAL
        assert metric == "inner_product" or found[5, 3 if points is not None else 5] == 0
        if points is None and metric != "kl":
            assert np.array_equal(found, found.T)


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "correlation"])
def test_products_are_rounded_once(metric: str) -> None:
    """The returned float32 is the canonical key's, where products cancel too."""
    x = cloud("shifted", 20, 11, 3).astype(np.float32)
    for points in (None, x[3:9] + np.float32(0.5)):
        assert np.array_equal(
            distances(x, points, metric=metric), mf.pairwise_distances(x, points, metric=metric, backend="torch")
        )


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0, 16.0, 20.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minkowski_orders(p: float, dtype: Any) -> None:
    x, y = (cloud("normal", size, 7, seed).astype(dtype) for size, seed in ((9, 3), (8, 4)))
    y[2] = x[3]
    found = distances(x, y, metric="minkowski", p=p)
    truth = oracles.to_distance(oracles.plain_keys(x, y, "minkowski", p), "minkowski", p)
    np.testing.assert_allclose(found, truth, rtol=3e-7 if dtype == np.float32 else 1e-14)
    assert found[3, 2] == 0


def test_a_ratio_beyond_float64() -> None:
    x, y = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, 1e-310, 0.0]])
    found = distances(x, y, metric="kl").item()
    assert found == pytest.approx(0.5 * np.log(0.5) + 0.5 * (np.log(0.5) - np.log(1e-310)), rel=1e-13)
    assert distances(x, np.array([[1.0, 0.0, 0.0]]), metric="kl").item() == np.inf


def test_dtypes_layouts_and_batches() -> None:
    wide = torch.from_numpy(cloud("normal", 30, 20, 9))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = wide.to(dtype)
        for view in (x[::2], x[:, ::3], x.T, x.flip(0)):
            truth = truth_of(view.double().numpy(), view.double().numpy(), "euclidean")
            found = distances(view)
            assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            np.testing.assert_allclose(found.numpy(), truth, rtol=1e-6)
    batch = wide.view(3, 10, 20)
    for metric in ("euclidean", "cosine"):
        found = distances(batch.float(), batch.flip(1).float(), metric=metric)
        for b in range(3):
            assert torch.equal(found[b], distances(batch[b].float(), batch[b].flip(0).float(), metric=metric))


def test_nan_stays_where_it_is() -> None:
    x = cloud("normal", 6, 3, 16)
    x[2, 1] = np.nan
    for metric in [*DIRECT, "cosine", "inner_product"]:
        for dtype in (np.float32, np.float64):
            found = distances(x.astype(dtype), x[::-1].astype(dtype), metric=metric, check_finite=False)
            assert np.isnan(found[2]).all()
            assert np.isnan(found).sum() == 11


# -- gradients --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_BLOCK", 700)


def gradients(name: str, x: np.ndarray, y: np.ndarray, grad: np.ndarray, **how: Any) -> list[torch.Tensor]:
    leaves = [torch.from_numpy(z.copy()).requires_grad_() for z in (x, y)]
    if "metric_tensor" in how:
        how["metric_tensor"] = torch.from_numpy(how["metric_tensor"]).requires_grad_()
        leaves.append(how["metric_tensor"])
    with mf.use_backend(name):
        found = mf.pairwise_distances(leaves[0], leaves[1], **how)
        return list(torch.autograd.grad(found, leaves, torch.from_numpy(grad)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_gradients_are_the_plain_ones(metric: str, dtype: Any) -> None:
    """Several blocks of rows, two tiles a side; a repeated row in each set, a lattice where largest differences are tied."""
    n, m, d = (41, 35, 9) if metric != "mahalanobis" else (36, 6, 3)
    x, y = (rows(metric, size, d, seed, zeros=False).astype(dtype) for size, seed in ((n, 1), (m, 2)))
    if metric == "chebyshev":
        x, y = np.round(x), np.round(y)
    y[3], y[4] = x[5], x[-2]
    grad = np.random.default_rng(5).standard_normal((n, m)).astype(dtype)
    ours, theirs = (gradients(name, x, y, grad, **options(metric, d)) for name in ("triton", "torch"))
    for found, wanted in zip(ours, theirs, strict=True):
        assert found.dtype == wanted.dtype
        scale = float(wanted.abs().max())
        assert float((found - wanted).abs().max()) <= (2e-6 if dtype == np.float32 else 1e-12) * scale


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 16.0, 20.0, np.inf])
def test_gradients_of_minkowski(p: float) -> None:
    x, y = cloud("normal", 9, 6, 1) * 1e-9, cloud("normal", 7, 6, 2) * 1e-9
    y[3], x[4, 2] = x[5], y[2, 2]
    grad = np.random.default_rng(5).standard_normal((9, 7))
    ours, theirs = (gradients(name, x, y, grad, metric="minkowski", p=p) for name in ("triton", "torch"))
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["kl", "jensen_shannon", "hellinger", "fisher_rao"])
def test_gradients_of_distributions_with_zeros(metric: str) -> None:
    """Where x_k = 0, whatever y_k is; kl without y_k = 0 < x_k, which is infinite."""
    x, y = probabilities(12, 7, 1), probabilities(9, 7, 2, zeros=metric != "kl")
    grad = np.random.default_rng(5).standard_normal((12, 9))
    ours, theirs = (gradients(name, x, y, grad, metric=metric) for name in ("triton", "torch"))
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_gradcheck(metric: str) -> None:
    how: dict[str, Any] = {
        key: torch.as_tensor(v) if key == "metric_tensor" else v for key, v in options(metric, 3).items()
    }

    def found(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        if metric in oracles.PROBABILITY_METRICS:
            x, y = x.softmax(-1), None if y is None else y.softmax(-1)
        return mf.pairwise_distances(x, y, **how)

    x, y = (torch.from_numpy(cloud("normal", size, 3, size)).requires_grad_() for size in (4, 2))
    with mf.use_backend("triton"):
        assert torch.autograd.gradcheck(found, (x, y), fast_mode=True)
        apart = ~torch.eye(4, dtype=torch.bool)
        assert torch.autograd.gradcheck(lambda z: found(z)[apart], (x,), fast_mode=True)


@pytest.mark.parametrize("metric", [m for m in oracles.METRICS if m != "inner_product"])
def test_the_gradient_at_distance_zero_is_zero(metric: str) -> None:
    how: dict[str, Any] = {
        key: torch.as_tensor(v) if key == "metric_tensor" else v for key, v in options(metric, 4).items()
    }
    row = torch.from_numpy(rows(metric, 1, 4, 14))
    for dtype in (torch.float32, torch.float64):
        x, y = (row.to(dtype).repeat(times, 1).requires_grad_() for times in (3, 2))
        with mf.use_backend("triton"):
            mf.pairwise_distances(x, y, **how).sum().backward()
            mf.pairwise_distances(x, **how).sum().backward()
        for grad in (x.grad, y.grad):
            assert grad is not None
            assert torch.equal(grad, torch.zeros_like(grad)), grad


def test_weights_beyond_float32_are_taken_in_float64() -> None:
    x, y = np.full((2, 3), 1e-42, dtype=np.float32), np.zeros((1, 3), dtype=np.float32)
    x[1] *= 2
    to_x, _ = gradients("triton", x, y, np.ones((2, 1), dtype=np.float32), metric="euclidean")
    np.testing.assert_allclose(to_x.numpy(), np.full((2, 3), 3**-0.5), rtol=1e-6)


def test_gradients_far_from_the_origin() -> None:
    x, y = (cloud("normal", n, 7, n).astype(np.float32) + np.float32(1e6) for n in (40, 30))
    grad = np.random.default_rng(5).standard_normal((40, 30)).astype(np.float32)
    to_x, to_y = gradients("triton", x, y, grad, metric="euclidean")
    weights = grad.astype(np.float64) / truth_of(x, y, "euclidean")
    np.testing.assert_allclose(to_x.numpy(), oracles.weighted_differences(weights, x, y), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_y.numpy(), oracles.weighted_differences(weights.T, y, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", [m for m in oracles.METRICS if m not in ("inner_product", "kl")])
def test_the_diagonal_is_zero_whatever_a_row_holds(metric: str) -> None:
    x = rows(metric, 5, 6, 3).astype(np.float32)
    x[2, 1] = np.nan
    found = mf.pairwise_distances(x, **options(metric, 6), check_finite=False, backend="triton")
    assert (np.diagonal(found) == 0).all()
    assert np.isnan(found[2, [0, 1, 3, 4]]).any()
