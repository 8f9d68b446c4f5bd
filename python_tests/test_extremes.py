"""Where float64 itself gives way: subnormal keys and radii, windows beyond int32, scales near the ends of the range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import check_knn_oracle
from oracles import admissible, canonical_keys, radius_counts, to_distance

import msma_fast as mf

TINY = 2.0**-149


def subnormal(scale: float, outlier: float | None = None, d: int = 5) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((400, d)) * scale
    if outlier is not None:
        x[7] = outlier
    return x


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "mahalanobis"])
@pytest.mark.parametrize("outlier", [None, 2.0**-470, 2.0**-460])
def test_knn_with_subnormal_keys(metric: str, outlier: float | None, backend: str) -> None:
    x = subnormal(3e-162, outlier)
    options: dict[str, Any] = {"metric_tensor": np.eye(5)} if metric == "mahalanobis" else {}
    check_knn_oracle(mf.knn(x, 5, metric=metric, backend=backend, **options), x, 5, metric=metric, **options)


@pytest.mark.parametrize(("left", "right"), [(1e-160, 1e-163), (1e-162, 1e-162)])
def test_inner_products_with_subnormal_keys(left: float, right: float, backend: str) -> None:
    x, y = subnormal(left), subnormal(right)[::-1].copy()
    check_knn_oracle(mf.knn(x, 5, y, metric="inner_product", backend=backend), x, 5, y, metric="inner_product")


@pytest.mark.parametrize("scale", [1e-160, 1e-161])
def test_cosine_with_subnormal_squares(scale: float, backend: str) -> None:
    x = subnormal(scale, d=6)
    check_knn_oracle(mf.knn(x, 5, metric="cosine", backend=backend), x, 5, metric="cosine")


RADII = [
    ("sqeuclidean", np.random.default_rng(0).standard_normal((300, 3)) * 1e-23, 0.0),
    ("inner_product", np.random.default_rng(0).standard_normal((300, 3)) * 1e-23, 0.0),
    ("euclidean", np.random.default_rng(0).integers(0, 9, (300, 3)) * TINY, TINY),
    ("euclidean", np.random.default_rng(0).integers(0, 9, (300, 3)) * TINY, 3 * TINY),
]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("metric", "points", "radius"), RADII)
def test_radius_in_a_subnormal_returned_precision(
    metric: str, points: np.ndarray, radius: float, closed: bool, backend: str
) -> None:
    x = points.astype(np.float32)
    distances = to_distance(canonical_keys(x, x, metric), metric).astype(np.float32)
    expected = radius_counts(distances, np.float32(radius), admissible(len(x)), closed)
    found = mf.radius_count(x, radius, metric=metric, closed=closed, backend=backend)
    np.testing.assert_array_equal(found, expected)
    if metric != "inner_product":
        graph = mf.radius_graph(x, radius, metric=metric, closed=closed, backend=backend)
        np.testing.assert_array_equal(graph.degrees().numpy(), expected)


@pytest.mark.parametrize("window", [200, 2**31, 2**63])
def test_a_window_over_everything_leaves_nothing(window: int, backend: str) -> None:
    x = subnormal(1.0)[:200]
    assert not mf.knn(x, 5, window=window, backend=backend).valid.any()
    assert not mf.radius_count(x, 9.0, window=window, backend=backend).any()


@pytest.mark.parametrize("scale", [2.0**-600, 2.0**-300, 2.0**300, 2.0**600])
def test_similarities_do_not_feel_the_scale(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4))
    y = x[:, :2] + rng.standard_normal((80, 2))
    assert mf.cka(x * scale, y) == pytest.approx(mf.cka(x, y), rel=1e-12)
    assert mf.distance_correlation(x * scale, y) == pytest.approx(mf.distance_correlation(x, y), rel=1e-12)
    matrix = mf.cka_matrix([(x * 1e20).astype(np.float32), x.astype(np.float32)])
    np.testing.assert_allclose(matrix, 1.0, rtol=1e-5)
    assert matrix.max() <= 1.0


def test_a_permutation_test_that_overflows_is_an_error() -> None:
    with pytest.raises(ValueError, match="overflow"):
        mf.mi_permutation_test(subnormal(1e200), subnormal(1.0), n_permutations=2, metric="euclidean")


def test_kl_of_a_quotient_beyond_float64() -> None:
    x, y = np.array([[1.0, 0.0]]), np.array([[1e-320, 1.0]])
    assert mf.pairwise_distances(x, y, metric="kl")[0, 0] == pytest.approx(-np.log(1e-320), rel=1e-6)


def test_many_tied_units(backend: str) -> None:
    x = np.eye(60, dtype=np.float32)[np.arange(1200) % 60]
    check_knn_oracle(mf.knn(x, 50, backend=backend), x, 50)


def test_the_null_excludes_what_the_estimate_excludes() -> None:
    """x and y independent, each with an effect of the text: free and text-wise permutations must both centre on the
    estimate. A null that admits pairs of y's own texts would lie above it by more than a tenth of a nat."""
    excess = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        text = np.arange(480) // 16
        x, y = (2 * rng.standard_normal(30)[text] + 0.3 * rng.standard_normal(480) for _ in range(2))
        excess.append(mf.mi_permutation_test(x, y, n_permutations=10, groups=text, exchange=text, seed=seed).excess)
    assert abs(np.mean(excess)) < 3 * np.std(excess) / np.sqrt(len(excess)) + 0.02
