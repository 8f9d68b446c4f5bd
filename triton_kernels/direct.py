"""Canonical keys made in registers and used there: counts within radii, and the two passes of a k-nearest search.

counts       inside (T, n) int32 += #{admissible j: K_ij <= top_ti}
bins         best (n, splits BLOCK_M) float64: the least admissible key of each bin of columns, inf for none. A split sees
             every `step`-th tile of its share; column j of a tile belongs to bin j. The bins are disjoint, so that at least k
             admissible points have a key at or below the k-th least of a row's bins.
collect      count (n,) int32 of the admissible j with K_ij not above top_i, and columns (n, limit) int32, keys (n, limit)
             float64: those j, in any order. Where count exceeds limit the row's list is not complete.

No key is written but those of `collect`. A program owns a tile, and the eight lanes of a key are summed one after the other,
so that four numbers a pair are alive instead of eight. Rows are transposed for it, so that a tile's coordinate is adjacent
in memory. Counts in at most FEW coordinates are those of few_coordinates.py.

Every operation is rounded on its own (enable_fp_fusion=False). A sum may start from -0.0, which the compiler can drop: nothing
but the sign of a zero could differ, and no key depends on that. Points that pad a tile are NaN, and NaN is in no radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import few_coordinates as few
from .few_coordinates import FEW
from .keys import Side, combine_lanes, finish_key, lane_term
from .resources import EXACT, Configuration, Need, launched
from .screen import SIZES, Rule, flags, pointers, split

PROGRAMS = 1024  # enough to fill a GPU: with few queries the points are split


@triton.jit
def lane_of(
    equal, x_ptr, y_ptr, i, j, n, m, lane, d, STEP: tl.constexpr, KIND: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """(the sum, or the largest, of the coordinates lane, lane + STEP, ...; whether these and the earlier ones are equal)."""
    total = tl.zeros((i + j).shape, tl.float64)
    x_ptr += lane * n
    y_ptr += lane * m
    for _ in range(lane, d, STEP):
        x, y = tl.load(x_ptr + i), tl.load(y_ptr + j)
        if KIND == "chebyshev":  # sizes of float64 are in the order of their bits, with NaN above all
            size = tl.abs(x - y).to(tl.int64, bitcast=True)
            total = tl.maximum(total.to(tl.int64, bitcast=True), size).to(tl.float64, bitcast=True)
        else:
            total = lane_term(total, x, y, KIND, P)
        if KIND == "cosine":
            equal = equal & (x == y)
        x_ptr += STEP * n
        y_ptr += STEP * m
    return total, equal


@triton.jit
def tile_keys(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, row, col, n, m, d,
    KIND: tl.constexpr, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """(BLOCK_N, BLOCK_M) float64 of the queries from `row` and the points from `col` on; x (d, n) and y (d, m) padded."""
    i, j = tl.arange(0, BLOCK_N)[:, None], tl.arange(0, BLOCK_M)[None, :]
    x, y = x_ptr + row, y_ptr + col
    n, m = tl.cast(n, tl.int64), tl.cast(m, tl.int64)
    norm_x, norm_y = 1.0, 1.0
    if KIND == "cosine":
        norm_x, norm_y = tl.load(norm_x_ptr + row + i), tl.load(norm_y_ptr + col + j)
    equal = (i + j) >= 0
    if KIND == "chebyshev":
        total, equal = lane_of(equal, x, y, i, j, n, m, 0, d, 1, KIND, P)
    else:  # in the order of combine_lanes, whose sums are made as early as they can be
        l0, equal = lane_of(equal, x, y, i, j, n, m, 0, d, 8, KIND, P)
        l4, equal = lane_of(equal, x, y, i, j, n, m, 4, d, 8, KIND, P)
        l2, equal = lane_of(equal, x, y, i, j, n, m, 2, d, 8, KIND, P)
        l6, equal = lane_of(equal, x, y, i, j, n, m, 6, d, 8, KIND, P)
        l1, equal = lane_of(equal, x, y, i, j, n, m, 1, d, 8, KIND, P)
        l5, equal = lane_of(equal, x, y, i, j, n, m, 5, d, 8, KIND, P)
        l3, equal = lane_of(equal, x, y, i, j, n, m, 3, d, 8, KIND, P)
        l7, equal = lane_of(equal, x, y, i, j, n, m, 7, d, 8, KIND, P)
        total = combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, KIND)
    return finish_key(total, equal, norm_x, norm_y, KIND)


@triton.jit
def allowed(
    own_ptr, label_i_ptr, label_ptr, row, cols, m, window,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Who is admissible of a tile: bool that broadcasts to it; cols (1, BLOCK_M)."""
    rows = row + tl.arange(0, BLOCK_N)[:, None]
    keep = cols < m
    if SELF:
        keep = keep & (tl.abs(tl.load(own_ptr + rows) - cols) > window)
    if LABELS:
        keep = keep & (tl.load(label_i_ptr + rows) != tl.load(label_ptr + cols))
    return keep


