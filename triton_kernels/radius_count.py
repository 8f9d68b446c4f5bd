"""Counts within radii by the certified screen: the pairs surely inside, and a list of those that a key has to decide.

g_ij = c_j - 2 b_i.b_j, margin_ij                              (triton_kernels/screen.py)

inside (T, N) int32: the admissible j with g + margin < low_ti, surely within radius t. Those not surely inside whose
g - margin is not above high_ti are listed: listed (N, limit) int64, one entry for WORD adjacent columns and a radius that
has any, in any order. Bits 32.. of an entry are the columns, its lower half is t (M / WORD) + the number of the word;
count (N,) int32 of a row's entries. Where count exceeds limit the row's list is not complete.

One program owns BLOCK_N queries and walks over a share of the points; the products of a tile serve all T radii, and no tile is
written. The counts of a single radius (ONE) stay in registers, those of several are added tile by tile where there are any.
Who is admissible is a matter of words, not of pairs, but for labels.
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
    flags,
    own_bits,
    pointers,
    products,
    queries,
    rows_of,
    screened,
    set_bits,
    split,
    words_of,
)


@triton.jit
def ones(word):
    """How many bits of int32 words are set."""
    word = word.to(tl.uint32, bitcast=True)
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word = word + (word >> 8)
    return ((word + (word >> 16)) & 63).to(tl.int32)


@triton.jit(do_not_specialize=(*SIZES, "share", "radii", "words"))
def radius_count_kernel(
    b_ptr, p_ptr, near_i_ptr, far_i_ptr, c_ptr, near_ptr, far_ptr, col_ptr, own_ptr, label_i_ptr, label_ptr,
    low_ptr, high_ptr, inside_ptr, listed_ptr, count_ptr, n, m, d, window, limit, share, radii, words,
    SELF: tl.constexpr, LABELS: tl.constexpr, ONE: tl.constexpr, DESCRIPTORS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_N
    first = tl.program_id(1) * share
    rows = row + tl.arange(0, BLOCK_N)
    near_i, far_i, own, label = queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF, LABELS)
    WORDS: tl.constexpr = BLOCK_M // WORD
    list_0 = listed_ptr + tl.cast(row, tl.int64) * limit
    place_0 = tl.arange(0, BLOCK_N)[:, None] * limit
    total = tl.zeros((BLOCK_N, WORDS), tl.int32)  # of the only radius
    for start in range(first, tl.minimum(m, first + share), BLOCK_M):
        cols = start + tl.arange(0, BLOCK_M)
        dot = products(b_ptr, p_ptr, row, start, d, BLOCK_N, BLOCK_M, BLOCK_D, DESCRIPTORS)
        g, margin = screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols)
        lower, upper = g - margin, g + margin
        word = start // WORD + tl.arange(0, WORDS)
        gone = tl.zeros((BLOCK_N, WORDS), tl.int32)
        if SELF:
            gone = own_bits(own, window, word)
        if LABELS:
            gone = gone | words_of(label[:, None] == tl.load(label_ptr + cols)[None, :], BLOCK_N, WORDS)
        for t in range(radii):
            at = t * tl.cast(n, tl.int64) + rows
            low = tl.load(low_ptr + at)[:, None]
            high = tl.load(high_ptr + at)[:, None]
            sure = words_of(upper < low, BLOCK_N, WORDS) & ~gone
            open_ = words_of(~(lower > high), BLOCK_N, WORDS) & ~gone & ~sure  # left out only where truly greater
            if ONE:
                total += ones(sure)
            else:
                found = tl.sum(ones(sure), axis=1)
                tl.atomic_add(inside_ptr + at, found, mask=found > 0, sem="relaxed")
            hit = open_ != 0
            place = tl.atomic_add(count_ptr + rows[:, None] + tl.zeros_like(word)[None, :], 1, mask=hit, sem="relaxed")
            entry = (open_.to(tl.int64) << 32) | (t * words + word[None, :]).to(tl.int64)
            tl.store(list_0 + (place_0 + place), entry, mask=hit & (place < limit))
    if ONE:
        found = tl.sum(total, axis=1)
        tl.atomic_add(inside_ptr + rows, found, mask=found > 0, sem="relaxed")


TILES = (
    Configuration({"BLOCK_N": 128, "BLOCK_M": 64, "BLOCK_D": 64}, 8, 3, only=(80, 90)),
    Configuration(
        {"BLOCK_N": 128, "BLOCK_M": 32, "BLOCK_D": 64}, 8, 3
    ),  # where accumulators are read from tensor memory
    Configuration({"BLOCK_N": 128, "BLOCK_M": 32, "BLOCK_D": 32}, 8, 2, only=(80, 86, 89), registers=168),
    Configuration({"BLOCK_N": 128, "BLOCK_M": 32, "BLOCK_D": 32}, 8, 2, only=(90, 100, 120)),
)


def needs(tile: Configuration) -> Need:
    """Both bounds of every entry; bfloat16 rows in every stage."""
    n, m, d = tile.blocks["BLOCK_N"], tile.blocks["BLOCK_M"], tile.blocks["BLOCK_D"]
    return Need(3 * n * m, 2 * (n + m) * d * tile.stages)


def counts(x: Side, y: Points, rule: Rule, low: Tensor, high: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """inside (T, N) int32, listed (N, limit) int64, count (N,) int32; low and high (T, N) float32 contiguous."""
    device, (radii, n) = x.b.device, low.shape
    words = y.side.b.shape[0] // WORD.value
    if radii * words >= 2**31:
        raise ValueError(f"low: expected at most {2**31 // words} radii at once with {y.side.size} points, got {radii}")
    tile = launched(TILES, needs, device)
    inside = torch.zeros(radii, n, dtype=torch.int32, device=device)
    listed = torch.empty(n, limit, dtype=torch.int64, device=device)
    count = torch.zeros(n, dtype=torch.int32, device=device)
    blocks = n // tile["BLOCK_N"]
    splits, share = split(y.side.size, tile["BLOCK_M"], triton.cdiv(PROGRAMS, blocks))
    radius_count_kernel[blocks, splits](
        **rows_of(x.b, y.side.b, tile), near_i_ptr=x.near, far_i_ptr=x.far, c_ptr=y.c, near_ptr=y.side.near,
        far_ptr=y.side.far, col_ptr=y.col, **pointers(rule, count), low_ptr=low, high_ptr=high, inside_ptr=inside,
        listed_ptr=listed, count_ptr=count, n=n, m=y.side.size, d=x.b.shape[1], window=rule.window, limit=limit,
        share=share, radii=radii, words=words, ONE=radii == 1, **flags(rule), **tile, **FUSED,
    )  # fmt: skip
    return inside, listed, count


def pairs(listed: Tensor, count: Tensor, words: int) -> tuple[Tensor, Tensor, Tensor]:
    """(row, radius, column) int64 of every pair in complete lists."""
    limit = listed.shape[1]
    filled = torch.arange(limit, device=listed.device) < torch.where(count > limit, 0, count)[:, None]
    row, slot = filled.nonzero(as_tuple=True)
    entry = listed[row, slot]
    number, bits = entry & 0xFFFFFFFF, entry >> 32
    which, bit = set_bits(bits)
    return row[which], number[which] // words, number[which] % words * WORD.value + bit
