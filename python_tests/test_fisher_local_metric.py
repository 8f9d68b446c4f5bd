"""local_metric: explicit covariances and their inverses, laws of scale and shift, lengths and geodesics."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse.csgraph
import scipy.stats
import torch
from sklearn.covariance import oas

import msma_fast as mf
from msma_fast.fisher import LocalMetric, local_metric


def nearest(x: np.ndarray, i: int, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    distances = ((x - x[i]) ** 2).sum(1)
    distances[i] = np.inf
    if allowed is not None:
        distances[~allowed] = np.inf
    return np.argsort(distances, kind="stable")[:k]


def shrunk(rows: np.ndarray, shrinkage: Any, rank: int | None = None) -> np.ndarray:
    """(d, d) covariance of rows (k, d) by the definition, all in float64."""
    rows = rows.astype(np.float64)
    d, degrees = rows.shape[1], len(rows) - 1
    centred = rows - rows.mean(0)
    s = centred.T @ centred / degrees
    trace, square = np.trace(s), np.trace(s @ s)
    if shrinkage == "oas":
        spread = (degrees + 1 - 2 / d) * (square - trace**2 / d)
        above = (1 - 2 / d) * square + trace**2
        shrinkage = min(1.0, above / spread) if spread > 1e-12 * trace**2 else 1.0
    if rank is not None and rank < d:
        values, vectors = np.linalg.eigh(s)
        values[: d - rank] = values[: d - rank].mean()
        s = (vectors * values) @ vectors.T
    return (1 - shrinkage) * s + shrinkage * trace / d * np.eye(d)


def inverses(x: np.ndarray, k: int, shrinkage: Any = "oas", rank: int | None = None) -> np.ndarray:
    x = x.astype(np.float64)
    return np.stack([np.linalg.inv(shrunk(x[nearest(x, i, k)], shrinkage, rank)) for i in range(len(x))])


def cloud(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) * np.exp(rng.standard_normal(d)))


def check(metric: LocalMetric, wanted: np.ndarray, v: np.ndarray, tolerance: float) -> None:
    size = np.linalg.norm(wanted, 2, axis=(1, 2))
    products = np.einsum("nij,nj->ni", wanted, v)
    assert np.abs(metric.vp(v) - products).max(1) / size / np.linalg.norm(v, axis=1) == pytest.approx(0, abs=tolerance)
    np.testing.assert_allclose(metric.quadratic(v), (products * v).sum(1), rtol=10 * tolerance)
    np.testing.assert_allclose(metric.trace(), np.trace(wanted, axis1=1, axis2=2), rtol=10 * tolerance)
    logs = np.linalg.slogdet(wanted)[1]
    np.testing.assert_allclose(metric.logdet(), logs, rtol=10 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize(("n", "d", "k"), [(9, 1, 2), (30, 2, 5), (40, 3, 4), (50, 7, 20), (40, 11, 6), (12, 30, 11)])
@pytest.mark.parametrize("shrinkage", ["oas", 0.02, 0.5, 1])
def test_it_is_the_inverse_of_the_explicit_covariance(
    n: int, d: int, k: int, shrinkage: Any, rng: np.random.Generator
) -> None:
    x, v = cloud(rng, n, d), rng.standard_normal((n, d))
    check(local_metric(x, k, shrinkage=shrinkage), inverses(x, k, shrinkage), v, 1e-10)


@pytest.mark.parametrize("rank", [1, 2, 4, 7])
def test_a_lower_rank_spreads_what_is_left(rank: int, rng: np.random.Generator) -> None:
    x, v = cloud(rng, 40, 7), rng.standard_normal((40, 7))
    for shrinkage in ("oas", 0.0, 0.3):
        metric = local_metric(x, 15, rank=rank, shrinkage=shrinkage)
        assert metric.rank == rank
        check(metric, inverses(x, 15, shrinkage, rank), v, 1e-10)


def test_no_shrinkage_with_enough_neighbours(rng: np.random.Generator) -> None:
    x, v = cloud(rng, 40, 4), rng.standard_normal((40, 4))
    check(local_metric(x, 9, shrinkage=0), inverses(x, 9, 0.0), v, 1e-9)


def test_the_shrinkage_is_close_to_another_library_in_many_dimensions(rng: np.random.Generator) -> None:
    """Its formula leaves out the terms 2 / d, and it takes k for the degrees of freedom."""
    x = cloud(rng, 80, 60)
    metric = local_metric(x, 40)
    for i in (0, 5):
        theirs = np.linalg.inv(oas(x[nearest(x, i, 40)])[0])
        v = rng.standard_normal((80, 60))
        assert metric.quadratic(v)[i] == pytest.approx(v[i] @ theirs @ v[i], rel=0.1)


def test_float32_is_close_and_kinds_are_kept(rng: np.random.Generator) -> None:
    x = cloud(rng, 60, 5).astype(np.float32)
    v = rng.standard_normal((60, 5)).astype(np.float32)
    metric = local_metric(x, 12)
    check(metric, inverses(x, 12), v, 3e-6)
    tensors = local_metric(torch.from_numpy(x).requires_grad_(), 12)
    found = tensors.vp(torch.from_numpy(v))
    assert isinstance(found, torch.Tensor)
    assert not found.requires_grad
    np.testing.assert_array_equal(found, metric.vp(v))
    pairs = np.array([[0, 1], [4, 2]])
    np.testing.assert_array_equal(tensors.distance(torch.from_numpy(pairs)), metric.distance(pairs))
    for array in (metric.vp(v), metric.quadratic(v), metric.trace(), metric.logdet(), metric.distance(pairs)):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
    half = local_metric(torch.from_numpy(x).bfloat16(), 12)
    assert half.trace().dtype == torch.float32
    check(
        local_metric(torch.from_numpy(x).bfloat16().float().numpy(), 12),
        inverses(torch.tensor(x).bfloat16().float().numpy(), 12),
        v,
        3e-6,
    )
    np.testing.assert_array_equal(half.trace(), local_metric(torch.from_numpy(x).bfloat16().float(), 12).trace())


def test_float32_keeps_short_axes_and_long_ones(rng: np.random.Generator) -> None:
    """Steps along a long axis are measured well although the shortest axis is a million times shorter."""
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    x = (rng.standard_normal((200, 3)) * [1, 1e-3, 1e-5]).astype(np.float32) @ turn
    metric, wanted = local_metric(x, 30, shrinkage=0), inverses(x, 30, 0.0)
    for i in range(3):
        v = np.stack([np.linalg.eigh(one)[1][:, i] for one in wanted]).astype(np.float32)
        exact = np.einsum("ni,nij,nj->n", v.astype(float), wanted, v.astype(float))
        np.testing.assert_allclose(metric.quadratic(v), exact, rtol=1e-3)


def test_a_shift_changes_nothing(rng: np.random.Generator) -> None:
    x = np.round(cloud(rng, 50, 6) * 2**10) / 2**10  # exact after the shift
    v, pairs = rng.standard_normal((50, 6)), rng.integers(0, 50, (20, 2))
    near, far = (local_metric(rows, 10) for rows in (x, x + 2.0**20))
    np.testing.assert_allclose(far.vp(v), near.vp(v), rtol=1e-9, atol=1e-9 * np.abs(near.vp(v)).max())
    np.testing.assert_allclose(far.distance(pairs), near.distance(pairs), rtol=1e-9)
    narrow = (x * 2**7).round().astype(np.float32)
    np.testing.assert_allclose(
        local_metric(narrow + np.float32(2**20), 10).trace(), local_metric(narrow, 10).trace(), rtol=1e-5
    )


@pytest.mark.parametrize("c", [1e-12, 0.3, 1e12])
def test_the_metric_scales_with_the_inverse_square(c: float, rng: np.random.Generator) -> None:
    x, v = cloud(rng, 40, 5), rng.standard_normal((40, 5))
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-4)):
        one, other = (local_metric(rows.astype(dtype), 8) for rows in (x, c * x))
        np.testing.assert_allclose(other.trace() * c**2, one.trace(), rtol=tolerance)
        np.testing.assert_allclose(other.quadratic(v * c), one.quadratic(v), rtol=tolerance)
        np.testing.assert_allclose(other.logdet(), one.logdet() - 10 * np.log(c), rtol=tolerance, atol=tolerance)


def test_it_turns_with_the_data(rng: np.random.Generator) -> None:
    x, v = cloud(rng, 40, 5), rng.standard_normal((40, 5))
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    np.testing.assert_allclose(local_metric(x @ turn, 9).vp(v @ turn), local_metric(x, 9).vp(v) @ turn, rtol=1e-9)


def test_a_normal_cloud_shows_its_inverse_covariance(rng: np.random.Generator) -> None:
    """With all other points for neighbours, and with shrinkage estimated from them."""
    covariance = np.diag([4.0, 1.0, 0.25])
    x = rng.standard_normal((800, 3)) @ np.sqrt(covariance)
    metric = local_metric(x, 799)
    for axis in range(3):
        v = np.zeros((800, 3))
        v[:, axis] = 1
        np.testing.assert_allclose(metric.quadratic(v), 1 / covariance[axis, axis], rtol=0.2)


def test_groups_and_windows_choose_the_neighbours(rng: np.random.Generator) -> None:
    x, v = cloud(rng, 40, 3), rng.standard_normal((40, 3))
    groups = np.arange(40) % 4
    position = np.arange(40)
    found = local_metric(x, 6, groups=groups, window=3).quadratic(v)
    for i in range(40):
        allowed = (groups != groups[i]) & (np.abs(position - i) > 3)
        wanted = np.linalg.inv(shrunk(x[nearest(x, i, 6, allowed)], "oas"))
        assert found[i] == pytest.approx(v[i] @ wanted @ v[i], rel=1e-9)
    with pytest.raises(ValueError, match="k: expected at most as many neighbours as groups and window leave, got 31"):
        local_metric(x, 31, groups=groups)


def test_distances_are_the_mean_of_both_ends(rng: np.random.Generator) -> None:
    x, pairs = cloud(rng, 30, 4), rng.integers(0, 30, (50, 2))
    metric, each = local_metric(x, 7), inverses(x, 7)
    i, j = pairs.T
    v = x[j] - x[i]
    wanted = np.sqrt((np.einsum("ni,nij,nj->n", v, each[i], v) + np.einsum("ni,nij,nj->n", v, each[j], v)) / 2)
    np.testing.assert_allclose(metric.distance(pairs), wanted, rtol=1e-10)
    np.testing.assert_allclose(metric.distance(pairs[:, ::-1].copy()), wanted, rtol=1e-10)
    assert metric.distance(np.array([[3, 3]])) == 0
    assert metric.distance(np.zeros((0, 2), int)).shape == (0,)


def test_blocks_change_nothing(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x, pairs = cloud(rng, 50, 6), rng.integers(0, 50, (64, 2))
    whole = local_metric(x, 9)
    monkeypatch.setattr(sys.modules[LocalMetric.__module__], "_BLOCK", 8 * 9 * 6 * 7)
    parts = local_metric(x, 9)
    np.testing.assert_allclose(parts.trace(), whole.trace(), rtol=1e-12)
    np.testing.assert_allclose(parts.distance(pairs), whole.distance(pairs), rtol=1e-12)


def test_edges_are_the_euclidean_neighbours_with_lengths_both_ways(rng: np.random.Generator) -> None:
    x = cloud(rng, 60, 4)
    metric = local_metric(x, 12)
    graph = metric.geodesic_graph(5)
    plain = mf.knn_graph(x, 5, symmetrize="union")
    assert torch.equal(graph.indptr, plain.indptr)
    assert torch.equal(graph.indices, plain.indices)
    matrix = graph.to_scipy().toarray()
    np.testing.assert_array_equal(matrix, matrix.T)
    rows, cols = matrix.nonzero()
    np.testing.assert_allclose(matrix[rows, cols], metric.distance(np.stack([rows, cols], 1)), rtol=1e-12)


def geodesics(metric: LocalMetric, k: int) -> np.ndarray:
    found: np.ndarray = scipy.sparse.csgraph.shortest_path(metric.geodesic_graph(k).to_scipy(), directed=False)
    return found


def test_geodesics_on_a_circle_go_around(rng: np.random.Generator) -> None:
    """Evenly spaced points: every step costs the same, and the way across costs as many as the way around."""
    n = 240
    angles = 2 * np.pi * np.arange(n) / n
    x = np.stack([np.cos(angles), np.sin(angles)], 1) @ np.linalg.qr(rng.standard_normal((9, 2)))[0].T
    paths = geodesics(local_metric(x, 6), 2)
    steps = np.minimum(np.arange(n), n - np.arange(n))
    np.testing.assert_allclose(paths[0], paths[0, 1] * steps, rtol=1e-6)
    # neighbours at -3 .. 3 steps but 0: variance 28 / 5 of the squared step
    assert paths[0, 1] == pytest.approx(np.sqrt(5 / 28), rel=0.25)


def test_geodesics_follow_a_swiss_roll(rng: np.random.Generator) -> None:
    """On a spiral sheet of even density the paths order pairs as the unrolled sheet does, straight steps do not."""
    n = 700
    arc, height = 40 * rng.random(n), 20 * rng.random(n)
    angle = np.sqrt(2 * arc + 9)  # radius = angle: equal arcs hold nearly equal numbers
    x = np.stack([angle * np.cos(angle), angle * np.sin(angle), height], 1)
    paths = geodesics(local_metric(x, 16, shrinkage=0.1), 8)
    assert np.isfinite(paths).all()
    length = (angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)) / 2
    sheet = np.hypot(length[:, None] - length, height[:, None] - height)
    straight = np.sqrt(((x[:, None] - x) ** 2).sum(-1))
    upper = np.triu_indices(n, 1)
    ours, theirs = (scipy.stats.spearmanr(one[upper], sheet[upper]).statistic for one in (paths, straight))
    assert ours > 0.97
    assert ours > theirs + 0.1


def test_duplicates_have_no_covariance(rng: np.random.Generator) -> None:
    x = cloud(rng, 30, 4)
    x[9:15] = x[9]
    for shift in (0.0, 1e6 / 3):
        with pytest.raises(ValueError, match="x: expected neighbours that differ, got row 9 whose 5 nearest are all"):
            local_metric(x + shift, 5)
        assert np.isfinite(local_metric(x + shift, 7).trace()).all()
    with pytest.raises(ValueError, match="x: expected neighbours that differ"):
        local_metric(np.full((7, 3), 0.1), 3, shrinkage=0)
    metric = local_metric(x, 7)
    assert metric.distance(np.array([[9, 12]])) == 0
    paths = geodesics(metric, 6)
    assert paths[9, 12] == 0
    np.testing.assert_allclose(paths[9], paths[12], rtol=1e-12)


def test_one_huge_value_is_survived(rng: np.random.Generator) -> None:
    x = cloud(rng, 40, 5)
    x[3, 2] = 1e12
    check(local_metric(x, 8, shrinkage=0.1), inverses(x, 8, 0.1), rng.standard_normal((40, 5)), 1e-8)


def test_singular_covariances_are_named(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="shrinkage: expected a weight that makes every covariance invertible, got 0"):
        local_metric(cloud(rng, 30, 8), 5, shrinkage=0)
    plane = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 4))
    with pytest.raises(ValueError, match="shrinkage: expected a weight"):
        local_metric(plane, 20, shrinkage=0.0)
    assert np.isfinite(local_metric(plane, 20, shrinkage=1e-3).trace()).all()


ROWS = np.random.default_rng(0).standard_normal((12, 3))
BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (ROWS, {"k": 1}, ValueError, "k: expected at least 2 neighbours for a covariance, got 1"),
    (ROWS, {"k": 12}, ValueError, "k: expected at most n - 1 = 11"),
    (ROWS, {"k": 3.0}, TypeError, "k: expected an integer"),
    (ROWS, {"k": 3, "rank": 3}, ValueError, r"rank: expected at most min\(k - 1, d\) = 2, got 3"),
    (ROWS, {"k": 9, "rank": 0}, ValueError, "rank: expected an integer >= 1, got 0"),
    (ROWS, {"k": 9, "shrinkage": 1.5}, ValueError, "shrinkage: expected 'oas' or a number from 0 to 1, got 1.5"),
    (ROWS, {"k": 9, "shrinkage": -0.1}, ValueError, "shrinkage: expected a number >= 0"),
    (ROWS, {"k": 9, "shrinkage": float("nan")}, ValueError, "shrinkage: expected a number >= 0"),
    (ROWS, {"k": 9, "shrinkage": "lw"}, ValueError, "shrinkage: expected one of 'oas', got 'lw'"),
    (ROWS, {"k": 9, "shrinkage": None}, TypeError, "shrinkage: expected a number"),
    (ROWS, {"k": 3, "groups": np.zeros(12, int)}, ValueError, "k: expected at most as many neighbours"),
    (ROWS, {"k": 3, "window": -1}, ValueError, "window: expected an integer >= 0"),
    (ROWS[None], {"k": 3}, ValueError, r"x: expected an array of shape \(n, d\)"),
    (ROWS[:0], {"k": 3}, ValueError, "x: expected at least one row"),
    (ROWS * np.nan, {"k": 3}, ValueError, "x: expected finite values, got NaN"),
    (ROWS * np.inf, {"k": 3}, ValueError, "x: expected finite values"),
    (ROWS, {"k": 3, "backend": "abacus"}, ValueError, "backend"),
]


@pytest.mark.parametrize(("x", "arguments", "error", "message"), BAD)
def test_errors(x: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        local_metric(x, **arguments)


def test_errors_of_the_methods() -> None:
    metric = local_metric(ROWS, 5)
    assert repr(metric) == "LocalMetric(n=12, d=3, rank=3)"
    for call in (metric.vp, metric.quadratic):
        with pytest.raises(ValueError, match=r"v: expected shape \(12, 3\) as x, got shape \(12, 2\)"):
            call(ROWS[:, :2])
        with pytest.raises(TypeError, match="v: expected float16"):
            call(ROWS.astype(int))
    with pytest.raises(TypeError, match="pairs: expected integer row numbers"):
        metric.distance(ROWS[:, :2])
    with pytest.raises(ValueError, match=r"pairs: expected shape \(P, 2\), got shape \(3,\)"):
        metric.distance(np.arange(3))
    for outside in (-1, 12):
        with pytest.raises(ValueError, match="pairs: expected rows from 0 to 11"):
            metric.distance(np.array([[0, outside]]))
    with pytest.raises(ValueError, match="k: expected at most n - 1 = 11"):
        metric.geodesic_graph(12)
