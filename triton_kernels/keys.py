"""Canonical float64 keys: the table of formulas and their order of operations, msma_fast/backends/torch/kernel.py.

block_keys(kind, p, x (n, d), y (m, d), norms) -> (n, m) float64, one program a tile of BLOCK_N rows and BLOCK_M points
pair_keys(kind, p, x, y, norms, i (P,), j (P,)) -> (P,) float64, one program BLOCK pairs

Eight accumulators, one a lane: coordinate j goes to lane j mod 8 in increasing j. Every operation is rounded on its own:
kernels are launched with enable_fp_fusion=False. Coordinates beyond d are loaded as zero on both sides and add +0.0.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .resources import EXACT, Configuration, Need, launched

KINDS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "minkowski", "inner_product", "cosine"])
BLOCK_TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 16}, 4),)  # two keys a thread: more would spill on sm_100
PAIR_TILES = (Configuration({"BLOCK": 128}, 4),)


def block_needs(tile: Configuration) -> Need:
    """Eight lanes of float64, two registers each."""
    return Need(16 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


def pair_needs(tile: Configuration) -> Need:
    return Need(16 * tile.blocks["BLOCK"], 0)


@triton.jit
def larger(a, b):
    """The larger of two numbers, NaN where one is NaN."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def lane_term(lane, x, y, KIND: tl.constexpr, P: tl.constexpr):
    """The lane's value after one more coordinate; x and y float64 of shapes that broadcast."""
    if KIND == "inner_product" or KIND == "cosine":
        result = lane + x * y
    else:
        a = x - y
        if KIND == "sqeuclidean":
            result = lane + a * a
        else:
            size = tl.abs(a)
            if KIND == "chebyshev":
                result = larger(lane, size)
            else:  # manhattan is minkowski with P = 1
                power = size
                for _ in tl.static_range(P - 1):
                    power = power * size
                result = lane + power
    return result


@triton.jit
def combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, KIND: tl.constexpr):
    """((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)), or the largest."""
    if KIND == "chebyshev":
        even = larger(larger(l0, l4), larger(l2, l6))
        result = larger(even, larger(larger(l1, l5), larger(l3, l7)))
    else:
        result = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    return result


@triton.jit
def finish_key(total, equal, norm_x, norm_y, KIND: tl.constexpr):
    """From the combined lanes to the key. equal: whether the two rows are the same numbers (cosine only)."""
    if KIND == "inner_product":
        result = 0.0 - total
    elif KIND == "cosine":
        result = larger(1.0 - total / (norm_x * norm_y), 0.0)
        result = tl.where(equal, 0.0, result)
    else:
        result = total
    return result


@triton.jit
def row_keys(x_ptr, y_ptr, x_row, y_row, x_keep, y_keep, norm_x, norm_y, d, KIND: tl.constexpr, P: tl.constexpr):
    """Keys of rows at the addresses x_ptr + x_row and y_ptr + y_row, whose shapes broadcast to the result's."""
    zero = tl.zeros_like((x_row + y_row).to(tl.float64))
    l0, l1, l2, l3, l4, l5, l6, l7 = zero, zero, zero, zero, zero, zero, zero, zero
    equal = zero == zero
    for t in range(0, d, 8):
        for lane in tl.static_range(8):
            inside = tl.full((1,), t + lane, tl.int32) < d  # a Python bool is no mask to the interpreter
            x = tl.load(x_ptr + x_row + t + lane, mask=x_keep & inside, other=0.0).to(tl.float64)
            y = tl.load(y_ptr + y_row + t + lane, mask=y_keep & inside, other=0.0).to(tl.float64)
            if KIND == "cosine":
                equal = equal & (x == y)
            if lane == 0:
                l0 = lane_term(l0, x, y, KIND, P)
            elif lane == 1:
                l1 = lane_term(l1, x, y, KIND, P)
            elif lane == 2:
                l2 = lane_term(l2, x, y, KIND, P)
            elif lane == 3:
                l3 = lane_term(l3, x, y, KIND, P)
            elif lane == 4:
                l4 = lane_term(l4, x, y, KIND, P)
            elif lane == 5:
                l5 = lane_term(l5, x, y, KIND, P)
            elif lane == 6:
                l6 = lane_term(l6, x, y, KIND, P)
            else:
                l7 = lane_term(l7, x, y, KIND, P)
    total = combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, KIND)
    return finish_key(total, equal, norm_x, norm_y, KIND)