@triton.jit(do_not_specialize=(*SIZES, "share", "stride", "radii", "d"))
def counts_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, top_ptr, own_ptr, label_i_ptr, label_ptr, partner_ptr, inside_ptr,
    n, m, stride, d, window, share, radii, KIND: tl.constexpr, P: tl.constexpr, SELF: tl.constexpr,
    LABELS: tl.constexpr, PARTNERS: tl.constexpr, ONE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    first = tl.program_id(1) * share
    rows = row + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)  # of the only radius
    for start in range(first, tl.minimum(m, first + share), BLOCK_M):
        keys = tile_keys(x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, row, start, n, stride, d, KIND, P, BLOCK_N, BLOCK_M)
        cols = start + tl.arange(0, BLOCK_M)[None, :]
        keep = allowed(own_ptr, label_i_ptr, label_ptr, row, cols, m, window, SELF, LABELS, BLOCK_N)
        if PARTNERS:
            keep = keep & (tl.load(partner_ptr + rows)[:, None] != tl.load(partner_ptr + cols))
        keys = tl.where(keep, keys, float("nan"))
        for t in range(radii):
            at = t * tl.cast(n, tl.int64) + rows
            inside = (keys <= tl.load(top_ptr + at)[:, None]).to(tl.int32)
            if ONE:
                total += inside
            else:
                found = tl.sum(inside, axis=1)
                tl.atomic_add(inside_ptr + at, found, mask=found > 0, sem="relaxed")
    if ONE:
        found = tl.sum(total, axis=1)
        tl.atomic_add(inside_ptr + rows, found, mask=found > 0, sem="relaxed")


@triton.jit(do_not_specialize=(*SIZES, "share", "stride", "step", "d"))
def bins_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, own_ptr, label_i_ptr, label_ptr, best_ptr,
    n, m, stride, d, window, share, step, KIND: tl.constexpr, P: tl.constexpr,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    first = tl.program_id(1) * share
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), tl.float64)
    for start in range(first, tl.minimum(m, first + share), BLOCK_M * step):
        keys = tile_keys(x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, row, start, n, stride, d, KIND, P, BLOCK_N, BLOCK_M)
        cols = start + tl.arange(0, BLOCK_M)[None, :]
        keep = allowed(own_ptr, label_i_ptr, label_ptr, row, cols, m, window, SELF, LABELS, BLOCK_N)
        best = tl.where(keep & (keys < best), keys, best)  # NaN is never below
    width = tl.num_programs(1) * BLOCK_M
    at = tl.arange(0, BLOCK_N)[:, None] * width + (tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M))[None, :]
    tl.store(best_ptr + tl.cast(row, tl.int64) * width + at, best)


