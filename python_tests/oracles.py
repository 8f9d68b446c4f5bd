"""Float64 references for every engine function. Imports numpy and scipy, never the package under test.

Two kinds, written apart so that they can check each other:

  canonical_keys   the documented order of operations, bit for bit. Lane l = j mod 8 accumulates coordinate
                   j in increasing j, multiply and add rounded separately, lanes combine as
                   ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)). numpy rounds each elementary operation and each
                   square root correctly, which is all this needs.
  plain_keys       the textbook formula, direct differences, sums correctly rounded by math.fsum: close.

The estimators below are the textbook definitions over full (n, n) matrices of keys.
Shapes: x (n, d), y (m, d), keys and masks (n, m). Information in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import rel_entr

Array = np.ndarray

EXACT_METRICS = (
    "euclidean", "sqeuclidean", "manhattan", "chebyshev", "minkowski", "inner_product", "cosine",
    "correlation", "mahalanobis", "hellinger", "fisher_rao",
)  # fmt: skip
BAND_METRICS = ("jensen_shannon", "kl")
METRICS = EXACT_METRICS + BAND_METRICS
PROBABILITY_METRICS = ("hellinger", "fisher_rao", "jensen_shannon", "kl")
# The root or arc sine comes from the maths library: the returned distance may be off by one ulp.
LIBRARY_ROOT_METRICS = ("minkowski", "fisher_rao", "jensen_shannon")


# ---- canonical keys --------------------------------------------------------------------------------------


def lane_sum(terms: Iterable[Array], shape: tuple[int, ...]) -> Array:
    """The documented sum of terms[0], terms[1], ... (each of `shape`), elementwise."""
    lanes = np.zeros((8, *shape))
    for j, term in enumerate(terms):
        lanes[j % 8] += term
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))


def canonical_keys(x: Array, y: Array, metric: str, p: float = 2.0, metric_tensor: Array | None = None) -> Array:
    """(n, m) canonical keys; for jensen_shannon, kl and fractional p a plain value (banded)."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    shape, d = (len(x), len(y)), x.shape[1]
    if metric in ("hellinger", "fisher_rao"):
        x, y = np.sqrt(x), np.sqrt(y)

    def difference(j: int) -> Array:
        return x[:, None, j] - y[None, :, j]

    def over(term: Callable[[int], Array]) -> Array:
        return lane_sum((term(j) for j in range(d)), shape)

    if metric in ("euclidean", "sqeuclidean", "hellinger", "fisher_rao"):
        return over(lambda j: difference(j) * difference(j))
    if metric == "manhattan":
        return over(lambda j: np.abs(difference(j)))
    if metric == "chebyshev":
        best = np.zeros(shape)
        for j in range(d):
            np.maximum(best, np.abs(difference(j)), out=best)
        return best
    if metric == "minkowski":
        return over(lambda j: _power(np.abs(difference(j)), p))
    if metric == "inner_product":
        return -over(lambda j: x[:, None, j] * y[None, :, j])
    if metric in ("cosine", "correlation"):
        return _cosine_keys(*((x, y) if metric == "cosine" else (_center_rows(x), _center_rows(y))))
    if metric == "mahalanobis":
        return _mahalanobis_keys(x, y, np.asarray(metric_tensor, dtype=np.float64))
    if metric == "kl":
        return rel_entr(x[:, None, :], y[None, :, :]).sum(-1)
    if metric == "jensen_shannon":
        middle = (x[:, None, :] + y[None, :, :]) / 2
        both = rel_entr(x[:, None, :], middle) + rel_entr(y[None, :, :], middle)
        return np.maximum(0.0, both.sum(-1) / 2)
    raise AssertionError(f"the oracle has no metric {metric!r}")


def _power(a: Array, p: float) -> Array:
    if p != int(p) or p > 16:
        return np.asarray(a**p)
    power = a
    for _ in range(int(p) - 1):
        power = power * a
    return power


def _center_rows(x: Array) -> Array:
    mean = lane_sum((x[:, j] for j in range(x.shape[1])), (len(x),)) / x.shape[1]
    return np.asarray(x - mean[:, None])


