"""local_metric: at each point the inverse of the covariance of its neighbours, as low rank plus a multiple of the identity.

S_i      the covariance of the k neighbours of x_i about their own mean, divided by k - 1; eigenvalues s_1 >= s_2 >= ...
C_i      (1 - a) S_i + a mu I, mu = tr S_i / d, kept as U diag(c) U^T + c_0 (I - U U^T), U (d, r):
         c_j = (1 - a) s_j + a mu for j <= r,  c_0 = (1 - a) (mean of the other d - r eigenvalues) + a mu
G_i      C_i^-1:  G v = U (alpha / c) + w / c_0,  alpha = U^T v,  w = v - U alpha
         v^T G v = sum alpha_j^2 / c_j + |w|^2 / c_0: a sum of squares, for any ratio of c_1 to c_0
a        "oas": min(1, ((1 - 2/d) tr S^2 + tr^2 S) / ((k - 2/d) (tr S^2 - tr^2 S / d))), the oracle approximating shrinkage
         of Chen, Wiesel, Eldar and Hero, IEEE Trans. Signal Process. 58 (2010), eq. 23, for k - 1 degrees of freedom
lengths  |x_i - x_j| = sqrt((x_i - x_j)^T (G_i + G_j) (x_i - x_j) / 2): Singer and Coifman, Appl. Comput. Harmon. Anal. 25
         (2008). Shortest paths over near pairs: Tenenbaum, de Silva and Langford, Science 290 (2000).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import Wrap, distance_dtype, float_tensor, from_array, wrapper_like
from msma_fast.backends.registry import check_name
from msma_fast.graph import NeighborGraph, knn_graph
from msma_fast.neighbors import knn
from msma_fast.results import Array

# Bytes of gathered rows or axes at a time.
_BLOCK = 1 << 23
# The ratio of the last to the first eigenvalue above which a Gram matrix leaves the last one ten digits.
_GRAM = 1e-5


class _Axes(NamedTuple):
    """vectors (n, r, d), rows orthonormal; scales (n, r) = c^-1/2; floor (n,) = c_0^-1/2."""

    vectors: Tensor
    scales: Tensor
    floor: Tensor

    def split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """alpha (n, r) and w (n, d) of v (n, d)."""
        along = torch.bmm(v[:, None], self.vectors.mT)  # a row times a matrix: several times faster than the other way
        return along[:, 0], v - torch.bmm(along, self.vectors)[:, 0]

    def quadratic(self, v: Tensor) -> Tensor:
        along, across = self.split(v)
        return (self.scales * along).square().sum(-1) + (self.floor[:, None] * across).square().sum(-1)

    def take(self, rows: Tensor) -> _Axes:
        return _Axes(*(part[rows] for part in self))


class LocalMetric:
    """A Riemannian metric known at n points: G_i (d, d) there, kept as r axes each. Made by `local_metric`.

    n, d, rank: numbers of points, coordinates and axes. Arrays that come out are of the kind of x, float64 for float64 x,
    else float32, which is also the precision of the products; none has a graph. x is kept without a copy.
    """

    def __init__(self, points: Tensor, axes: _Axes, wrap: Wrap, backend: str | None) -> None:
        self.n, self.d = points.shape
        self.rank = axes.scales.shape[1]
        self._points, self._axes, self._wrap, self._backend = points, axes, wrap, backend

    def __repr__(self) -> str:
        return f"LocalMetric(n={self.n}, d={self.d}, rank={self.rank})"

    def vp(self, v: Array) -> Any:
        """(n, d): G_i v_i for v (n, d). Cost n r d."""
        rows = self._rows(v)
        axes = self._axes
        along, across = axes.split(rows)
        inner = torch.bmm((axes.scales * (axes.scales * along))[:, None], axes.vectors)[:, 0]
        return self._wrap(inner + axes.floor[:, None] * (axes.floor[:, None] * across))

    def quadratic(self, v: Array) -> Any:
        """(n,): v_i . G_i v_i for v (n, d), the squared length of v_i at x_i, in squared local standard deviations."""
        return self._wrap(self._axes.quadratic(self._rows(v)))

    def trace(self) -> Any:
        """(n,): tr G_i."""
        return self._wrap(self._axes.scales.square().sum(1) + (self.d - self.rank) * self._axes.floor.square())

    def logdet(self) -> Any:
        """(n,): log det G_i, minus the log volume of the local covariance ellipsoid twice."""
        logs = self._axes.scales.log().sum(1) + (self.d - self.rank) * self._axes.floor.log()
        return self._wrap(2 * logs)

    def distance(self, pairs: Array) -> Any:
        """(P,): the length of the straight step between the points of each pair (P, 2) of row numbers.

        Under the mean of the two ends' metrics, hence the same both ways: meant for near points. For far ones add up steps
        with `geodesic_graph`. Cost P r d. Raises ValueError / TypeError for other shapes, and rows outside 0 .. n - 1.
        """
        ends = from_array("pairs", pairs)
        if ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
            raise TypeError(f"pairs: expected integer row numbers, got {ends.dtype}")
        if ends.ndim != 2 or ends.shape[1] != 2:
            raise ValueError(f"pairs: expected shape (P, 2), got shape {tuple(ends.shape)}")
        if ends.numel() and not 0 <= int(ends.min()) <= int(ends.max()) < self.n:
            raise ValueError(f"pairs: expected rows from 0 to {self.n - 1}, got {int(ends.min())} to {int(ends.max())}")
        ends = ends.to(device=self._points.device, dtype=torch.int64)
        return self._wrap(self._lengths(ends[:, 0], ends[:, 1]))

    def geodesic_graph(self, k: int) -> NeighborGraph:
        """The graph of every point and its k nearest in euclidean distance, either way, with lengths under the metric.

        An edge's length is `distance` of its ends. Shortest paths over it approximate geodesic distances, the better the
        closer neighbours are: scipy.sparse.csgraph.shortest_path(metric.geodesic_graph(10).to_scipy(), directed=False) is
        (n, n), inf between parts that are not connected. k here may differ from that of the covariances; groups and window
        do not apply. Raises ValueError / TypeError as `knn_graph` does.
        """
        graph = knn_graph(self._points, k, symmetrize="union", check_finite=False, backend=self._backend)
        rows, cols = graph.to_edge_index()
        once = rows < cols
        rows, cols = rows[once], cols[once]
        lengths = self._lengths(rows, cols)
        return NeighborGraph(self.n, torch.cat([rows, cols]), torch.cat([cols, rows]), torch.cat([lengths, lengths]))

    def _lengths(self, one: Tensor, two: Tensor) -> Tensor:
        axes, points = self._axes, self._points
        lengths = torch.empty(one.shape[0], dtype=axes.floor.dtype, device=points.device)
        step = max(1, _BLOCK // (self.rank * self.d * axes.floor.element_size()))
        for start in range(0, one.shape[0], step):
            i, j = one[start : start + step], two[start : start + step]
            v = points[j].to(lengths.dtype) - points[i].to(lengths.dtype)
            lengths[start : start + step] = ((axes.take(i).quadratic(v) + axes.take(j).quadratic(v)) / 2).sqrt()
        return lengths

    def _rows(self, v: Array) -> Tensor:
        rows = float_tensor("v", v).detach()
        if tuple(rows.shape) != (self.n, self.d):
            raise ValueError(f"v: expected shape ({self.n}, {self.d}) as x, got shape {tuple(rows.shape)}")
        if rows.device != self._points.device:
            raise ValueError(f"v: expected device {self._points.device} as x, got {rows.device}")
        return rows.to(self._axes.floor.dtype)


def local_metric(
    x: Array,
    k: int,
    *,
    rank: int | None = None,
    shrinkage: str | float = "oas",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> LocalMetric:
    """The metric in which the data look locally round: at each row of x (n, d) the inverse of the shrunk covariance of its k
    nearest neighbours (euclidean; the row itself is not one of them, and the mean is theirs).

    A step is long where few data lie its way. In the shrunk covariance (1 - a) S + a (tr S / d) I, S divides by k - 1, and a
    is shrinkage, a number in [0, 1], or "oas": estimated at each row as if its neighbours were normal (the formula in the
    module). rank r <= min(k - 1, d), and None for that: the leading axes that are kept; the variance of the others is spread
    evenly over what is left, so that the trace stays. groups, window, backend as in `knn`. Returns a LocalMetric with .vp,
    .quadratic, .trace, .logdet, .distance and .geodesic_graph. x -> c x divides the metric by c^2; it turns and shifts with x.

    Cost a `knn` and a decomposition of k x d numbers a row, n k d min(k, d), in float64; memory n (r + 1) (d + 1) numbers and
    blocks of rows, never n d^2. At d = 768 a rank of 16 keeps n 50 KB in float32.

    Raises ValueError / TypeError as `knn` does, for k < 2, a rank or shrinkage out of range, rows left with fewer than k
    neighbours by groups and window, rows whose neighbours are all one point (duplicates have no covariance; drop them), and
    singular covariances (shrinkage=0 with k - 1 < d, or neighbours in a plane). Not differentiable. When not to use it: with
    k well below the dimension of the data near a point, where the metric is mostly the shrinkage; where coordinates of
    different scale should count alike, scale them first, as neighbours and shrinkage are euclidean.
    """
    check_name(backend)
    points = _checks.points("x", x, ndims=(2,), check_finite=check_finite).detach()
    n, d = points.shape
    k = _checks.neighbor_count("k", k, n, self_search=True)
    if k < 2:
        raise ValueError(f"k: expected at least 2 neighbours for a covariance, got {k}")
    most = min(k - 1, d)
    rank = most if rank is None else _checks.integer("rank", rank, at_least=1)
    if rank > most:
        raise ValueError(f"rank: expected at most min(k - 1, d) = {most}, got {rank}")
    share = _share(shrinkage)
    found = knn(points, k, groups=groups, window=window, check_finite=False, backend=backend)
    short = ~found.valid.all(1)
    if bool(short.any()):
        row = int(short.nonzero()[0])
        raise ValueError(
            f"k: expected at most as many neighbours as groups and window leave, got {k} where row {row} has "
            f"{int(found.valid[row].sum())}"
        )
    dtype = distance_dtype(points)
    axes = _Axes(*(torch.empty(shape, dtype=dtype, device=points.device) for shape in ((n, rank, d), (n, rank), (n,))))
    step = max(1, _BLOCK // (8 * k * d))
    for start in range(0, n, step):
        near = points[found.indices[start : start + step]].to(torch.float64)
        near = near - near[:, :1]  # exact for equal rows, as subtracting a rounded mean is not
        vectors, spectrum = _principal_axes((near - near.mean(1, keepdim=True)) / (k - 1) ** 0.5)
        kept, rest = _shrunk(spectrum, d, k - 1, rank, share)
        _check_spread(spectrum, kept[:, -1] if rank == d else rest, kept[:, 0], start, max(k, d), k, shrinkage)
        block = slice(start, start + step)
        axes.vectors[block], axes.scales[block], axes.floor[block] = vectors[:, :rank], kept.rsqrt(), rest.rsqrt()
    return LocalMetric(points, axes, wrapper_like(x), backend)


def _share(shrinkage: Any) -> float | None:
    """The weight of the identity, None for OAS."""
    if isinstance(shrinkage, str):
        _checks.choice("shrinkage", shrinkage, ("oas",))
        return None
    share = _checks.number("shrinkage", shrinkage, at_least=0)
    if share > 1:
        raise ValueError(f"shrinkage: expected 'oas' or a number from 0 to 1, got {share}")
    return share


def _principal_axes(y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (b, q, d) orthonormal and squared singular values (b, q), descending, of centred y (b, k, d); q = min(k - 1, d).

    From the Gram matrix, unless short axes would lose their digits in it: its errors are relative to the longest one."""
    k, d = y.shape[1:]
    q = min(k - 1, d)
    values, turn = torch.linalg.eigh(y @ y.mT if k <= d else y.mT @ y)
    spectrum, vectors = values.flip(1)[:, :q], turn.mT.flip(1)[:, :q]
    if k <= d:
        vectors = vectors @ y / spectrum.clamp(min=0).sqrt()[..., None]
    wide = ~(spectrum[:, -1] > _GRAM * spectrum[:, 0])
    if bool(wide.any()):
        lengths, axes = torch.linalg.svd(y[wide], full_matrices=False)[1:]
        spectrum, vectors = spectrum.clone(), vectors.clone()
        spectrum[wide], vectors[wide] = lengths[:, :q].square(), axes[:, :q]
    return vectors, spectrum


