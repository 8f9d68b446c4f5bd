"""Choosing among lists of (row, column, key): the k smallest of each row in (key, column) order.

Lists are sorted by row and, within a row, by column, as `nonzero` gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def starts_of(rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(start (n,), count (n,)) of each row's run in a list sorted by row."""
    count = torch.bincount(rows, minlength=n)
    return count.cumsum(0) - count, count


def padded(rows: Tensor, values: Tensor, n: int, fill: float) -> Tensor:
    """(n, longest run): each row's values left-aligned, the rest `fill`."""
    start, count = starts_of(rows, n)
    width = max(1, int(count.max()) if n else 1)
    out = torch.full((n, width), fill, dtype=values.dtype, device=values.device)
    out[rows, torch.arange(rows.shape[0], device=rows.device) - start[rows]] = values
    return out


def kth_value(rows: Tensor, values: Tensor, n: int, k: int) -> Tensor:
    """(n,) the k-th smallest listed value of each row, inf where a row lists fewer."""
    table = padded(rows, values, n, float("inf"))
    if table.shape[1] < k:
        return table.new_full((n,), float("inf"))
    return table.kthvalue(k, dim=1).values


def smallest(rows: Tensor, cols: Tensor, keys: Tensor, n: int, k: int) -> tuple[Tensor, Tensor]:
    """((n, k) keys, (n, k) columns) ascending by (key, column); inf and -1 where a row lists fewer than k."""
    by_key = keys.argsort(stable=True)  # the list is sorted by column within a row: ties stay in column order
    order = by_key[rows[by_key].argsort(stable=True)]
    rows, cols, keys = rows[order], cols[order], keys[order]
    start, _ = starts_of(rows, n)
    rank = torch.arange(rows.shape[0], device=rows.device) - start[rows]
    keep = rank < k
    out_keys = torch.full((n, k), float("inf"), dtype=torch.float64, device=keys.device)
    out_cols = torch.full((n, k), -1, dtype=torch.int64, device=keys.device)
    out_keys[rows[keep], rank[keep]] = keys[keep]
    out_cols[rows[keep], rank[keep]] = cols[keep]
    return out_keys, out_cols
