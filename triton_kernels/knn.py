"""The screen of a k-nearest-neighbour search: a bound for each query, then the points that may be below it.

g_ij = c_j - 2 b_i.b_j from bfloat16 rows, sums in float32;   |t_ij - (c_i + g_ij)| <= margin_ij + row_i
margin_ij = r_i x_j + m_i q_j + col_j                          (the inequalities: msma_fast/backends/torch/screen.py)

bounds   best (n, BINS) float32: the least g + margin over the admissible columns of bin j mod BINS. The bins are disjoint, so
         that at least k admissible points have an upper bound at or below the k-th least of a row's bins.
collect  columns (n, limit) int32 and count (n,) int32 of the admissible j with g - margin <= top_i; where count exceeds limit
         the row's list is not complete.

One program owns BLOCK_N queries and walks over all points: no tile is written, no program writes another's rows. A pair is
inadmissible by index: the query itself, |i - j| <= window, equal labels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BINS = 128


class Side(NamedTuple):
    """One side of the screen: b (n, d) bfloat16 contiguous; near and far (n,) float32: r_i and m_i of queries, x_j and q_j of
    points."""

    b: Tensor
    near: Tensor
    far: Tensor


class Rule(NamedTuple):
    """Who is admissible: own (n,) int32 or None, window, labels (n,) and (m,) int32 or None."""

    own: Tensor | None
    window: int
    labels: Tensor | None
    point_labels: Tensor | None


@triton.jit
def products(
    b_ptr, p_ptr, row, col, n, m, d, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """b_i.b_j in float32 of the queries from `row` and the points from `col` on; beyond the end rows read as zero.

    64-bit addresses by scalars, 32-bit offsets within the tile: these are registers of every thread."""
    dot = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    i, j, along = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    left = b_ptr + tl.cast(row, tl.int64) * d
    right = p_ptr + tl.cast(col, tl.int64) * d
    for t in range(0, d, BLOCK_D):
        inside = along + t < d
        a = tl.load(
            left + i[:, None] * d + (along + t)[None, :], mask=(row + i < n)[:, None] & inside[None, :], other=0.0
        )
        b = tl.load(
            right + j[None, :] * d + (along + t)[:, None], mask=(col + j < m)[None, :] & inside[:, None], other=0.0
        )
        dot = tl.dot(a, b, dot)
    return dot


@triton.jit
def queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, n, SELF: tl.constexpr, LABELS: tl.constexpr):
    """(r_i, m_i, own, label) of the rows; where a flag is off nobody reads the last two."""
    keep = rows < n
    near_i = tl.load(near_i_ptr + rows, mask=keep, other=0.0)
    far_i = tl.load(far_i_ptr + rows, mask=keep, other=0.0)
    own = tl.load(own_ptr + rows, mask=keep, other=-1) if SELF else rows
    label = tl.load(label_i_ptr + rows, mask=keep, other=-2) if LABELS else rows
    return near_i, far_i, own, label


@triton.jit
def screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols, m):
    """(g, margin) of the tile of products `dot`."""
    keep = cols < m
    c = tl.load(c_ptr + cols, mask=keep, other=0.0)
    near = tl.load(near_ptr + cols, mask=keep, other=0.0)
    far = tl.load(far_ptr + cols, mask=keep, other=0.0)
    col = tl.load(col_ptr + cols, mask=keep, other=0.0)
    return c[None, :] - 2.0 * dot, near_i[:, None] * near[None, :] + far_i[:, None] * far[None, :] + col[None, :]


@triton.jit
def admissible(own, cols, m, label, label_ptr, window, SELF: tl.constexpr, LABELS: tl.constexpr):
    """Bool that broadcasts to (BLOCK_N, BLOCK_M). own (BLOCK_N,): the column that is the query itself, -1 for none."""
    keep = (cols < m)[None, :]
    if SELF:
        keep = keep & ((tl.abs(own[:, None] - cols[None, :]) > window) | (own < 0)[:, None])
    if LABELS:
        other = tl.load(label_ptr + cols, mask=cols < m, other=-1)
        keep = keep & (label[:, None] != other[None, :])
    return keep


@triton.jit
def bounds_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, c_ptr, near_ptr, far_ptr, col_ptr, own_ptr, label_i_ptr, label_ptr, best_ptr,
    n, m, d, window,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    rows = row + tl.arange(0, BLOCK_N)
    row_keep = rows < n
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, n, SELF, LABELS)
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), dtype=tl.float32)
    for start in range(0, m, BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, n, m, d, BLOCK_N, BLOCK_M, BLOCK_D)
        g, margin = screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols, m)
        upper = g + margin
        keep = admissible(own, cols, m, label, label_ptr, window, SELF, LABELS)
        best = tl.where(keep & (upper < best), upper, best)  # NaN is never below
    at = tl.arange(0, BLOCK_N)[:, None] * BLOCK_M + tl.arange(0, BLOCK_M)[None, :]
    tl.store(best_ptr + tl.cast(row, tl.int64) * BLOCK_M + at, best, mask=row_keep[:, None])


@triton.jit
def collect_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, top_ptr, c_ptr, near_ptr, far_ptr, col_ptr, own_ptr, label_i_ptr, label_ptr,
    columns_ptr, count_ptr, n, m, d, window, limit,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    rows = row + tl.arange(0, BLOCK_N)
    row_keep = rows < n
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, n, SELF, LABELS)
    top = tl.load(top_ptr + rows, mask=row_keep, other=0.0)
    count = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for start in range(0, m, BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, n, m, d, BLOCK_N, BLOCK_M, BLOCK_D)
        g, margin = screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols, m)
        lower = g - margin
        keep = admissible(own, cols, m, label, label_ptr, window, SELF, LABELS) & row_keep[:, None]
        keep = keep & ((lower <= top[:, None]) | (lower != lower))  # dropped only where truly greater
        kept = keep.to(tl.int32)
        place = count[:, None] + tl.cumsum(kept, axis=1) - kept
        at = tl.arange(0, BLOCK_N)[:, None] * limit + place
        to = columns_ptr + tl.cast(row, tl.int64) * limit + at
        tl.store(to, tl.broadcast_to(cols[None, :], (BLOCK_N, BLOCK_M)), mask=keep & (place < limit))
        count += tl.sum(kept, axis=1)
    tl.store(count_ptr + rows, count, mask=row_keep)


# The largest tiles without spills on sm_80, sm_90 and sm_100.
BOUNDS_TILE = {"BLOCK_N": 64, "BLOCK_M": BINS, "BLOCK_D": 32, "num_warps": 8, "num_stages": 2}
COLLECT_TILE = {"BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64, "num_warps": 8, "num_stages": 3}


def bounds(x: Side, y: Side, c: Tensor, col: Tensor, rule: Rule) -> Tensor:
    """best (n, BINS) float32; c and col (m,) float32."""
    n, m = x.b.shape[0], y.b.shape[0]
    best = torch.empty(n, BINS, dtype=torch.float32, device=x.b.device)
    bounds_kernel[(triton.cdiv(n, BOUNDS_TILE["BLOCK_N"]),)](
        x.b, y.b, x.near, x.far, c, y.near, y.far, col, *_pointers(rule, c), best, n, m, x.b.shape[1], rule.window,
        **_flags(rule), **BOUNDS_TILE,
    )  # fmt: skip
    return best


def collect(x: Side, y: Side, c: Tensor, col: Tensor, top: Tensor, limit: int, rule: Rule) -> tuple[Tensor, Tensor]:
    """columns (n, limit) int32, of which the first count (n,) int32 of a row are set; top (n,) float32."""
    n, m = x.b.shape[0], y.b.shape[0]
    columns = torch.empty(n, limit, dtype=torch.int32, device=x.b.device)
    count = torch.empty(n, dtype=torch.int32, device=x.b.device)
    collect_kernel[(triton.cdiv(n, COLLECT_TILE["BLOCK_N"]),)](
        x.b, y.b, x.near, x.far, top, c, y.near, y.far, col, *_pointers(rule, c), columns, count, n, m, x.b.shape[1],
        rule.window, limit, **_flags(rule), **COLLECT_TILE,
    )  # fmt: skip
    return columns, count


def _pointers(rule: Rule, stand_in: Tensor) -> tuple[Tensor, ...]:
    """Pointers have to be tensors, also where a flag says that nobody reads them."""
    return tuple(stand_in if each is None else each for each in (rule.own, rule.labels, rule.point_labels))


def _flags(rule: Rule) -> dict[str, bool]:
    return {"SELF": rule.own is not None, "LABELS": rule.labels is not None}
