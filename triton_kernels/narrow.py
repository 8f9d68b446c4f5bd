"""A row's list of words made short: a second bound from the list itself, and the points that are not above it.

bounds   upper = low + a (near_i near_w + far_i far_w + col_w) of every word listed, with the largest margins of the word's
         points; inf where low is not finite. tau (N,) float32: the k-th least upper bound of a row, inf where it has fewer,
         raised by twice the query's own margin and by its rounding. total (N,) int32: the points below m whose word has its
         low not above tau (a NaN keeps all); none where the list is not complete.
points   row and column (P,) int64 of those points, P = sum total: rows ascending, the words of a row in the list's order.

A list is what knn.collect leaves: words of WORD adjacent points, each with its bits, its number and its least lower bound.
The k-th least is found by halving the range of the numbers' bits, which as integers have the numbers' order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import EXACT, Configuration, Need, launched
from .screen import WORD

INFINITE = tl.constexpr(0x7F800000)  # the bits of inf


@triton.jit
def ordered(value):
    """Bits of float32 as int32 in the order of the numbers; never a NaN's."""
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def number_of(key):
    """`ordered` undone."""
    return tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit
def bit_count(word):
    """How many bits of an int32 are set."""
    half = word - ((word >> 1) & 0x55555555)
    quarter = (half & 0x33333333) + ((half >> 2) & 0x33333333)
    return (((quarter + (quarter >> 4)) & 0x0F0F0F0F) * 0x01010101 >> 24) & 0xFF


@triton.jit
def kept(listed_ptr, low_ptr, at, filled, tau, m):
    """(number of the word, the bits of its points below m) int32, no bits where the word is above tau."""
    listed = tl.load(listed_ptr + at, mask=filled, other=0)
    low = tl.load(low_ptr + at, mask=filled, other=0.0)
    group = listed.to(tl.int32)
    left = tl.minimum(tl.maximum(m - WORD * group, 0), WORD)
    real = tl.where(left == WORD, -1, (1 << tl.minimum(left, WORD - 1)) - 1)
    word = (listed >> 32).to(tl.int32) & real
    return group, tl.where(filled & ~(low > tau[:, None]), word, 0)


