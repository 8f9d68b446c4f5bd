"""pairwise_distances against the plain float64 formulas; symmetry, gradients and the float32 promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import KINDS, cloud, probabilities

import msma_fast as mf

SYMMETRIC = [metric for metric in oracles.METRICS if metric != "kl"]


def points_for(metric: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    return probabilities(n, d, seed) if metric in oracles.PROBABILITY_METRICS else cloud("normal", n, d, seed)


def extra(metric: str, d: int) -> dict[str, Any]:
    if metric != "mahalanobis":
        return {"p": 3.0} if metric == "minkowski" else {}
    a = np.random.default_rng(8).standard_normal((d, d))
    return {"metric_tensor": a @ a.T + np.eye(d) + 0.1 * np.triu(a, 1)}


def tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.as_tensor(v) if name == "metric_tensor" else v for name, v in options.items()}


def check(found: np.ndarray, x: np.ndarray, y: np.ndarray, metric: str, **options: Any) -> None:
    """float64: within the band of the plain key. float32: 1e-6 (2e-6 unrooted) of the metric's scale."""
    single = x.dtype != np.float64
    assert found.dtype == (np.float32 if single else np.float64)
    p = options.get("p", 2.0)
    key, band = oracles.plain_keys(x, y, metric, **options), oracles.key_band(x, y, metric, **options)
    distance = oracles.to_distance(key, metric, p)
    floor = -np.inf if metric in ("inner_product", "kl") else 0.0
    low = oracles.to_distance(np.maximum(floor, key - band), metric, p)
    high = oracles.to_distance(key + band, metric, p)
    if single:
        unit = 4 * (x.shape[1] + 4) * 2.0**-53
        rooted = metric in ("euclidean", "mahalanobis", "hellinger", "fisher_rao", "jensen_shannon")
        scale = distance if rooted else band / unit
        slack = (1e-6 if rooted else 2e-6) * scale + np.finfo(np.float32).smallest_subnormal
    else:
        slack = 4 * np.finfo(np.float64).eps * np.where(np.isinf(distance), 0.0, np.abs(distance))
    infinite = np.isinf(distance)
    assert np.array_equal(np.isinf(found), infinite)
    low, high, finite = (np.where(infinite, 0.0, part) for part in (low, high, found))
    off = np.where(infinite, 0.0, np.maximum(low - finite, finite - high) - slack)
    assert np.all(off <= 0), off.max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [2, 13, 64])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_every_metric(metric: str, d: int, dtype: Any, backend: str) -> None:
    x, y = points_for(metric, 23, d).astype(dtype), points_for(metric, 17, d, seed=1).astype(dtype)
    y[3] = x[5]
    options = extra(metric, d)
    check(mf.pairwise_distances(x, y, metric=metric, backend=backend, **options), x, y, metric, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_self_distances_are_symmetric_with_a_zero_diagonal(metric: str, dtype: Any, backend: str) -> None:
    x = points_for(metric, 67, 29, seed=2).astype(dtype)
    x[11] = x[3]
    found = mf.pairwise_distances(x, metric=metric, backend=backend, **extra(metric, 29))
    if metric in SYMMETRIC:
        assert np.array_equal(found, found.T)
    if metric != "inner_product":
        assert np.all(np.diag(found) == 0)
        assert found[11, 3] == 0
    options = extra(metric, 29)
    check(found[:9, 9:30], x[:9], x[9:30], metric, **options)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0, 16.0, 20.0])
def test_minkowski_orders(p: float, backend: str) -> None:
    x, y = cloud("normal", 9, 7, 3), cloud("normal", 8, 7, 4)
    check(mf.pairwise_distances(x, y, metric="minkowski", p=p, backend=backend), x, y, "minkowski", p=p)


@pytest.mark.parametrize("d", [1, 511, 512, 513, 5003])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_float32_euclidean_is_within_a_millionth(d: int, offset: float, backend: str) -> None:
    x = (cloud("normal", 40, d, 5) + offset).astype(np.float32)
    x[7] = np.nextafter(x[8], np.float32(np.inf))
    found = mf.pairwise_distances(x, backend=backend)
    truth = np.sqrt(oracles.canonical_keys(x, x, "euclidean"))
    assert np.all(np.abs(found - truth) <= 1e-6 * truth)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-22, 1e18, 1e25, 1e37])
def test_float32_squares_that_leave_the_normal_range(scale: float, backend: str) -> None:
    x = (cloud("normal", 30, 9, 6) * scale).astype(np.float32)
    found = mf.pairwise_distances(x, backend=backend)
    truth = np.sqrt(oracles.canonical_keys(x, x, "euclidean"))
    assert np.all(np.abs(found - truth) <= 1e-6 * truth + np.finfo(np.float32).smallest_subnormal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adversarial_points(kind: str, dtype: Any, backend: str) -> None:
    x = cloud(kind, 60, 12, 7).astype(dtype)
    found = mf.pairwise_distances(x, backend=backend)
    truth = np.sqrt(oracles.canonical_keys(x, x, "euclidean"))
    assert np.all(np.abs(found - truth) <= (1e-6 if dtype == np.float32 else 1e-13) * truth)


def test_near_equal_distributions_keep_their_distance(backend: str) -> None:
    """An arc cosine in float32 would return zero here."""
    p = np.full(50, 0.02)
    q = p + np.where(np.arange(50) % 2, 1e-4, -1e-4) * 0.02
    for metric in ("fisher_rao", "hellinger", "jensen_shannon"):
        found = mf.pairwise_distances(p[None], q[None], metric=metric, backend=backend).item()
        key = oracles.plain_keys(p[None], q[None], metric)
        assert found == pytest.approx(oracles.to_distance(key, metric).item(), rel=1e-6)
        assert found > 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_give_float32(dtype: torch.dtype, backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 21, 30, 8)).to(dtype)
    found = mf.pairwise_distances(x, backend=backend)
    truth = np.sqrt(oracles.canonical_keys(x.double().numpy(), x.double().numpy(), "euclidean"))
    assert found.dtype == torch.float32
    assert np.all(np.abs(found.numpy() - truth) <= 1e-6 * truth)


