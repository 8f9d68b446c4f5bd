"""The screen of a k-nearest-neighbour search: a bound for each query, then the points that may be below it.

g_ij = c_j - 2 b_i.b_j, margin_ij                              (triton_kernels/screen.py)

bounds   best (N, splits BINS) float32: the least g + margin over the admissible columns of each bin. A split sees every
         `step`-th tile of its share of the points; column j of a tile belongs to bin j. The bins are disjoint, so that at
         least k admissible points have an upper bound at or below the k-th least of a row's bins.
collect  count (N,) int32 of the admissible j with g - margin <= top_i, and columns (N, limit) int32, upper (N, limit)
         float32: those j with their g + margin, in any order. Where count exceeds limit the row's list is not complete.

One program owns BLOCK_N queries and walks over a share of the points: no tile is written. Places in a list are handed out by
an atomic counter, which gives the lists a random order; what is made of them does not depend on it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import FUSED, Configuration, Need, launched
from .screen import SIZES, Points, Rule, Side, admissible, flags, pointers, products, queries, screened

BINS = 128


@triton.jit(do_not_specialize=(*SIZES, "share", "step"))
def bounds_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, c_ptr, near_ptr, far_ptr, col_ptr, own_ptr, label_i_ptr, label_ptr, best_ptr,
    m, d, window, share, step,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    split = tl.program_id(1)
    rows = row + tl.arange(0, BLOCK_N)
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF, LABELS)
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), dtype=tl.float32)
    for start in range(split * share, tl.minimum(m, (split + 1) * share), BLOCK_M * step):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, d, BLOCK_N, BLOCK_M, BLOCK_D)
        g, margin = screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols)
        upper = g + margin
        keep = admissible(own, cols, label, label_ptr, window, SELF, LABELS)
        best = tl.where(keep & (upper < best), upper, best)  # NaN is never below
    width = tl.num_programs(1) * BLOCK_M
    at = tl.arange(0, BLOCK_N)[:, None] * width + tl.arange(0, BLOCK_M)[None, :]
    tl.store(best_ptr + tl.cast(row, tl.int64) * width + split * BLOCK_M + at, best)


@triton.jit(do_not_specialize=(*SIZES, "share"))
def collect_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, top_ptr, c_ptr, near_ptr, far_ptr, col_ptr, own_ptr, label_i_ptr, label_ptr,
    columns_ptr, upper_ptr, count_ptr, m, d, window, limit, share,
    SELF: tl.constexpr, LABELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    split = tl.program_id(1)
    rows = row + tl.arange(0, BLOCK_N)
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF, LABELS)
    top = tl.load(top_ptr + rows)[:, None]
    first = tl.cast(row, tl.int64) * limit
    for start in range(split * share, tl.minimum(m, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, d, BLOCK_N, BLOCK_M, BLOCK_D)
        g, margin = screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols)
        lower = g - margin
        keep = admissible(own, cols, label, label_ptr, window, SELF, LABELS)
        keep = keep & ((lower <= top) | (lower != lower))  # dropped only where truly greater
        place = tl.atomic_add(count_ptr + rows[:, None] + tl.zeros_like(cols)[None, :], 1, mask=keep, sem="relaxed")
        keep = keep & (place < limit)
        at = tl.arange(0, BLOCK_N)[:, None] * limit + place
        tl.store(columns_ptr + first + at, tl.broadcast_to(cols[None, :], (BLOCK_N, BLOCK_M)), mask=keep)
        tl.store(upper_ptr + first + at, g + margin, mask=keep)
