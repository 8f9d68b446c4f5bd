"""k nearest neighbours: screen in low precision, prove what can be dropped, give the rest canonical keys.

queries (n, d), points (m, d) or None for a self-search -> keys (n, k) float64 and indices (n, k) int64, ascending by
(key, index), with inf and -1 where a query has fewer than k admissible points; candidates (n,) and screen level (n,).

Per block of queries: (A) products; strided bins of columns give a threshold below which at least k admissible columns
lie, and the k-th smallest upper bound among those is tau; (B) columns whose lower bound is not above tau are candidates;
(C) candidates get canonical keys. A row with too many candidates goes to the next level, and in the end every key of the
row is computed. Exactly duplicate points are collapsed first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.collapse import expand, find_units, join_own, worth_collapsing
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.select import kth_value, smallest

_BLOCK = 1 << 21  # entries of one screened block: what stays in the last-level cache
_KEY_BLOCK = 1 << 21  # entries of one block of float64 keys
_BINS = 8  # bins per neighbour: few enough to sort, enough that the k smallest rarely share one
ALL_KEYS = 2  # the level reported for rows whose every key was computed


class Search(NamedTuple):
    """One search: rows, kernel, who computes keys, who is admissible."""

    keys: Keys
    kernel: Kernel
    x: Rows
    y: Rows
    admissible: Admissible
    k: int


class Found(NamedTuple):
    keys: Tensor  # (n, k) float64
    indices: Tensor  # (n, k) int64
    candidates: Tensor  # (n,) int64
    level: Tensor  # (n,) int64


def _blocks(rows: Tensor, width: int, entries: int) -> list[Tensor]:
    return list(rows.split(max(1, entries // max(1, width))))


def _threshold(g: Tensor, k: int) -> Tensor:
    """(B,) a value with at least k entries of the row at or below it (inf where the row has fewer than k finite ones)."""
    m = g.shape[1]
    bins = _BINS * k
    if bins * 4 > m:
        return g.topk(k, dim=1, largest=False).values[:, -1]
    whole = m // bins * bins
    low = g[:, :whole].unflatten(1, (-1, bins)).amin(1)
    if whole < m:
        low[:, : m - whole] = torch.minimum(low[:, : m - whole], g[:, whole:])
    value = low.topk(k, dim=1, largest=False).values[:, -1]
    short = value.isinf().nonzero().squeeze(1)
    if short.numel():
        value[short] = g[short].topk(k, dim=1, largest=False).values[:, -1]
    return value


def _candidates(search: Search, screen: screens.Screen, rows: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """(row in block, column) of every pair that may be among the k nearest, and which rows have too many (B,) bool."""
    count = rows.shape[0]
    g = search.admissible.fill(screens.products(screen, rows), rows)
    near, cols = (g <= _threshold(g, search.k)[:, None]).nonzero(as_tuple=True)
    value = g[near, cols]
    finite = value.isfinite()
    near, cols, value = near[finite], cols[finite], value[finite]
    _, upper = screens.bounds(screen, value, rows[near], cols)
    tau = kth_value(near, upper, count, search.k)
    return _not_above(search, screen, g, rows, tau, limit)


def _not_above(
    search: Search, screen: screens.Screen, g: Tensor, rows: Tensor, tau: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    low = screens.subtract_margin(screen, g.clone(), rows)
    top = tau - screen.left.c[rows] + screens.row_margin(screen, rows)
    # The largest finite value instead of inf: inadmissible columns are inf and are never kept.
    top = (top + top.abs() * 2.0**-20).clamp_max(torch.finfo(g.dtype).max).to(g.dtype)
    keep = ~(low > top[:, None])
    crowded = keep.sum(1) > 4 * limit  # before the triangle bound has had its say
    keep[crowded] = False
    near, cols = keep.nonzero(as_tuple=True)
    value = g[near, cols]
    lower, _ = screens.bounds(screen, value, rows[near], cols)
    possible = ~(lower > tau[near])
    near, cols = near[possible], cols[possible]
    wide = crowded | (torch.bincount(near, minlength=rows.shape[0]) > limit)
    certified = ~wide[near]
    return near[certified], cols[certified], wide


def _screened(search: Search, rows: Tensor, level: int, out: Found, limit: int) -> Tensor:
    """Fills `out` for the rows that this level certifies and returns the others."""
    screen = screens.build(search.kernel, search.x, search.y, level)
    left_over = []
    for block in _blocks(rows, search.y.values.shape[0], _BLOCK):
        near, cols, wide = _candidates(search, screen, block, limit)
        keys = search.keys.pair_keys(search.kernel, search.x, search.y, block[near], cols)
        _store(search, out, block, near, cols, keys, ~wide, level)
        left_over.append(block[wide])
    return torch.cat(left_over)


def _every_key(search: Search, rows: Tensor, out: Found) -> None:
    """The definition itself: every canonical key of the rows."""
    m = search.y.values.shape[0]
    for block in _blocks(rows, m, _KEY_BLOCK):
        keys = search.keys.block_keys(search.kernel, search.x.take(block), search.y)
        admissible = search.admissible.mask(block, m)
        reach = keys.masked_fill(~admissible, float("inf"))
        tau = reach.topk(min(search.k, m), dim=1, largest=False).values[:, -1]
        near, cols = (admissible & ~(keys > tau[:, None])).nonzero(as_tuple=True)
        everyone = torch.ones_like(block, dtype=torch.bool)
        _store(search, out, block, near, cols, keys[near, cols], everyone, ALL_KEYS)
        out.candidates[block] = admissible.sum(1)


def _store(
    search: Search, out: Found, block: Tensor, near: Tensor, cols: Tensor, keys: Tensor, done: Tensor, level: int
) -> None:
    found_keys, found = smallest(near, cols, keys, block.shape[0], search.k)
    rows = block[done]
    out.keys[rows], out.indices[rows] = found_keys[done], found[done]
    out.candidates[rows] = torch.bincount(near, minlength=block.shape[0])[done]
    out.level[rows] = level


def search_all(search: Search) -> Found:
    """The exact neighbours of every row of x among the rows of y, whatever it takes."""
    n, m = search.x.values.shape[0], search.y.values.shape[0]
    device = search.x.values.device
    out = Found(
        torch.empty(n, search.k, dtype=torch.float64, device=device),
        torch.empty(n, search.k, dtype=torch.int64, device=device),
        torch.empty(n, dtype=torch.int64, device=device),
        torch.empty(n, dtype=torch.int64, device=device),
    )
    rows = torch.arange(n, device=device)
    if screens.screenable(search.kernel) and 4 * search.k <= m:
        limit = max(4 * search.k + 64, m // 16)
        for level in range(len(screens.LEVELS)):
            rows = _screened(search, rows, level, out, limit)
            if not rows.numel():
                return out
    _every_key(search, rows, out)
    return out


def search_fast(search: Search) -> Found:
    """No certificate: the 2k best of the bf16 products, put in order by their canonical keys."""
    n, m = search.x.values.shape[0], search.y.values.shape[0]
    if not screens.screenable(search.kernel):
        return search_all(search)
    screen = screens.build(search.kernel, search.x, search.y, 0)
    wanted = min(2 * search.k, m)
    device = search.x.values.device
    parts: list[Found] = []
    for block in _blocks(torch.arange(n, device=device), m, _BLOCK):
        g = search.admissible.fill(screens.products(screen, block), block)
        best = g.topk(wanted, dim=1, largest=False)
        near, slot = best.values.isfinite().nonzero(as_tuple=True)
        cols = best.indices[near, slot]
        order = (near * m + cols).argsort()
        near, cols = near[order], cols[order]
        keys = search.keys.pair_keys(search.kernel, search.x, search.y, block[near], cols)
        found_keys, found = smallest(near, cols, keys, block.shape[0], search.k)
        count = torch.bincount(near, minlength=block.shape[0])
        parts.append(Found(found_keys, found, count, torch.zeros_like(count)))
    return Found(*(torch.cat(field) for field in zip(*parts, strict=True)))


def knn(
    keys: Keys,
    kernel: Kernel,
    x: Rows,
    y: Rows,
    k: int,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    certified: bool,
) -> Found:
    """Neighbours of x among y; a self-search when the two are the same object."""
    run = (keys.nearest or search_all) if certified or keys.nearest else search_fast
    every = torch.arange(x.values.shape[0], device=x.values.device)
    own = every if x is y else None
    units = None if window else (keys.find_units or find_units)(y.values, point_groups)
    if units is None or not worth_collapsing(units, k):
        return run(Search(keys, kernel, x, y, Admissible(own, groups, point_groups, window=window), k))
    distinct = y.take(units.first)
    labels = None if point_groups is None else point_groups[units.first]
    if x is y and kernel.kind != "inner_product":
        # Equal rows have the same neighbours: one search among the units, each one's own members joined at key 0.
        found = _among_units(run, Search(keys, kernel, distinct, distinct, Admissible(None, labels, labels), k))
        near, index = join_own(units, found.keys, found.indices, groups is None)
        found = Found(near, index, found.candidates[units.unit], found.level[units.unit])
    else:
        alone = None if own is None else torch.where(units.size[units.unit] == 1, units.unit, -1)
        wanted = min(k + 1, units.first.shape[0])
        found = run(Search(keys, kernel, x, distinct, Admissible(alone, groups, labels), wanted))
    # A row lists at most (k + 1)^2 points: k + 1 of each of k + 1 tied units.
    parts = [
        (keys.expand or expand)(units, found.keys[rows], found.indices[rows], None if own is None else rows, k)
        for rows in every.split(max(1, _KEY_BLOCK // (k + 1) ** 2))
    ]
    best, indices = (torch.cat(field) for field in zip(*parts, strict=True))
    return found._replace(keys=best, indices=indices)


def _among_units(run: Callable[[Search], Found], search: Search) -> Found:
    """The nearest other units of each unit; none where there is one unit only."""
    count, device = search.x.values.shape[0], search.x.values.device
    if count == 1:
        nothing = torch.zeros(1, dtype=torch.int64, device=device)
        return Found(torch.empty(1, 0, dtype=torch.float64, device=device), nothing.new_empty(1, 0), nothing, nothing)
    own = torch.arange(count, device=device)
    return run(search._replace(admissible=search.admissible._replace(own=own), k=min(search.k, count - 1)))
