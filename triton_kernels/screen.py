"""What the kernels over a certified screen share: a tile of products, its margins, and who is admissible.

g_ij = c_j - 2 b_i.b_j from bfloat16 rows, sums in float32;   |t_ij - (c_i + g_ij)| <= margin_ij + row_i
margin_ij = r_i x_j + m_i q_j + col_j                          (the inequalities: msma_fast/backends/torch/screen.py)

A pair is inadmissible by index: the query itself, |i - j| <= window, equal labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from .resources import capability_of, has_descriptors

ROWS, COLUMNS = 256, 64  # both sides are padded to multiples of these, so that no kernel masks what it loads
# Sizes that change from call to call: a value of 1 or a multiple of 16 must not compile a kernel anew.
SIZES = ("n", "m", "window", "limit")
WORD = tl.constexpr(32)  # adjacent columns that an int32 has bits for
PROGRAMS = 512  # enough to fill a GPU: with few queries the points are split


class Side(NamedTuple):
    """One side of the screen, padded: N and D are n and d up to multiples of ROWS and COLUMNS.

    b (N, D) bfloat16 contiguous, zero beyond n and d; near and far (N,) float32: r_i and m_i of queries, x_j and q_j of
    points, zero beyond n; size: n.
    """

    b: Tensor
    near: Tensor
    far: Tensor
    size: int


class Points(NamedTuple):
    """c (M,) float32, inf beyond m, so that no bound of a pair that does not exist is finite; col (M,) float32."""

    side: Side
    c: Tensor
    col: Tensor


class Rule(NamedTuple):
    """Who is admissible: own (N,) int32 or None, window, labels (N,) and (M,) int32 or None; anything beyond n and m."""

    own: Tensor | None
    window: int
    labels: Tensor | None
    point_labels: Tensor | None


@triton.jit
def products(
    b_ptr, p_ptr, row, col, d,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, DESCRIPTORS: tl.constexpr = False,
):  # fmt: skip
    """b_i.b_j in float32 of the queries from `row` and the points from `col` on; d padded. DESCRIPTORS: b_ptr and p_ptr are
    descriptors, whose loads take no instructions of the warps; else pointers, with 64-bit addresses by scalars and 32-bit
    offsets within the tile, which are registers of every thread."""
    if DESCRIPTORS:
        dot = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
        for t in range(0, d, BLOCK_D):
            left, right = b_ptr.load([row, t]), p_ptr.load([col, t]).T
            dot = tl.dot(left, right, dot, input_precision="ieee", out_dtype=tl.float32)
    else:
        dot = products_of_pointers(b_ptr, p_ptr, row, col, d, BLOCK_N, BLOCK_M, BLOCK_D)
    return dot


@triton.jit
def products_of_pointers(
    b_ptr, p_ptr, row, col, d, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    i, j, along = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    left = b_ptr + tl.cast(row, tl.int64) * d + (i[:, None] * d + along[None, :])
    right = p_ptr + tl.cast(col, tl.int64) * d + (j[None, :] * d + along[:, None])
    dot = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    for _ in range(0, d, BLOCK_D):
        dot = tl.dot(tl.load(left), tl.load(right), dot, input_precision="ieee", out_dtype=tl.float32)
        left += BLOCK_D
        right += BLOCK_D
    return dot


@triton.jit
def queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, SELF: tl.constexpr, LABELS: tl.constexpr):
    """(r_i, m_i, own, label) of the rows; where a flag is off nobody reads the last two."""
    near_i = tl.load(near_i_ptr + rows)
    far_i = tl.load(far_i_ptr + rows)
    own = tl.load(own_ptr + rows) if SELF else rows
    label = tl.load(label_i_ptr + rows) if LABELS else rows
    return near_i, far_i, own, label


@triton.jit
def screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols):
    """(g, margin) of the tile of products `dot`."""
    c = tl.load(c_ptr + cols)
    near = tl.load(near_ptr + cols)
    far = tl.load(far_ptr + cols)
    col = tl.load(col_ptr + cols)
    return c[None, :] - 2.0 * dot, near_i[:, None] * near[None, :] + far_i[:, None] * far[None, :] + col[None, :]


@triton.jit
def admissible(own, cols, label, label_ptr, window, SELF: tl.constexpr, LABELS: tl.constexpr):
    """Bool that broadcasts to (BLOCK_N, BLOCK_M). own (BLOCK_N,): the column that is the query itself, far below -window for
    none. Columns beyond m are told by their infinite c."""
    keep = (cols >= 0)[None, :]
    if SELF:
        # |own - col| > window as one unsigned comparison
        keep = ((own + window)[:, None] - cols[None, :]).to(tl.uint32, bitcast=True) > (2 * window).to(tl.uint32)
    if LABELS:
        keep = keep & (label[:, None] != tl.load(label_ptr + cols)[None, :])
    return keep


@triton.jit
def words_of(chosen, BLOCK_N: tl.constexpr, WORDS: tl.constexpr):
    """(BLOCK_N, WORDS WORD) bool -> (BLOCK_N, WORDS) int32, bit b for column b of the word."""
    bit = 1 << tl.arange(0, WORD)
    return tl.sum(tl.where(tl.reshape(chosen, (BLOCK_N, WORDS, WORD)), bit[None, None, :], 0), axis=2)


@triton.jit
def own_bits(own, window, group):
    """(BLOCK_N, words) int32: the bits of own - window .. own + window in the words `group`."""
    first = own[:, None] - window - WORD * group[None, :]
    last = first + 2 * window
    from_first = tl.where(first <= 0, -1, tl.where(first >= WORD, 0, -1 << tl.minimum(tl.maximum(first, 0), 31)))
    to_last = tl.where(last >= WORD - 1, -1, tl.where(last < 0, 0, (2 << tl.minimum(tl.maximum(last, 0), 30)) - 1))
    return from_first & to_last


def set_bits(words: Tensor) -> tuple[Tensor, Tensor]:
    """(which word, which bit) of every set bit of int64 words, of which the lowest WORD count."""
    bits = (words[:, None] >> torch.arange(WORD.value, device=words.device)) & 1
    which, bit = bits.nonzero(as_tuple=True)
    return which, bit


def split(m: int, unit: int, wanted: int) -> tuple[int, int]:
    """(splits, points of one): at most `wanted` shares of m points, each a multiple of `unit`."""
    share = unit * triton.cdiv(triton.cdiv(m, unit), wanted)
    return triton.cdiv(m, share), share


def rows_of(x: Tensor, y: Tensor, tile: dict[str, int]) -> dict[str, Any]:
    """b_ptr, p_ptr and DESCRIPTORS for a launch with these BLOCK sizes."""
    if not has_descriptors(capability_of(x.device)):
        return {"b_ptr": x, "p_ptr": y, "DESCRIPTORS": False}
    sides = ((x, tile["BLOCK_N"]), (y, tile["BLOCK_M"]))
    b, p = (TensorDescriptor.from_tensor(side, [rows, tile["BLOCK_D"]]) for side, rows in sides)
    return {"b_ptr": b, "p_ptr": p, "DESCRIPTORS": True}


def pointers(rule: Rule, stand_in: Tensor) -> dict[str, Tensor]:
    """Pointers have to be tensors, also where a flag says that nobody reads them."""
    wanted = {"own_ptr": rule.own, "label_i_ptr": rule.labels, "label_ptr": rule.point_labels}
    return {name: stand_in if each is None else each for name, each in wanted.items()}


def flags(rule: Rule) -> dict[str, bool]:
    return {"SELF": rule.own is not None, "LABELS": rule.labels is not None}
