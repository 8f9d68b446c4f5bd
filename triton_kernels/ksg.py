"""KSG's neighbours in the joint space of two samples by a certified screen: kernels that never write an n x n tile.

T pairs of samples of n rows each, all from one stack of S samples; the joint key of a pair of rows is the larger of its two
canonical keys. Programs: (block of rows, split of the columns, pair of samples), pairs at most PAIRS at a time. N is n up to a
multiple of screen.ROWS. Bounds and lists are made of R rows from a first one on, up to a multiple of a tile. What needs no
screen is in ksg_exact.py.

Euclidean: intervals of both keys from two products a tile (triton_kernels/screen.py):
f (c_j -+ col_j -+ r_i x_j -+ m_i q_j - 2 b_i.b_j) + f (c_i -+ row_i), where f brings both samples to one unit. Rounding is
relative to the terms, which margins have room for.

bounds  best (T, R, splits BLOCK_M): the least upper bound of the joint key among the admissible columns of each bin.
        Column j of a tile belongs to bin j of its split. Bins are disjoint: the k-th least of a row is a bound of its
        k-th neighbour.
lists   columns (T, R, splits, limit) int32, ascending, whose joint key is not surely above top (T, R), and their number
        (T, R, splits) int32, which may exceed limit: the list is then not complete. A program owns its lists, so that
        nothing is shared and nothing is added atomically.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .keys import larger
from .resources import FUSED, Configuration, Need, launched
from .screen import SIZES, admissible, products, split

FIELDS = 8  # of a sample's margins: r_i, m_i, c_i - row_i, c_i + row_i of rows, x_j, q_j, c_j - col_j, c_j + col_j of columns
SCREENED = (Configuration({"BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64}, 8, 3),)  # 128 columns spill with labels
UNSPECIALISED = (*SIZES, "size", "share", "begin")
PAIRS = 65535  # a grid's third axis has no more


class Stack(NamedTuple):
    """S samples one after the other: rows (flat) bfloat16, padded, start (S,) int64 of each sample's first number, width (S,)
    int32; margins (S, FIELDS, N) float32."""

    rows: Tensor
    start: Tensor
    width: Tensor
    margins: Tensor

    @property
    def size(self) -> int:
        """N."""
        return self.margins.shape[-1]


class Pairs(NamedTuple):
    """samples (T, 2) int32: which of the stack are paired; factors (T, 2) float32, f of each, or None; labels (N,) and
    partners (T, N) int32 or None, equal ones are inadmissible, as are |i - j| <= window; n rows."""

    samples: Tensor
    factors: Tensor | None
    labels: Tensor | None
    partners: Tensor | None
    window: int
    n: int


class Cut(NamedTuple):
    """rows of a program; columns of which its share is a multiple; held: bins of a row that a program makes, or the most
    columns that one entry of a list stands for."""

    rows: int
    columns: int
    held: int


def screened_needs(tile: Configuration) -> Need:
    """Three tiles of float32 (products, one sample's bounds, the bins) and the stages of two operands."""
    n, m, d = (tile.blocks[name] for name in ("BLOCK_N", "BLOCK_M", "BLOCK_D"))
    return Need(3 * n * m, tile.stages * 2 * d * (n + m))


@triton.jit
def side_of(rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, which, rows, size, SIGN: tl.constexpr):
    """What the bounds of one sample (of the pair's two, which) read: its rows and their width, the margins of its columns,
    f, and of the program's rows +-r_i, +-m_i, f (c_i +- row_i)."""
    sample, factor = tl.load(pair_ptr + which), tl.load(factor_ptr + which)
    margin_ptr += tl.cast(sample, tl.int64) * size * 8
    near, far = SIGN * tl.load(margin_ptr + rows), SIGN * tl.load(margin_ptr + size + rows)
    edge = 2 if SIGN < 0 else 3
    base = tl.load(margin_ptr + edge * size + rows) * factor
    start = tl.multiple_of(tl.load(start_ptr + sample), 64)
    width = tl.multiple_of(tl.load(width_ptr + sample), 64)
    return rows_ptr + start, width, margin_ptr + 4 * size, margin_ptr + (4 + edge) * size, factor, near, far, base


@triton.jit
def tile_bounds(side, row, start, size, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """(BLOCK_N, BLOCK_M) bounds of one sample's keys, in the pair's unit."""
    rows_ptr, width, near_ptr, edge_ptr, factor, near_i, far_i, base = side
    dot = products(rows_ptr, rows_ptr, row, start, width, BLOCK_N, BLOCK_M, BLOCK_D)
    cols = tl.arange(0, BLOCK_M) + start
    near, far = tl.load(near_ptr + cols)[None, :], tl.load(near_ptr + size + cols)[None, :]
    margin = near_i[:, None] * near + (far_i[:, None] * far + tl.load(edge_ptr + cols)[None, :])
    return (margin - 2.0 * dot) * factor + base[:, None]


@triton.jit
def labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS: tl.constexpr, PARTNERS: tl.constexpr):
    """(label, partner, address of the pair's partners); where a flag is off nobody reads them."""
    label = tl.load(label_ptr + rows) if LABELS else rows
    if PARTNERS:
        partner_ptr += tl.cast(pair, tl.int64) * size
    partner = tl.load(partner_ptr + rows) if PARTNERS else rows
    return label, partner, partner_ptr


@triton.jit
def pairing(rows, cols, labels, label_ptr, window, LABELS: tl.constexpr, PARTNERS: tl.constexpr):
    """Who is admissible, by the labels of both samples."""
    label, partner, partner_ptr = labels
    keep = admissible(rows, cols, label, label_ptr, window, True, LABELS)
    if PARTNERS:
        keep = keep & (partner[:, None] != tl.load(partner_ptr + cols)[None, :])
    return keep


@triton.jit
def append(keep, start, columns_ptr, first, count, limit, BLOCK_M: tl.constexpr):
    """Adds the kept columns of a tile to the rows' lists, one of each row at a time: few are kept. The new numbers."""
    code = tl.where(keep, tl.arange(0, BLOCK_M)[None, :], BLOCK_M)
    place = tl.min(code, axis=1)
    while tl.min(place, axis=0) < BLOCK_M:
        found = place < BLOCK_M
        tl.store(columns_ptr + first + count, start + place, mask=found & (count < limit))
        count += found.to(tl.int32)
        place = tl.min(tl.where(code > place[:, None], code, BLOCK_M), axis=1)
    return count


@triton.jit
def store_bins(best, best_ptr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    width = tl.num_programs(1) * BLOCK_M
    at = tl.arange(0, BLOCK_N)[:, None] * width + tl.arange(0, BLOCK_M)[None, :]
    tl.store(best_ptr + first_row(BLOCK_N) * width + tl.program_id(1) * BLOCK_M + at, best)


@triton.jit
def first_row(BLOCK_N: tl.constexpr):
    """The place of the program's first row among the rows of all pairs, of which those of a pair fill whole programs."""
    return (tl.program_id(2).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * BLOCK_N


@triton.jit(do_not_specialize=UNSPECIALISED)
def screened_bounds_kernel(
    rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, label_ptr, partner_ptr, best_ptr,
    n, size, window, share, begin, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    x = side_of(rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, 2 * pair, rows, size, 1)
    y = side_of(rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, 2 * pair + 1, rows, size, 1)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), dtype=tl.float32)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        keep = pairing(rows, tl.arange(0, BLOCK_M) + start, labels, label_ptr, window, LABELS, PARTNERS)
        upper = tl.where(keep, tile_bounds(x, row, start, size, BLOCK_N, BLOCK_M, BLOCK_D), float("inf"))
        upper = larger(upper, tile_bounds(y, row, start, size, BLOCK_N, BLOCK_M, BLOCK_D))
        best = tl.where(upper < best, upper, best)  # NaN is never below
    store_bins(best, best_ptr, BLOCK_N, BLOCK_M)


@triton.jit(do_not_specialize=UNSPECIALISED)
def screened_lists_kernel(
    rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, label_ptr, partner_ptr, top_ptr,
    columns_ptr, count_ptr, n, size, window, share, begin, limit, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    x = side_of(rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, 2 * pair, rows, size, -1)
    y = side_of(rows_ptr, start_ptr, width_ptr, margin_ptr, pair_ptr, factor_ptr, 2 * pair + 1, rows, size, -1)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    here, lists = first_row(BLOCK_N), tl.num_programs(1)
    top = tl.load(top_ptr + here + tl.arange(0, BLOCK_N))[:, None]
    columns_ptr += (here * lists + split) * limit
    first = tl.arange(0, BLOCK_N) * (lists * limit)
    count = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        keep = pairing(rows, tl.arange(0, BLOCK_M) + start, labels, label_ptr, window, LABELS, PARTNERS)
        lower = tile_bounds(x, row, start, size, BLOCK_N, BLOCK_M, BLOCK_D)
        keep = keep & ((lower > top) == 0)  # dropped only where truly greater
        lower = tile_bounds(y, row, start, size, BLOCK_N, BLOCK_M, BLOCK_D)
        keep = keep & ((lower > top) == 0)
        count = append(keep, start, columns_ptr, first, count, limit, BLOCK_M)
    tl.store(count_ptr + here * lists + split + tl.arange(0, BLOCK_N) * lists, count)


def bounds(stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range) -> Tensor:
    """best (T, R, bins) float32 in the pair's unit; kind: sqeuclidean."""
    tile = _tile(stack)
    shape = pairs.samples.shape[0], height(rows, tile["BLOCK_N"]), splits * tile["BLOCK_M"]
    best = torch.empty(shape, dtype=torch.float32, device=stack.rows.device)
    _launch(screened_bounds_kernel, stack, pairs, (best,), (), splits, rows)
    return best


def top_of(best: Tensor) -> Tensor:
    """From a least upper bound to what no lower bound within it exceeds: twice what float32 loses of a bound. A row with
    fewer finite bins than wanted keeps every admissible column."""
    wide = best.to(torch.float64)
    return (wide + wide.abs() * 2.0**-20).clamp_max(torch.finfo(torch.float32).max).to(torch.float32)


def lists(
    stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range, top: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """(columns (T, R, splits, limit), their number (T, R, splits)); top (T, R) float32; kind: sqeuclidean."""
    columns = torch.empty(*top.shape, splits, limit, dtype=torch.int32, device=top.device)
    count = torch.empty(columns.shape[:3], dtype=torch.int32, device=top.device)
    _launch(screened_lists_kernel, stack, pairs, (top.contiguous(), columns, count), (limit,), splits, rows)
    return columns, count


def columns_of(listed: Tensor) -> tuple[Tensor, Tensor]:
    """(which entry, column) int64 of every column in entries (C,) of lists: here one each."""
    return torch.arange(listed.shape[0], device=listed.device), listed.to(torch.int64)


def cuts(stack: Stack) -> tuple[Cut, Cut]:
    """How a launch cuts rows and columns, for bounds and for lists."""
    tile = _tile(stack)
    bins = Cut(tile["BLOCK_N"], tile["BLOCK_M"], tile["BLOCK_M"])
    return bins, bins._replace(held=1)


def height(rows: range, unit: int) -> int:
    """R."""
    return len(rows) + -len(rows) % unit


def _tile(stack: Stack) -> dict[str, Any]:
    return launched(SCREENED, screened_needs, stack.rows.device)


def _launch(
    kernel: Any,
    stack: Stack,
    pairs: Pairs,
    tensors: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    splits: int,
    rows: range,
) -> None:
    """One program a block of rows, split and pair."""
    tile = _tile(stack)
    flags = {"LABELS": pairs.labels is not None, "PARTNERS": pairs.partners is not None}
    samples = stack.rows, stack.start, stack.width, stack.margins, pairs.samples, pairs.factors
    labels = [pairs.samples if each is None else each for each in (pairs.labels, pairs.partners)]
    _, share = split(pairs.n, tile["BLOCK_M"], splits)
    grid = (height(rows, tile["BLOCK_N"]) // tile["BLOCK_N"], splits, pairs.samples.shape[0])
    numbers = pairs.n, stack.size, pairs.window, share, rows.start, *sizes
    kernel[grid](*samples, *labels, *tensors, *numbers, **flags, **tile, **FUSED)
