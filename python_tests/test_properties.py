"""Properties over generated point sets: exactness against the oracle, and relations between answers."""

from __future__ import annotations

from typing import Any

import information_oracles
import numpy as np
import oracles
import pytest
from compare import check_knn_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import KINDS, Case, cloud, knn_cases

import msma_fast as mf

small_clouds = st.builds(cloud, st.sampled_from(KINDS), st.integers(4, 30), st.integers(1, 12), st.integers(0, 10**6))
TIE_FREE = ("normal", "shifted", "scales")


@given(case=knn_cases())
def test_knn_is_exact(backend: str, case: Case) -> None:
    options = case.options()
    found = mf.knn(case.x, case.k, case.y, backend=backend, **options)
    check_knn_oracle(tuple(found), case.x, case.k, case.y, **options)


SCREENED = ("euclidean", "sqeuclidean", "inner_product", "cosine", "correlation", "mahalanobis", "hellinger")


@pytest.mark.slow
@settings(max_examples=400)
@given(case=knn_cases(metrics=SCREENED, most=400))
def test_knn_is_exact_where_the_screen_works(backend: str, case: Case) -> None:
    options, k = case.options(), 1 + case.k // 10
    found = mf.knn(case.x, k, case.y, backend=backend, **options)
    check_knn_oracle(tuple(found), case.x, k, case.y, **options)


@given(case=knn_cases(metrics=("euclidean", "manhattan", "chebyshev", "inner_product", "cosine")), data=st.data())
def test_radius_count_agrees_with_knn(backend: str, case: Case, data: st.DataObject) -> None:
    """At the k-th returned distance: closed counts at least k, open fewer, the difference is the ties."""
    options = case.options()
    options.pop("p")
    options.pop("metric_tensor")
    found = mf.knn(case.x, case.k, case.y, backend=backend, **options)
    radius = np.where(found.valid[:, -1], found.distances[:, -1], 0).astype(found.distances.dtype)
    if options["metric"] != "inner_product":
        assert np.all(radius >= 0)
    open_count, closed_count = (
        mf.radius_count(case.x, radius, case.y, closed=closed, backend=backend, **options) for closed in (False, True)
    )
    full = found.valid[:, -1]
    assert np.all(closed_count[full] >= case.k)
    assert np.all(open_count[full] < case.k)
    with np.errstate(over="ignore"):  # beyond float32: both sides are inf
        distances = oracles.to_distance(case.keys(), case.metric).astype(radius.dtype)
    ties = ((distances == radius[:, None]) & case.allowed()).sum(1)
    assert np.array_equal(closed_count - open_count, ties)


@given(x=small_clouds, seed=st.integers(0, 1000), k=st.integers(1, 3))
def test_permuting_the_points_permutes_the_distances(backend: str, x: np.ndarray, seed: int, k: int) -> None:
    order = np.random.default_rng(seed).permutation(len(x))
    first, second = mf.knn(x, k, backend=backend), mf.knn(x[order], k, backend=backend)
    assert np.array_equal(first.distances[order], second.distances)
    clear = np.all(np.diff(np.sort(np.sqrt(oracles.canonical_keys(x, x, "euclidean")), 1)[:, : k + 2], axis=1) > 0, 1)
    assert np.array_equal(first.indices[order][clear[order]], order[second.indices][clear[order]])


@given(x=small_clouds, k=st.integers(1, 3), power=st.sampled_from((-3, 1, 5)))
def test_scaling_by_a_power_of_two_is_exact(backend: str, x: np.ndarray, k: int, power: int) -> None:
    first, second = mf.knn(x, k, backend=backend), mf.knn(x * 2.0**power, k, backend=backend)
    assert np.array_equal(first.indices, second.indices)
    assert np.array_equal(first.distances * 2.0**power, second.distances)


@given(x=small_clouds, k=st.integers(1, 3))
def test_more_neighbours_extend_the_answer(backend: str, x: np.ndarray, k: int) -> None:
    all_of_them = mf.knn(x, len(x) - 1, backend=backend)
    few = mf.knn(x, k, backend=backend)
    assert np.array_equal(all_of_them.indices[:, :k], few.indices)
    assert np.array_equal(all_of_them.distances[:, :k], few.distances)
    assert np.all(np.diff(all_of_them.distances, axis=1) >= 0)
    assert all(sorted([*row, i]) == list(range(len(x))) for i, row in enumerate(all_of_them.indices.tolist()))


@given(x=small_clouds, k=st.integers(1, 3))
def test_each_query_is_answered_alone(backend: str, x: np.ndarray, k: int) -> None:
    """A block, a batch or one row at a time: the same bits."""
    points = cloud("lattice", 9, x.shape[1], 1)
    whole = mf.knn(x, k, points, backend=backend)
    rows = [mf.knn(x[i : i + 1], k, points, backend=backend) for i in range(len(x))]
    for part in range(3):
        assert np.array_equal(whole[part], np.concatenate([row[part] for row in rows]))


@given(x=small_clouds, k=st.integers(1, 3))
def test_symmetrized_graphs_are_symmetric_and_nested(backend: str, x: np.ndarray, k: int) -> None:
    def edges(symmetrize: Any) -> set[tuple[int, int]]:
        index = np.asarray(mf.knn_graph(x, k, symmetrize=symmetrize, backend=backend).to_edge_index())
        return {(i, j) for i, j in index.T.tolist()}

    mutual, directed, union = edges("mutual"), edges(None), edges("union")
    assert mutual <= directed <= union
    for symmetric in (mutual, union):
        assert symmetric == {(j, i) for i, j in symmetric}
    assert len(directed) == len(x) * k


@given(x=small_clouds)
def test_distances_form_a_metric(backend: str, x: np.ndarray) -> None:
    found = mf.pairwise_distances(x, backend=backend)
    assert np.array_equal(found, found.T)
    assert np.all(np.diag(found) == 0)
    slack = 1e-9 * (1 + found.max())
    assert np.all(found[:, None, :] <= found[:, :, None] + found[None, :, :] + slack)


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(8, 40),
    kind=st.sampled_from(KINDS),
    method=st.sampled_from(("ksg1", "ksg2")),
)
def test_ksg_is_symmetric_and_equal_to_brute_force(backend: str, seed: int, n: int, kind: str, method: str) -> None:
    x, y = cloud(kind, n, 2, seed), cloud("normal", n, 1, seed + 1)
    forward = float(mf.ksg_mi(x, y, 3, method=method, backend=backend))
    assert abs(forward - information_oracles.ksg_mi(x, y, 3, method).mi) < 1e-12
    assert abs(forward - float(mf.ksg_mi(y, x, 3, method=method, backend=backend))) < 1e-12
    order = np.random.default_rng(seed).permutation(n)
    if kind in TIE_FREE:
        assert abs(forward - float(mf.ksg_mi(x[order], y[order], 3, method=method, backend=backend))) < 1e-12