def _cosine_keys(x: Array, y: Array) -> Array:
    d, shape = x.shape[1], (len(x), len(y))
    product = lane_sum((x[:, None, j] * y[None, :, j] for j in range(d)), shape)
    norm_x = np.sqrt(lane_sum((x[:, j] * x[:, j] for j in range(d)), (len(x),)))
    norm_y = np.sqrt(lane_sum((y[:, j] * y[:, j] for j in range(d)), (len(y),)))
    key = np.maximum(0.0, 1.0 - product / (norm_x[:, None] * norm_y[None, :]))
    equal = np.ones(shape, dtype=bool)
    for j in range(d):
        equal &= x[:, None, j] == y[None, :, j]
    return np.where(equal, 0.0, key)


def _mahalanobis_keys(x: Array, y: Array, matrix: Array) -> Array:
    d, shape = x.shape[1], (len(x), len(y))
    symmetric = (matrix + matrix.T) * 0.5
    diff = [x[:, None, j] - y[None, :, j] for j in range(d)]
    image = [lane_sum((symmetric[i, j] * diff[j] for j in range(d)), shape) for i in range(d)]
    return np.maximum(0.0, lane_sum((diff[i] * image[i] for i in range(d)), shape))


# ---- plain keys ------------------------------------------------------------------------------------------


def plain_keys(x: Array, y: Array, metric: str, p: float = 2.0, metric_tensor: Array | None = None) -> Array:
    """(n, m) the textbook value of the same quantity, pair by pair, with correctly rounded sums."""
    rows_x, rows_y = np.asarray(x, dtype=np.float64).tolist(), np.asarray(y, dtype=np.float64).tolist()
    out = np.empty((len(rows_x), len(rows_y)))
    for i, a in enumerate(rows_x):
        for j, b in enumerate(rows_y):
            out[i, j] = _plain_key(a, b, metric, p, metric_tensor)
    return out


def _plain_key(a: list[float], b: list[float], metric: str, p: float, matrix: Array | None) -> float:
    diff = [u - v for u, v in zip(a, b, strict=True)]
    if metric in ("euclidean", "sqeuclidean"):
        return math.fsum(t * t for t in diff)
    if metric == "manhattan":
        return math.fsum(map(abs, diff))
    if metric == "chebyshev":
        return max(map(abs, diff))
    if metric == "minkowski":
        return math.fsum(abs(t) ** p for t in diff)
    if metric == "inner_product":
        return -math.fsum(u * v for u, v in zip(a, b, strict=True))
    if metric == "correlation":
        mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
        return _plain_key([u - mean_a for u in a], [v - mean_b for v in b], "cosine", p, None)
    if metric == "cosine":
        product = math.fsum(u * v for u, v in zip(a, b, strict=True))
        return 0.0 if a == b else max(0.0, 1.0 - product / (math.hypot(*a) * math.hypot(*b)))
    if metric == "mahalanobis":
        q = np.asarray(matrix, dtype=np.float64)
        pairs = ((i, j) for i in range(len(a)) for j in range(len(a)))
        return max(0.0, math.fsum(diff[i] * (q[i, j] + q[j, i]) / 2 * diff[j] for i, j in pairs))
    if metric in ("hellinger", "fisher_rao"):
        return math.fsum((math.sqrt(u) - math.sqrt(v)) ** 2 for u, v in zip(a, b, strict=True))
    if metric == "kl":
        return math.fsum(_entropy_term(u, v) for u, v in zip(a, b, strict=True))
    middle = [(u + v) / 2 for u, v in zip(a, b, strict=True)]
    halves = [_entropy_term(u, w) for u, w in zip(a + b, middle + middle, strict=True)]
    return max(0.0, math.fsum(halves) / 2)


def _entropy_term(u: float, v: float) -> float:
    if u == 0.0:
        return 0.0
    return math.inf if v == 0.0 else u * math.log(u / v)