def _shrunk(spectrum: Tensor, d: int, degrees: int, rank: int, share: float | None) -> tuple[Tensor, Tensor]:
    """c (b, r) and c_0 (b,) from the eigenvalues (b, q) of S; where r = d nothing is left and c_0 is the last c."""
    total = spectrum.sum(1)
    weight = _oas(spectrum / spectrum[:, :1], d, degrees) if share is None else torch.full_like(total, share)
    target = weight * total / d
    kept = (1 - weight)[:, None] * spectrum[:, :rank] + target[:, None]
    if rank == d:
        return kept, kept[:, -1]
    return kept, (1 - weight) * spectrum[:, rank:].sum(1) / (d - rank) + target


def _oas(spectrum: Tensor, d: int, degrees: int) -> Tensor:
    """(b,) weights; 1 where S is a multiple of the identity already."""
    trace, square = spectrum.sum(1), spectrum.square().sum(1)
    above = (1 - 2 / d) * square + trace.square()
    below = (degrees + 1 - 2 / d) * (square - trace.square() / d)
    return torch.where(above < below, above / below, 1.0)


def _check_spread(spectrum: Tensor, least: Tensor, most: Tensor, start: int, size: int, k: int, shrinkage: Any) -> None:
    """Covariances that have an inverse: neighbours that differ, and a smallest eigenvalue above rounding."""
    flat = spectrum[:, 0] == 0
    if bool(flat.any()):
        row = start + int(flat.nonzero()[0])
        raise ValueError(
            f"x: expected neighbours that differ, got row {row} whose {k} nearest are all one point; "
            "drop duplicate rows or take a larger k"
        )
    singular = ~(least > most * (size * torch.finfo(torch.float64).eps) ** 2)
    if bool(singular.any()):
        row = start + int(singular.nonzero()[0])
        raise ValueError(
            f"shrinkage: expected a weight that makes every covariance invertible, got {shrinkage!r} with the "
            f"{k} neighbours of row {row} in a subspace"
        )
