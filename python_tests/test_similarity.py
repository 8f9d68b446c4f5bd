"""neighborhood_overlap, distance_correlation and cka: direct formulas, invariances, kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import KINDS, cloud

import msma_fast as mf


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((137, 11))
    return x, np.tanh(x[:, :6]) + 0.3 * rng.standard_normal((137, 6))


@pytest.mark.parametrize("k", [1, 7, 136])
def test_overlap_is_the_mean_share_of_common_neighbours(
    k: int, pair: tuple[np.ndarray, np.ndarray], backend: str
) -> None:
    with mf.use_backend(backend):
        assert float(mf.neighborhood_overlap(*pair, k)) == pytest.approx(
            oracles.neighborhood_overlap(*pair, k), abs=1e-15
        )
        assert float(mf.neighborhood_overlap(pair[0], 4 * pair[0], k)) == 1


@pytest.mark.parametrize("kind", ["duplicates", "lattice", "all_equal", "huge_coordinate"])
def test_overlap_with_ties_uses_the_index_order(kind: str, backend: str) -> None:
    x, y = cloud(kind, 70, 4, 0).astype(np.float32), cloud("lattice", 70, 3, 1).astype(np.float32)
    with mf.use_backend(backend):
        assert float(mf.neighborhood_overlap(x, y, 6)) == pytest.approx(
            oracles.neighborhood_overlap(x, y, 6), abs=1e-15
        )


@pytest.mark.parametrize("n", [2, 5, 137, 1031])
def test_distance_correlation_is_the_direct_formula(n: int, rng: np.random.Generator, backend: str) -> None:
    x = rng.standard_normal((n, 7))
    y = x[:, :3] ** 2 + rng.standard_normal((n, 3))
    with mf.use_backend(backend):
        found = mf.distance_correlation(x, y)
    assert float(found) == pytest.approx(oracles.distance_correlation(x, y), rel=1e-10)


@pytest.mark.parametrize("n", [2, 5, 137, 1031])
def test_linear_cka_is_the_direct_formula(n: int, rng: np.random.Generator, backend: str) -> None:
    x = rng.standard_normal((n, 7)) + 3
    y = x[:, :3] + rng.standard_normal((n, 3))
    with mf.use_backend(backend):
        assert float(mf.cka(x, y)) == pytest.approx(oracles.linear_cka(x, y), rel=1e-9)
        wide = rng.standard_normal((n, 200))  # more features than points: the Gram side is the cheap one
        assert float(mf.cka(x, wide)) == pytest.approx(oracles.linear_cka(x, wide), rel=1e-9)


def test_rbf_cka_has_the_median_distance_for_bandwidth(pair: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    grams = []
    for z in pair:
        squared = oracles.canonical_keys(z, z, "euclidean")
        median = np.median(np.sqrt(squared[np.triu_indices(len(z), 1)]))
        grams.append(np.exp(-squared / (2 * median**2)))
    with mf.use_backend(backend):
        assert float(mf.cka(*pair, "rbf")) == pytest.approx(oracles.kernel_cka(*grams), rel=1e-6)


@pytest.mark.parametrize("measure", ["distance_correlation", "linear", "rbf"])
def test_invariances(measure: str, pair: tuple[np.ndarray, np.ndarray], rng: np.random.Generator, backend: str) -> None:
    """Rotation, shift and one global scale; symmetric; one for a variable with itself; at most one."""
    x, y = pair
    rotation, _ = np.linalg.qr(rng.standard_normal((11, 11)))

    def value(a: Any, b: Any) -> float:
        with mf.use_backend(backend):
            return float(mf.distance_correlation(a, b) if measure == "distance_correlation" else mf.cka(a, b, measure))

    first = value(x, y)
    assert 0 < first < 1
    assert value(3 * (x @ rotation) + 5, y) == pytest.approx(first, rel=1e-8)
    assert value(y, x) == pytest.approx(first, rel=1e-12)
    assert value(x, x) == pytest.approx(1, rel=1e-12)
    shuffled = rng.permutation(len(x))
    assert value(x[shuffled], y[shuffled]) == pytest.approx(first, rel=1e-10)
    assert value(x, y[shuffled]) < first


def test_kinds_and_dtypes(pair: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    x, y = (z.astype(np.float32) for z in pair)
    with mf.use_backend(backend):
        for found, wanted in (
            (mf.distance_correlation, oracles.distance_correlation(x, y)),
            (mf.cka, oracles.linear_cka(x, y)),
        ):
            assert float(found(x, y)) == pytest.approx(wanted, rel=1e-6)
            assert float(found(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("all_equal", "huge_coordinate")])
def test_adversarial_points(kind: str, backend: str) -> None:
    x, y = cloud(kind, 90, 5, 2), cloud("normal", 90, 4, 3)
    with mf.use_backend(backend):
        assert float(mf.distance_correlation(x, y)) == pytest.approx(oracles.distance_correlation(x, y), rel=1e-6)
        centered = x - x.mean(0)
        assert float(mf.cka(x, y)) == pytest.approx(oracles.linear_cka(centered, y), rel=1e-6)


@pytest.mark.slow
def test_no_square_matrix_is_held(rng: np.random.Generator, backend: str) -> None:
    """20,000 points would need 3.2 GB for one float64 matrix."""
    import resource

    x, y = rng.standard_normal((20_000, 8)), rng.standard_normal((20_000, 8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with mf.use_backend(backend):
        mf.cka(x, y, "rbf")
        mf.distance_correlation(x, y)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2e9
