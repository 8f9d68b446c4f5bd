"""KSG's neighbours in the joint space of two samples, and its counts in each: kernels that never write an n x n tile.

T pairs of samples of n rows each, all from one stack of S samples; the joint key of a pair of rows is the larger of its two
canonical keys. Programs: (block of rows, split of the columns, pair of samples), pairs at most PAIRS at a time. N is n up to a
multiple of screen.ROWS. Bounds and lists are made of R rows from a first one on, up to a multiple of a tile.

screened_bounds, screened_lists    euclidean: intervals of both keys from two products a tile (triton_kernels/screen.py):
                                   f (c_j -+ col_j -+ r_i x_j -+ m_i q_j - 2 b_i.b_j) + f (c_i -+ row_i), where f brings both
                                   samples to one unit. Rounding is relative to the terms, which margins have room for.
exact_bounds, exact_lists          any kernel: the canonical float64 keys themselves, in registers
exact_counts                       canonical keys up to a threshold, of both samples in one sweep

bounds  best (T, R, splits BLOCK_M): the least upper bound of the joint key among the admissible columns of each bin.
        Column j of a tile belongs to bin j of its split. Bins are disjoint: the k-th least of a row is a bound of its
        k-th neighbour.
lists   columns (T, R, splits, limit) int32, ascending, whose joint key is not surely above top (T, R), and their number
        (T, R, splits) int32, which may exceed limit: the list is then not complete. A program owns its lists, so that
        nothing is shared and nothing is added atomically.
counts  (2, T, N, K) int32: admissible columns whose key is at most threshold (2, T, N, K) float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .keys import larger, row_keys
from .resources import EXACT, FUSED, Configuration, Need, launched
from .screen import ROWS, SIZES, admissible, products, split

FIELDS = 8  # of a sample's margins: r_i, m_i, c_i - row_i, c_i + row_i of rows, x_j, q_j, c_j - col_j, c_j + col_j of columns
SCREENED = (Configuration({"BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64}, 8, 3),)  # 128 columns spill with labels
EXACT_TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 16}, 8, registers=96),)  # one key a thread
UNSPECIALISED = (*SIZES, "size", "share", "levels", "begin")
PAIRS = 65535  # a grid's third axis has no more


class Stack(NamedTuple):
    """S samples one after the other: rows (flat), start (S,) int64 of each sample's first number, width (S,) int32;
    margins (S, FIELDS, N) float32 for the screened kernels, whose rows are bfloat16 and padded, else None."""

    rows: Tensor
    start: Tensor
    width: Tensor
    margins: Tensor | None = None


class Pairs(NamedTuple):
    """samples (T, 2) int32: which of the stack are paired; factors (T, 2) float32, f of each, or None; labels (N,) and
    partners (T, N) int32 or None, equal ones are inadmissible, as are |i - j| <= window; n rows."""

    samples: Tensor
    factors: Tensor | None
    labels: Tensor | None
    partners: Tensor | None
    window: int
    n: int

    @property
    def size(self) -> int:
        """N."""
        return self.n + -self.n % ROWS


def screened_needs(tile: Configuration) -> Need:
    """Three tiles of float32 (products, one sample's bounds, the bins) and the stages of two operands."""
    n, m, d = (tile.blocks[name] for name in ("BLOCK_N", "BLOCK_M", "BLOCK_D"))
    return Need(3 * n * m, tile.stages * 2 * d * (n + m))


def exact_needs(tile: Configuration) -> Need:
    """Eight lanes of float64 beside the other sample's key and the bins."""
    return Need(20 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


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


@triton.jit
def tile_keys(
    rows_ptr, start_ptr, width_ptr, pair_ptr, which, rows, cols, n, KIND: tl.constexpr
):  # fmt: skip
    """Canonical keys (BLOCK_N, BLOCK_M) of one sample of the pair's two."""
    sample = tl.load(pair_ptr + which)
    rows_ptr += tl.load(start_ptr + sample)
    d = tl.load(width_ptr + sample)
    i, j = rows.to(tl.int64)[:, None] * d, cols.to(tl.int64)[None, :] * d
    keep_i, keep_j = (rows < n)[:, None], (cols < n)[None, :]
    return row_keys(rows_ptr, rows_ptr, i, j, keep_i, keep_j, 1.0, 1.0, d, KIND, 0)


@triton.jit(do_not_specialize=UNSPECIALISED)
def exact_bounds_kernel(
    rows_ptr, start_ptr, width_ptr, pair_ptr, label_ptr, partner_ptr, best_ptr, n, size, window, share, begin,
    KIND: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    best = tl.full((BLOCK_N, BLOCK_M), float("inf"), dtype=tl.float64)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        x = tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair, rows, cols, n, KIND)
        joint = larger(x, tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair + 1, rows, cols, n, KIND))
        keep = pairing(rows, cols, labels, label_ptr, window, LABELS, PARTNERS) & (cols < n)[None, :]
        best = tl.where(keep & (joint < best), joint, best)
    store_bins(best, best_ptr, BLOCK_N, BLOCK_M)


@triton.jit(do_not_specialize=UNSPECIALISED)
def exact_lists_kernel(
    rows_ptr, start_ptr, width_ptr, pair_ptr, label_ptr, partner_ptr, top_ptr, columns_ptr, count_ptr,
    n, size, window, share, begin, limit,
    KIND: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    here, lists = first_row(BLOCK_N), tl.num_programs(1)
    top = tl.load(top_ptr + here + tl.arange(0, BLOCK_N))[:, None]
    columns_ptr += (here * lists + split) * limit
    first = tl.arange(0, BLOCK_N) * (lists * limit)
    count = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        near = tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair, rows, cols, n, KIND) <= top
        near = near & (tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair + 1, rows, cols, n, KIND) <= top)
        keep = pairing(rows, cols, labels, label_ptr, window, LABELS, PARTNERS) & (cols < n)[None, :]
        count = append(keep & near, start, columns_ptr, first, count, limit, BLOCK_M)
    tl.store(count_ptr + here * lists + split + tl.arange(0, BLOCK_N) * lists, count)