def key_band(x: Array, y: Array, metric: str, p: float = 2.0, metric_tensor: Array | None = None) -> Array:
    """(n, m) how far a key in another summation order may lie: 4 (d + 4) 2^-53 times the metric's scale."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    unit = 4 * (x.shape[1] + 4) * 2.0**-53
    if metric == "inner_product":
        return unit * (np.abs(x) @ np.abs(y).T)
    if metric in ("cosine", "correlation"):
        return np.full((len(x), len(y)), unit)
    if metric == "mahalanobis":
        diff = np.abs(x[:, None] - y[None])
        return unit * np.einsum("nmi,ij,nmj->nm", diff, np.abs(np.asarray(metric_tensor)), diff)
    if metric in ("kl", "jensen_shannon"):  # terms of both signs, and a logarithm near one
        keys = np.abs(rel_entr(x[:, None, :], y[None, :, :])).sum(-1) if metric == "kl" else np.ones(())
        return np.broadcast_to(unit * (1.0 + np.where(np.isfinite(keys), keys, 0.0)), (len(x), len(y)))
    return unit * max(1.0, p) * canonical_keys(x, y, metric, p)


def to_distance(keys: Array, metric: str, p: float = 2.0) -> Array:
    """The distance a key stands for, float64; the caller rounds it once to the returned dtype."""
    if metric in ("euclidean", "mahalanobis", "jensen_shannon") or (metric == "minkowski" and p == 2):
        return np.sqrt(keys)
    if metric == "minkowski":
        return np.asarray(keys if p == 1 else keys ** (1.0 / p))
    if metric == "hellinger":
        return np.asarray(np.sqrt(keys) / np.sqrt(2.0))
    if metric == "fisher_rao":
        return np.asarray(4.0 * np.arcsin(np.sqrt(keys) / 2.0))
    return keys


# ---- neighbours ------------------------------------------------------------------------------------------


def admissible(n: int, m: int | None = None, groups: Any = None, point_groups: Any = None, window: int = 0) -> Array:
    """(n, m) who may be whose neighbour. m=None: among themselves, without |i - j| <= window."""
    rows, columns = np.arange(n)[:, None], np.arange(n if m is None else m)[None, :]
    allowed = np.ones((n, columns.size), dtype=bool)
    if m is None:
        allowed &= np.abs(rows - columns) > window
    if groups is not None:
        others = groups if m is None else point_groups
        allowed &= np.asarray(groups)[:, None] != np.asarray(others)[None, :]
    return allowed


class Nearest(NamedTuple):
    keys: Array  # (n, k), inf where not valid
    indices: Array  # (n, k), -1 where not valid
    valid: Array  # (n, k)


def ranking(keys: Array, allowed: Array) -> Array:
    """(n, m) the columns of each row in (key, index) order, the inadmissible ones last."""
    if np.isinf(keys).any():  # an admissible infinite divergence still comes before an inadmissible column
        columns = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
        return np.lexsort((columns, keys, ~allowed), axis=1)
    return np.argsort(np.where(allowed, keys, np.inf), axis=1, kind="stable")


def nearest(keys: Array, allowed: Array, k: int) -> Nearest:
    """The k first admissible columns of each row in (key, index) order."""
    order = ranking(keys, allowed)[:, :k]
    valid = np.take_along_axis(allowed, order, axis=1)
    found = np.take_along_axis(keys, order, axis=1)
    return Nearest(np.where(valid, found, np.inf), np.where(valid, order, -1), valid)


def radius_counts(distances: Array, radius: Any, allowed: Array, closed: bool) -> Array:
    """(n,) how many admissible distances lie within a radius cast to their dtype."""
    radius = np.broadcast_to(np.asarray(radius).astype(distances.dtype), (len(distances),))[:, None]
    inside = distances <= radius if closed else distances < radius
    return (inside & allowed).sum(1)


def neighborhood_overlap(x: Array, y: Array, k: int) -> float:
    """Mean over rows of |A_i and B_i| / k, euclidean neighbours within x and within y."""
    sets = [nearest(canonical_keys(z, z, "euclidean"), admissible(len(z)), k).indices for z in (x, y)]
    return sum(len(set(a) & set(b)) for a, b in zip(*(s.tolist() for s in sets), strict=True)) / (len(x) * k)


# ---- dimension and similarity ----------------------------------------------------------------------------


def twonn(x: Array, fraction: float = 0.9) -> float:
    """(m - 1) / (sum of the m smallest log mu + (N - m) log mu_(m)), mu = r2 / r1, m = floor(fraction N)."""
    x = np.asarray(x, dtype=np.float64)
    distances = np.sqrt(nearest(canonical_keys(x, x, "euclidean"), admissible(len(x)), 2).keys)
    log_mu = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    m = math.floor(fraction * len(x))
    return (m - 1) / (math.fsum(log_mu[:m]) + (len(x) - m) * float(log_mu[m - 1]))


def mle_dimension(x: Array, k: int) -> float:
    """Inverse of the mean over rows of the inverse estimates 1/(k-1) sum_{j<k} log(r_k / r_j)."""
    x = np.asarray(x, dtype=np.float64)
    distances = np.sqrt(nearest(canonical_keys(x, x, "euclidean"), admissible(len(x)), k).keys)
    return 1.0 / float(np.log(distances[:, -1:] / distances[:, :-1]).mean())


def pair_distances(x: Array, metric: str = "euclidean", groups: Any = None, window: int = 0) -> Array:
    """(P,) distances of the admissible pairs i < j, from canonical keys."""
    distances = to_distance(canonical_keys(x, x, metric), metric)
    return np.asarray(distances[np.triu(admissible(len(x), groups=groups, window=window), 1)])


def gaussian_kernel_sum(x: Array, y: Array | None, bandwidth: float) -> float:
    """Sum of exp(-|x - y|^2 / (2 h^2)) over all pairs, or over i != j where y is None; correctly rounded sum."""
    kernel = np.exp(-canonical_keys(x, x if y is None else y, "sqeuclidean") / (2 * bandwidth**2))
    return math.fsum(kernel[~np.eye(len(x), dtype=bool)] if y is None else kernel.ravel())


def stress(x: Array, y: Array) -> float:
    """Sum over i < j of (|x_i - x_j| - |y_i - y_j|)^2."""
    return math.fsum((pair_distances(x) - pair_distances(y)) ** 2)


def weighted_differences(weights: Array, x: Array, y: Array) -> Array:
    """(n, d): sum_j weights_ij (x_i - y_j), one column at a time."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.stack([(weights * (x[:, None, k] - y[None, :, k])).sum(1) for k in range(x.shape[1])], 1)