@triton.jit(do_not_specialize=("n", "m", "d"))
def block_keys_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, out_ptr, n, m, d,
    KIND: tl.constexpr, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(m, BLOCK_M)
    rows = (tl.program_id(0) // tiles_m).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    cols = (tl.program_id(0) % tiles_m).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_keep, col_keep = rows < n, cols < m
    norm_x, norm_y = 1.0, 1.0
    if KIND == "cosine":
        norm_x = tl.load(norm_x_ptr + rows, mask=row_keep, other=1.0)[:, None]
        norm_y = tl.load(norm_y_ptr + cols, mask=col_keep, other=1.0)[None, :]
    keys = row_keys(
        x_ptr, y_ptr, (rows * d)[:, None], (cols * d)[None, :], row_keep[:, None], col_keep[None, :],
        norm_x, norm_y, d, KIND, P,
    )  # fmt: skip
    tl.store(out_ptr + rows[:, None] * m + cols[None, :], keys, mask=row_keep[:, None] & col_keep[None, :])


@triton.jit(do_not_specialize=("pairs", "d"))
def pair_keys_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, i_ptr, j_ptr, out_ptr, pairs, d,
    KIND: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = at < pairs
    i = tl.load(i_ptr + at, mask=keep, other=0)
    j = tl.load(j_ptr + at, mask=keep, other=0)
    norm_x, norm_y = 1.0, 1.0
    if KIND == "cosine":
        norm_x = tl.load(norm_x_ptr + i, mask=keep, other=1.0)
        norm_y = tl.load(norm_y_ptr + j, mask=keep, other=1.0)
    keys = row_keys(x_ptr, y_ptr, i * d, j * d, keep, keep, norm_x, norm_y, d, KIND, P)
    tl.store(out_ptr + at, keys, mask=keep)


Side = tuple[Tensor, Tensor | None]  # values (n, d) contiguous float32 or float64, norms (n,) float64 for cosine


def block_keys(kind: str, p: int, x: Side, y: Side) -> Tensor:
    """(n, m) float64 on the device of the rows."""
    (n, d), m = x[0].shape, y[0].shape[0]
    out = torch.empty(n, m, dtype=torch.float64, device=x[0].device)
    tile = launched(BLOCK_TILES, block_needs, out.device)
    grid = (triton.cdiv(n, tile["BLOCK_N"]) * triton.cdiv(m, tile["BLOCK_M"]),)
    if n and m:
        block_keys_kernel[grid](x[0], y[0], *_norms(x, y), out, n, m, d, *_kind(kind, p), **tile, **EXACT)
    return out


def pair_keys(kind: str, p: int, x: Side, y: Side, i: Tensor, j: Tensor) -> Tensor:
    """(P,) float64; i and j (P,) int64 in range."""
    out = torch.empty(i.shape, dtype=torch.float64, device=i.device)
    tile = launched(PAIR_TILES, pair_needs, out.device)
    if i.numel():
        pair_keys_kernel[(triton.cdiv(i.numel(), tile["BLOCK"]),)](
            x[0], y[0], *_norms(x, y), i, j, out, i.numel(), x[0].shape[1], *_kind(kind, p), **tile, **EXACT
        )
    return out


def _norms(x: Side, y: Side) -> tuple[Tensor, Tensor]:
    """Pointers have to be tensors: the values themselves where the formula reads no norms."""
    return (x[0] if x[1] is None else x[1]), (y[0] if y[1] is None else y[1])


def _kind(kind: str, p: int) -> tuple[str, Any]:
    return ("minkowski", 1) if kind == "manhattan" else (kind, p)
