"""Rows as the sums over pairs read them, and the pairs of a tile.

pack(x (n, d), block) -> (ceil(n / block), D, block) float64, D = d rounded up to eight: a block of rows lies together, one
coordinate after the other, so that a program reads consecutive numbers without a mask. Rows and coordinates beyond the end
are zero; coordinates add +0.0 to a sum of either kind, and `kept` leaves rows out.

A tile is ROWS rows of one block (ROWS divides block) and the BLOCK columns of another: wide and flat, because a thread then
holds several columns of every row and loads less than it computes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def squares(x_ptr, y_ptr, d, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """(ROWS, BLOCK) float64 |x_i - y_j|^2 by direct differences: canonical keys but for rounding. x_ptr at the first row in
    its block, y_ptr at a block, d a multiple of eight."""
    i, j = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float64)
    for t in range(0, d, 8):
        for u in tl.static_range(8):
            at = (t + u) * BLOCK
            a = tl.load(x_ptr + at + i)[:, None] - tl.load(y_ptr + at + j)[None, :]
            total += a * a
    return total


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