def stress_gradient(x: Array, y: Array) -> Array:
    """(n, dx): d/dx_i = sum_j 2 (a_ij - b_ij) / a_ij (x_i - x_j), zero at distance zero."""
    a, b = (np.sqrt(canonical_keys(z, z, "euclidean")) for z in (x, y))
    return weighted_differences(np.divide(2 * (a - b), a, out=np.zeros_like(a), where=a > 0), x, x)


def distance_correlation(x: Array, y: Array) -> float:
    """Square root of the biased V-statistic dCov^2 / sqrt(dVar_x dVar_y), euclidean distances."""
    a, b = (_double_center(np.sqrt(canonical_keys(z, z, "euclidean"))) for z in (x, y))
    return math.sqrt(max(0.0, (a * b).mean()) / math.sqrt((a * a).mean() * (b * b).mean()))


def linear_cka(x: Array, y: Array) -> float:
    """|X^T Y|_F^2 / (|X^T X|_F |Y^T Y|_F) with centred columns."""
    return kernel_cka(*(z @ z.T for z in (np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))))


def kernel_cka(gram_x: Array, gram_y: Array) -> float:
    """Biased centred kernel alignment of two (n, n) Gram matrices."""
    a, b = _double_center(gram_x), _double_center(gram_y)
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def _double_center(matrix: Array) -> Array:
    return np.asarray(matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean())
