"""All distances between two sets of rows, (n, d) and (m, d) -> (n, m), a tile of the result a program.

direct     float32 rows, float32 result: sum of (x_j - y_j)^2 (or its root), sum or max of |x_j - y_j|, by direct differences.
           16 coordinates are summed one after the other, and such blocks without error (Knuth's two-sum, high + low): with
           u = 2^-24 the worst case is 8.5 u + 2 u for euclidean, 18 u + u for sqeuclidean and 16 u + u for manhattan,
           for every d; chebyshev is within u. Where squares leave the normal range (sums below 2^-94, above 2^100) a tile is
           summed again from differences multiplied by a power of two. Equal rows, and only these, are at distance zero.
canonical  any rows: the float64 key (keys.py; its order of operations), then the distance of a key, rounded once to the
           result's dtype. No float64 matrix is written for a float32 result.

The key of mahalanobis: z_i = sum_j M_ij a_j by lanes over j, then max(0, sum a z) by lanes over i. Where both sides are the
same rows and the metric is symmetric, the tiles above the diagonal are stored twice, the second time transposed.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .keys import Side, combine_lanes, larger, row_keys
from .resources import EXACT, FUSED, Configuration, Need, launched

STEPS = 16  # coordinates of a block
DIRECT = (Configuration({"BLOCK": 64, "STEPS": STEPS}, 4),)
CANONICAL = (Configuration({"BLOCK": 16}, 4),)  # two keys a thread: more would spill on sm_100


def direct_needs(tile: Configuration) -> Need:
    """Block, high and low; a tile is turned round in shared memory."""
    size = tile.blocks["BLOCK"]
    return Need(3 * size * size, 4 * size * (size + 4))


def canonical_needs(tile: Configuration) -> Need:
    """Eight lanes of float64."""
    size = tile.blocks["BLOCK"]
    return Need(16 * size * size, 8 * size * (size + 2))


@triton.jit
def two_sum(high, low, part):
    """high + low + part, of which only the sum of the low parts is rounded."""
    total = high + part
    back = total - high
    return total, low + ((high - (total - back)) + (part - back))


@triton.jit
def own(BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """Rows (R, 1, BLOCK_N / R, 1) and columns (1, C, 1, BLOCK_M / C) of a tile: Triton gives the last two axes to threads, so
    that a thread has R rows and C columns, and R + C loads serve R C entries."""
    down, across = tl.arange(0, R)[:, None, None, None], tl.arange(0, C)[None, :, None, None]
    rows = down * (BLOCK_N // R) + tl.arange(0, BLOCK_N // R)[None, None, :, None]
    cols = across * (BLOCK_M // C) + tl.arange(0, BLOCK_M // C)[None, None, None, :]
    return rows, cols


@triton.jit
def direct_sums(
    x_ptr, y_ptr, d, before, after, KIND: tl.constexpr, ZOOM: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr
):
    """A tile of sums, float32, of the packed rows at x_ptr and y_ptr, (d, BLOCK) each, d a multiple of STEPS; where ZOOM, of
    after (before x - before y)."""
    rows, cols = own(BLOCK, BLOCK, 8, 4)
    high = tl.zeros((8, 4, BLOCK // 8, BLOCK // 4), dtype=tl.float32)
    low = tl.zeros((8, 4, BLOCK // 8, BLOCK // 4), dtype=tl.float32)
    for _ in range(0, d, STEPS):
        part = tl.zeros((8, 4, BLOCK // 8, BLOCK // 4), dtype=tl.float32)
        for step in tl.static_range(STEPS):
            x = tl.load(x_ptr + (step * BLOCK + rows))
            y = tl.load(y_ptr + (step * BLOCK + cols))
            if ZOOM:
                x, y = x * before, y * before
            a = x - y
            if ZOOM:
                a = a * after
            if KIND == "sqeuclidean":
                part += a * a
            elif KIND == "manhattan":
                part += tl.abs(a)
            else:
                high = larger(high, tl.abs(a))
        if KIND != "chebyshev":
            high, low = two_sum(high, low, part)
        x_ptr += STEPS * BLOCK
        y_ptr += STEPS * BLOCK
    return tl.where(high == float("inf"), high, high + low)  # of an infinite sum, the low part is NaN


@triton.jit
def any_of(tile):
    """Whether one entry of four axes is true."""
    found = tl.max(tl.max(tile.to(tl.int32), axis=0), axis=0)
    return tl.max(tl.max(found, axis=0), axis=0) > 0


@triton.jit(do_not_specialize=("n", "m", "d"))
def direct_kernel(
    x_ptr, y_ptr, out_ptr, n, m, d,
    KIND: tl.constexpr, ROOT: tl.constexpr, SELF: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(m, BLOCK)
    row, col = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    if (row <= col) | (not SELF):
        x_ptr += tl.cast(row, tl.int64) * d * BLOCK
        y_ptr += tl.cast(col, tl.int64) * d * BLOCK
        values = direct_sums(x_ptr, y_ptr, d, 1.0, 1.0, KIND, False, STEPS, BLOCK)
        rows, cols = own(BLOCK, BLOCK, 8, 4)
        rows, cols = row * BLOCK + rows, col * BLOCK + cols
        keep = (rows < n) & (cols < m)
        if ROOT:
            values = tl.sqrt_rn(values)
        if KIND == "sqeuclidean":
            there = keep & (rows != cols) if SELF else keep
            for huge in range(2):
                large = values > (2.0**50 if ROOT else 2.0**100)
                odd = tl.where(huge == 1, large, values < (2.0**-47 if ROOT else 2.0**-94)) & there
                if any_of(odd):
                    before = tl.where(huge == 1, 2.0**-80, 1.0)
                    after = tl.where(huge == 1, 1.0, 2.0**100)
                    back = tl.where(huge == 1, 2.0**80, 2.0**-100)
                    again = direct_sums(x_ptr, y_ptr, d, before, after, KIND, True, 1, BLOCK)
                    again = tl.sqrt_rn(again) * back if ROOT else again * back * back
                    values = tl.where(odd, again, values)
        if SELF:  # whatever the row holds, NaN too
            values = tl.where(rows == cols, 0.0, values)
        put(out_ptr, values, rows, cols, keep, m, SELF, row < col)


@triton.jit
def put(out_ptr, values, rows, cols, keep, m, HALF: tl.constexpr, above):
    """Stores a tile, and its mirror image above the diagonal where only half of the tiles are computed."""
    tl.store(out_ptr + (rows.to(tl.int64) * m + cols), values, mask=keep)
    if HALF and above:
        tl.store(out_ptr + (cols.to(tl.int64) * m + rows), values, mask=keep)


@triton.jit
def relative_term(x, y):
    """x log(x / y) with 0 log 0 = 0, inf where x > 0 = y; a ratio beyond float64 is taken 2^100 times smaller."""
    ratio = x / y
    over = (ratio == float("inf")) & (y > 0)
    ratio = tl.where(over, (x * 2.0**-100) / y, ratio)
    logarithm = tl.log(ratio) + over.to(tl.float64) * 69.31471805599453
    return tl.where(x > 0, x * logarithm, 0.0)


@triton.jit
def library_term(x, y, KIND: tl.constexpr, P: tl.constexpr):
    """One coordinate of the formulas that need the maths library."""
    if KIND == "kl":
        result = relative_term(x, y)
    elif KIND == "jensen_shannon":
        middle = (x + y) / 2
        result = (relative_term(x, middle) + relative_term(y, middle)) / 2
    else:
        result = tl.exp2(tl.log2(tl.abs(x - y)) * P)
    return result


@triton.jit
def coordinate(ptr, row, keep, j, d):
    inside = tl.full((1,), j, tl.int32) < d
    return tl.load(ptr + row + j, mask=keep & inside, other=0.0).to(tl.float64)


@triton.jit
def image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, j, d):
    """M_ij (x_j - y_j), m_ptr at row i of M."""
    a = coordinate(x_ptr, x_row, x_keep, j, d) - coordinate(y_ptr, y_row, y_keep, j, d)
    return tl.load(m_ptr + tl.minimum(j, d - 1)) * a  # beyond the end a is zero


@triton.jit
def image(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, d):
    """z_i, m_ptr at row i of M."""
    zero = tl.zeros_like((x_row + y_row).to(tl.float64))
    l0, l1, l2, l3, l4, l5, l6, l7 = zero, zero, zero, zero, zero, zero, zero, zero
    for t in range(0, d, 8):
        l0 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t, d)
        l1 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 1, d)
        l2 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 2, d)
        l3 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 3, d)
        l4 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 4, d)
        l5 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 5, d)
        l6 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 6, d)
        l7 += image_term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 7, d)
    return combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, "sum")


@triton.jit
def term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, i, d, KIND: tl.constexpr, P: tl.constexpr):
    """The summand of coordinate i."""
    x, y = coordinate(x_ptr, x_row, x_keep, i, d), coordinate(y_ptr, y_row, y_keep, i, d)
    if KIND == "mahalanobis":
        row_of_m = m_ptr + tl.cast(tl.minimum(i, d - 1), tl.int64) * d
        result = (x - y) * image(x_ptr, y_ptr, row_of_m, x_row, y_row, x_keep, y_keep, d)
    else:
        result = library_term(x, y, KIND, P)
    return result


@triton.jit
def lane_sum(
    x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, d, KIND: tl.constexpr, P: tl.constexpr
):  # fmt: skip
    """The terms of all coordinates in canonical order."""
    zero = tl.zeros_like((x_row + y_row).to(tl.float64))
    l0, l1, l2, l3, l4, l5, l6, l7 = zero, zero, zero, zero, zero, zero, zero, zero
    for t in range(0, d, 8):
        l0 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t, d, KIND, P)
        l1 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 1, d, KIND, P)
        l2 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 2, d, KIND, P)
        l3 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 3, d, KIND, P)
        l4 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 4, d, KIND, P)
        l5 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 5, d, KIND, P)
        l6 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 6, d, KIND, P)
        l7 += term(x_ptr, y_ptr, m_ptr, x_row, y_row, x_keep, y_keep, t + 7, d, KIND, P)
    return combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, "sum")


@triton.jit(do_not_specialize=("n", "m", "d"))
def canonical_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, tensor_ptr, out_ptr, n, m, d,
    KIND: tl.constexpr, P: tl.constexpr, FORM: tl.constexpr, SELF: tl.constexpr, ZERO: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(m, BLOCK)
    row, col = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    rows, cols = row * BLOCK + tl.arange(0, BLOCK), col * BLOCK + tl.arange(0, BLOCK)
    row_keep, col_keep = rows < n, cols < m
    if (row <= col) | (not SELF):
        x_row, y_row = (rows.to(tl.int64) * d)[:, None], (cols.to(tl.int64) * d)[None, :]
        x_keep, y_keep = row_keep[:, None], col_keep[None, :]
        if KIND == "mahalanobis" or KIND == "kl" or KIND == "jensen_shannon" or KIND == "power":
            keys = lane_sum(x_ptr, y_ptr, tensor_ptr, x_row, y_row, x_keep, y_keep, d, KIND, P)
            if KIND == "mahalanobis" or KIND == "jensen_shannon":
                keys = larger(keys, 0.0)
        else:
            norm_x, norm_y = 1.0, 1.0
            if KIND == "cosine":
                norm_x = tl.load(norm_x_ptr + rows, mask=row_keep, other=1.0)[:, None]
                norm_y = tl.load(norm_y_ptr + cols, mask=col_keep, other=1.0)[None, :]
            keys = row_keys(x_ptr, y_ptr, x_row, y_row, x_keep, y_keep, norm_x, norm_y, d, KIND, P)
        if FORM == "root":
            values = tl.sqrt(keys)
        elif FORM == "hellinger":
            values = tl.sqrt(keys) / 1.4142135623730951
        elif FORM == "half root":
            values = tl.minimum(tl.sqrt(keys) / 2.0, 1.0, propagate_nan=tl.PropagateNan.ALL)
        elif FORM == "power":
            values = tl.exp2(tl.log2(keys) * (1.0 / P))
        else:
            values = keys
        if ZERO:
            values = tl.where(rows[:, None] == cols[None, :], 0.0, values)
        values = values.to(out_ptr.dtype.element_ty)
        put(out_ptr, values, rows[:, None], cols[None, :], x_keep & y_keep, m, SELF, row < col)


def direct(kind: str, root: bool, x: Tensor, y: Tensor | None, out: Tensor) -> None:
    """Fills out (n, m) float32; kind sqeuclidean, manhattan or chebyshev; x and y float32, y None for x itself."""
    tile = launched(DIRECT, direct_needs, out.device)
    block = tile["BLOCK"]
    left = packed(x, block)
    right = left if y is None else packed(y, block)
    (n, m), d = out.shape, left.shape[1]
    grid = (triton.cdiv(n, block) * triton.cdiv(m, block),)
    direct_kernel[grid](left, right, out, n, m, d, kind, root, y is None, **tile, **FUSED)


def packed(x: Tensor, block: int) -> Tensor:
    """(tiles, d', block): what a tile reads for one coordinate lies together. Padded with zeros."""
    n, d = x.shape
    padded = x.new_zeros(triton.cdiv(n, block) * block, triton.cdiv(d, STEPS) * STEPS)
    padded[:n, :d] = x
    return padded.view(-1, block, padded.shape[1]).transpose(1, 2).contiguous()


def canonical(
    kind: str, p: float, form: str, x: Side, y: Side | None, tensor: Tensor | None, out: Tensor, zero: bool
) -> None:
    """Fills out (n, m) float32 or float64 with the `form` of the keys: key, root, hellinger (root / sqrt 2), half root (at
    most 1) or power (key^(1/p)). y None for x itself, with a symmetric metric; `zero`: the diagonal is zero."""
    right = x if y is None else y
    (n, m), d = out.shape, x[0].shape[1]
    tile = launched(CANONICAL, canonical_needs, out.device)
    pointers: list[Any] = [each[1] if each[1] is not None else x[0] for each in (x, right)]
    grid = (triton.cdiv(n, tile["BLOCK"]) * triton.cdiv(m, tile["BLOCK"]),)
    canonical_kernel[grid](
        x[0], right[0], *pointers, x[0] if tensor is None else tensor, out, n, m, d,
        *(("minkowski", 1) if kind == "manhattan" else (kind, p)), form, y is None, zero, **tile, **EXACT,
    )  # fmt: skip
