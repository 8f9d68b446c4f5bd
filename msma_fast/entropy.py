"""Differential entropy and divergence of continuous samples by nearest neighbours; float64, in nats.

entropy     <psi(N_i)> - psi(k) + log c_d + d <log r_i>                      Kozachenko, Leonenko (1987)
divergence  D(X || Y) = d <log(s_i / r_i)> + <log(m / (N_i - 1))>            Wang, Kulkarni, Verdu,
                                                                             IEEE Trans. Inf. Theory 55, 2392 (2009)
r_i: distance of row i to its k-th neighbour within x (N_i = 1 + admissible neighbours, N without groups and window); s_i: to
the k-th of the m rows of y; c_d: the volume of the unit ball, 2^d (chebyshev) or pi^(d/2) / Gamma(d/2 + 1) (euclidean).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msma_fast import _checks, ops
from msma_fast.backends.registry import check_name
from msma_fast.diagnostics import neighbor_counts
from msma_fast.information import METRICS, exclusions, sample, unbatched
from msma_fast.results import Array


def _distances(
    x: Tensor, y: Tensor | None, k: int, metric: str, labels: Tensor | None, window: int, backend: str | None
) -> Tensor:
    """(n, k) float64, whatever the rows are: a distance rounded to float32 may be zero or inf."""
    wide = None if y is None else y.to(torch.float64)
    found = ops.knn(x.to(torch.float64), wide, k, metric, 2.0, None, labels, None, window, True, backend or "")
    return found[0]


def _refuse_repeats(radius: Tensor, k: int) -> None:
    """ValueError where a k-th neighbour is at distance 0."""
    repeated = int((radius == 0).sum())
    if repeated:
        raise ValueError(
            f"x: expected a continuous sample, got {repeated} of {radius.shape[0]} rows that are repeated at least k = {k} "
            "times (their k-th neighbour is at distance 0, and a repeated value has density inf); pass distinct rows, a "
            "larger k, or add noise of the size of the rounding of your data"
        )


def _mean_log(values: Tensor) -> float:
    return math.fsum(torch.log(values).tolist()) / values.shape[0]


def knn_entropy(
    x: Array,
    k: int = 3,
    *,
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> float:
    """Differential entropy of the density that the rows of x (n,) or (n, d) are drawn from, in nats.

    Kozachenko-Leonenko: <psi(N_i)> - psi(k) + log c_d + d <log r_i>, r_i the distance to the k-th neighbour and c_d the volume
    of the unit ball. metric "chebyshev" or "euclidean": two estimates of the same number. groups (n,) integer labels: rows
    with the same label are not neighbours; window w: nor are rows with |i - j| <= w.

    It may be negative, and it depends on the units: scaling x by s adds d log(s). Raises ValueError / TypeError for NaN or
    inf, empty, integer or complex data, k out of range, a row left with fewer than k neighbours, and a row that is repeated
    k times or more: its k-th neighbour is at distance 0 and the estimate would be -inf.
    When not to use it: discrete or rounded data; more than some ten dimensions, where its bias is large (differences of
    entropies do not cancel it: use `ksg_mi`, `ksg_cmi`); rows near a manifold of lower dimension, which have no density.
    """
    check_name(backend)
    rows = unbatched("x", sample("x", x, check_finite)).detach()
    n, d = rows.shape
    k = _checks.neighbor_count("k", k, n, self_search=True)
    _checks.choice("metric", metric, METRICS)
    labels, window = exclusions(groups, window, n, k, rows.device)
    radius = _distances(rows, None, k, metric, labels, window, backend)[:, -1]
    _refuse_repeats(radius, k)
    log_ball = d * math.log(2.0) if metric == "chebyshev" else d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    psi = torch.special.digamma(1.0 + neighbor_counts(labels, window, n).to(torch.float64))
    psi_k = float(torch.special.digamma(torch.tensor(float(k), dtype=torch.float64)))
    return math.fsum(psi.tolist()) / n - psi_k + log_ball + d * _mean_log(radius)


def knn_kl_divergence(
    x: Array,
    y: Array,
    k: int = 5,
    *,
    metric: str = "euclidean",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> float:
    """Kullback-Leibler divergence D(X || Y) of the densities behind two independent samples, in nats; may be negative.

    x (n,) or (n, d), y (m,) or (m, d); rows are not paired. (d / n) sum log(s_i / r_i) + log(m / (n - 1)) with r_i, s_i the
    distances of row i of x to its k-th neighbour within x and in y. metric "euclidean" or "chebyshev". groups (n,) labels of x
    and window w exclude neighbours within x (tokens of one text); then n - 1 is the number of admissible neighbours of a row.

    Raises ValueError / TypeError for NaN or inf, empty, integer or complex data, different d, k > n - 1 or k > m, a row of x
    that is repeated k times or more, and for any row of x that equals a row of y: two independent samples of densities share
    no point, and shared rows would pull the estimate down. (In one float32 column of 10,000 rows a few may be equal by
    rounding: add noise of that size.)
    When not to use it: where y hardly reaches the places of x, the estimate is far too low (it cannot exceed what distances
    between the samples show); in more than some ten dimensions its bias is large. `mmd` tells samples apart more surely.
    """
    check_name(backend)
    rows, others = (unbatched(name, sample(name, z, check_finite)).detach() for name, z in (("x", x), ("y", y)))
    _checks.pair("x", rows, "y", others)
    (n, d), m = rows.shape, others.shape[0]
    k = _checks.neighbor_count("k", k, n, self_search=True)
    _checks.neighbor_count("k", k, m, self_search=False)
    _checks.choice("metric", metric, METRICS)
    labels, window = exclusions(groups, window, n, k, rows.device)
    within = _distances(rows, None, k, metric, labels, window, backend)[:, -1]
    _refuse_repeats(within, k)
    between = _distances(rows, others, k, metric, None, 0, backend)
    shared = int((between[:, 0] == 0).sum())
    if shared:
        raise ValueError(
            f"y: expected two independent samples of continuous variables, got {shared} of {n} rows of x at distance 0 from a "
            "row of y; leave the shared rows out, or, where rounding made them equal, add noise of the size of the rounding"
        )
    neighbors = neighbor_counts(labels, window, n).to(torch.float64)
    return d * (_mean_log(between[:, -1]) - _mean_log(within)) + math.log(m) - _mean_log(neighbors)
