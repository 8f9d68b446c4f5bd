"""What distance correlation and kernel alignment need of two symmetric (n, n) matrices of pair values, without either.

value of rows i and j      "distance" |x_i - x_j|, "gaussian" exp(-scale |x_i - x_j|^2), 1 for equal rows; less a shift
sums (3,)                  sum A B, sum A A, sum B B over all n^2 pairs
rows_a, rows_b (n,)        sum_j A_ij, sum_j B_ij

a (n, da) and b (n, db), everything float64. Each unordered pair is computed once: with blocks 0 .. T-1 of rows, block r meets
block (r + k) mod T for k = 0 .. T/2. A tile's row sums belong to its own rows, its column sums to the other block; for one
k no two tiles share either, so that each writes to places of its own and torch adds the places in a fixed order.

Products of rows, linear alignment, are matrix products already: a GEMM of blocks is the better tool, and torch's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .packed import block_of, kept, pack, squares
from .resources import FUSED, Configuration, Need, launched

PROGRAM_BLOCKS = 256  # blocks a launch works on, where there are as many


@triton.jit
def values(square, keep, scale, shift, FORM: tl.constexpr):
    """Squared distances to pair values less the shift, 0 where not kept."""
    if FORM == "distance":
        value = tl.sqrt(square)
    else:
        apart = square > 0.0  # the scale may be infinite, and that times zero is NaN
        value = tl.where(apart, tl.exp(-scale * tl.where(apart, square, 1.0)), 1.0)
    return tl.where(keep, value - shift, 0.0)


@triton.jit(do_not_specialize=("n", "da", "db", "blocks", "first"))
def products_kernel(
    a_ptr, b_ptr, scalar_ptr, sums_ptr, rows_ptr, columns_ptr, n, da, db, blocks, first,
    FORM: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile: ROWS rows against the block `first` + program_id(1) further on. Zero before: sums (K, T SPLIT, 3), rows
    (2, K, T BLOCK), columns (2, K, T, SPLIT, BLOCK) with SPLIT = BLOCK / ROWS; scalars: scale and shift of a, of b."""
    SPLIT: tl.constexpr = BLOCK // ROWS
    tile, slot = tl.program_id(0), tl.program_id(1)
    block, apart = tile // SPLIT, first + slot
    # Half-way round an even number of blocks either would meet the other.
    if (2 * apart > blocks) | ((2 * apart == blocks) & (block >= apart)):
        return
    other = (block + apart) % blocks
    row, col = tile * ROWS, other * BLOCK
    keep = kept(row, col, n, n, False, ROWS, BLOCK)
    square = squares(block_of(a_ptr, row, da, BLOCK), block_of(a_ptr, col, da, BLOCK), da, ROWS, BLOCK)
    a = values(square, keep, tl.load(scalar_ptr), tl.load(scalar_ptr + 1), FORM)
    square = squares(block_of(b_ptr, row, db, BLOCK), block_of(b_ptr, col, db, BLOCK), db, ROWS, BLOCK)
    b = values(square, keep, tl.load(scalar_ptr + 2), tl.load(scalar_ptr + 3), FORM)
    i, j = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    size = tl.cast(blocks, tl.int64) * BLOCK
    at_row = slot * size + row
    tl.store(rows_ptr + at_row + i, tl.sum(a, axis=1))
    tl.store(rows_ptr + tl.num_programs(1) * size + at_row + i, tl.sum(b, axis=1))
    times = 1.0
    if apart > 0:
        times = 2.0
        at_column = slot * size * SPLIT + (other * SPLIT + tile % SPLIT).to(tl.int64) * BLOCK
        tl.store(columns_ptr + at_column + j, tl.sum(a, axis=0))
        tl.store(columns_ptr + tl.num_programs(1) * size * SPLIT + at_column + j, tl.sum(b, axis=0))
    out = sums_ptr + (slot * tl.num_programs(0) + tile) * 3
    tl.store(out, times * tl.sum(a * b))
    tl.store(out + 1, times * tl.sum(a * a))
    tl.store(out + 2, times * tl.sum(b * b))


TILES = (Configuration({"ROWS": 8, "BLOCK": 256}, 4),)


def needs(tile: Configuration) -> Need:
    """The values of one side and the squares of the other, float64."""
    return Need(4 * tile.blocks["ROWS"] * tile.blocks["BLOCK"], 0)


Side = tuple[Tensor, float, float]  # rows (n, d), scale, shift


def products(form: str, a: Side, b: Side) -> tuple[Tensor, Tensor, Tensor]:
    """(sums (3,), rows_a (n,), rows_b (n,)) float64, of values less the shifts."""
    n, device = a[0].shape[0], a[0].device
    tile = launched(TILES, needs, device)
    left, right = pack(a[0], tile["BLOCK"]), pack(b[0], tile["BLOCK"])
    scalars = torch.tensor([*a[1:], *b[1:]], dtype=torch.float64, device=device)
    (blocks, da, block), split = left.shape, tile["BLOCK"] // tile["ROWS"]
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    rows = torch.zeros(2, blocks * block, dtype=torch.float64, device=device)
    distances = blocks // 2 + 1
    together = min(distances, triton.cdiv(PROGRAM_BLOCKS, blocks))
    for first in range(0, distances, together):
        part = sums.new_zeros(together, blocks * split, 3)
        own, others = sums.new_zeros(2, together, blocks * block), sums.new_zeros(2, together, blocks, split, block)
        products_kernel[(blocks * split, together)](
            left, right, scalars, part, own, others, n, da, right.shape[1], blocks, first, FORM=form, **tile, **FUSED
        )
        sums += part.sum((0, 1))
        rows += own.sum(1) + others.sum((1, 3)).flatten(1)
    return sums, rows[0, :n], rows[1, :n]
