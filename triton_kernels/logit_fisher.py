"""Sums of a softmax read-out over its vocabulary that leave a few numbers a row, with no (n, V) array.

l_it = h_i.(w_t - c) + b_t, c the mean row of W: up to a number that all tokens of a row share
normalizer_kernel: log_normalizer_i = log sum_t exp(l_it), and top_i, the most probable token
quadratic_kernel:  sum_t p u and sum_t p u^2, with p_it = exp(l_it - log_normalizer_i) and u_it = (w_t - c).v_i - origin_i.
                   With the origin at top_i both are of the size of what is left to the other tokens
What becomes of the sums: msma_fast/backends/torch/logit_fisher.py. Sums of d numbers a row are matrix products there: a tile
of them fits no registers, and adding to it in memory took longer on an H100.

h and v (n, d) float32, weight (V, d) float16, bfloat16 or float32. A program owns ROWS rows of h and a share of the blocks of
tokens. torch adds the shares in their order: the same bits every time.

Products are three TF32 products each (tf32x3): an operand is the sum of two TF32 numbers to 2^-22, and Triton rounds to
nearest where it adds a step of BLOCK_D coordinates to what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import FUSED, Configuration, Need, launched

SIZES = ("n", "size", "width", "each")
PRECISION = tl.constexpr("tf32x3")
PROGRAMS = 512  # of a launch, about


@triton.jit
def centered(weight_ptr, center_ptr, token, start, size, d, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """(BLOCK, BLOCK_D) float32: coordinates from start on of the rows from token on, less the mean row; 0 beyond d."""
    t, k = tl.arange(0, BLOCK), start + tl.arange(0, BLOCK_D)
    keep = (token + t < size)[:, None] & (k < d)[None, :]
    rows = tl.load(weight_ptr + tl.cast(token, tl.int64) * d + (t[:, None] * d + k[None, :]), mask=keep, other=0.0)
    return rows.to(tl.float32) - tl.load(center_ptr + k, mask=k < d, other=0.0)[None, :]


@triton.jit
def part_of(x_ptr, row, start, n, d, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """(ROWS, BLOCK_D): coordinates from start on of the rows from row on; 0 beyond n and d."""
    i, k = tl.arange(0, ROWS), start + tl.arange(0, BLOCK_D)
    keep = (row + i < n)[:, None] & (k < d)[None, :]
    return tl.load(x_ptr + tl.cast(row, tl.int64) * d + (i[:, None] * d + k[None, :]), mask=keep, other=0.0)


@triton.jit
def products(
    x_ptr, weight_ptr, center_ptr, row, token, n, size, d,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """(ROWS, BLOCK) x_i.(w_t - c)."""
    dot = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, d, BLOCK_D):
        x = part_of(x_ptr, row, start, n, d, ROWS, BLOCK_D)
        w = centered(weight_ptr, center_ptr, token, start, size, d, BLOCK, BLOCK_D)
        dot = tl.dot(x, w.T, dot, input_precision=PRECISION, out_dtype=tl.float32)
    return dot


@triton.jit
def offered(dot, bias_ptr, token, size, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """Logits: -inf for tokens that do not exist."""
    t = token + tl.arange(0, BLOCK)
    if BIAS:
        dot += tl.load(bias_ptr + t, mask=t < size, other=0.0)[None, :]
    return tl.where((t < size)[None, :], dot, float("-inf"))


@triton.jit(do_not_specialize=SIZES)
def normalizer_kernel(
    h_ptr, weight_ptr, center_ptr, bias_ptr, best_ptr, total_ptr, top_ptr, n, size, width, each,
    BIAS: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Of a share of the tokens, (shares, n): the largest logit, its token, and the sum of exp(l - largest)."""
    row, share = tl.program_id(0) * ROWS, tl.program_id(1)
    d = width * VECTOR
    first = share * each
    best = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    top = tl.zeros((ROWS,), dtype=tl.int32)
    for tile in range(first, tl.minimum(first + each, tl.cdiv(size, BLOCK))):
        token = tile * BLOCK
        dot = products(h_ptr, weight_ptr, center_ptr, row, token, n, size, d, ROWS, BLOCK, BLOCK_D)
        logits = offered(dot, bias_ptr, token, size, BIAS, BLOCK)
        largest, where = tl.max(logits, axis=1, return_indices=True)
        raised = tl.maximum(best, largest)
        total = total * tl.exp(best - raised) + tl.sum(tl.exp(logits - raised[:, None]), axis=1)
        top = tl.where(largest > best, token + where, top)
        best = raised
    i = row + tl.arange(0, ROWS)
    at = tl.cast(share, tl.int64) * n + i
    tl.store(best_ptr + at, best, mask=i < n)
    tl.store(total_ptr + at, total, mask=i < n)
    tl.store(top_ptr + at, top, mask=i < n)


