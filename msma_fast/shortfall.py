"""How many nats a KSG estimate misses, by two accounts, neither of which sees everything.

extrapolation   the density is taken as constant within the k-th distance eps; the error of that is of order eps^2, and
                eps ~ (k/N)^(1/D) in D dimensions, so that   missing = (I(k) - I(w)) / ((w/k)^(2/D) - 1),   w > k
linear          the canonical correlations r of normal scores, and of their sizes: sum -1/2 log(1 - r^2), less its mean
                over independent samples (Wilks' lambda is a product of beta variables), less the estimate

D: TwoNN of the joined rows, each sample divided by its scale. Sources: Kraskov, Stoegbauer, Grassberger (2004), section
III; Anderson, An Introduction to Multivariate Statistical Analysis, chapters 9 and 12; Facco et al. (2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msma_fast.dimension import censored_twonn
from msma_fast.neighbors import knn
from msma_fast.results import Missing

Views = tuple[Tensor, ...]
SHARED = 0.05  # of the rows may have the same value in a column that counts as continuous
ROWS_PER_COLUMN = 20  # of each sample in the linear side: more columns would fit noise


def joint_rows(x: Tensor, y: Tensor, groups: Tensor | None, window: int) -> tuple[float, float]:
    """`dimension_of` the rows (x, y), each sample divided by its scale."""
    return dimension_of(torch.cat([_unit(x), _unit(y)], 1), groups, window)


def dimension_of(x: Tensor, groups: Tensor | None, window: int) -> tuple[float, float]:
    """(TwoNN of the rows (n, d), the share of rows that repeat an admissible one). The number of columns where too few rows
    are distinct to tell a dimension."""
    n, columns = x.shape
    if n < 3:
        return float(columns), 0.0
    radii = knn(x, 2, groups=groups, window=window, check_finite=False).distances
    repeated = float((radii[:, 0] == 0).to(torch.float64).mean())
    distinct = radii[(radii[:, 0] > 0) & radii[:, 1].isfinite()]
    try:
        return min(censored_twonn(distinct, 0.9)[0], columns), repeated
    except ValueError:
        return float(columns), repeated


def _unit(x: Tensor) -> Tensor:
    """Centred float64 rows, divided by their root mean square distance from the mean."""
    centred = x.to(torch.float64) - x.to(torch.float64).mean(0)
    largest = centred.abs().amax()
    if not largest > 0:
        return centred
    centred = centred / largest  # squares of huge values would overflow
    return centred / centred.square().sum(1).mean().sqrt()


def by_extrapolation(local: Tensor, wide: Tensor, ratio: float, dimension: float, units: int) -> Missing:
    """Local terms (n,) at k neighbours and at ratio * k of them; units: how many of the rows are independent."""
    slope, scale = local - wide, per_slope(ratio, dimension)
    return Missing(scale * float(slope.mean()), scale * float(slope.std()) / math.sqrt(units))


def per_slope(ratio: float, dimension: float) -> float:
    """What is missing for each nat that an estimate loses with ratio times as many neighbours."""
    return 1 / (ratio ** (2 / dimension) - 1)


def normal_scores(x: Tensor) -> Tensor:
    """(n, d) -> each column's ranks as quantiles of the normal density; equal values share their middle rank, since an order
    of the rows would be the same order in both samples."""
    columns = x.T.contiguous()
    ordered = columns.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, columns, right=right) for right in (False, True))
    return torch.special.ndtri((below + up_to).to(torch.float64) / (2 * x.shape[0])).T.contiguous()


def linear_information(x: Tensor, y: Tensor, units: int) -> Missing | None:
    """Linear dependence: the most that the normal scores or the sizes of x (n, dx) have with those of y (n, dy). units: how
    many of the rows are independent. None where these are too few to tell, or no column is continuous."""
    return linear_information_of(views(x, units), views(y, units), units)


def linear_information_of(left: Views, right: Views, units: int) -> Missing | None:
    """The same of samples whose views are at hand."""
    return max((_canonical_information(u, v, units) for u in left for v in right), default=None)


def views(x: Tensor, units: int) -> Views:
    """Orthonormal bases of the normal scores of x (n, d), and of those of its sizes: |scores| and the rows' lengths."""
    columns = _continuous(_leading(x, units // ROWS_PER_COLUMN))
    if columns.shape[1] == 0:
        return ()
    scores = normal_scores(columns)
    sizes = torch.cat([scores.abs(), scores.square().sum(1, keepdim=True)], 1) if scores.shape[1] > 1 else scores.abs()
    return _orthonormal(scores), _orthonormal(normal_scores(sizes))


def _continuous(x: Tensor) -> Tensor:
    """The columns without a value that more than SHARED of the rows have: a few levels can correlate perfectly, and tell
    no more than their number."""
    ordered = x.sort(dim=0).values
    shared = math.ceil(SHARED * x.shape[0])
    return x[:, (ordered[shared:] != ordered[:-shared]).all(0)]


def _canonical_information(u: Tensor, v: Tensor, units: int) -> Missing:
    """From orthonormal bases (n, p), (n, q) of rows of which `units` are independent."""
    p, q = sorted((u.shape[1], v.shape[1]))
    squared = torch.linalg.svdvals(u.T @ v).square().clamp(max=1 - 1e-12).cpu()
    # Independent samples of n rows: 1 - R^2 is a product of p beta((n - 1 - q - i)/2, q/2), i < p.
    rest = (units - 1 - torch.arange(p, dtype=torch.float64)) / 2
    chance = (torch.special.digamma(rest) - torch.special.digamma(rest - q / 2)).sum() / 2
    information = float(-torch.log1p(-squared).sum() / 2 - chance)
    return Missing(information, math.sqrt(float(squared.sum()) / units + p * q / 2 / units**2))


def _leading(x: Tensor, limit: int) -> Tensor:
    """At most `limit` columns: the leading principal components where there are more."""
    if x.shape[1] <= limit:
        return x
    unit = _unit(x)
    _, vectors = torch.linalg.eigh(unit.T @ unit)
    return unit @ vectors[:, x.shape[1] - limit :]


def _orthonormal(x: Tensor) -> Tensor:
    """An orthonormal basis (n, r) of the centred columns, without directions of rounding error."""
    left, values, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return left[:, values > 1e-10 * max(1.0, float(values.amax()) if values.numel() else 0.0)]