@triton.jit(do_not_specialize=(*SIZES, "share", "stride", "d"))
def collect_keys_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, top_ptr, own_ptr, label_i_ptr, label_ptr, columns_ptr, keys_ptr, count_ptr,
    n, m, stride, d, window, share, limit, KIND: tl.constexpr, P: tl.constexpr,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    first = tl.program_id(1) * share
    i = tl.arange(0, BLOCK_N)[:, None]
    top = tl.load(top_ptr + row + i)
    list_0 = tl.cast(row, tl.int64) * limit
    for start in range(first, tl.minimum(m, first + share), BLOCK_M):
        keys = tile_keys(x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, row, start, n, stride, d, KIND, P, BLOCK_N, BLOCK_M)
        cols = start + tl.arange(0, BLOCK_M)[None, :]
        keep = allowed(own_ptr, label_i_ptr, label_ptr, row, cols, m, window, SELF, LABELS, BLOCK_N)
        keep = keep & ~(keys > top)  # dropped only where truly greater
        place = tl.atomic_add(count_ptr + row + i + tl.zeros_like(cols), 1, mask=keep, sem="relaxed")
        keep = keep & (place < limit)
        at = list_0 + (i * limit + place)
        tl.store(columns_ptr + at, cols + tl.zeros_like(i), mask=keep)
        tl.store(keys_ptr + at, keys, mask=keep)


TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 128}, 8),)
ROWS, COLUMNS = 16, 128  # queries and points are padded to multiples of these


def count_tiles(kind: str) -> Sequence[Configuration]:
    """Of counts; chebyshev has one sum instead of eight, which the compiler would spill for one more resident program."""
    return [each._replace(registers=128) for each in TILES] if kind == "chebyshev" else TILES


