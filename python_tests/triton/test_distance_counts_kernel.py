"""Distances counted by a Triton kernel: the integers of a full matrix of canonical distances, pair for pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from conftest import available_backends
from strategies import KINDS, cloud, probabilities

import msma_fast as mf
from msma_fast.triton_kernels import distance_counts as kernels
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of columns and several launches in small sets."""
    for name in ("TILES", "NARROW_TILES"):
        monkeypatch.setattr(kernels, name, (Configuration({"ROWS": 16, "BLOCK": 32, "BINS": 16}, 4),))


METRICS = sorted(set(oracles.METRICS) - {"kl", "minkowski", "mahalanobis"})


def edges_for(distances: np.ndarray, bins: int = 13) -> np.ndarray:
    """Edges that lie exactly on some of the distances, the first and the last included."""
    found = np.unique(distances)
    chosen = found[np.linspace(0, len(found) - 1, min(bins, len(found))).astype(int)]
    return np.concatenate([[chosen[0] - 1.0], chosen]) if len(chosen) < 3 else chosen


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 3, 31, 97])
@pytest.mark.usefixtures("small")
def test_one_set(n: int, dtype: Any) -> None:
    x = cloud("normal", n, 7, 0).astype(dtype)
    distances = oracles.pair_distances(x)
    edges = edges_for(distances)
    found = mf.distance_histogram(x, edges, backend="triton")
    assert found.dtype == np.int64
    assert np.array_equal(found, np.histogram(distances, edges)[0])


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
def test_tiles_as_they_are_launched(metric: str) -> None:
    x, edges = cloud("normal", 258, 3, 0), np.linspace(0.0, 5.0, 514)
    found = mf.distance_histogram(x[:9], edges, points=x, metric=metric, backend="triton")
    cross = oracles.to_distance(oracles.canonical_keys(x[:9], x, metric), metric)
    assert np.array_equal(found, np.histogram(cross, edges)[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("small")
def test_every_metric_counts_the_canonical_distance(metric: str) -> None:
    both = probabilities(90, 9, 1) if metric in oracles.PROBABILITY_METRICS else cloud("normal", 90, 9, 1)
    x, points = both[:41], both[41:]
    cross = oracles.to_distance(oracles.canonical_keys(x, points, metric), metric)
    edges = edges_for(cross)
    if metric in oracles.LIBRARY_ROOT_METRICS:  # edges on a distance could fall on either side
        edges = np.linspace(cross.min() - 0.01, cross.max() + 0.01, 12)
    for other, distances in ((None, oracles.pair_distances(x, metric)), (points, cross)):
        wanted = np.histogram(distances, edges)[0]
        for name in ("triton", *available_backends()):
            found = mf.distance_histogram(x, edges, points=other, metric=metric, backend=name)
            assert np.array_equal(found, wanted), name


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (3, 270, 1), (258, 2, 19)])
def test_two_sets(n: int, m: int, d: int) -> None:
    x, points = cloud("lattice", n, d, 0), cloud("normal", m, d, 1)
    distances = oracles.to_distance(oracles.canonical_keys(x, points, "euclidean"), "euclidean")
    edges = edges_for(distances)
    found = mf.distance_histogram(x, edges, points=points, backend="triton")
    assert np.array_equal(found, np.histogram(distances, edges)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small")
def test_adversarial_points(kind: str) -> None:
    x = cloud(kind, 50, 6, 2)
    distances = oracles.pair_distances(x)
    edges = edges_for(distances)
    assert np.array_equal(mf.distance_histogram(x, edges, backend="triton"), np.histogram(distances, edges)[0])
    radii = np.concatenate([edges, [0.0]])
    wanted = [(distances < r).mean() for r in radii]
    assert np.array_equal(mf.correlation_integral(x, radii, backend="triton"), wanted)


@pytest.mark.parametrize("count", [2, 14, 15, 16, 17, 50])
@pytest.mark.usefixtures("small")
def test_any_number_of_edges(count: int) -> None:
    """Powers of two and more places than one launch counts."""
    x = cloud("normal", 40, 3, 0)
    distances = oracles.pair_distances(x)
    edges = np.linspace(0.0, distances.max(), count)
    assert np.array_equal(mf.distance_histogram(x, edges, backend="triton"), np.histogram(distances, edges)[0])


@pytest.mark.parametrize("window", [0, 1, 7, 35, 68])
@pytest.mark.usefixtures("small")
def test_groups_and_window(window: int) -> None:
    rng = np.random.default_rng(0)
    x, groups = rng.standard_normal((70, 4)), rng.integers(-5, 10, 70) * 10**12
    distances = oracles.pair_distances(x, groups=groups, window=window)
    radii = np.array([2.0, 0.5, 3.5, 2.0])
    found = mf.correlation_integral(x, radii, groups=groups, window=window, backend="triton")
    assert np.array_equal(found, [(distances < r).mean() for r in radii])
    plain = mf.correlation_integral(x, radii, window=window, backend="triton")
    assert np.array_equal(plain, [(oracles.pair_distances(x, window=window) < r).mean() for r in radii])


def test_strides_and_bfloat16() -> None:
    x = torch.from_numpy(cloud("normal", 40, 10, 3)).to(torch.bfloat16)[:, ::2]
    distances = oracles.pair_distances(x.to(torch.float64).numpy())
    edges = torch.from_numpy(edges_for(distances))
    found = mf.distance_histogram(x, edges, backend="triton")
    assert np.array_equal(found.numpy(), np.histogram(distances, edges.numpy())[0])


def test_equal_rows_have_cosine_zero() -> None:
    x = np.repeat(cloud("normal", 30, 9, 0), 2, axis=0)
    found = mf.distance_histogram(x, [0.0, 5e-324, 3.0], metric="cosine", backend="triton")
    assert found.tolist() == [30, 60 * 59 // 2 - 30]


def test_nan_rows_are_counted_nowhere() -> None:
    x = cloud("normal", 20, 3, 4)
    x[7, 1] = np.nan
    found = mf.distance_histogram(x, [0.0, 1e9], check_finite=False, backend="triton")
    assert found.tolist() == [19 * 18 // 2]
    assert mf.correlation_integral(x, 1e9, check_finite=False, backend="triton") == (19 * 18) / (20 * 19)
