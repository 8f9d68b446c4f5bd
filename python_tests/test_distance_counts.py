"""distance_histogram and correlation_integral: counts equal to a full matrix of canonical distances, pair for pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import KINDS, cloud, probabilities

import msma_fast as mf

METRICS = sorted(set(oracles.METRICS) - {"kl", "minkowski", "mahalanobis"})


def edges_for(distances: np.ndarray, bins: int = 13) -> np.ndarray:
    """Edges across the distances that lie exactly on some of them, the last one included."""
    found = np.unique(distances)
    chosen = found[np.linspace(0, len(found) - 1, min(bins, len(found))).astype(int)]
    return np.concatenate([[chosen[0] - 1.0], chosen]) if len(chosen) < 3 else chosen


@pytest.mark.parametrize("n", [2, 3, 31, 129, 389])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_self_histogram_is_numpy_histogram_of_the_pairs(n: int, dtype: Any, backend: str) -> None:
    x = cloud("normal", n, 7, 0).astype(dtype)
    distances = oracles.pair_distances(x)
    edges = edges_for(distances)
    found = mf.distance_histogram(x, edges, backend=backend)
    assert found.dtype == np.int64
    assert np.array_equal(found, np.histogram(distances, edges)[0])


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_counts_the_canonical_distance(metric: str, backend: str) -> None:
    simplex = metric in oracles.PROBABILITY_METRICS
    both = probabilities(140, 9, 1) if simplex else cloud("normal", 140, 9, 1)
    x, points = both[:60], both[60:]
    cross = oracles.to_distance(oracles.canonical_keys(x, points, metric), metric)
    band = metric in oracles.LIBRARY_ROOT_METRICS  # edges on a distance could fall on either side
    edges = np.linspace(cross.min() - 0.01, cross.max() + 0.01, 12) if band else edges_for(cross)
    for found, distances in (
        (mf.distance_histogram(x, edges, metric=metric, backend=backend), oracles.pair_distances(x, metric)),
        (mf.distance_histogram(x, edges, points=points, metric=metric, backend=backend), cross),
    ):
        assert np.array_equal(found, np.histogram(distances, edges)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_points(kind: str, backend: str) -> None:
    x = cloud(kind, 150, 6, 2)
    distances = oracles.pair_distances(x)
    edges = edges_for(distances)
    assert np.array_equal(mf.distance_histogram(x, edges, backend=backend), np.histogram(distances, edges)[0])
    radii = np.concatenate([edges, [0.0]])
    wanted = [(distances < r).mean() for r in radii]
    assert np.array_equal(mf.correlation_integral(x, radii, backend=backend), wanted)


@pytest.mark.parametrize("window", [0, 1, 7, 150, 298])
def test_groups_and_window(window: int, rng: np.random.Generator, backend: str) -> None:
    x, groups = rng.standard_normal((300, 4)), rng.integers(-5, 40, 300) * 10**12
    distances = oracles.pair_distances(x, groups=groups, window=window)
    radii = np.array([2.0, 0.5, 3.5, 2.0])
    if len(distances):
        found = mf.correlation_integral(x, radii, groups=groups, window=window, backend=backend)
        assert np.array_equal(found, [(distances < r).mean() for r in radii])
    edges = np.linspace(0, 6, 9)
    found = mf.distance_histogram(x, edges, groups=groups, backend=backend)
    assert np.array_equal(found, np.histogram(oracles.pair_distances(x, groups=groups), edges)[0])


def test_edges_on_a_distance_follow_numpy(backend: str) -> None:
    x = np.array([[0.0], [1.0], [2.0], [4.0]])
    for edges in ([1.0, 2.0, 4.0], [0.0, 1.0, 1.0, 3.0], [2.0, 2.0], np.array([1, 3])):
        wanted = np.histogram(oracles.pair_distances(x), edges)[0]
        assert np.array_equal(mf.distance_histogram(x, edges, backend=backend), wanted), edges


def test_a_radius_at_a_distance_is_not_reached(backend: str) -> None:
    x = np.array([[0.0, 0.1], [0.3, 0.7]])
    distance = float(oracles.pair_distances(x)[0])
    assert mf.correlation_integral(x, distance, backend=backend) == 0.0
    assert mf.correlation_integral(x, np.nextafter(distance, 9.0), backend=backend) == 1.0


def test_the_slope_on_a_uniform_line_is_one(rng: np.random.Generator, backend: str) -> None:
    x = rng.random((900, 1)) @ rng.standard_normal((1, 5))
    radii = float(np.linalg.norm(x.max(0) - x.min(0))) * np.array([0.01, 0.05])
    low, high = mf.correlation_integral(x, radii, backend=backend)
    assert np.log(high / low) / np.log(5) == pytest.approx(1.0, abs=0.03)


def test_kinds(backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 40, 5, 3)).to(torch.bfloat16)
    found = mf.distance_histogram(x, torch.linspace(0, 9, 7), backend=backend)
    assert isinstance(found, torch.Tensor)
    assert int(found.sum()) == 780
    fractions = mf.correlation_integral(x, torch.tensor([9.0]), backend=backend)
    assert isinstance(fractions, torch.Tensor)
    assert fractions.dtype == torch.float64
    assert isinstance(mf.correlation_integral(x, 9.0, backend=backend), float)


def test_one_row_has_no_pairs(backend: str) -> None:
    assert np.array_equal(mf.distance_histogram(np.ones((1, 3)), [0.0, 1.0], backend=backend), [0])


def test_nan_rows_are_counted_nowhere(backend: str) -> None:
    x = cloud("normal", 20, 3, 4)
    x[7, 1] = np.nan
    found = mf.distance_histogram(x, [0.0, 1e9], check_finite=False, backend=backend)
    assert found.tolist() == [19 * 18 // 2]