def tile_needs(tile: Configuration) -> Need:
    """Four float64 numbers an entry at a time, and the best of a bin."""
    return Need(10 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


class Transposed(NamedTuple):
    """Rows as the tile kernels read them: values (d, N) float64, norms (N,) (the values where nobody reads them), size n."""

    values: Tensor
    norms: Tensor
    size: int


def queries(x: Side) -> Transposed:
    values = _wide(x[0].T.to(torch.float64), 0.0, ROWS)
    return Transposed(values, _norms(x, values, ROWS), x[0].shape[0])


def points(y: Side) -> Transposed:
    values = _wide(y[0].T.to(torch.float64), float("nan"), COLUMNS)
    return Transposed(values, _norms(y, values, COLUMNS), y[0].shape[0])


def counts(kind: str, p: int, x: Side, y: Side, top: Tensor, rule: Rule, partners: Tensor | None = None) -> Tensor:
    """(n, T) int64: the admissible points with keys up to top (n, T) float64; the rule's queries padded to few.ROWS, as are
    partners (N,) int32, second labels of queries that are the points: equal ones are inadmissible."""
    (n, d), m = x[0].shape, y[0].shape[0]
    if d <= FEW:
        return _counts_low(kind, p, x, y, top, rule, partners)
    tile = launched(count_tiles(kind), tile_needs, top.device)
    sides = _sides(queries(x), points(y))
    rows = sides["n"]
    tops = torch.nn.functional.pad(top.T, (0, rows - n), value=float("-inf")).contiguous()
    inside = torch.zeros(tops.shape, dtype=torch.int32, device=top.device)
    blocks = rows // tile["BLOCK_N"]
    splits, share = split(m, tile["BLOCK_M"], triton.cdiv(PROGRAMS, blocks))
    counts_kernel[blocks, splits](
        **sides, **_rule(rule, tops), **_partners(partners, tops), top_ptr=tops, inside_ptr=inside,
        share=share, radii=top.shape[1],
        ONE=top.shape[1] == 1, **_formula(kind, p), **tile, **EXACT,
    )  # fmt: skip
    return inside[:, :n].T.to(torch.int64)


def _counts_low(kind: str, p: int, x: Side, y: Side, top: Tensor, rule: Rule, partners: Tensor | None) -> Tensor:
    (n, d), m, radii = x[0].shape, y[0].shape[0], top.shape[1]
    at_once = 1 if radii == 1 or kind == "chebyshev" else few.RADII  # it compares each coordinate with each radius
    tile = launched(few.tiles(d), few.needs(kind, d, at_once), top.device)
    values = _wide(x[0].T.to(torch.float64), 0.0, few.ROWS)
    points = y[0].to(torch.float64).contiguous()
    rows = values.shape[1]
    tops = torch.nn.functional.pad(top.T, (0, rows - n, 0, -radii % at_once), value=float("-inf")).contiguous()
    inside = torch.zeros(tops.shape, dtype=torch.int32, device=top.device)
    blocks, chunks = rows // tile["BLOCK"], tops.shape[0] // at_once
    splits, share = split(m, 64, triton.cdiv(PROGRAMS, blocks * chunks))
    few.counts_low_kernel[blocks, splits, chunks](
        x_ptr=values, y_ptr=points, norm_x_ptr=_norms(x, values, few.ROWS), norm_y_ptr=_norms(y, points, 1),
        top_ptr=tops, **_rule(rule, tops), **_partners(partners, tops), inside_ptr=inside,
        n=rows, m=m, share=share, RADII=at_once, WIDTH=d,
        **_formula(kind, p), **tile, **EXACT,
    )  # fmt: skip
    return inside[:radii, :n].T.to(torch.int64)


def bins(kind: str, p: int, x: Transposed, y: Transposed, rule: Rule, k: int, step: int) -> Tensor:
    """best (n, B) float64, of which a row has at least 8 k where the points fill them."""
    device, rows = x.values.device, x.values.shape[1]
    tile = launched(TILES, tile_needs, device)
    blocks, columns = rows // tile["BLOCK_N"], tile["BLOCK_M"]
    splits, share = split(y.size, columns * step, max(triton.cdiv(PROGRAMS, blocks), triton.cdiv(8 * k, columns)))
    best = torch.empty(rows, splits * columns, dtype=torch.float64, device=device)
    bins_kernel[blocks, splits](
        **_sides(x, y), **_rule(rule, best), best_ptr=best, share=share, step=step, **_formula(kind, p), **tile, **EXACT
    )
    return best[: x.size]


def collect(
    kind: str, p: int, x: Transposed, y: Transposed, rule: Rule, top: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """columns (n, limit) int32, keys (n, limit) float64, of which the first count (n,) int32 of a row are set; top (n,)."""
    n, rows, device = x.size, x.values.shape[1], top.device
    tile = launched(TILES, tile_needs, device)
    tops = torch.nn.functional.pad(top, (0, rows - n), value=float("-inf"))
    columns = torch.empty(rows, limit, dtype=torch.int32, device=device)
    keys = torch.empty(rows, limit, dtype=torch.float64, device=device)
    count = torch.zeros(rows, dtype=torch.int32, device=device)
    blocks = rows // tile["BLOCK_N"]
    splits, share = split(y.size, tile["BLOCK_M"], triton.cdiv(PROGRAMS, blocks))
    collect_keys_kernel[blocks, splits](
        **_sides(x, y), **_rule(rule, tops), top_ptr=tops, columns_ptr=columns, keys_ptr=keys, count_ptr=count,
        share=share, limit=limit, **_formula(kind, p), **tile, **EXACT,
    )  # fmt: skip
    return columns[:n], keys[:n], count[:n]


def _wide(values: Tensor, fill: float, unit: int) -> Tensor:
    """(d, n) -> (d, N) contiguous."""
    return torch.nn.functional.pad(values, (0, -values.shape[1] % unit), value=fill).contiguous()


def _norms(side: Side, stand_in: Tensor, unit: int) -> Tensor:
    """Pointers have to be tensors: the values themselves where the formula reads no norms."""
    return stand_in if side[1] is None else _wide(side[1][None, :], 1.0, unit)[0]


def _sides(x: Transposed, y: Transposed) -> dict[str, Any]:
    return {
        "x_ptr": x.values, "y_ptr": y.values, "norm_x_ptr": x.norms, "norm_y_ptr": y.norms,
        "n": x.values.shape[1], "stride": y.values.shape[1], "m": y.size, "d": x.values.shape[0],
    }  # fmt: skip


def _rule(rule: Rule, stand_in: Tensor) -> dict[str, Any]:
    return {**pointers(rule, stand_in), "window": rule.window, **flags(rule)}


def _partners(partners: Tensor | None, stand_in: Tensor) -> dict[str, Any]:
    return {"partner_ptr": stand_in if partners is None else partners, "PARTNERS": partners is not None}


def _formula(kind: str, p: int) -> dict[str, Any]:
    return {"KIND": "minkowski", "P": 1} if kind == "manhattan" else {"KIND": kind, "P": p}
