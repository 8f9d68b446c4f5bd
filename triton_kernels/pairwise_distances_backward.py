"""Gradients of all distances: sums over the other side of a weight times a function of two coordinates.

out_ik = sum_j w_ij f(x_ik, y_jk)                x (n, d), y (m, d), w (n, m), out (n, d) float64

| form           | f(x, y), a = x - y                                                  | second (n, m)   |
|----------------|---------------------------------------------------------------------|-----------------|
| difference     | a                                                                   |                 |
| sign           | sign(a)                                                             |                 |
| largest        | sign(a) where |a| is the distance                                   | the distance    |
| power          | sign(a) 2^((p - 1) (log2 |a| - second))                             | log2 of the distance, 0 for 0 |
| kl first       | log(x / y) + 1, 0 for x = 0                                         |                 |
| kl second      | -y / x, 0 for y = 0: x and y have changed places                    |                 |
| jensen_shannon | log(2 x / (x + y)) / 2; -1/2 for x = 0 < y; 0 for x = y = 0         |                 |

A program owns a tile of out and walks over the other side, so that no sum crosses a thread and no program writes another's
tile: the result is the same in every run. y, w and second are packed by tiles, padded with zeros: w = 0 there. float32 rows:
float32 differences, and blocks of 16 terms added without error (pairwise_distances.two_sum); the error is within 20 x 2^-24 of
the sum of sizes. float64 rows: float64.

ties_kernel counts the coordinates whose |a| is the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .pairwise_distances import own, packed, two_sum
from .resources import EXACT, FUSED, Configuration, Need, Needs, launched

SINGLE = (Configuration({"BLOCK_N": 64, "BLOCK_D": 64, "R": 4, "C": 8, "STEPS": 8}, 4, registers=255),)
DOUBLE = (Configuration({"BLOCK_N": 32, "BLOCK_D": 64, "R": 4, "C": 4, "STEPS": 4}, 4),)
LARGEST = (
    Configuration({"BLOCK_N": 16, "BLOCK_D": 64, "R": 4, "C": 4, "STEPS": 4}, 4),
)  # a comparison in float64 beside it
LIBRARY = (
    Configuration({"BLOCK_N": 32, "BLOCK_D": 32, "R": 4, "C": 2, "STEPS": 1}, 4),
)  # a logarithm is 100 instructions
TIES = (Configuration({"BLOCK_N": 32, "BLOCK_M": 32}, 4),)


def single_needs(tile: Configuration) -> Need:
    """x, block, high and low."""
    return Need(4 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_D"], 0)


def double_needs(tile: Configuration) -> Need:
    """x, block and sum, two registers each."""
    return Need(6 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_D"], 0)


def ties_needs(tile: Configuration) -> Need:
    return Need(3 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


def configurations(form: str, dtype: torch.dtype) -> tuple[Sequence[Configuration], Needs]:
    """Those of pull_kernel, and what they need."""
    if dtype == torch.float32:
        return SINGLE, single_needs
    tiles = {"difference": DOUBLE, "sign": DOUBLE, "largest": LARGEST}
    return tiles.get(form, LIBRARY), double_needs


@triton.jit
def signed(a, size):
    """size with the sign of a, 0 where a is 0."""
    return tl.where(a > 0, size, tl.where(a < 0, -size, 0.0))


@triton.jit
def slope(x, y, second, p, FORM: tl.constexpr):
    """f of the table."""
    a = x - y
    if FORM == "difference":
        result = a
    elif FORM == "sign":
        result = (a > 0).to(a.dtype) - (a < 0).to(a.dtype)
    elif FORM == "largest":
        result = signed(a, (tl.abs(a) == second).to(tl.float64))
    elif FORM == "power":
        result = signed(a, tl.exp2((p - 1) * (tl.log2(tl.abs(a)) - second)))
    elif FORM == "kl first":
        result = tl.where(x > 0, tl.log(x / y) + 1, 0.0)
    elif FORM == "kl second":
        result = tl.where(y > 0, -y / x, 0.0)
    else:
        inside = tl.where(x > 0, tl.log(x / ((x + y) / 2)) / 2, -0.5)
        result = tl.where((x > 0) | (y > 0), inside, 0.0)
    return result


@triton.jit(do_not_specialize=("n", "m", "d"))
def pull_kernel(
    x_ptr, y_ptr, weight_ptr, second_ptr, p_ptr, out_ptr, n, m, d,
    FORM: tl.constexpr, ADD: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(d, BLOCK_D)
    row, col = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    i, k = own(BLOCK_N, BLOCK_D, R, C)
    corner = tl.cast(row, tl.int64) * BLOCK_N * d + col * BLOCK_D
    at = i * d + k
    keep = (row * BLOCK_N + i < n) & (col * BLOCK_D + k < d)
    x = tl.load(x_ptr + corner + at, mask=keep, other=0.0)
    y_ptr += tl.cast(col, tl.int64) * m * BLOCK_D
    weight_ptr += tl.cast(row, tl.int64) * m * BLOCK_N
    second_ptr += tl.cast(row, tl.int64) * m * BLOCK_N
    p = tl.load(p_ptr)
    high = tl.zeros_like(x)
    low = tl.zeros_like(x)
    for _ in range(0, m, STEPS):
        part = tl.zeros_like(x)
        for step in tl.static_range(STEPS):
            w = tl.load(weight_ptr + (step * BLOCK_N + i))
            y = tl.load(y_ptr + (step * BLOCK_D + k))
            second = w
            if FORM == "largest" or FORM == "power":
                second = tl.load(second_ptr + (step * BLOCK_N + i))
            f = slope(x, y, second, p, FORM)
            if FORM == "difference" or FORM == "sign":
                part += w * f
            else:
                part += tl.where(w == 0, 0.0, w * f)  # f may be infinite
        if x.dtype == tl.float32:
            high, low = two_sum(high, low, part)
        else:
            high += part
        weight_ptr += STEPS * BLOCK_N
        second_ptr += STEPS * BLOCK_N
        y_ptr += STEPS * BLOCK_D
    found = high.to(tl.float64) + low.to(tl.float64)
    if ADD:
        found += tl.load(out_ptr + corner + at, mask=keep, other=0.0)
    tl.store(out_ptr + corner + at, found, mask=keep)


@triton.jit(do_not_specialize=("n", "m", "d"))
def ties_kernel(x_ptr, y_ptr, top_ptr, out_ptr, n, m, d, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    tiles = tl.cdiv(m, BLOCK_M)
    rows = ((tl.program_id(0) // tiles) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    cols = ((tl.program_id(0) % tiles) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    row_keep, col_keep = rows < n, cols < m
    keep = row_keep[:, None] & col_keep[None, :]
    at = rows[:, None] * m + cols[None, :]
    top = tl.load(top_ptr + at, mask=keep, other=0.0)
    count = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int32)
    for j in range(0, d):
        x = tl.load(x_ptr + rows * d + j, mask=row_keep, other=0.0)
        y = tl.load(y_ptr + cols * d + j, mask=col_keep, other=0.0)
        count += (tl.abs(x[:, None] - y[None, :]) == top).to(tl.int32)
    tl.store(out_ptr + at, count, mask=keep)


def pull(
    form: str, p: Tensor, x: Tensor, y: Tensor, weight: Tensor, second: Tensor | None, out: Tensor, add: bool
) -> None:
    """Fills out (n, d) float64, or adds to it. x (n, d) contiguous, y (m, d), weight and second (n, m): float32 or float64
    alike, float32 for forms without a second array or a logarithm; p () float64."""
    n, d = out.shape
    tile = launched(*configurations(form, x.dtype), out.device)
    right, left = packed(y.T, tile["BLOCK_D"]), packed(weight, tile["BLOCK_N"])
    beside = left if second is None else packed(second, tile["BLOCK_N"])
    grid = (triton.cdiv(n, tile["BLOCK_N"]) * triton.cdiv(d, tile["BLOCK_D"]),)
    pull_kernel[grid](x, right, left, beside, p, out, n, left.shape[1], d, form, add, **tile, **FUSED)


def ties(x: Tensor, y: Tensor, top: Tensor) -> Tensor:
    """(n, m) int32: how many |x_ik - y_jk| are top_ij; x, y and top float64, contiguous."""
    (n, d), m = x.shape, y.shape[0]
    out = torch.empty(n, m, dtype=torch.int32, device=x.device)
    tile = launched(TIES, ties_needs, out.device)
    grid = (triton.cdiv(n, tile["BLOCK_N"]) * triton.cdiv(m, tile["BLOCK_M"]),)
    ties_kernel[grid](x, y, top, out, n, m, d, **tile, **EXACT)
    return out