@triton.jit(do_not_specialize=SIZES)
def quadratic_kernel(
    h_ptr, weight_ptr, center_ptr, bias_ptr, log_ptr, v_ptr, origin_ptr, mean_ptr, square_ptr,
    n, size, width, each,
    BIAS: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """mean and square (shares, n): sum p u and sum p u^2."""
    row, share = tl.program_id(0) * ROWS, tl.program_id(1)
    d = width * VECTOR
    i = row + tl.arange(0, ROWS)
    log_normalizer = tl.load(log_ptr + i, mask=i < n, other=float("inf"))
    origin = tl.load(origin_ptr + i, mask=i < n, other=0.0)
    mean = tl.zeros((ROWS,), dtype=tl.float32)
    square = tl.zeros((ROWS,), dtype=tl.float32)
    first = share * each
    for tile in range(first, tl.minimum(first + each, tl.cdiv(size, BLOCK))):
        token = tile * BLOCK
        dot = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        u = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        for start in range(0, d, BLOCK_D):
            w = centered(weight_ptr, center_ptr, token, start, size, d, BLOCK, BLOCK_D).T
            dot = tl.dot(
                part_of(h_ptr, row, start, n, d, ROWS, BLOCK_D), w, dot, input_precision=PRECISION, out_dtype=tl.float32
            )
            u = tl.dot(
                part_of(v_ptr, row, start, n, d, ROWS, BLOCK_D), w, u, input_precision=PRECISION, out_dtype=tl.float32
            )
        p = tl.exp(offered(dot, bias_ptr, token, size, BIAS, BLOCK) - log_normalizer[:, None])
        u -= origin[:, None]
        p *= u
        mean += tl.sum(p, axis=1)
        square += tl.sum(p * u, axis=1)
    at = tl.cast(share, tl.int64) * n + i
    tl.store(mean_ptr + at, mean, mask=i < n)
    tl.store(square_ptr + at, square, mask=i < n)


# Where operands of a product lie in shared memory, steps may be deep; elsewhere they are registers. The last configuration of
# each list is for rows of any length, whose addresses take more registers.
_SHARED, _REGISTERS = (90, 100), (80, 86, 89, 120)
NORMALIZER = (
    Configuration({"ROWS": 64, "BLOCK": 128, "BLOCK_D": 32}, 8, 2, only=_SHARED),
    Configuration({"ROWS": 64, "BLOCK": 128, "BLOCK_D": 16}, 8, 2),
)
QUADRATIC = (
    Configuration({"ROWS": 64, "BLOCK": 64, "BLOCK_D": 32}, 8, 2, only=_SHARED),
    Configuration({"ROWS": 64, "BLOCK": 64, "BLOCK_D": 16}, 8, 2, only=_REGISTERS),
    Configuration({"ROWS": 64, "BLOCK": 32, "BLOCK_D": 16}, 8, 2),
)


def configurations(tiles: Sequence[Configuration], vector: int) -> Sequence[Configuration]:
    """Those for rows whose length is a multiple of `vector`."""
    return tiles if vector > 1 else tiles[-1:]


def bound(rows: int, block: int, depth: int, tiles: int, stages: int) -> Need:
    """`tiles` tiles of sums; of each operand of a step two parts, in registers and in shared memory beside what is loaded."""
    step = (rows + block) * depth
    return Need(tiles * rows * block + 2 * step, 4 * (stages + 2) * step)


def normalizer_needs(tile: Configuration) -> Need:
    """Logits and their sum of a step."""
    return bound(tile.blocks["ROWS"], tile.blocks["BLOCK"], tile.blocks["BLOCK_D"], 2, tile.stages)


def quadratic_needs(tile: Configuration) -> Need:
    """As normalizer_needs, and u."""
    return bound(tile.blocks["ROWS"], tile.blocks["BLOCK"], tile.blocks["BLOCK_D"], 3, tile.stages)


class Readout(NamedTuple):
    """weight (V, d) contiguous, center (d,) float32, bias (V,) float32 or None."""

    weight: Tensor
    center: Tensor
    bias: Tensor | None

    @property
    def tokens(self) -> int:
        return self.weight.shape[0]

    def flags(self) -> dict[str, Any]:
        """VECTOR: what d is a multiple of, so that several numbers are loaded at once where they can be."""
        return {"BIAS": self.bias is not None, "VECTOR": self.vector()}

    def vector(self) -> int:
        return 16 if self.weight.shape[1] % 16 == 0 else 1

    def width(self) -> int:
        """d in units of VECTOR."""
        return self.weight.shape[1] // self.vector()

    def biased(self) -> Tensor:
        """A pointer has to be a tensor, also where a flag says that nobody reads it."""
        return self.center if self.bias is None else self.bias


class Rows(NamedTuple):
    """h (n, d) float32 contiguous, log_normalizer (n,) float32, top (n,) int32."""

    h: Tensor
    log_normalizer: Tensor
    top: Tensor


def shares(read: Readout, rows: int, block: int) -> tuple[int, int]:
    """(shares, blocks of tokens of one) of a launch with `rows` blocks of rows."""
    tiles = triton.cdiv(read.tokens, block)
    each = triton.cdiv(tiles, max(1, min(tiles, triton.cdiv(PROGRAMS, rows))))
    return triton.cdiv(tiles, each), each


def rows_of(read: Readout, h: Tensor) -> Rows:
    tile = launched(configurations(NORMALIZER, read.vector()), normalizer_needs, h.device)
    n, rows = h.shape[0], triton.cdiv(h.shape[0], tile["ROWS"])
    programs, each = shares(read, rows, tile["BLOCK"])
    best, total = h.new_empty(2, programs, n)
    top = torch.empty(programs, n, dtype=torch.int32, device=h.device)
    normalizer_kernel[(rows, programs)](
        h, read.weight, read.center, read.biased(), best, total, top, n, read.tokens, read.width(), each,
        **read.flags(), **tile, **FUSED,
    )  # fmt: skip
    largest, where = best.max(0)
    log_normalizer = largest + (total * (best - largest).exp()).sum(0).log()
    return Rows(h, log_normalizer, top.gather(0, where[None])[0])


def quadratic(read: Readout, of: Rows, v: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """(sum p u, sum p u^2), (n,) each; v (n, d) contiguous, origin (n,)."""
    tile = launched(configurations(QUADRATIC, read.vector()), quadratic_needs, v.device)
    n, rows = v.shape[0], triton.cdiv(v.shape[0], tile["ROWS"])
    programs, each = shares(read, rows, tile["BLOCK"])
    mean, square = v.new_empty(2, programs, n)
    quadratic_kernel[(rows, programs)](
        of.h, read.weight, read.center, read.biased(), of.log_normalizer, v, origin, mean, square,
        n, read.tokens, read.width(), each, **read.flags(), **tile, **FUSED,
    )  # fmt: skip
    return mean.sum(0), square.sum(0)
