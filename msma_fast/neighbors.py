"""knn and radius_count: exact neighbours and counts, by the certified screen, without an n x m matrix."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks, ops
from msma_fast._arrays import distance_dtype, from_array, wrapper_like
from msma_fast.backends.registry import check_name
from msma_fast.results import Array, KnnStats, Neighbors


class Search(NamedTuple):
    """Checked arguments of a search; labels are int32 ranks, equal where the caller's labels are."""

    queries: Tensor
    points: Tensor | None
    metric: str
    p: float
    tensor: Tensor | None
    groups: Tensor | None
    point_groups: Tensor | None
    window: int


def _ranks(groups: Tensor | None, point_groups: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Labels as int32 ranks: half the memory traffic of the comparison, for any int64 labels."""
    if groups is None:
        return None, None
    flat = groups.reshape(-1) if point_groups is None else torch.cat([groups.reshape(-1), point_groups.reshape(-1)])
    ranks = flat.unique(return_inverse=True)[1].to(torch.int32)
    own = ranks[: groups.numel()].view(groups.shape)
    return own, None if point_groups is None else ranks[groups.numel() :].view(point_groups.shape)


def check_search(
    queries: Any,
    points: Any,
    metric: Any,
    p: Any,
    metric_tensor: Any,
    groups: Any,
    point_groups: Any,
    window: Any,
    check_finite: bool,
    name: str = "queries",
) -> Search:
    """The arguments that knn, radius_count and the graphs share; `name` is what the caller calls the queries."""
    x = _checks.points(name, queries, check_finite=check_finite)
    sets = {name: x}
    y = None
    if points is not None:
        sets["points"] = y = _checks.points("points", points, check_finite=check_finite)
        _checks.pair("queries", x, "points", y)
    metric, p, tensor = _checks.metric(metric, p, metric_tensor, x, sets)
    own, other = _ranks(*_checks.labels_of_sides(groups, point_groups, x, y))
    return Search(x, y, metric, p, tensor, own, other, _checks.window(window, x.shape[-2], self_search=y is None))


def knn(
    queries: Array,
    k: int,
    points: Array | None = None,
    *,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    groups: Array | None = None,
    point_groups: Array | None = None,
    window: int = 0,
    precision: str = "exact",
    return_stats: bool = False,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """The k nearest points of every query, exactly, ascending by (canonical float64 key, index).

    queries (n, d) or (b, n, d); points (m, d) or (b, m, d), None for a self-search in which a row is not its own
    neighbour (by index; its duplicates are). Metrics as in `pairwise_distances`. groups (n,) or (b, n) integer labels:
    points with the query's label are excluded (tokens of one text); with separate points give point_groups too.
    window w (self-search): |i - j| <= w is excluded.

    Returns Neighbors(distances, indices, valid), each (..., n, k): distances float64 for float64 input, else float32;
    indices int64; a query left with fewer than k points has valid False, index -1 and distance inf in the rest. The
    answer is a function of the data: the same for every backend, batch and thread count. precision="exact" never returns
    an uncertified row; "fast" skips the certificate (recall below 1 on hard data). return_stats=True adds
    KnnStats(candidates, widened). Distances are differentiable, the choice of neighbours is not.

    Raises ValueError / TypeError as `pairwise_distances` does, and for k < 1, k > n - 1 (self-search) or k > m.
    When not to use it: k close to n, where sorting `pairwise_distances` costs the same.
    """
    check_name(backend)
    search = check_search(queries, points, metric, p, metric_tensor, groups, point_groups, window, check_finite)
    others = search.queries if search.points is None else search.points
    k = _checks.neighbor_count("k", k, others.shape[-2], self_search=search.points is None)
    _checks.choice("precision", precision, ("exact", "fast"))
    distances, indices, candidates, widened = ops.knn(
        search.queries, search.points, k, *search[2:], precision == "exact", backend or ""
    )
    wrap = wrapper_like(queries)
    neighbors = Neighbors(wrap(distances), wrap(indices), wrap(indices >= 0))
    return (neighbors, KnnStats(wrap(candidates), wrap(widened))) if return_stats else neighbors


def radius_count(
    queries: Array,
    radius: Any,
    points: Array | None = None,
    *,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    closed: bool = False,
    groups: Array | None = None,
    point_groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """How many points lie at distance < radius (<= when closed) of each query: (n,) or (b, n) int64.

    Arguments as in `knn`; points=None excludes the query itself by index. radius: a number, (n,) or (b, n). It is
    compared in the returned precision: the distance rounded as `knn` would return it, against the radius in that dtype,
    so that counting at a returned distance is consistent.

    Raises ValueError / TypeError as `knn` does, and for a NaN or (except for inner_product) negative radius.
    """
    check_name(backend)
    search = check_search(queries, points, metric, p, metric_tensor, groups, point_groups, window, check_finite)
    x, y = search.queries, search.points
    reach = radius_of(radius, x, distance_dtype(x) if y is None else distance_dtype(x, y), search.metric)
    counts = ops.radius_count(
        x, reach, y, search.metric, search.p, search.tensor, bool(closed), *search[5:], backend or ""
    )
    return wrapper_like(queries)(counts)


def radius_of(radius: Any, x: Tensor, dtype: torch.dtype, metric: str) -> Tensor:
    """(..., n) radii in the returned precision."""
    rows = tuple(x.shape[:-1])
    if isinstance(radius, (bool, str)) or radius is None:
        raise TypeError(f"radius: expected a number or an array, got {radius!r}")
    if isinstance(radius, numbers.Real):
        value = torch.tensor(float(radius), dtype=torch.float64)
    else:
        value = from_array("radius", radius)
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"radius: expected real numbers, got {value.dtype}")
    if value.ndim and tuple(value.shape) not in (rows, rows[-1:]):
        raise ValueError(f"radius: expected a number or shape {rows}, got shape {tuple(value.shape)}")
    if bool(torch.isnan(value).any()):
        raise ValueError("radius: expected numbers, got NaN")
    if metric != "inner_product" and bool((value < 0).any()):
        raise ValueError(f"radius: expected a nonnegative radius for metric={metric!r}, got {float(value.min())}")
    return value.detach().to(device=x.device, dtype=dtype).expand(rows).contiguous()
