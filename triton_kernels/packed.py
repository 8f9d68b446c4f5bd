"""Rows as the sums over pairs read them, and the pairs of a tile.

pack(x (n, d), block) -> (ceil(n / block), D, block) float64, D = d rounded up to eight: a block of rows lies together, one
coordinate after the other, so that a program reads consecutive numbers without a mask. Rows and coordinates beyond the end
are zero; coordinates add +0.0 to a sum of either kind, and `kept` leaves rows out.

A tile is ROWS rows of one block (ROWS divides block) and the BLOCK columns of another: wide and flat, because a thread then
holds several columns of every row and loads less than it computes.

squares  |x_i - y_j|^2 by direct differences, one accumulator, for sums that promise float64 rounding
keys     canonical keys, eight accumulators in the order of keys.py, for counts
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .keys import combine_lanes, finish_key, lane_term


@triton.jit
def squares(x_ptr, y_ptr, d, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """(ROWS, BLOCK) float64; x_ptr at the first row in its block, y_ptr at a block, d a multiple of eight."""
    i, j = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float64)
    for t in range(0, d, 8):
        for u in tl.static_range(8):
            at = (t + u) * BLOCK
            a = tl.load(x_ptr + at + i)[:, None] - tl.load(y_ptr + at + j)[None, :]
            total += a * a
    return total


@triton.jit
def keys(x_ptr, y_ptr, norm_x, norm_y, d, KIND: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """(ROWS, BLOCK) canonical keys, pointers as in `squares`; norms (ROWS, 1) and (1, BLOCK), read for cosine only."""
    i, j = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    zero = tl.zeros((ROWS, BLOCK), dtype=tl.float64)
    l0, l1, l2, l3, l4, l5, l6, l7 = zero, zero, zero, zero, zero, zero, zero, zero
    equal = zero == zero
    for t in range(0, d, 8):
        for u in tl.static_range(8):
            at = (t + u) * BLOCK
            x, y = tl.load(x_ptr + at + i)[:, None], tl.load(y_ptr + at + j)[None, :]
            if KIND == "cosine":
                equal = equal & (x == y)
            if u == 0:
                l0 = lane_term(l0, x, y, KIND, P)
            elif u == 1:
                l1 = lane_term(l1, x, y, KIND, P)
            elif u == 2:
                l2 = lane_term(l2, x, y, KIND, P)
            elif u == 3:
                l3 = lane_term(l3, x, y, KIND, P)
            elif u == 4:
                l4 = lane_term(l4, x, y, KIND, P)
            elif u == 5:
                l5 = lane_term(l5, x, y, KIND, P)
            elif u == 6:
                l6 = lane_term(l6, x, y, KIND, P)
            else:
                l7 = lane_term(l7, x, y, KIND, P)
    return finish_key(combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, KIND), equal, norm_x, norm_y, KIND)


@triton.jit
def block_of(x_ptr, row, d, BLOCK: tl.constexpr):
    """The address of a row in its packed block."""
    return x_ptr + tl.cast(row // BLOCK, tl.int64) * d * BLOCK + row % BLOCK


@triton.jit
def kept(row, col, n, m, HALF: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """(ROWS, BLOCK) bool: pairs of rows that exist, from row and col on; HALF: only i < j."""
    i, j = row + tl.arange(0, ROWS), col + tl.arange(0, BLOCK)
    keep = (i < n)[:, None] & (j < m)[None, :]
    if HALF:
        keep = keep & (i[:, None] < j[None, :])
    return keep


def pack(x: Tensor, block: int) -> Tensor:
    """x (n, d) of any float dtype."""
    n, d = x.shape
    blocks = triton.cdiv(n, block)
    wide = torch.zeros(blocks, -(-d // 8) * 8, block, dtype=torch.float64, device=x.device)
    whole = n // block
    wide[:whole, :d] = x[: whole * block].unflatten(0, (whole, block)).transpose(1, 2)
    if whole < blocks:
        wide[whole, :d, : n - whole * block] = x[whole * block :].T
    return wide


def shares(blocks: int) -> tuple[int, int]:
    """(programs, blocks a program): how the column blocks of a tile's rows are shared out, whatever the device."""
    each = triton.cdiv(blocks, 64)
    return triton.cdiv(blocks, each), each
