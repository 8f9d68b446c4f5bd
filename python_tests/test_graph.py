"""knn_graph and radius_graph against edges from full distance matrices, and their conversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from strategies import cloud

import msma_fast as mf

Edges = dict[tuple[int, int], float]


def knn_edges(x: np.ndarray, k: int, symmetrize: str | None, metric: str = "euclidean", **options: Any) -> Edges:
    keys, allowed = oracles.canonical_keys(x, x, metric), oracles.admissible(len(x), **options)
    best = oracles.nearest(keys, allowed, k)
    directed = {(i, int(j)) for i in range(len(x)) for j in best.indices[i][best.valid[i]]}
    reverse = {(j, i) for i, j in directed}
    edges = {None: directed, "union": directed | reverse, "mutual": directed & reverse}[symmetrize]
    distances = oracles.to_distance(keys, metric).astype(x.dtype)
    return {(i, j): float(distances[i, j]) for i, j in edges}


def edges_of(graph: Any) -> Edges:
    matrix = graph.to_scipy().tocoo()
    assert matrix.nnz == len(set(zip(matrix.row.tolist(), matrix.col.tolist(), strict=True)))
    return dict(zip(zip(matrix.row.tolist(), matrix.col.tolist(), strict=True), matrix.data.tolist(), strict=True))


@pytest.mark.parametrize("symmetrize", [None, "union", "mutual"])
@pytest.mark.parametrize("kind", ["normal", "duplicates", "lattice"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_knn_graph(symmetrize: str | None, kind: str, dtype: Any, backend: str) -> None:
    x = cloud(kind, 61, 4, 0).astype(dtype)
    graph = mf.knn_graph(x, 5, symmetrize=symmetrize, backend=backend)
    assert edges_of(graph) == knn_edges(x, 5, symmetrize)


@pytest.mark.parametrize("symmetrize", [None, "union", "mutual"])
@pytest.mark.parametrize("metric", ["manhattan", "cosine"])
def test_knn_graph_takes_the_options_of_knn(symmetrize: str | None, metric: str, backend: str) -> None:
    x = cloud("normal", 40, 5, 1)
    options: dict[str, Any] = {"groups": np.arange(40) // 13, "window": 2}
    graph = mf.knn_graph(x, 30, symmetrize=symmetrize, metric=metric, backend=backend, **options)
    assert edges_of(graph) == knn_edges(x, 30, symmetrize, metric, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
def test_radius_graph(metric: str, dtype: Any, backend: str) -> None:
    x = cloud("duplicates", 50, 3, 2).astype(dtype)
    keys = oracles.canonical_keys(x, x, metric)
    distances = oracles.to_distance(keys, metric).astype(dtype)
    radius = float(np.unique(distances)[20])  # a distance that occurs
    exclusions: list[dict[str, Any]] = [{}, {"groups": np.arange(50) % 4}]
    for options in exclusions:
        graph = mf.radius_graph(x, radius, metric=metric, backend=backend, **options)
        inside = (distances < radius) & oracles.admissible(50, **options)
        wanted = {(int(i), int(j)): float(distances[i, j]) for i, j in np.argwhere(inside)}
        assert edges_of(graph) == wanted
        assert np.array_equal(
            np.asarray(graph.degrees()), mf.radius_count(x, radius, metric=metric, backend=backend, **options)
        )


def test_a_graph_has_no_self_loops_even_among_duplicates(backend: str) -> None:
    x = np.zeros((12, 2))
    for graph in (mf.knn_graph(x, 3, backend=backend), mf.radius_graph(x, 1.0, backend=backend)):
        edges = edges_of(graph)
        assert not [edge for edge in edges if edge[0] == edge[1]]
        assert set(edges.values()) == {0.0}
    assert len(edges) == 12 * 11


def test_conversions_hold_the_same_edges(backend: str) -> None:
    x = cloud("duplicates", 33, 3, 3)
    graph = mf.knn_graph(x, 4, symmetrize="union", backend=backend)
    edges = knn_edges(x, 4, "union")
    assert graph.to_scipy().shape == (33, 33)
    assert graph.to_scipy().format == "csr"
    sparse = graph.to_torch()
    assert sparse.layout == torch.sparse_csr
    assert sparse.shape == (33, 33)
    rows = torch.repeat_interleave(torch.arange(33), sparse.crow_indices().diff())
    pairs = zip(rows.tolist(), sparse.col_indices().tolist(), strict=True)
    assert dict(zip(pairs, sparse.values().tolist(), strict=True)) == edges
    index = np.asarray(graph.to_edge_index())
    assert index.shape == (2, len(edges))
    assert index.dtype == np.int64
    assert {(i, j) for i, j in index.T.tolist()} == set(edges)
    network = graph.to_networkx()
    assert network.number_of_nodes() == 33
    assert {frozenset(edge) for edge in network.edges()} == {frozenset(edge) for edge in edges}
    assert np.asarray(graph.degrees()).tolist() == np.bincount([i for i, _ in edges], minlength=33).tolist()


def test_an_isolated_point_stays_a_node(backend: str) -> None:
    x = np.array([[0.0], [0.1], [0.2], [9.0]])
    graph = mf.radius_graph(x, 0.5, backend=backend)
    assert np.asarray(graph.degrees()).tolist() == [2, 2, 2, 0]
    assert graph.to_networkx().number_of_nodes() == 4
    assert graph.to_scipy().shape == (4, 4)


def test_overlap(backend: str) -> None:
    x, y = cloud("normal", 60, 4, 4), cloud("normal", 60, 4, 5)
    one, two = (mf.knn_graph(z, 6, backend=backend) for z in (x, y))
    assert float(one.overlap(one)) == 1
    assert float(one.overlap(two)) == pytest.approx(float(two.overlap(one)), abs=1e-15)
    assert 0 < float(one.overlap(two)) < 0.5
    left = mf.knn_graph(np.array([[0.0], [1.0], [10.0], [11.0]]), 1, backend=backend)
    right = mf.knn_graph(np.array([[0.0], [10.0], [1.0], [11.0]]), 1, backend=backend)
    assert float(left.overlap(right)) == 0


def test_torch_in_torch_out(backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 20, 3, 6))
    graph = mf.knn_graph(x, 3, backend=backend)
    assert isinstance(graph.to_edge_index(), torch.Tensor)
    assert isinstance(graph.degrees(), torch.Tensor)
    assert edges_of(graph) == knn_edges(x.numpy(), 3, None)
