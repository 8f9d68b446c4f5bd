"""How many pairs of rows have a distance between bounds, without a matrix of pairs.

bounds (E,) float64 ascending -> counts (E + 1,) int64: place b holds the pairs with bounds[b - 1] <= distance < bounds[b],
the ends open; with `closed` the last bound belongs to the place below it. Self problems count i < j.

A distance is the float64 value of a canonical key and monotone in it, so each bound becomes a key once (`thresholds`), and
pairs are sorted by their keys: no root is taken, and all metrics and backends agree.
NaN falls into the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch.exact import number_at, place_of
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.radius_count import INFINITE, key_threshold

_BLOCK = 1 << 21


def thresholds(bounds: Tensor, closed: bool, metric: str) -> Tensor:
    """(E,) the smallest key with distance >= bound; of the last bound, > where closed. inf where there is none.

    On the CPU: on a GPU hundreds of launches would be all that takes time."""
    device, bounds = bounds.device, bounds.cpu()
    inside = key_threshold(bounds, metric, 2.0, closed=False).clone()
    if closed:
        inside[-1:] = key_threshold(bounds[-1:], metric, 2.0, closed=True)
    return number_at((place_of(inside) + 1).clamp_max(INFINITE)).to(device)


def count_keys(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, groups: Tensor | None, window: int, limits: Tensor
) -> Tensor:
    """(E + 1,) int64 counts of keys between limits (E,); a self problem where x and y are the same object."""
    n, m = x.values.shape[0], y.values.shape[0]
    device = x.values.device
    counts = torch.zeros(limits.shape[0] + 1, dtype=torch.int64, device=device)
    for rows in torch.arange(n, device=device).split(max(1, _BLOCK // m)):
        left = int(rows[0]) if x is y else 0  # a self problem has no pairs left of the block
        right = Rows(y.values[left:], None if y.norms is None else y.norms[left:])
        found = keys.block_keys(kernel, x.take(rows), right)
        if x is y:
            columns = torch.arange(left, m, device=device)
            kept = columns - rows[:, None] > window
            if groups is not None:
                kept &= groups[rows, None] != groups[columns]
            found = found[kept]
        places = torch.bucketize(found.reshape(-1), limits, right=True)
        counts += torch.bincount(places, minlength=limits.shape[0] + 1)
    return counts
