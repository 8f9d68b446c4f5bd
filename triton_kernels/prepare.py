"""Rows to one side of the certified screen, in two readings; no float64 copy of them is written.

z_i = x_i - mu, or x_i / norm_i - mu, in float64                        (what it is for: msma_fast/backends/torch/screen.py)

largest (n,) float64: max_l |z_il|
sums    b (N, D) bfloat16: s z rounded to nearest, 0 where that is below `tiny` and beyond n and d; (3, n) float64:
        sum_l (s z_il - b_il)^2, sum_l (s z_il)^2, sum_l b_il^2, each of d terms in some order

mu (d,) and the power of two s are float64; every operation is rounded on its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import EXACT, Configuration, Need, launched
from .screen import COLUMNS, ROWS


class Shifted(NamedTuple):
    """values (n, d) contiguous float32 or float64; norms (n,) float64 to divide by, or None; middle (d,) float64."""

    values: Tensor
    norms: Tensor | None
    middle: Tensor


@triton.jit
def shifted(x_ptr, middle_ptr, norm, rows, cols, n, d, NORMS: tl.constexpr):
    """(BLOCK_N, BLOCK_D) float64 z, zero beyond n and d."""
    keep = (rows < n)[:, None] & (cols < d)[None, :]
    z = tl.load(x_ptr + rows[:, None] * d + cols[None, :], mask=keep, other=0.0).to(tl.float64)
    if NORMS:
        z = z / norm[:, None]
    return tl.where(keep, z - tl.load(middle_ptr + cols, mask=cols < d, other=0.0)[None, :], 0.0)


@triton.jit
def rounded(z):
    """Float32 to the nearest number of bfloat16, ties to even, as float32: in integers, which every compiler and the
    interpreter take alike."""
    bits = z.to(tl.int32, bitcast=True)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=("n", "d"))
def largest_kernel(
    x_ptr, norm_x_ptr, middle_ptr, out_ptr, n, d,
    NORMS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    norm = tl.load(norm_x_ptr + rows, mask=rows < n, other=1.0) if NORMS else rows
    most = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float64)
    for t in range(0, d, BLOCK_D):
        z = shifted(x_ptr, middle_ptr, norm, rows, t + tl.arange(0, BLOCK_D), n, d, NORMS)
        most = tl.maximum(most, tl.abs(z))
    tl.store(out_ptr + rows, tl.max(most, axis=1), mask=rows < n)


@triton.jit(do_not_specialize=("n", "d", "width"))
def sums_kernel(
    x_ptr, norm_x_ptr, middle_ptr, scale_ptr, b_ptr, sums_ptr, n, d, width,
    TINY: tl.constexpr, NORMS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    norm = tl.load(norm_x_ptr + rows, mask=rows < n, other=1.0) if NORMS else rows
    scale = tl.load(scale_ptr)
    residual = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float64)
    square, stored = residual, residual
    for t in range(0, width, BLOCK_D):
        cols = t + tl.arange(0, BLOCK_D)
        z = shifted(x_ptr, middle_ptr, norm, rows, cols, n, d, NORMS) * scale
        b = rounded(z.to(tl.float32))
        b = tl.where(tl.abs(b) < TINY, 0.0, b)
        tl.store(b_ptr + rows[:, None] * width + cols[None, :], b.to(tl.bfloat16))  # exact
        wide = b.to(tl.float64)
        lost = z - wide
        residual += lost * lost
        square += z * z
        stored += wide * wide
    tl.store(sums_ptr + rows, tl.sum(residual, axis=1), mask=rows < n)
    tl.store(sums_ptr + n + rows, tl.sum(square, axis=1), mask=rows < n)
    tl.store(sums_ptr + 2 * tl.cast(n, tl.int64) + rows, tl.sum(stored, axis=1), mask=rows < n)


TILES = (Configuration({"BLOCK_N": 32, "BLOCK_D": COLUMNS}, 8),)


def needs(tile: Configuration) -> Need:
    """Three sums, the numbers that are added and what they come from, float64."""
    return Need(12 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_D"], 0)


def largest(x: Shifted) -> Tensor:
    """(n,) float64."""
    n, d = x.values.shape
    out = torch.empty(n, dtype=torch.float64, device=x.values.device)
    tile = launched(TILES, needs, out.device)
    if n:
        largest_kernel[(triton.cdiv(n, tile["BLOCK_N"]),)](
            x.values, _norms(x), x.middle, out, n, d, NORMS=x.norms is not None, **tile, **EXACT
        )
    return out


def sums(x: Shifted, scale: float, tiny: float) -> tuple[Tensor, Tensor]:
    """b (N, D) bfloat16 and the sums (3, n) float64."""
    (n, d), device = x.values.shape, x.values.device
    b = torch.empty(n + -n % ROWS, d + -d % COLUMNS, dtype=torch.bfloat16, device=device)
    out = torch.empty(3, n, dtype=torch.float64, device=device)
    tile = launched(TILES, needs, device)
    if n:
        sums_kernel[(b.shape[0] // tile["BLOCK_N"],)](
            x.values, _norms(x), x.middle, torch.full((1,), scale, dtype=torch.float64, device=device), b, out,
            n, d, b.shape[1], TINY=tiny, NORMS=x.norms is not None, **tile, **EXACT,
        )  # fmt: skip
    return b, out


def _norms(x: Shifted) -> Tensor:
    """Pointers have to be tensors: the values themselves where nobody divides."""
    return x.values if x.norms is None else x.norms
