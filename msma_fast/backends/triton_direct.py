"""Counts and neighbours straight from canonical keys, by kernels that keep them in registers.

For metrics that are no products of rows, and in few coordinates; no block of keys is written.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.torch.knn import ALL_KEYS, Found, Search, search_all
from msma_fast.backends.triton_screen import of_rows, padded, rule_of

_ENTRIES = 1 << 24  # of bins and of lists, of one block of queries
_SAMPLED = 4  # the first pass looks at one tile of so many, where enough remain


def counts(kernel: Kernel, x: Rows, y: Rows, thresholds: Tensor, who: Admissible) -> Tensor:
    """(n, T) int64: admissible points with keys at most thresholds (n, T) float64."""
    from msma_fast.triton_kernels import direct, few_coordinates

    sides = (x.values, x.norms), (y.values, y.norms)
    rule = rule_of(who._replace(partners=None), few_coordinates.ROWS, direct.COLUMNS)
    partners = None if who.partners is None else padded(who.partners.to(torch.int32), 0, few_coordinates.ROWS)
    return direct.counts(kernel.kind, int(kernel.p), *sides, thresholds, rule, partners)


def nearest_direct(search: Search) -> Found:
    """The exact neighbours of every row of x among the rows of y: the least keys of bins of a sample of the points bound
    the k-th, and what is not above the bound is listed with its key. Rows with too long a list get all keys, in blocks."""
    from msma_fast.triton_kernels import direct

    m = search.y.values.shape[0]
    if search.admissible.partners is not None or 4 * search.k > m:
        return search_all(search)
    step = _SAMPLED if m >= 64 * _SAMPLED * search.k else 1
    limit = min(m, 2 * step * search.k + 128)
    rows = torch.arange(search.x.values.shape[0], device=search.x.values.device)
    points = direct.points((search.y.values, search.y.norms))
    size = max(1, _ENTRIES // (limit + 8 * search.k))
    parts = [_nearest_of(search, block, points, step, limit) for block in rows.split(size)]
    return Found(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _nearest_of(search: Search, rows: Tensor, points: Any, step: int, limit: int) -> Found:
    """The part of some rows; points: those of y as the kernels read them."""
    from msma_fast.triton_kernels import direct, few_coordinates

    k, whole = search.k, rows.shape[0] == search.x.values.shape[0]
    part = search if whole else search._replace(x=search.x.take(rows), admissible=of_rows(search.admissible, rows))
    x, rule = part.x, rule_of(part.admissible, few_coordinates.ROWS, direct.COLUMNS)
    arguments = part.kernel.kind, int(part.kernel.p), direct.queries((x.values, x.norms)), points, rule
    best = direct.bins(*arguments, k, step)
    top = best.topk(k, dim=1, largest=False).values[:, -1]  # inf where fewer than k bins have anybody
    columns, keys, count = direct.collect(*arguments, top, limit)
    empty = torch.arange(limit, device=count.device) >= count[:, None]
    columns, order = columns.masked_fill(empty, torch.iinfo(torch.int32).max).sort(dim=1)
    keys, order = keys.masked_fill(empty, float("inf")).gather(1, order).sort(dim=1, stable=True)
    columns = columns.gather(1, order)[:, :k].to(torch.int64)
    columns = columns.masked_fill(torch.arange(k, device=count.device) >= count[:, None], -1)
    found = Found(keys[:, :k].contiguous(), columns, count.to(torch.int64), torch.full_like(count, ALL_KEYS).long())
    crowded = (count > limit).nonzero().squeeze(1)
    if crowded.numel():
        rest = search_all(part._replace(x=x.take(crowded), admissible=of_rows(part.admissible, crowded)))
        for field, values in zip(found, rest, strict=True):
            field[crowded] = values
    return found
