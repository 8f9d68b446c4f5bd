"""k nearest neighbours with the screen in Triton kernels, on CUDA tensors (or in the interpreter).

(A) least upper bounds in bins: the k-th smallest gives tau; (B) the points whose lower bound is not above it; (C) their
canonical keys, in order. Rows with too long a list go to the torch backend's finer screen, as do metrics that are no products
of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.knn import Found, Search, search_all
from msma_fast.backends.torch.select import smallest

LEVEL = 0  # what a row certified by the bfloat16 screen reports


def nearest(search: Search) -> Found:
    """The exact neighbours of every row of x among the rows of y."""
    from msma_fast.triton_kernels.knn import BINS

    m = search.y.values.shape[0]
    served = screens.screenable(search.kernel) and search.admissible.partners is None
    if not served or 4 * search.k > m or 2 * search.k > BINS:
        return search_all(search)
    near, cols, left_over = candidates(search, limit=max(4 * search.k + 64, 256))
    keys = search.keys.pair_keys(search.kernel, search.x, search.y, near, cols)
    n = search.x.values.shape[0]
    found_keys, found = smallest(near, cols, keys, n, search.k)
    count = torch.bincount(near, minlength=n)
    out = Found(found_keys, found, count, torch.full_like(count, LEVEL))
    if left_over.numel():
        rest = search_all(search._replace(x=search.x.take(left_over), admissible=_rows(search, left_over)))
        for whole, part in zip(out, rest, strict=True):
            whole[left_over] = part
    return out


def candidates(search: Search, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column) of every pair that may be among the k nearest, ascending, and the rows (L,) with more than `limit`."""
    from msma_fast.triton_kernels import knn as kernels
    from msma_fast.triton_kernels.screen import Rule, Side

    screen = screens.build(search.kernel, search.x, search.y, 0)
    c, near, far, col = screens.point_margins(screen)
    left, right = screen.left, screen.right
    x = Side(left.b.to(torch.bfloat16), left.r.to(torch.float32), left.m.to(torch.float32))
    y = Side(x.b if left is right else right.b.to(torch.bfloat16), near, far)
    who = search.admissible
    labels = None if who.groups is None or who.point_groups is None else who.groups
    own = None if who.own is None else who.own.to(torch.int32)
    rule = Rule(own, who.window, labels, None if labels is None else who.point_groups)
    best = kernels.bounds(x, y, c, col, rule)
    value = best.topk(search.k, dim=1, largest=False).values[:, -1].to(torch.float64)
    every = torch.arange(best.shape[0], device=best.device)
    top = value + 2.0 * screens.row_margin(screen, every)
    # A row with fewer than k finite bins keeps every admissible point, which its list may not hold.
    top = (top + top.abs() * 2.0**-20).clamp_max(torch.finfo(torch.float32).max).to(torch.float32)
    columns, count = kernels.collect(x, y, c, col, top, limit, rule)
    crowded = count > limit
    filled = torch.arange(limit, device=count.device) < count[:, None]
    row, slot = (filled & ~crowded[:, None]).nonzero(as_tuple=True)
    return row, columns[row, slot].to(torch.int64), crowded.nonzero().squeeze(1)


def _rows(search: Search, rows: Tensor) -> Admissible:
    who = search.admissible
    return who._replace(
        own=None if who.own is None else who.own[rows], groups=None if who.groups is None else who.groups[rows]
    )
