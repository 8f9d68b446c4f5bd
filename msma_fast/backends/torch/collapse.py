"""Exactly duplicate points are searched once: an embedding layer had 2156 distinct rows of 8192.

Points that are equal in every coordinate and in their label form a unit, so that a unit is admissible to a query as a
whole (except for the query itself, which is taken out when the unit is expanded). The k + 1 nearest units by
(key, first member) hold the k nearest points by (key, index): every unit before a point's own contributes at least one
earlier point, and at most one of them is the query itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch.select import smallest


class Units(NamedTuple):
    """Distinct points. members are the points sorted by (unit, index); unit u owns members[start[u] : start[u] + size[u]]."""

    first: Tensor  # (u,) index of the first member, ascending
    unit: Tensor  # (m,) unit of each point
    members: Tensor  # (m,)
    start: Tensor  # (u,)
    size: Tensor  # (u,)


def _mix(values: Tensor) -> Tensor:
    """(m,) int64 hash of each row: equal rows have equal hashes (-0.0 counts as 0.0)."""
    bits = (values + 0.0).view(torch.int64 if values.dtype == torch.float64 else torch.int32).to(torch.int64)
    generator = torch.Generator().manual_seed(0x9E3779B9)
    weights = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator, device="cpu").to(bits.device) | 1
    bits = bits * -7046029254386353131  # an odd 64-bit constant; products wrap around
    bits = bits ^ (bits >> 29)
    return (bits * weights).sum(1)


def find_units(values: Tensor, labels: Tensor | None) -> Units | None:
    """The units of points (m, d), or None where no point is repeated."""
    m = values.shape[0]
    hashes = _mix(values)
    if labels is not None:
        hashes = hashes ^ (labels.to(torch.int64) * -4658895280553007687)
    order = hashes.argsort(stable=True)
    ranked = hashes[order]
    maybe = ranked[1:] == ranked[:-1]
    if not bool(maybe.any()):
        return None
    pairs = maybe.nonzero().squeeze(1)
    a, b = order[pairs], order[pairs + 1]
    same = (values[a] == values[b]).all(1)
    if labels is not None:
        same &= labels[a] == labels[b]
    joined = torch.zeros(m, dtype=torch.bool, device=values.device)
    joined[pairs[same] + 1] = True  # a hash collision merely leaves duplicates apart, which is slower, never wrong
    run = (~joined).to(torch.int64).cumsum(0) - 1  # unit number in hash order
    if int(run[-1]) == m - 1:
        return None
    head = order[~joined]  # stable sort: the first member of each run is its smallest index
    rank = head.argsort()
    renumber = torch.empty_like(rank)
    renumber[rank] = torch.arange(rank.shape[0], device=rank.device)
    unit = torch.empty(m, dtype=torch.int64, device=values.device)
    unit[order] = renumber[run]
    size = torch.bincount(unit)
    return Units(head[rank], unit, unit.argsort(stable=True), size.cumsum(0) - size, size)


def worth_collapsing(units: Units, k: int) -> bool:
    """A few pairs of equal rows cost a search less than a copy of the distinct rows would."""
    m, distinct = units.unit.shape[0], units.first.shape[0]
    return 10 * distinct < 9 * m or int(units.size.max()) > k


def join_own(units: Units, keys: Tensor, found: Tensor, same_label_counts: bool) -> tuple[Tensor, Tensor]:
    """(u, k) units near each unit, itself left out -> (m, k + 1) units near each point: its own first, at key 0, where
    other members of it count."""
    own = torch.arange(units.first.shape[0], device=found.device)
    counts = (units.size > 1) & same_label_counts
    zero = torch.zeros_like(own, dtype=keys.dtype)
    # Where it does not count the empty place goes last: every row stays ascending.
    with_own = torch.cat([zero[:, None], keys], 1), torch.cat([own[:, None], found], 1)
    without = (
        torch.cat([keys, torch.full_like(zero, float("inf"))[:, None]], 1),
        torch.cat([found, torch.full_like(own, -1)[:, None]], 1),
    )
    joined = [torch.where(counts[:, None], a, b) for a, b in zip(with_own, without, strict=True)]
    return joined[0][units.unit], joined[1][units.unit]


def expand(units: Units, keys: Tensor, found: Tensor, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """(n, k + 1) units ascending by (key, first member), -1 for none -> (n, k) points ascending by (key, index).

    own (n,): the query's own index among the points, taken out; None for a search among other points.
    """
    n = found.shape[0]
    here = found >= 0
    # k + 1 members of a unit are enough: one of them may be the query.
    width = torch.where(here, units.size[found.clamp_min(0)].clamp_max(k + 1), 0)
    # Units behind k + 1 points of strictly smaller key cannot matter. Ties with the previous unit keep.
    before = width.cumsum(1) - width
    tie = torch.zeros_like(here)
    tie[:, 1:] = keys[:, 1:] == keys[:, :-1]
    index = torch.arange(found.shape[1], device=found.device).expand(n, -1)
    run_start = torch.where(tie, 0, index).cummax(1).values
    width = torch.where(before.gather(1, run_start) >= k + 1, 0, width)
    flat = width.reshape(-1)
    source = torch.arange(flat.shape[0], device=flat.device).repeat_interleave(flat)
    offset = torch.arange(source.shape[0], device=flat.device) - (flat.cumsum(0) - flat)[source]
    rows = source // found.shape[1]
    point = units.members[units.start[found.reshape(-1)[source]] + offset]
    key = keys.reshape(-1)[source]
    if own is not None:
        other = point != own[rows]
        rows, point, key = rows[other], point[other], key[other]
    by_point = point.argsort(stable=True)
    order = by_point[rows[by_point].argsort(stable=True)]
    return smallest(rows[order], point[order], key[order], n, k)
