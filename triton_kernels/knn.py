"""The screen of a k-nearest-neighbour search: a bound for each query, then the points that may be below it.

g_ij = c_j - 2 b_i.b_j, margin_ij                              (triton_kernels/screen.py)

bounds   best (N, splits BINS) float32: the least g + margin over the admissible columns of each bin, inf where it has none,
         and, with COLUMNS, column (N, splits BINS) int32: whose it is. A split sees every `step`-th tile of its share of the
         points; column j of a tile belongs to bin j. The bins are disjoint, so that at least k admissible points have an
         upper bound at or below the k-th least of a row's bins.
collect  count (N,) int32 of the WORD adjacent columns that hold a point with g - margin <= top_i; listed (N, limit) int64:
         those words, the bits of the points above 32 bits of the word's number, in any order; low (N, limit) float32: a word's
         least g - margin, -inf where it cannot tell. Where count exceeds limit the row's list is not complete.

One program owns BLOCK_N queries and walks over a share of the points: no tile is written. Places in a list are handed out by
an atomic counter, which gives the lists a random order; what is made of them does not depend on it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import FUSED, Configuration, Need, launched
from .screen import (
    PROGRAMS,
    SIZES,
    WORD,
    Points,
    Rule,
    Side,
    admissible,
    flags,
    own_bits,
    pointers,
    products,
    queries,
    rows_of,
    split,
    words_of,
)


@triton.jit(do_not_specialize=(*SIZES, "share", "step"))
def bounds_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, c_ptr, near_ptr, far_ptr, own_ptr, label_i_ptr, label_ptr,
    best_ptr, column_ptr, m, d, window, share, step,
    SELF: tl.constexpr, LABELS: tl.constexpr, COLUMNS: tl.constexpr, DESCRIPTORS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    split = tl.program_id(1)
    rows = row + tl.arange(0, BLOCK_N)
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF, LABELS)
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), dtype=tl.float32)
    column = tl.full((BLOCK_N, BLOCK_M), -1, dtype=tl.int32)
    for start in range(split * share, tl.minimum(m, (split + 1) * share), BLOCK_M * step):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, d, BLOCK_N, BLOCK_M, BLOCK_D, DESCRIPTORS)
        # g + margin as three fused operations: c_ptr holds c_j + col_j here.
        upper = tl.load(c_ptr + cols)[None, :] - 2.0 * dot
        upper = upper + near_i[:, None] * tl.load(near_ptr + cols)[None, :]
        upper = upper + far_i[:, None] * tl.load(far_ptr + cols)[None, :]
        less = admissible(own, cols, label, label_ptr, window, SELF, LABELS) & (upper < best)  # NaN is never below
        best = tl.where(less, upper, best)
        if COLUMNS:
            column = tl.where(less, cols[None, :], column)
    width = tl.num_programs(1) * BLOCK_M
    at = tl.arange(0, BLOCK_N)[:, None] * width + (split * BLOCK_M + tl.arange(0, BLOCK_M))[None, :]
    tl.store(best_ptr + tl.cast(row, tl.int64) * width + at, best)
    if COLUMNS:
        tl.store(column_ptr + tl.cast(row, tl.int64) * width + at, column)


@triton.jit(do_not_specialize=(*SIZES, "share"))
def collect_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, top_ptr, c_ptr, near_ptr, far_ptr, own_ptr, label_i_ptr, label_ptr,
    listed_ptr, low_ptr, count_ptr, m, d, window, limit, share,
    SELF: tl.constexpr, LABELS: tl.constexpr, DESCRIPTORS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    split = tl.program_id(1)
    rows = row + tl.arange(0, BLOCK_N)
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF, LABELS)
    top = tl.load(top_ptr + rows)[:, None]
    words: tl.constexpr = BLOCK_M // WORD
    place_0 = tl.arange(0, BLOCK_N)[:, None] * limit
    listed_0 = listed_ptr + tl.cast(row, tl.int64) * limit
    low_0 = low_ptr + tl.cast(row, tl.int64) * limit
    for start in range(split * share, tl.minimum(m, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        dot = products(b_ptr, p_ptr, row, start, d, BLOCK_N, BLOCK_M, BLOCK_D, DESCRIPTORS)
        # g - margin as three fused operations: c_ptr holds c_j - col_j here.
        lower = tl.load(c_ptr + cols)[None, :] - 2.0 * dot
        lower = lower - near_i[:, None] * tl.load(near_ptr + cols)[None, :]
        lower = lower - far_i[:, None] * tl.load(far_ptr + cols)[None, :]
        if LABELS:
            lower = tl.where(label[:, None] != tl.load(label_ptr + cols)[None, :], lower, float("inf"))
        word = words_of(~(lower > top), BLOCK_N, words)  # dropped only where truly greater
        low = tl.min(tl.reshape(lower, (BLOCK_N, words, WORD)), axis=2)
        group = start // WORD + tl.arange(0, words)
        if SELF:  # a word at a time, not an entry at a time
            gone = own_bits(own, window, group)
            low = tl.where((word & gone) == 0, low, float("-inf"))
            word = word & ~gone
        hit = word != 0
        place = tl.atomic_add(count_ptr + rows[:, None] + tl.zeros_like(group)[None, :], 1, mask=hit, sem="relaxed")
        hit = hit & (place < limit)
        tl.store(listed_0 + (place_0 + place), (word.to(tl.int64) << 32) | group[None, :].to(tl.int64), mask=hit)
        tl.store(low_0 + (place_0 + place), low, mask=hit)


BINS = 128
BOUNDS = (
    Configuration({"BLOCK_N": 128, "BLOCK_M": BINS, "BLOCK_D": 64}, 8, 3, only=(90,)),
    Configuration({"BLOCK_N": 64, "BLOCK_M": BINS, "BLOCK_D": 64}, 8, 3),
    Configuration({"BLOCK_N": 64, "BLOCK_M": BINS, "BLOCK_D": 32}, 8, 2),
)
BOUNDS_WITH_COLUMNS = BOUNDS[1:]  # whose bound it is takes the registers that the first one leaves
COLLECT: tuple[Configuration, ...] = (
    Configuration({"BLOCK_N": 128, "BLOCK_M": 256, "BLOCK_D": 64}, 8, 3, only=(90,)),
    Configuration({"BLOCK_N": 128, "BLOCK_M": 128, "BLOCK_D": 64}, 8, 3),
    Configuration({"BLOCK_N": 128, "BLOCK_M": 128, "BLOCK_D": 32}, 8, 3),
)
COLLECT_LABELLED = COLLECT[1:]  # labels take the registers that the first one leaves
if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 7):
    COLLECT = COLLECT_LABELLED  # so does the compiler of Triton 3.6


def bounds_needs(tile: Configuration) -> Need:
    """The products and the best bounds, one register an entry each; bfloat16 rows in every stage."""
    n, m, d = tile.blocks["BLOCK_N"], tile.blocks["BLOCK_M"], tile.blocks["BLOCK_D"]
    return Need(2 * n * m, 2 * (n + m) * d * tile.stages)


def collect_needs(tile: Configuration) -> Need:
    """The products, from which everything is reduced; bfloat16 rows in every stage."""
    n, m, d = tile.blocks["BLOCK_N"], tile.blocks["BLOCK_M"], tile.blocks["BLOCK_D"]
    return Need(n * m, 2 * (n + m) * d * tile.stages)


def bounds(x: Side, y: Points, rule: Rule, k: int, step: int, with_columns: bool = False) -> tuple[Tensor, Tensor]:
    """best (N, splits BINS) float32 and column (N, splits BINS) int32, empty without columns; at least 8 k bins a row where
    the points fill them."""
    tile = launched(BOUNDS_WITH_COLUMNS if with_columns else BOUNDS, bounds_needs, x.b.device)
    m = y.side.size
    blocks = x.b.shape[0] // tile["BLOCK_N"]
    splits, share = split(m, BINS * step, max(triton.cdiv(PROGRAMS, blocks), triton.cdiv(8 * k, BINS)))
    best = torch.empty(x.b.shape[0], splits * BINS, dtype=torch.float32, device=x.b.device)
    column = torch.empty(best.shape if with_columns else 0, dtype=torch.int32, device=x.b.device)
    bounds_kernel[blocks, splits](
        **rows_of(x.b, y.side.b, tile), near_i_ptr=x.near, far_i_ptr=x.far, c_ptr=y.c + y.col, near_ptr=y.side.near,
        far_ptr=y.side.far, **pointers(rule, y.c), best_ptr=best, column_ptr=column, m=m, d=x.b.shape[1],
        window=rule.window, share=share, step=step, COLUMNS=with_columns, **flags(rule), **tile, **FUSED,
    )  # fmt: skip
    return best, column


def collect(x: Side, y: Points, rule: Rule, top: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """listed (N, limit) int64 and low (N, limit) float32, of which the first count (N,) int32 of a row are set; top (N,)."""
    tile = launched(COLLECT if rule.labels is None else COLLECT_LABELLED, collect_needs, x.b.device)
    blocks = x.b.shape[0] // tile["BLOCK_N"]
    splits, share = split(y.side.size, tile["BLOCK_M"], triton.cdiv(PROGRAMS, blocks))
    listed = torch.empty(x.b.shape[0], limit, dtype=torch.int64, device=x.b.device)
    low = torch.empty(x.b.shape[0], limit, dtype=torch.float32, device=x.b.device)
    count = torch.zeros(x.b.shape[0], dtype=torch.int32, device=x.b.device)
    collect_kernel[blocks, splits](
        **rows_of(x.b, y.side.b, tile), near_i_ptr=x.near, far_i_ptr=x.far, top_ptr=top, c_ptr=y.c - y.col,
        near_ptr=y.side.near, far_ptr=y.side.far, **pointers(rule, y.c), listed_ptr=listed, low_ptr=low, count_ptr=count,
        m=y.side.size, d=x.b.shape[1], window=rule.window, limit=limit, share=share, **flags(rule), **tile, **FUSED,
    )  # fmt: skip
    return listed, low, count