def test_leading_dimensions(rng: np.random.Generator, backend: str) -> None:
    x, y = rng.standard_normal((2, 3, 11, 4)), rng.standard_normal((2, 3, 7, 4))
    found, alone = mf.pairwise_distances(x, y, backend=backend), mf.pairwise_distances(x, backend=backend)
    assert found.shape == (2, 3, 11, 7)
    assert alone.shape == (2, 3, 11, 11)
    for a in range(2):
        for b in range(3):
            check(found[a, b], x[a, b], y[a, b], "euclidean")
            check(alone[a, b][:5, 5:], x[a, b][:5], x[a, b][5:], "euclidean")
            assert np.array_equal(alone[a, b], alone[a, b].T)


def test_kinds_and_layouts(backend: str) -> None:
    wide = cloud("normal", 30, 20, 9)
    for view in (wide[::2], wide[:, ::3], wide[::-1], wide.T, np.asfortranarray(wide)):
        found = mf.pairwise_distances(view, backend=backend)
        assert isinstance(found, np.ndarray)
        check(found[:4, 4:9], view[:4], view[4:9], "euclidean")
        tensor = mf.pairwise_distances(torch.from_numpy(np.ascontiguousarray(view)), backend=backend)
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), found)


def test_the_input_is_left_alone(backend: str) -> None:
    x = cloud("normal", 12, 5, 10)
    before = x.copy()
    for metric in ("euclidean", "cosine", "correlation"):
        mf.pairwise_distances(x, metric=metric, backend=backend)
        mf.knn(x, 3, metric=metric, backend=backend)
    assert np.array_equal(x, before)


def test_settings_of_the_user_do_not_reach_inside(torch_threads: None, backend: str) -> None:
    """float32 accuracy holds under every matrix product setting, under autocast and on any threads."""
    x = torch.from_numpy(cloud("normal", 150, 700, 11) + 100).float()
    truth = np.sqrt(oracles.canonical_keys(x.numpy(), x.numpy(), "euclidean"))
    for threads, precision in ((2, "highest"), (1, "medium"), (2, "high")):
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        for autocast in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                found = mf.pairwise_distances(x, backend=backend)
            assert found.dtype == torch.float32
            assert np.all(np.abs(found.numpy() - truth) <= 1e-6 * truth)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_gradients(metric: str, backend: str) -> None:
    options = tensors(extra(metric, 4))

    def distances(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        if metric in oracles.PROBABILITY_METRICS:
            x, y = x.softmax(-1), None if y is None else y.softmax(-1)
        return mf.pairwise_distances(x, y, metric=metric, backend=backend, **options)

    x = torch.from_numpy(cloud("normal", 5, 4, 12)).requires_grad_()
    y = torch.from_numpy(cloud("normal", 3, 4, 13)).requires_grad_()
    assert torch.autograd.gradcheck(distances, (x, y))
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda z: distances(z)[off_diagonal], (x,))


@pytest.mark.parametrize("metric", [m for m in oracles.METRICS if m != "inner_product"])
def test_the_gradient_at_distance_zero_is_zero(metric: str, backend: str) -> None:
    options = tensors(extra(metric, 4))
    row = torch.from_numpy(points_for(metric, 1, 4, seed=14))
    x, y = row.repeat(3, 1).requires_grad_(), row.repeat(2, 1).requires_grad_()
    mf.pairwise_distances(x, y, metric=metric, backend=backend, **options).sum().backward()
    mf.pairwise_distances(x, metric=metric, backend=backend, **options).sum().backward()
    for grad in (x.grad, y.grad):
        assert grad is not None
        assert torch.equal(grad, torch.zeros_like(grad)), grad


def test_float32_gradients_are_close_to_float64_ones(backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 40, 33, 15)).float().double()
    single, double = x.float().requires_grad_(), x.clone().requires_grad_()
    for tensor in (single, double):
        mf.pairwise_distances(tensor, backend=backend).square().sum().sqrt().backward()
    assert single.grad is not None
    assert double.grad is not None
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-6)


def test_infinite_divergence_is_allowed(backend: str) -> None:
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, 0.0, 0.0]])
    assert mf.pairwise_distances(p, q, metric="kl", backend=backend).item() == np.inf
    assert mf.pairwise_distances(q, p, metric="kl", backend=backend).item() == pytest.approx(np.log(2))
    found = mf.knn(p, 1, q, metric="kl", backend=backend)
    assert found.distances.item() == np.inf
    assert found.indices.item() == 0
    assert found.valid.item()


def test_check_finite_can_be_switched_off(backend: str) -> None:
    x = cloud("normal", 6, 3, 16)
    x[2, 1] = np.nan
    found = mf.pairwise_distances(x, check_finite=False, backend=backend)
    kept = [0, 1, 3, 4, 5]
    check(found[np.ix_(kept, kept)][:2, 2:], x[kept][:2], x[kept][2:], "euclidean")
    assert np.isnan(found[2, 0])
