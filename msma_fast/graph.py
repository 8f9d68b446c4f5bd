"""Neighbour graphs: knn_graph, radius_graph, and NeighborGraph with its conversions. No self-loops, ever."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import distance_dtype
from msma_fast.backends import registry
from msma_fast.neighbors import check_search, knn, radius_of
from msma_fast.results import Array

_SYMMETRIZE = (None, "union", "mutual")


class NeighborGraph:
    """A directed graph over n points in CSR form: row i owns indices[indptr[i] : indptr[i + 1]], ascending.

    n: number of points; indptr (n + 1,) and indices (e,) int64 tensors; distances (e,) float32 or float64 edge lengths.
    Made by `knn_graph` and `radius_graph`.
    """

    def __init__(self, n: int, rows: Tensor, cols: Tensor, distances: Tensor) -> None:
        """Edges rows[t] -> cols[t], in any order, without repetition."""
        order = (rows * n + cols).argsort()
        self.n = n
        self.indices = cols[order]
        self.distances = distances[order]
        self.indptr = torch.zeros(n + 1, dtype=torch.int64, device=rows.device)
        self.indptr[1:] = torch.bincount(rows, minlength=n).cumsum(0)

    def __repr__(self) -> str:
        return f"NeighborGraph(n={self.n}, edges={self.indices.shape[0]})"

    def degrees(self) -> Tensor:
        """(n,) int64 outgoing edges of each point."""
        return self.indptr[1:] - self.indptr[:-1]

    def _rows(self) -> Tensor:
        return torch.arange(self.n, device=self.indices.device).repeat_interleave(self.degrees())

    def to_edge_index(self) -> Tensor:
        """(2, e) int64: sources above targets, as PyTorch Geometric has it."""
        return torch.stack([self._rows(), self.indices])

    def to_torch(self) -> Tensor:
        """(n, n) sparse CSR tensor of distances. Edges of length zero are stored."""
        size = (self.n, self.n)
        return torch.sparse_csr_tensor(self.indptr, self.indices, self.distances, size=size, check_invariants=True)

    def to_scipy(self) -> Any:
        """(n, n) scipy.sparse.csr_array of distances. Edges of length zero are stored. Needs scipy."""
        from scipy.sparse import csr_array

        parts = (part.detach().cpu().numpy() for part in (self.distances, self.indices, self.indptr))
        return csr_array(tuple(parts), shape=(self.n, self.n))

    def to_networkx(self) -> Any:
        """networkx.DiGraph with edge attribute `distance`. Needs networkx; for graphs small enough for Python objects."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(range(self.n))
        edges = zip(self._rows().tolist(), self.indices.tolist(), self.distances.tolist(), strict=True)
        graph.add_edges_from((i, j, {"distance": length}) for i, j, length in edges)
        return graph

    def overlap(self, other: NeighborGraph) -> float:
        """Shared edges over the edges of the larger graph; for two k-nearest-neighbour graphs the mean of |A and B| / k.

        Raises ValueError for graphs of different size; nan when neither has an edge.
        """
        if not isinstance(other, NeighborGraph):
            raise TypeError(f"other: expected a NeighborGraph, got {type(other).__name__}")
        if other.n != self.n:
            raise ValueError(f"other: expected a graph of {self.n} points, got {other.n}")
        mine, theirs = (g._rows() * g.n + g.indices for g in (self, other))
        larger = max(mine.shape[0], theirs.shape[0])
        return float(torch.isin(mine, theirs.to(mine.device)).sum()) / larger if larger else float("nan")

    def symmetrized(self, how: str) -> NeighborGraph:
        """ "union": i - j where either has the other; "mutual": where both have. A reversed edge keeps its length."""
        _checks.choice("symmetrize", how, _SYMMETRIZE[1:])
        rows, cols = self._rows(), self.indices
        forward, backward = rows * self.n + cols, cols * self.n + rows
        known = torch.isin(backward, forward)
        if how == "mutual":
            return NeighborGraph(self.n, rows[known], cols[known], self.distances[known])
        new = ~known
        lengths = torch.cat([self.distances, self.distances[new]])
        return NeighborGraph(self.n, torch.cat([rows, cols[new]]), torch.cat([cols, rows[new]]), lengths)


def knn_graph(
    x: Array,
    k: int,
    *,
    symmetrize: str | None = None,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    groups: Array | None = None,
    window: int = 0,
    precision: str = "exact",
    check_finite: bool = True,
    backend: str | None = None,
) -> NeighborGraph:
    """The graph of every row of x (n, d) to its k nearest others, exactly; arguments and errors as in `knn`.

    symmetrize None (directed, k edges a row, fewer where groups or window leave fewer), "union" or "mutual".
    """
    _checks.choice("symmetrize", symmetrize, _SYMMETRIZE)
    _checks.points("x", x, ndims=(2,), check_finite=False)
    check_search(x, None, metric, p, metric_tensor, groups, None, window, check_finite, name="x")
    found = knn(
        x,
        k,
        metric=metric,
        p=p,
        metric_tensor=metric_tensor,
        groups=groups,
        window=window,
        precision=precision,
        check_finite=check_finite,
        backend=backend,
    )
    distances, indices, valid = (torch.as_tensor(field) for field in found)
    rows = torch.arange(indices.shape[0], device=indices.device)[:, None].expand_as(indices)[valid]
    graph = NeighborGraph(indices.shape[0], rows, indices[valid], distances.detach()[valid])
    return graph if symmetrize is None else graph.symmetrized(symmetrize)


def radius_graph(
    x: Array,
    radius: Any,
    *,
    closed: bool = False,
    symmetrize: str | None = None,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> NeighborGraph:
    """The graph of every row of x (n, d) to the others at distance < radius (<= when closed); as in `radius_count`.

    radius: a number or (n,), compared in the returned precision. symmetrize matters for a radius per row.
    """
    registry.check_name(backend)
    _checks.choice("symmetrize", symmetrize, _SYMMETRIZE)
    _checks.points("x", x, ndims=(2,), check_finite=False)
    search = check_search(x, None, metric, p, metric_tensor, groups, None, window, check_finite, name="x")
    points, dtype = search.queries, distance_dtype(search.queries)
    rows, cols, distances = registry.run(
        "radius_neighbors",
        points.device,
        backend or "",
        points,
        radius_of(radius, points, dtype, metric),
        metric,
        search.p,
        search.tensor,
        bool(closed),
        search.groups,
        search.window,
        dtype,
    )
    graph = NeighborGraph(points.shape[0], rows, cols, distances)
    return graph if symmetrize is None else graph.symmetrized(symmetrize)
