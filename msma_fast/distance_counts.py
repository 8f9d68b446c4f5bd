"""distance_histogram and correlation_integral: all distances counted, none of them stored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.results import Array

# Symmetric and without parameters: an unordered pair has one distance.
_METRICS = (
    "euclidean",
    "sqeuclidean",
    "manhattan",
    "chebyshev",
    "cosine",
    "correlation",
    "inner_product",
    "hellinger",
    "jensen_shannon",
    "fisher_rao",
)


def distance_histogram(
    x: Array,
    edges: Any,
    *,
    points: Array | None = None,
    metric: str = "euclidean",
    groups: Array | None = None,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """How many pairs have a distance in each bin: (len(edges) - 1,) int64 counts.

    x (n, d): the unordered pairs i < j of its rows; with points (m, d) all n m pairs. edges (E,) ascending, E >= 2, as in
    numpy.histogram: bin b is [edges[b], edges[b + 1]), the last one closed. A distance is the float64 value of the
    canonical key whatever the dtype of x, so counts are the same on every backend; beside a bound, the float32 distances
    that `pairwise_distances` returns for float32 rows may fall on its other side. groups (n,) integer labels, without
    points only: pairs with equal labels do not count. metric: euclidean, sqeuclidean, manhattan, chebyshev, cosine,
    correlation, inner_product (the negative product), hellinger, jensen_shannon, fisher_rao.

    Cost n^2 d / 2, memory a tile per thread. Raises ValueError / TypeError as `pairwise_distances` does, for edges that do
    not ascend, and for groups with points. When not to use it: for the nearest pairs of each row, `knn` and
    `radius_count` look at far fewer pairs.
    """
    check_name(backend)
    a, b, labels = _checked(x, points, metric, groups, check_finite)
    bounds, _ = _checks.reals("edges", edges, a.device)
    if bounds.shape[0] < 2 or bool((bounds[1:] < bounds[:-1]).any()):
        raise ValueError(f"edges: expected at least 2 ascending numbers, got {bounds.tolist()[:8]}")
    counts = registry.run("distance_counts", a.device, backend or "", a, b, bounds, True, metric, labels, 0)
    return wrapper_like(x)(counts[1:-1].clone())


def correlation_integral(
    x: Array,
    radii: Any,
    *,
    metric: str = "euclidean",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """C(r), the fraction of admissible pairs i < j of rows x (n, d) with distance < r: (R,) float64, a float for one radius.

    Grassberger and Procaccia, Physica D 9 (1983); its slope in log C over log r is the correlation dimension. radii: a
    number or (R,), in any order. window: Theiler's correction, pairs with j - i <= window do not count (Phys. Rev. A 34,
    1986), for rows in temporal order; groups (n,) integer labels: pairs with equal labels do not count. Metrics, precision
    and cost as in `distance_histogram`.

    Raises ValueError / TypeError as `distance_histogram` does, and where no pair is admissible. When not to use it: for a
    single number of dimension `intrinsic_dimension` needs neighbours only.
    """
    check_name(backend)
    a, _, labels = _checked(x, None, metric, groups, check_finite)
    wanted, single = _checks.reals("radii", radii, a.device)
    reach = _checks.window(window, a.shape[0], self_search=True)
    bounds, order = wanted.sort()
    counts = registry.run("distance_counts", a.device, backend or "", a, None, bounds, False, metric, labels, reach)
    pairs = int(counts.sum())
    if pairs == 0:
        raise ValueError(
            f"x: expected at least one pair that groups and window admit, got none ({a.shape[0]} rows, window {reach})"
        )
    fractions = torch.empty_like(bounds)
    fractions[order] = counts.cumsum(0)[:-1].to(torch.float64) / pairs
    return float(fractions[0]) if single else wrapper_like(x)(fractions)


def _checked(
    x: Any, points: Any, metric: Any, groups: Any, check_finite: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows, points and int32 labels."""
    _checks.choice("metric", metric, _METRICS)
    a = _checks.points("x", x, ndims=(2,), check_finite=check_finite)
    sets = {"x": a}
    b = None
    if points is not None:
        sets["points"] = b = _checks.points("points", points, ndims=(2,), check_finite=check_finite)
        _checks.pair("x", a, "points", b)
    _checks.metric(metric, 2.0, None, a, sets)
    if groups is None:
        return a, b, None
    if b is not None:
        raise ValueError("groups: expected None with separate points (labels exclude pairs of x), got labels")
    labels = _checks.labels("groups", groups, tuple(a.shape[:-1]), a.device)
    return a, b, labels.unique(return_inverse=True)[1].to(torch.int32)
