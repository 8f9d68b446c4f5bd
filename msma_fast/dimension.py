"""intrinsic_dimension: how many numbers it takes to move along the data, from distances alone.

TwoNN: mu = r2 / r1 of each row; with the m = floor(fraction N) smallest kept and the rest censored at mu_(m),
    d = (m - 1) / (sum of kept log mu + (N - m) log mu_(m))            Facco et al., Sci. Rep. 7, 12140 (2017)
MLE: 1/d_i = mean over j < k of log(r_k / r_j), d = 1 / mean_i(1/d_i)
    Levina, Bickel, NIPS 2004, averaged as MacKay and Ghahramani (2005) propose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast.neighbors import knn
from msma_fast.results import Array, DimensionResult

_DEFAULT_K = 20


def _radii(x: Tensor, k: int, backend: str | None) -> Tensor:
    """(n, k) float64 distances, none of them zero."""
    radii: Tensor = knn(x.to(torch.float64), k, backend=backend, check_finite=False).distances
    repeated = int((radii[:, 0] == 0).sum())
    if repeated:
        raise ValueError(
            f"x: expected distinct rows (a repeated row has no scale), got {repeated} rows that occur more than once; "
            "pass unique rows"
        )
    return radii


def censored_twonn(radii: Tensor, fraction: float) -> tuple[float, float]:
    """Distances (n, 2) to two neighbours -> (estimate, standard error) of the censored maximum-likelihood fit."""
    log_mu = (torch.log(radii[:, 1]) - torch.log(radii[:, 0])).sort().values
    n = log_mu.shape[0]
    kept = math.floor(fraction * n)
    if kept < 2:
        raise ValueError(f"fraction: expected at least 2 rows to be kept, got {kept} of {n} at fraction {fraction}")
    exposure = float(log_mu[:kept].sum()) + (n - kept) * float(log_mu[kept - 1])
    if exposure == 0:
        raise ValueError("x: expected rows at different distances, got r1 = r2 for every row (a lattice)")
    estimate = (kept - 1) / exposure
    return estimate, estimate / math.sqrt(kept)


def _mle(radii: Tensor) -> tuple[float, float]:
    """(estimate, standard error by the delta method over rows)."""
    k = radii.shape[1]
    inverse = (torch.log(radii[:, -1:]) - torch.log(radii[:, :-1])).sum(1) / (k - 1)
    mean = float(inverse.mean())
    if mean == 0:
        raise ValueError("x: expected rows at different distances, got equal distances to all neighbours")
    spread = float(inverse.std()) / math.sqrt(inverse.shape[0]) if inverse.shape[0] > 1 else math.nan
    return 1 / mean, spread / mean**2


def intrinsic_dimension(
    x: Array,
    method: str = "twonn",
    *,
    k: int | None = None,
    fraction: float = 0.9,
    decimations: Sequence[int] | None = None,
    seed: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> DimensionResult:
    """The intrinsic dimension of the rows of x (n, d), by "twonn" or "mle".

    twonn looks at the two nearest neighbours and keeps the `fraction` smallest ratios (the rest are censored); mle looks at
    k of them (20 by default, at most n - 1). decimations: integers q; the estimate is repeated on q disjoint random
    subsets of n // q rows and averaged, which looks at larger neighbourhoods: an estimate that moves with the scale is not
    a dimension. The standard error treats the rows' ratios as independent; neighbours share points, so it is a lower bound.

    Returns DimensionResult(estimate, standard_error, scales, estimates). Raises ValueError / TypeError for bad data, n < 3,
    repeated rows, and a fraction outside (0, 1].
    """
    rows = _checks.points("x", x, ndims=(2,), check_finite=check_finite).detach()
    _checks.choice("method", method, ("twonn", "mle"))
    n = rows.shape[0]
    if n < 3:
        raise ValueError(f"x: expected at least 3 rows, got {n}")
    if method == "twonn":
        if k is not None:
            raise ValueError(f"k: expected None for method='twonn' (it uses two neighbours), got {k}")
        neighbors = 2
    else:
        neighbors = min(_DEFAULT_K, n - 1) if k is None else _checks.neighbor_count("k", k, n, self_search=True)
        if neighbors < 2:
            raise ValueError(f"k: expected at least 2 for method='mle', got {neighbors}")
    fraction = _checks.number("fraction", fraction, at_least=0.0)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a number in (0, 1], got {fraction}")
    if decimations is not None and not isinstance(decimations, Iterable):
        raise TypeError(f"decimations: expected a sequence of integers >= 1, got {decimations!r}")
    factors = [1] if decimations is None else [_checks.integer("decimations", q, at_least=1) for q in decimations]
    if not factors:
        raise ValueError("decimations: expected a non-empty sequence of integers >= 1, got an empty one")
    smallest = n // max(factors)
    if smallest < neighbors + 1:
        raise ValueError(
            f"decimations: expected subsets of at least {neighbors + 1} rows, got {smallest} (n = {n}, q = {max(factors)})"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(_checks.integer("seed", seed, at_least=0)))
    order = order.to(rows.device)

    def fit(part: Tensor) -> tuple[float, float]:
        radii = _radii(part, neighbors, backend)
        return censored_twonn(radii, fraction) if method == "twonn" else _mle(radii)

    found = []
    for q in factors:
        parts = [rows] if q == 1 else [rows[order[i::q][: n // q]] for i in range(q)]
        fits = [fit(part) for part in parts]
        mean = math.fsum(estimate for estimate, _ in fits) / q
        error = math.sqrt(math.fsum(error**2 for _, error in fits)) / q
        found.append((mean, error))
    finest = factors.index(min(factors))
    return DimensionResult(*found[finest], tuple(n // q for q in factors), tuple(estimate for estimate, _ in found))
