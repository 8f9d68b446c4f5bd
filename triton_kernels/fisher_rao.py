"""B_ij = sum_t sqrt(p_it q_jt) of the token distributions of a read-out, all pairs; no (n, V) array.

roots_kernel     (N, T) exp((l_it - log_normalizer_i) / 2) of a block of T tokens, zero beyond n and V
affinity_kernel  adds roots . others^T of the block to B (n, m)

Computing the logits anew for every tile of pairs would cost d products an entry beside the one of B. So the roots of a few per
cent of the vocabulary lie in memory at a time. Where both sides are the same rows, tiles below the diagonal are left out.

h (n, d) float32, weight (V, d) float16, bfloat16 or float32; logits and products as in logit_fisher.py.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .logit_fisher import NORMALIZER, PRECISION, Readout, Rows, bound, configurations, offered, products
from .resources import FUSED, Configuration, Need, launched

FEW = 1 << 20  # roots of a side that may always lie in memory
PART = 50  # beyond that: a share of the vocabulary


@triton.jit(do_not_specialize=("n", "size", "width", "begin", "tokens"))
def roots_kernel(
    h_ptr, weight_ptr, center_ptr, bias_ptr, log_ptr, out_ptr, n, size, width, begin, tokens,
    BIAS: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out (N, tokens BLOCK): `tokens` blocks of tokens from token `begin` on, N whole blocks of rows."""
    row, column = tl.program_id(0) * ROWS, tl.program_id(1) * BLOCK
    token = begin + column
    dot = products(h_ptr, weight_ptr, center_ptr, row, token, n, size, width * VECTOR, ROWS, BLOCK, BLOCK_D)
    logits = offered(dot, bias_ptr, token, size, BIAS, BLOCK)
    i = tl.arange(0, ROWS)
    log_normalizer = tl.load(log_ptr + row + i, mask=row + i < n, other=float("inf"))
    at = tl.cast(row, tl.int64) * tokens * BLOCK + column
    at = at + (i[:, None] * (tokens * BLOCK) + tl.arange(0, BLOCK)[None, :])
    tl.store(out_ptr + at, tl.exp((logits - log_normalizer[:, None]) * 0.5))


@triton.jit(do_not_specialize=("n", "m", "steps"))
def affinity_kernel(
    x_ptr, y_ptr, out_ptr, n, m, steps,
    SELF: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """Adds x (N, T) . y (M, T)^T to out (n, m); T = steps BLOCK_T, N and M whole tiles."""
    row, column = tl.program_id(0) * BLOCK_N, tl.program_id(1) * BLOCK_M
    if SELF and column + BLOCK_M <= row:
        return
    width = steps * BLOCK_T
    i, j, k = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_T)
    left = x_ptr + tl.cast(row, tl.int64) * width + (i[:, None] * width + k[None, :])
    right = y_ptr + tl.cast(column, tl.int64) * width + (j[None, :] * width + k[:, None])
    dot = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    for _ in range(0, steps):
        dot = tl.dot(tl.load(left), tl.load(right), dot, input_precision=PRECISION, out_dtype=tl.float32)
        left += BLOCK_T
        right += BLOCK_T
    keep = (row + i < n)[:, None] & (column + j < m)[None, :]
    at = tl.cast(row, tl.int64) * m + column + (i[:, None] * m + j[None, :])
    tl.store(out_ptr + at, tl.load(out_ptr + at, mask=keep, other=0.0) + dot, mask=keep)


ROOTS = NORMALIZER
AFFINITY = (
    Configuration({"BLOCK_N": 128, "BLOCK_M": 64, "BLOCK_T": 32}, 8, 2, only=(90, 100)),
    Configuration({"BLOCK_N": 128, "BLOCK_M": 64, "BLOCK_T": 16}, 8, 3),
)


def roots_needs(tile: Configuration) -> Need:
    """Logits, and a step of both sides in three TF32 products."""
    return bound(tile.blocks["ROWS"], tile.blocks["BLOCK"], tile.blocks["BLOCK_D"], 2, tile.stages)


def affinity_needs(tile: Configuration) -> Need:
    """Sums and what is added to them, and a step of both sides."""
    return bound(tile.blocks["BLOCK_N"], tile.blocks["BLOCK_M"], tile.blocks["BLOCK_T"], 2, tile.stages)


def affinities(read: Readout, x: Rows, y: Rows | None) -> Tensor:
    """(n, m) float32; with y None (n, n), of which only the tiles on and above the diagonal are filled."""
    roots = launched(configurations(ROOTS, read.vector()), roots_needs, x.h.device)
    pairs = launched(AFFINITY, affinity_needs, x.h.device)
    sides = [x] if y is None else [x, y]
    n, m = x.h.shape[0], sides[-1].h.shape[0]
    out = x.h.new_zeros(n, m)
    size = max(-(-read.tokens // (PART * len(sides))), min(4096, FEW // max(n, m)))
    blocks = triton.cdiv(min(size, read.tokens), roots["BLOCK"])
    unit = max(roots["ROWS"], pairs["BLOCK_N"], pairs["BLOCK_M"])
    slabs = [x.h.new_empty(triton.cdiv(each.h.shape[0], unit) * unit, blocks * roots["BLOCK"]) for each in sides]
    grid = triton.cdiv(n, pairs["BLOCK_N"]), triton.cdiv(m, pairs["BLOCK_M"])
    for begin in range(0, read.tokens, blocks * roots["BLOCK"]):
        for side, slab in zip(sides, slabs, strict=True):
            roots_kernel[(slab.shape[0] // roots["ROWS"], blocks)](
                side.h, read.weight, read.center, read.biased(), side.log_normalizer, slab, side.h.shape[0], read.tokens,
                read.width(), begin, blocks, **read.flags(), **roots, **FUSED,
            )  # fmt: skip
        affinity_kernel[grid](
            slabs[0], slabs[-1], out, n, m, slabs[0].shape[1] // pairs["BLOCK_T"], SELF=y is None, **pairs, **FUSED
        )
    return out
