"""Raw stress between the distances of paired rows, and both gradients, in one pass over the pairs.

With a_ij = |x_i - x_j| and b_ij = |y_i - y_j|, roots of canonical keys: value = sum over i < j of (a_ij - b_ij)^2;
d/dx_i = sum_j w_ij (x_i - x_j), w_ij = 2 (a_ij - b_ij) / a_ij, 0 at distance zero, as (sum_j w_ij) s_i - sum_j w_ij s_j with
s = x less its mean: a product of float64 tiles. y likewise.

x (n, d_x), y (n, d_y) float64; partial (programs,) float64, twice the value; to_x and to_y like the rows. A program owns
BLOCK_N rows, their gradients and its own partial sum: nothing is added by atomics, every run gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .keys import row_keys
from .resources import EXACT, Configuration, Need, launched

TILES = (
    # the rows' gradients are read and written a tile
    Configuration({"BLOCK_N": 16, "BLOCK_M": 64, "BLOCK_D": 32}, 8, only=(80, 86, 89, 90)),
    Configuration({"BLOCK_N": 16, "BLOCK_M": 64, "BLOCK_D": 32}, 8, only=(100, 120), since=(3, 9)),
    Configuration({"BLOCK_N": 16, "BLOCK_M": 16, "BLOCK_D": 32}, 4),
)


def needs(tile: Configuration) -> Need:
    """Eight lanes of float64 for a side's keys, the other's distances, the sum of squares; then two tiles of a product."""
    n, m, d = (tile.blocks[name] for name in ("BLOCK_N", "BLOCK_M", "BLOCK_D"))
    return Need(max(20 * n * m, 4 * n * m + 4 * n * d), 8 * (n * m + m * d + n * d))


@triton.jit
def distances(x_ptr, rows, cols, n, d):
    """(BLOCK_N, BLOCK_M) roots of canonical keys."""
    x_row, y_row = (rows.to(tl.int64) * d)[:, None], (cols.to(tl.int64) * d)[None, :]
    keys = row_keys(x_ptr, x_ptr, x_row, y_row, (rows < n)[:, None], (cols < n)[None, :], 1.0, 1.0, d, "sqeuclidean", 0)
    return tl.sqrt(keys)


@triton.jit
def slope(off, distance):
    """2 off / distance, 0 at distance zero."""
    apart = distance > 0
    return tl.where(apart, 2.0 * off / tl.where(apart, distance, 1.0), 0.0)


@triton.jit
def subtract_products(to_ptr, shifted_ptr, weight, rows, cols, n, d, BLOCK_D: tl.constexpr):
    """to_i -= sum over the tile's columns of w_ij s_j."""
    for t in range(0, d, BLOCK_D):
        along = t + tl.arange(0, BLOCK_D)
        inside = along < d
        s = tl.load(
            shifted_ptr + (cols.to(tl.int64)[:, None] * d + along[None, :]),
            mask=(cols < n)[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        at = to_ptr + (rows.to(tl.int64)[:, None] * d + along[None, :])
        keep = (rows < n)[:, None] & inside[None, :]
        product = tl.dot(weight, s, input_precision="ieee", out_dtype=tl.float64)
        tl.store(at, tl.load(at, mask=keep, other=0.0) - product, mask=keep)
    tl.debug_barrier()  # the next tile's loads may be other threads'


@triton.jit
def add_own(to_ptr, shifted_ptr, total, rows, n, d, BLOCK_D: tl.constexpr):
    """to_i += (sum_j w_ij) s_i."""
    for t in range(0, d, BLOCK_D):
        along = t + tl.arange(0, BLOCK_D)
        offsets = rows.to(tl.int64)[:, None] * d + along[None, :]
        keep = (rows < n)[:, None] & (along < d)[None, :]
        own = tl.load(shifted_ptr + offsets, mask=keep, other=0.0)
        tl.store(to_ptr + offsets, tl.load(to_ptr + offsets, mask=keep, other=0.0) + total[:, None] * own, mask=keep)


@triton.jit(do_not_specialize=("n", "d_x", "d_y"))
def stress_kernel(
    x_ptr, y_ptr, shifted_x_ptr, shifted_y_ptr, partial_ptr, to_x_ptr, to_y_ptr, n, d_x, d_y,
    TO_X: tl.constexpr, TO_Y: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    value = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float64)
    total_x = tl.zeros((BLOCK_N,), dtype=tl.float64)
    total_y = tl.zeros((BLOCK_N,), dtype=tl.float64)
    for start in range(0, n, BLOCK_M):
        cols = start + tl.arange(0, BLOCK_M)
        a = distances(x_ptr, rows, cols, n, d_x)
        b = distances(y_ptr, rows, cols, n, d_y)
        keep = (rows < n)[:, None] & (cols < n)[None, :]
        off = tl.where(keep, a - b, 0.0)
        value += off * off
        if TO_X:
            weight = slope(off, a)
            total_x += tl.sum(weight, axis=1)
            subtract_products(to_x_ptr, shifted_x_ptr, weight, rows, cols, n, d_x, BLOCK_D)
        if TO_Y:
            weight = slope(-off, b)
            total_y += tl.sum(weight, axis=1)
            subtract_products(to_y_ptr, shifted_y_ptr, weight, rows, cols, n, d_y, BLOCK_D)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(tl.sum(value, axis=1), axis=0))
    if TO_X:
        add_own(to_x_ptr, shifted_x_ptr, total_x, rows, n, d_x, BLOCK_D)
    if TO_Y:
        add_own(to_y_ptr, shifted_y_ptr, total_y, rows, n, d_y, BLOCK_D)


def stress(x: Tensor, y: Tensor, needs_x: bool, needs_y: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value (), gradient of x or None, gradient of y or None), float64; x (n, d_x) and y (n, d_y) float64 contiguous."""
    n = x.shape[0]
    tile = launched(TILES, needs, x.device)
    programs = triton.cdiv(n, tile["BLOCK_N"])
    partial = torch.empty(programs, dtype=torch.float64, device=x.device)
    to_x, to_y = (torch.zeros_like(z) if need else None for z, need in ((x, needs_x), (y, needs_y)))
    shifted_x, shifted_y = (z - z.mean(0) if need else z for z, need in ((x, needs_x), (y, needs_y)))
    outs = (x if to_x is None else to_x), (y if to_y is None else to_y)  # pointers have to be tensors
    stress_kernel[(programs,)](
        x, y, shifted_x, shifted_y, partial, *outs, n, x.shape[1], y.shape[1], needs_x, needs_y, **tile, **EXACT
    )
    return partial.sum() / 2, to_x, to_y