@triton.jit(do_not_specialize=("n", "m", "k", "limit"))
def second_bound_kernel(
    listed_ptr, low_ptr, count_ptr, near_i_ptr, far_i_ptr, margin_ptr, near_ptr, far_ptr, col_ptr,
    upper_ptr, tau_ptr, total_ptr, n, m, k, limit,
    ALLOWED: tl.constexpr, MOST: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    keep = rows < n
    count = tl.load(count_ptr + rows, mask=keep, other=0)
    count = tl.where(count > limit, 0, count)
    longest = tl.max(count)
    near_i = tl.load(near_i_ptr + rows, mask=keep, other=0.0)[:, None]
    far_i = tl.load(far_i_ptr + rows, mask=keep, other=0.0)[:, None]
    first = rows.to(tl.int64)[:, None] * limit
    for start in range(0, longest, BLOCK_M):
        slot = start + tl.arange(0, BLOCK_M)
        filled = slot[None, :] < count[:, None]
        at = first + slot[None, :]
        group = tl.load(listed_ptr + at, mask=filled, other=0).to(tl.int32)
        low = tl.load(low_ptr + at, mask=filled, other=float("inf"))
        near = tl.load(near_ptr + group, mask=filled, other=0.0)
        far = tl.load(far_ptr + group, mask=filled, other=0.0)
        col = tl.load(col_ptr + group, mask=filled, other=0.0)
        upper = low + ALLOWED * (near_i * near + far_i * far + col)
        known = (tl.abs(low) < float("inf")) & (upper < float("inf"))
        tl.store(upper_ptr + at, ordered(tl.where(known, upper, float("inf"))), mask=filled)
    tl.debug_barrier()  # other threads read what was written
    least = tl.full((BLOCK_N,), -(2**31), dtype=tl.int64)
    found = tl.full((BLOCK_N,), INFINITE, dtype=tl.int64)
    for _ in range(32):
        middle = (least + found) >> 1
        below = tl.zeros((BLOCK_N,), dtype=tl.int32)
        for start in range(0, longest, BLOCK_M):
            slot = start + tl.arange(0, BLOCK_M)
            filled = slot[None, :] < count[:, None]
            key = tl.load(upper_ptr + first + slot[None, :], mask=filled, other=INFINITE)
            below += tl.sum((filled & (key <= middle.to(tl.int32)[:, None])).to(tl.int32), axis=1)
        enough = below >= k
        found = tl.where(enough, middle, found)
        least = tl.where(enough | (least == found), least, middle + 1)
    margin = tl.load(margin_ptr + rows, mask=keep, other=0.0)
    top = number_of(found.to(tl.int32)).to(tl.float64) + 2.0 * margin
    top = top + tl.abs(top) * 9.5367431640625e-07  # 2^-20
    tau = tl.where(top > MOST, MOST, top).to(tl.float32)  # a NaN stays
    tl.store(tau_ptr + rows, tau, mask=keep)
    total = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for start in range(0, longest, BLOCK_M):
        slot = start + tl.arange(0, BLOCK_M)
        filled = slot[None, :] < count[:, None]
        _group, word = kept(listed_ptr, low_ptr, first + slot[None, :], filled, tau, m)
        total += tl.sum(bit_count(word), axis=1)
    tl.store(total_ptr + rows, total, mask=keep)


@triton.jit(do_not_specialize=("n", "m", "limit", "start_row"))
def points_kernel(
    listed_ptr, low_ptr, count_ptr, tau_ptr, end_ptr, row_ptr, column_ptr, n, m, limit, start_row,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """end (N,) int64: where each row's points end."""
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    keep = rows < n
    count = tl.load(count_ptr + rows, mask=keep, other=0)
    count = tl.where(count > limit, 0, count)
    tau = tl.load(tau_ptr + rows, mask=keep, other=0.0)
    place = tl.load(end_ptr + rows - 1, mask=keep & (rows > 0), other=0)
    first = rows.to(tl.int64)[:, None] * limit
    row = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int64) + (start_row + rows.to(tl.int64))[:, None]
    for start in range(0, tl.max(count), BLOCK_M):
        slot = start + tl.arange(0, BLOCK_M)
        filled = slot[None, :] < count[:, None]
        group, word = kept(listed_ptr, low_ptr, first + slot[None, :], filled, tau, m)
        held = bit_count(word)
        at = place[:, None] + tl.cumsum(held, axis=1) - held
        for _ in range(0, tl.max(held)):
            hit = word != 0
            lowest = word & -word
            column = WORD * group + bit_count(lowest - 1)
            tl.store(row_ptr + at, row, mask=hit)
            tl.store(column_ptr + at, column.to(tl.int64), mask=hit)
            word = word ^ lowest
            at += 1
        place += tl.sum(held, axis=1)


TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 128}, 8),)


def needs(tile: Configuration) -> Need:
    """Words, bounds, places and rows, with 64-bit addresses."""
    return Need(16 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


def second_bound(
    lists: tuple[Tensor, Tensor, Tensor], query: tuple[Tensor, Tensor, Tensor], word: tuple[Tensor, Tensor, Tensor],
    m: int, k: int, allowed: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(tau (N,) float32, total (N,) int32). lists: listed (N, limit) int64, low (N, limit) float32, count (N,) int32; query:
    near_i and far_i (N,) float32, margin (N,) float64; word: near, far, col float32, the largest of each word's points."""
    (n, limit), device = lists[0].shape, lists[0].device
    tile = launched(TILES, needs, device)
    upper = torch.empty(n, limit, dtype=torch.int32, device=device)
    tau = torch.empty(n, dtype=torch.float32, device=device)
    total = torch.empty(n, dtype=torch.int32, device=device)
    second_bound_kernel[(triton.cdiv(n, tile["BLOCK_N"]),)](
        *lists, *query, *word, upper, tau, total, n, m, k, limit, ALLOWED=allowed,
        MOST=torch.finfo(torch.float32).max, **tile, **EXACT,
    )  # fmt: skip
    return tau, total


def points(
    lists: tuple[Tensor, Tensor, Tensor], tau: Tensor, total: Tensor, m: int, start: int
) -> tuple[Tensor, Tensor]:
    """(row, column) int64, rows counted from `start` on; n is not 0, and the host waits for the number of points."""
    (n, limit), device = lists[0].shape, lists[0].device
    tile = launched(TILES, needs, device)
    end = total.cumsum(0)
    row, column = (torch.empty(int(end[-1]), dtype=torch.int64, device=device) for _ in range(2))
    points_kernel[(triton.cdiv(n, tile["BLOCK_N"]),)](
        *lists, tau, end, row, column, n, m, limit, start, **tile, **EXACT
    )
    return row, column
