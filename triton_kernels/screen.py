"""What the kernels over a certified screen share: a tile of products, its margins, and who is admissible.

g_ij = c_j - 2 b_i.b_j from bfloat16 rows, sums in float32;   |t_ij - (c_i + g_ij)| <= margin_ij + row_i
margin_ij = r_i x_j + m_i q_j + col_j                          (the inequalities: msma_fast/backends/torch/screen.py)

A pair is inadmissible by index: the query itself, |i - j| <= window, equal labels.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Side(NamedTuple):
    """One side of the screen: b (n, d) bfloat16 contiguous; near and far (n,) float32: r_i and m_i of queries, x_j and q_j of
    points."""

    b: Tensor
    near: Tensor
    far: Tensor


class Rule(NamedTuple):
    """Who is admissible: own (n,) int32 or None, window, labels (n,) and (m,) int32 or None."""

    own: Tensor | None
    window: int
    labels: Tensor | None
    point_labels: Tensor | None


@triton.jit
def products(
    b_ptr, p_ptr, row, col, n, m, d, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """b_i.b_j in float32 of the queries from `row` and the points from `col` on; beyond the end rows read as zero.

    64-bit addresses by scalars, 32-bit offsets within the tile: these are registers of every thread."""
    dot = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    i, j, along = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    left = b_ptr + tl.cast(row, tl.int64) * d
    right = p_ptr + tl.cast(col, tl.int64) * d
    for t in range(0, d, BLOCK_D):
        inside = along + t < d
        a = tl.load(
            left + i[:, None] * d + (along + t)[None, :], mask=(row + i < n)[:, None] & inside[None, :], other=0.0
        )
        b = tl.load(
            right + j[None, :] * d + (along + t)[:, None], mask=(col + j < m)[None, :] & inside[:, None], other=0.0
        )
        dot = tl.dot(a, b, dot)
    return dot


@triton.jit
def queries(near_i_ptr, far_i_ptr, own_ptr, label_i_ptr, rows, n, SELF: tl.constexpr, LABELS: tl.constexpr):
    """(r_i, m_i, own, label) of the rows; where a flag is off nobody reads the last two."""
    keep = rows < n
    near_i = tl.load(near_i_ptr + rows, mask=keep, other=0.0)
    far_i = tl.load(far_i_ptr + rows, mask=keep, other=0.0)
    own = tl.load(own_ptr + rows, mask=keep, other=-1) if SELF else rows
    label = tl.load(label_i_ptr + rows, mask=keep, other=-2) if LABELS else rows
    return near_i, far_i, own, label


@triton.jit
def screened(dot, near_i, far_i, c_ptr, near_ptr, far_ptr, col_ptr, cols, m):
    """(g, margin) of the tile of products `dot`."""
    keep = cols < m
    c = tl.load(c_ptr + cols, mask=keep, other=0.0)
    near = tl.load(near_ptr + cols, mask=keep, other=0.0)
    far = tl.load(far_ptr + cols, mask=keep, other=0.0)
    col = tl.load(col_ptr + cols, mask=keep, other=0.0)
    return c[None, :] - 2.0 * dot, near_i[:, None] * near[None, :] + far_i[:, None] * far[None, :] + col[None, :]


@triton.jit
def admissible(own, cols, m, label, label_ptr, window, SELF: tl.constexpr, LABELS: tl.constexpr):
    """Bool that broadcasts to (BLOCK_N, BLOCK_M). own (BLOCK_N,): the column that is the query itself, -1 for none."""
    keep = (cols < m)[None, :]
    if SELF:
        keep = keep & ((tl.abs(own[:, None] - cols[None, :]) > window) | (own < 0)[:, None])
    if LABELS:
        other = tl.load(label_ptr + cols, mask=cols < m, other=-1)
        keep = keep & (label[:, None] != other[None, :])
    return keep


def pointers(rule: Rule, stand_in: Tensor) -> tuple[Tensor, ...]:
    """Pointers have to be tensors, also where a flag says that nobody reads them."""
    return tuple(stand_in if each is None else each for each in (rule.own, rule.labels, rule.point_labels))


def flags(rule: Rule) -> dict[str, bool]:
    return {"SELF": rule.own is not None, "LABELS": rule.labels is not None}
