"""pairwise_distances: every metric, differentiable, symmetric where the metric is."""

from __future__ import annotations

from typing import Any

from msma_fast import _checks, ops
from msma_fast._arrays import wrapper_like
from msma_fast.backends.registry import check_name
from msma_fast.results import Array


def pairwise_distances(
    x: Array,
    y: Array | None = None,
    *,
    metric: str = "euclidean",
    p: float = 2.0,
    metric_tensor: Array | None = None,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """All distances between the rows of x (..., n, d) and y (..., m, d): (..., n, m).

    float64 for float64 input, else float32. metric: euclidean, sqeuclidean, manhattan, chebyshev, minkowski (with p >= 1),
    cosine, correlation, inner_product (the negative product), mahalanobis (metric_tensor (d, d) positive semidefinite:
    sqrt((x-y)^T M (x-y))), hellinger (|sqrt x - sqrt y| / sqrt 2), jensen_shannon (the square root of the divergence,
    nats), kl (sum x log(x / y), inf allowed) and fisher_rao (4 asin(|sqrt x - sqrt y| / 2), radians); the last four take
    probability vectors as rows.

    With y=None the matrix is exactly symmetric (not for kl) with a zero diagonal (not for inner_product). Differentiable
    in x, y and metric_tensor, once; the gradient at zero distance is zero. float32 euclidean is within 1e-6 relative of
    the canonical float64 value for every d and offset. Memory: the result, float64 copies of the points and some 50 MiB
    (native (sq)euclidean: no copies of rows that are contiguous); the backward adds some 100 MiB to the gradients.

    Raises ValueError / TypeError for NaN or inf (check_finite=False switches this off), empty input, mismatched d, batch
    or device, integer or complex data, rows the metric cannot take, an unknown metric or backend, and distances that
    leave float64. When not to use it: for neighbours or counts within a radius, `knn` and `radius_count` never store
    the (n, m) matrix.
    """
    check_name(backend)
    a = _checks.points("x", x, ndims=None, check_finite=check_finite)
    sets = {"x": a}
    b = None
    if y is not None:
        sets["y"] = b = _checks.points("y", y, ndims=None, check_finite=check_finite)
        _checks.pair("x", a, "y", b)
    metric, p, tensor = _checks.metric(metric, p, metric_tensor, a, sets)
    leading = a.shape[:-2]
    if len(leading) > 1:  # the op knows one batch axis
        a, b = a.flatten(0, -3), None if b is None else b.flatten(0, -3)
    found = ops.pairwise_distances(a, b, metric, p, tensor, backend or "")
    return wrapper_like(x)(found.unflatten(0, leading) if len(leading) > 1 else found)
