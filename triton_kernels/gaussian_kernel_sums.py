"""Sums of Gaussian kernels over pairs of rows, for several bandwidths at once, and their gradients.

sums       S_b = sum exp(-c_b |x_i - y_j|^2) over all pairs, or over i != j where y is None: twice the sum over i < j
gradients  sum_j w_ij (x_i - y_j), w_ij = -2 sum_b g_b c_b exp(-c_b |x_i - y_j|^2), as (sum_j w_ij) x_i - sum_j w_ij y_j
           with rows less the mean of x: the error is relative to the longest such row. The gradient of y is that of x with
           the sides exchanged.

x (n, d), y (m, d), c and g (B,). Everything is float64: squared distances are canonical up to rounding, for float32 rows
too. A program owns ROWS rows and a share of the column blocks; what it found is written once, and torch adds the shares
in their order. No tile of pairs leaves the registers and shared memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .packed import block_of, kept, pack, shares, squares
from .resources import FUSED, Configuration, Need, launched

WIDTHS = 16  # bandwidths of one launch


@triton.jit(do_not_specialize=("n", "m", "d", "count", "each"))
def sums_kernel(
    x_ptr, y_ptr, scale_ptr, out_ptr, n, m, d, count, each,
    SELF: tl.constexpr, WIDTHS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out (programs, WIDTHS): the program's sums under `count` scales, over `each` column blocks."""
    own, share = tl.program_id(0), tl.program_id(1)
    first = share * each
    stop = tl.minimum(first + each, tl.cdiv(m, BLOCK))
    if SELF:  # blocks left of the diagonal are others'
        first = tl.maximum(first, own * ROWS // BLOCK)
    widths = tl.arange(0, WIDTHS)
    sums = tl.zeros((WIDTHS,), dtype=tl.float64)
    left = block_of(x_ptr, own * ROWS, d, BLOCK)
    for tile in range(first, stop):
        square = squares(left, y_ptr + tl.cast(tile, tl.int64) * d * BLOCK, d, ROWS, BLOCK)
        square = tl.where(kept(own * ROWS, tile * BLOCK, n, m, SELF, ROWS, BLOCK), square, float("inf"))
        for b in range(count):
            found = tl.sum(tl.exp(-tl.load(scale_ptr + b) * square))
            sums += tl.where(widths == b, found, 0.0)
    at = (own * tl.num_programs(1) + share).to(tl.int64) * WIDTHS
    tl.store(out_ptr + at + widths, sums)


@triton.jit(do_not_specialize=("n", "m", "d", "count", "each"))
def gradients_kernel(
    x_ptr, y_ptr, points_ptr, scale_ptr, factor_ptr, total_ptr, pulled_ptr, n, m, d, count, each,
    SELF: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """total (shares, N) sum_j w_ij and pulled (shares, N, d) sum_j w_ij y_j of the program's column blocks; N whole tiles.

    points (M, d): y less the mean of x, zero beyond the end, in whole blocks. pulled is zero before and is this program's
    alone; the barrier is for threads that add to what others wrote."""
    own, share = tl.program_id(0), tl.program_id(1)
    first = share * each
    stop = tl.minimum(first + each, tl.cdiv(m, BLOCK))
    i, j, along = tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.arange(0, BLOCK_D)
    row = (share * tl.num_programs(0) + own).to(tl.int64) * ROWS
    left = block_of(x_ptr, own * ROWS, d, BLOCK)
    total = tl.zeros((ROWS,), dtype=tl.float64)
    for tile in range(first, stop):
        block = tl.cast(tile, tl.int64) * d * BLOCK
        square = squares(left, y_ptr + block, d, ROWS, BLOCK)
        keep = kept(own * ROWS, tile * BLOCK, n, m, False, ROWS, BLOCK)
        if SELF:
            keep = keep & ((own * ROWS + i)[:, None] != (tile * BLOCK + j)[None, :])
        square = tl.where(keep, square, float("inf"))
        pull = tl.zeros((ROWS, BLOCK), dtype=tl.float64)
        for b in range(count):
            pull += tl.load(factor_ptr + b) * tl.exp(-tl.load(scale_ptr + b) * square)
        total += tl.sum(pull, axis=1)
        for t in range(0, d, BLOCK_D):
            inside = (along + t < d)[None, :]
            points = tl.load(points_ptr + block + j[:, None] * d + (along + t)[None, :], mask=inside, other=0.0)
            at = i[:, None] * d + (along + t)[None, :]
            sums = tl.load(pulled_ptr + row * d + at, mask=inside, other=0.0)
            sums = tl.dot(pull, points, sums, input_precision="ieee", out_dtype=tl.float64)
            tl.store(pulled_ptr + row * d + at, sums, mask=inside)
        tl.debug_barrier()
    tl.store(total_ptr + row + i, total)


SUMS = (Configuration({"ROWS": 16, "BLOCK": 256}, 4),)
# Where Triton has no matrix instruction for float64 (3.6 on sm_100), a deeper product would spill.
GRADIENTS = (Configuration({"ROWS": 16, "BLOCK": 64, "BLOCK_D": 32}, 4),)


def sums_needs(tile: Configuration) -> Need:
    """A square and what becomes of it, float64."""
    return Need(4 * tile.blocks["ROWS"] * tile.blocks["BLOCK"], 0)


def gradients_needs(tile: Configuration) -> Need:
    """Squares and weights; weights and points in shared memory, as the product reads them."""
    rows, block, d = tile.blocks["ROWS"], tile.blocks["BLOCK"], tile.blocks["BLOCK_D"]
    return Need(4 * rows * block, 8 * (rows + d) * block)


def sums(x: Tensor, y: Tensor | None, scales: Tensor) -> Tensor:
    """(B,) float64; scales (B,) float64."""
    tile = launched(SUMS, sums_needs, x.device)
    left = pack(x, tile["BLOCK"])
    right = left if y is None else pack(y, tile["BLOCK"])
    n, m = x.shape[0], (x if y is None else y).shape[0]
    rows = triton.cdiv(n, tile["ROWS"])
    programs, each = shares(right.shape[0])
    found = []
    for some in scales.split(WIDTHS):
        out = torch.empty(rows * programs, WIDTHS, dtype=torch.float64, device=x.device)
        sums_kernel[(rows, programs)](
            left, right, some, out, n, m, left.shape[1], some.shape[0], each,
            SELF=y is None, WIDTHS=WIDTHS, **tile, **FUSED,
        )  # fmt: skip
        found.append(out.sum(0)[: some.shape[0]])
    return torch.cat(found) * (2 if y is None else 1)


def gradients(x: Tensor, y: Tensor | None, scales: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients (n, d), (m, d) or None, float64, of the sums weighted by weights (B,)."""
    factors = -2 * weights * scales
    middle = x.to(torch.float64).mean(0)
    if y is None:
        return 2 * _gradient(x, None, middle, scales, factors), None
    return _gradient(x, y, middle, scales, factors), _gradient(y, x, middle, scales, factors)


def _gradient(x: Tensor, y: Tensor | None, middle: Tensor, scales: Tensor, factors: Tensor) -> Tensor:
    """(n, d) sum_j w_ij (x_i - y_j) with w_ij = sum_b factor_b exp(-c_b |x_i - y_j|^2)."""
    tile = launched(GRADIENTS, gradients_needs, x.device)
    left = pack(x, tile["BLOCK"])
    right = left if y is None else pack(y, tile["BLOCK"])
    (blocks, d, block), others = right.shape, x if y is None else y
    points = torch.zeros(blocks * block, d, dtype=torch.float64, device=x.device)
    points[: others.shape[0], : others.shape[1]] = others.to(torch.float64) - middle
    (n, width), rows = x.shape, triton.cdiv(x.shape[0], tile["ROWS"])
    programs = max(1, min(8, 512 // rows, blocks))  # each share keeps (n, d) numbers
    total = torch.empty(programs, rows * tile["ROWS"], dtype=torch.float64, device=x.device)
    pulled = torch.zeros(*total.shape, d, dtype=torch.float64, device=x.device)
    gradients_kernel[(rows, programs)](
        left, right, points, scales, factors, total, pulled, n, others.shape[0], d, scales.shape[0],
        triton.cdiv(blocks, programs), SELF=y is None, **tile, **FUSED,
    )  # fmt: skip
    return total.sum(0)[:n, None] * (x.to(torch.float64) - middle) - pulled.sum(0)[:n, :width]