@triton.jit(do_not_specialize=UNSPECIALISED)
def exact_counts_kernel(
    rows_ptr, start_ptr, width_ptr, pair_ptr, label_ptr, partner_ptr, threshold_ptr, count_ptr,
    n, size, window, share, begin, levels,
    KIND: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    at = (tl.cast(pair, tl.int64) * size + row) * levels + tl.arange(0, BLOCK_N) * levels
    other = at + tl.num_programs(2).to(tl.int64) * size * levels  # of y
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        x = tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair, rows, cols, n, KIND)
        y = tile_keys(rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair + 1, rows, cols, n, KIND)
        keep = pairing(rows, cols, labels, label_ptr, window, LABELS, PARTNERS) & (cols < n)[None, :]
        for level in range(levels):
            x_hit = keep & (x <= tl.load(threshold_ptr + at + level)[:, None])
            y_hit = keep & (y <= tl.load(threshold_ptr + other + level)[:, None])
            tl.atomic_add(count_ptr + at + level, tl.sum(x_hit.to(tl.int32), axis=1), sem="relaxed")
            tl.atomic_add(count_ptr + other + level, tl.sum(y_hit.to(tl.int32), axis=1), sem="relaxed")


def bounds_kernel(stack: Stack) -> Any:
    """Which kernel bounds the joint keys of this stack."""
    return screened_bounds_kernel if stack.margins is not None else exact_bounds_kernel


def bounds(stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range) -> Tensor:
    """best (T, R, bins): float32 in the pair's unit from a stack with margins, else float64 canonical keys of this kind."""
    kernel = bounds_kernel(stack)
    tile = tile_of(kernel, stack.rows.device)
    dtype = torch.float32 if stack.margins is not None else torch.float64
    shape = pairs.samples.shape[0], _height(rows, tile), splits * tile["BLOCK_M"]
    best = torch.empty(shape, dtype=dtype, device=stack.rows.device)
    _launch(kernel, stack, pairs, kind, (best,), (), splits, rows)
    return best


def lists(
    stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range, top: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """(columns (T, R, splits, limit), count (T, R, splits)); top (T, R) of the shape and dtype of `bounds`."""
    columns = torch.empty(*top.shape, splits, limit, dtype=torch.int32, device=top.device)
    count = torch.empty(columns.shape[:3], dtype=torch.int32, device=top.device)
    _launch(lists_kernel(stack), stack, pairs, kind, (top.contiguous(), columns, count), (limit,), splits, rows)
    return columns, count


def lists_kernel(stack: Stack) -> Any:
    """Which kernel lists the columns of this stack."""
    return screened_lists_kernel if stack.margins is not None else exact_lists_kernel


def counts(stack: Stack, pairs: Pairs, kind: str, splits: int, threshold: Tensor) -> Tensor:
    """(2, T, N, K) int32 of a stack without margins; threshold of that shape, float64 contiguous."""
    count = torch.zeros(threshold.shape, dtype=torch.int32, device=threshold.device)
    sizes = (threshold.shape[-1],)
    _launch(exact_counts_kernel, stack, pairs, kind, (threshold, count), sizes, splits, range(pairs.n))
    return count


def tile_of(kernel: Any, device: torch.device) -> dict[str, Any]:
    """The tile of a launch and its options."""
    configurations, needs = TILES[kernel]
    return launched(configurations, needs, device)


def _height(rows: range, tile: dict[str, Any]) -> int:
    """R."""
    return len(rows) + -len(rows) % int(tile["BLOCK_N"])


def _launch(
    kernel: Any,
    stack: Stack,
    pairs: Pairs,
    kind: str,
    tensors: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    splits: int,
    rows: range,
) -> None:
    """One program a block of rows, split and pair."""
    tile = tile_of(kernel, stack.rows.device)
    samples = stack.rows, stack.start, stack.width
    flags = {"LABELS": pairs.labels is not None, "PARTNERS": pairs.partners is not None}
    own: tuple[Tensor | None, ...] = (pairs.samples,)
    options: dict[str, Any] = EXACT | {"KIND": kind}
    if stack.margins is not None:
        own, options = (stack.margins, pairs.samples, pairs.factors), dict(FUSED)
    labels = [pairs.samples if each is None else each for each in (pairs.labels, pairs.partners)]
    _, share = split(pairs.n, tile["BLOCK_M"], splits)
    grid = (_height(rows, tile) // tile["BLOCK_N"], splits, pairs.samples.shape[0])
    numbers = pairs.n, pairs.size, pairs.window, share, rows.start, *sizes
    kernel[grid](*samples, *own, *labels, *tensors, *numbers, **flags, **tile, **options)


TILES = {
    screened_bounds_kernel: (SCREENED, screened_needs),
    screened_lists_kernel: (SCREENED, screened_needs),
    exact_bounds_kernel: (EXACT_TILES, exact_needs),
    exact_lists_kernel: (EXACT_TILES, exact_needs),
    exact_counts_kernel: (EXACT_TILES, exact_needs),
}
