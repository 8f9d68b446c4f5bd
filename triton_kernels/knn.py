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

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import FUSED, Configuration, Need, launched
from .screen import Rule, Side, admissible, flags, pointers, products, queries, screened

BINS = 128


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


BOUNDS = (
    Configuration({"BLOCK_N": 64, "BLOCK_M": BINS, "BLOCK_D": 32}, 8, 2),
    Configuration({"BLOCK_N": 32, "BLOCK_M": BINS, "BLOCK_D": 32}, 4, 2),
)
COLLECT = (
    Configuration({"BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64}, 8, 3),
    Configuration({"BLOCK_N": 32, "BLOCK_M": 64, "BLOCK_D": 64}, 4, 2),
)


def needs(tile: Configuration) -> Need:
    """The products and the best bounds or places, two registers an entry; bfloat16 rows in every stage."""
    n, m, d = tile.blocks["BLOCK_N"], tile.blocks["BLOCK_M"], tile.blocks["BLOCK_D"]
    return Need(2 * n * m, 2 * (n + m) * d * tile.stages)


def bounds(x: Side, y: Side, c: Tensor, col: Tensor, rule: Rule) -> Tensor:
    """best (n, BINS) float32; c and col (m,) float32."""
    n, m = x.b.shape[0], y.b.shape[0]
    best = torch.empty(n, BINS, dtype=torch.float32, device=x.b.device)
    tile = launched(BOUNDS, needs, best.device)
    bounds_kernel[(triton.cdiv(n, tile["BLOCK_N"]),)](
        x.b, y.b, x.near, x.far, c, y.near, y.far, col, *pointers(rule, c), best, n, m, x.b.shape[1], rule.window,
        **flags(rule), **tile, **FUSED,
    )  # fmt: skip
    return best


def collect(x: Side, y: Side, c: Tensor, col: Tensor, top: Tensor, limit: int, rule: Rule) -> tuple[Tensor, Tensor]:
    """columns (n, limit) int32, of which the first count (n,) int32 of a row are set; top (n,) float32."""
    n, m = x.b.shape[0], y.b.shape[0]
    columns = torch.empty(n, limit, dtype=torch.int32, device=x.b.device)
    count = torch.empty(n, dtype=torch.int32, device=x.b.device)
    tile = launched(COLLECT, needs, count.device)
    collect_kernel[(triton.cdiv(n, tile["BLOCK_N"]),)](
        x.b, y.b, x.near, x.far, top, c, y.near, y.far, col, *pointers(rule, c), columns, count, n, m, x.b.shape[1],
        rule.window, limit, **flags(rule), **tile, **FUSED,
    )  # fmt: skip
    return columns, count
