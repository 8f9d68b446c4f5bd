"""The measures of the published figures, as the authors' code takes them, for comparison alone.

kl   sum over coordinates of the divergence of normal distributions with the moments of both sides:
         1/2 (log(v_y / v_x) + (v_x + (m_x - m_y)^2) / v_y - 1)
     It is blind to which rows are a pair, and falls to 0 once moments agree. Coordinates that vary on neither side are left
     out; one that varies on one side alone counts with a least variance.
mi   of the histogram, 64 x 64, of all coordinates of all rows pooled: at most log 64 = 4.159 whatever the data
distance_correlation   of at most 1024 rows
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.similarity import distance_correlation

BINS = 64
_ROWS = 1024
_LEAST = 1e-12  # of the largest variance: less is none


def published(x: Tensor, y: Tensor) -> dict[str, float | None]:
    """Of paired rows (n, d), (n, e) as they are; kl and mi are None of d != e, which they compare coordinate by coordinate."""
    alike = x.shape[1] == y.shape[1]
    step = -(-x.shape[0] // _ROWS)
    return {
        "kl": gaussian_kl(x, y) if alike else None,
        "mi": histogram_mi(x, y) if alike else None,
        "distance_correlation": float(distance_correlation(x[::step], y[::step])),
    }


def gaussian_kl(x: Tensor, y: Tensor) -> float:
    """Of the rows of x from those of y, nats."""
    x, y = x.to(torch.float64), y.to(torch.float64)
    spread_x, spread_y = (side.var(0, correction=0) for side in (x, y))
    floor = _LEAST * float(torch.maximum(spread_x.max(), spread_y.max()))
    kept = (spread_x > floor) | (spread_y > floor)
    spread_x, spread_y = (each[kept].clamp_min(floor) for each in (spread_x, spread_y))
    apart = (x.mean(0) - y.mean(0))[kept].square()
    return float(0.5 * ((spread_y / spread_x).log() + (spread_x + apart) / spread_y - 1.0).sum())


def histogram_mi(x: Tensor, y: Tensor) -> float:
    """Nats."""
    n = x.numel()
    cells = _bins(x) * BINS + _bins(y)
    joint = torch.bincount(cells, minlength=BINS * BINS).reshape(BINS, BINS).to(torch.float64) / n
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    kept = joint > 0
    return float((joint[kept] * (joint[kept] / product[kept]).log()).sum())


def _bins(values: Tensor) -> Tensor:
    """(n d,) the bin of each number, of BINS equal ones from the least to the largest."""
    flat = values.reshape(-1).to(torch.float64)
    low, high = flat.min(), flat.max()
    width = torch.where(high > low, high - low, 1.0)
    return ((flat - low) / width * BINS).long().clamp_max(BINS - 1)
