# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, misc"
# Triton's tuples grow by addition, which both complain of.
"""KSG's neighbours in the joint space by canonical keys, in few coordinates or under chebyshev; the rest of ksg.py.

bounds  best (T, R, bins) int32: the upper half of the bits of the least joint key of each bin, EMPTY for none. Keys are no
        less than +0.0, so that their bits are in their order, and NaN is above all: an integer maximum joins two keys, and an
        integer minimum keeps the least, one operation each. A key is at most the number whose lower half is all ones.
lists   words (T, R, splits, limit) int64 and their number (T, R, splits) int32: bits 32.. are WORD adjacent columns, those
        whose keys are at most top (T, R) float64 in both samples, the lower half is the number of the word; ascending, words
        without a column are not there. Where the number exceeds limit the list is not complete.

low_bounds, low_lists     at most FEW coordinates in either sample, known to the compiler as X and Y: a thread owns whole rows
                          and walks over the columns one by one, as in direct.py. Rows (N, X) and (N, Y).
tile_bounds, tile_lists   chebyshev in more: a program owns a tile and walks over the coordinates. Rows (d, N).

Rows beyond n are NaN: nobody's neighbours, so that nothing loaded is masked. A sample of fewer coordinates than its
side's X or Y has zeros for the rest, which change no bit of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .direct import FEW, LOW_ROWS, LOW_TILES, UNROLL, all_within, few_key
from .ksg import UNSPECIALISED, Cut, Pairs, first_row, height, labels_of, pairing
from .resources import EXACT, MOST_REGISTERS, Configuration, Need, launched
from .screen import WORD, set_bits, split, words_of

TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 128}, 8, registers=168),)
_OLDER, _NEWER = (80, 86, 89), (90, 100, 120)
# Without the limit, the compiler spills some shapes for one more resident program.
LOW = tuple(each._replace(registers=MOST_REGISTERS) for each in LOW_TILES)
BINS = tl.constexpr(4)  # of a program's row in few coordinates
EMPTY = tl.constexpr(0x7FF00000)  # infinity


class Stack(NamedTuple):
    """S samples one after the other: rows (flat) float64, start (S,) int64 of each sample's first number, width (S,) int32;
    N; few: (X, Y), or None where samples are read by tiles."""

    rows: Tensor
    start: Tensor
    width: Tensor
    size: int
    few: tuple[int, int] | None


@triton.jit
def upper_half(key):
    """The upper 32 bits of float64 numbers."""
    return (key.to(tl.uint64, bitcast=True) >> 32).to(tl.uint32)


@triton.jit
def half_key(xs, ys, KIND: tl.constexpr, WIDTH: tl.constexpr):
    """The upper half of the keys of rows whose coordinates are the tuples xs and ys."""
    if KIND == "chebyshev":
        half = upper_half(tl.abs(xs[0] - ys[0]))
        for c in tl.static_range(1, WIDTH):
            half = tl.maximum(half, upper_half(tl.abs(xs[c] - ys[c])))
    else:
        half = upper_half(few_key(xs, ys, 1.0, 1.0, KIND, 0, WIDTH))
    return half


@triton.jit
def is_near(xs, ys, top, KIND: tl.constexpr, WIDTH: tl.constexpr):
    return all_within(xs, ys, top, WIDTH) if KIND == "chebyshev" else few_key(xs, ys, 1.0, 1.0, KIND, 0, WIDTH) <= top


@triton.jit
def coordinates(at, WIDTH: tl.constexpr):
    """A tuple of WIDTH."""
    values = ()
    for c in tl.static_range(WIDTH):
        values = values + (tl.load(at + c),)
    return values


@triton.jit
def sample_at(rows_ptr, start_ptr, pair_ptr, which):
    return rows_ptr + tl.load(start_ptr + tl.load(pair_ptr + which))


@triton.jit
def cut_at_own(row, n, window, share, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """(first, near, far, last), multiples of UNIT: the program's columns, of which near .. far - 1 alone may be
    inadmissible by their index."""
    first = tl.program_id(1) * share
    last = tl.maximum(first, tl.minimum(tl.cdiv(n, UNIT) * UNIT, first + share))
    near = tl.minimum(tl.maximum((row - window) // UNIT * UNIT, first), last)
    far = tl.minimum(tl.maximum(tl.cdiv(row + BLOCK + window, UNIT) * UNIT, near), last)
    return first, near, far, last


@triton.jit
def kept(rows, j, labels, label_ptr, window, OWN: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr):
    """Whether column j is admissible, where one of the flags is on."""
    label, partner, partner_ptr = labels
    keep = rows >= 0
    if OWN:
        keep = tl.abs(rows - j) > window
    if LABELS:
        keep = keep & (label != tl.load(label_ptr + j))
    if PARTNERS:
        keep = keep & (partner != tl.load(partner_ptr + j))
    return keep


@triton.jit
def least(
    best, rows, xs, ys, x_ptr, y_ptr, labels, label_ptr, first, last, window,
    KIND: tl.constexpr, X: tl.constexpr, Y: tl.constexpr,
    OWN: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
):  # fmt: skip
    """best, a tuple of BINS, with the columns first .. last - 1."""
    x_at, y_at = x_ptr + tl.cast(first, tl.int64) * X, y_ptr + tl.cast(first, tl.int64) * Y
    for start in tl.range(first, last, BINS):
        more = ()
        for b in tl.static_range(BINS):
            half = half_key(xs, coordinates(x_at + b * X, X), KIND, X)
            half = tl.maximum(half, half_key(ys, coordinates(y_at + b * Y, Y), KIND, Y))
            if OWN or LABELS or PARTNERS:
                half = tl.where(kept(rows, start + b, labels, label_ptr, window, OWN, LABELS, PARTNERS), half, EMPTY)
            more = more + (tl.minimum(best[b], half),)
        best = more
        x_at += BINS * X
        y_at += BINS * Y
    return best


@triton.jit(do_not_specialize=UNSPECIALISED)
def low_bounds_kernel(
    rows_ptr, start_ptr, pair_ptr, label_ptr, partner_ptr, best_ptr, n, size, window, share, begin,
    KIND: tl.constexpr, X: tl.constexpr, Y: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row, pair = begin + tl.program_id(0) * BLOCK, tl.program_id(2)
    rows = row + tl.arange(0, BLOCK)
    x_ptr = sample_at(rows_ptr, start_ptr, pair_ptr, 2 * pair)
    y_ptr = sample_at(rows_ptr, start_ptr, pair_ptr, 2 * pair + 1)
    xs, ys = coordinates(x_ptr + rows.to(tl.int64) * X, X), coordinates(y_ptr + rows.to(tl.int64) * Y, Y)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    best = ()
    for _ in tl.static_range(BINS):
        best = best + (tl.full((BLOCK,), EMPTY, tl.uint32),)
    first, near, far, last = cut_at_own(row, n, window, share, BINS, BLOCK)
    best = least(
        best, rows, xs, ys, x_ptr, y_ptr, labels, label_ptr, first, near, window, KIND, X, Y, False, LABELS, PARTNERS
    )
    best = least(
        best, rows, xs, ys, x_ptr, y_ptr, labels, label_ptr, near, far, window, KIND, X, Y, True, LABELS, PARTNERS
    )
    best = least(
        best, rows, xs, ys, x_ptr, y_ptr, labels, label_ptr, far, last, window, KIND, X, Y, False, LABELS, PARTNERS
    )
    width = tl.num_programs(1) * BINS
    at = best_ptr + first_row(BLOCK) * width + tl.program_id(1) * BINS
    for b in tl.static_range(BINS):
        tl.store(at + tl.arange(0, BLOCK) * tl.cast(width, tl.int64) + b, best[b].to(tl.int32, bitcast=True))


@triton.jit
def listed(
    count, words_ptr, rows, xs, ys, top, x_ptr, y_ptr, labels, label_ptr, first, last, window, limit,
    KIND: tl.constexpr, X: tl.constexpr, Y: tl.constexpr,
    OWN: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
):  # fmt: skip
    """The rows' lists, at words_ptr, with the columns first .. last - 1: their new lengths."""
    x_at, y_at = x_ptr + tl.cast(first, tl.int64) * X, y_ptr + tl.cast(first, tl.int64) * Y
    for start in tl.range(first, last, WORD):
        word, one = tl.zeros_like(count), tl.full((1,), 1, tl.int32)
        for b in tl.range(0, WORD, loop_unroll_factor=UNROLL):
            near = is_near(xs, coordinates(x_at, X), top, KIND, X) & is_near(ys, coordinates(y_at, Y), top, KIND, Y)
            if OWN or LABELS or PARTNERS:
                near = near & kept(rows, start + b, labels, label_ptr, window, OWN, LABELS, PARTNERS)
            word = tl.where(near, word | (one << b), word)
            x_at += X
            y_at += Y
        found = word != 0
        entry = (word.to(tl.int64) << 32) | tl.cast(start // WORD, tl.int64)
        tl.store(words_ptr + count, entry, mask=found & (count < limit))
        count += found.to(tl.int32)
    return count


@triton.jit(do_not_specialize=UNSPECIALISED)
def low_lists_kernel(
    rows_ptr, start_ptr, pair_ptr, label_ptr, partner_ptr, top_ptr, words_ptr, count_ptr,
    n, size, window, share, begin, limit,
    KIND: tl.constexpr, X: tl.constexpr, Y: tl.constexpr, LABELS: tl.constexpr, PARTNERS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row, pair = begin + tl.program_id(0) * BLOCK, tl.program_id(2)
    rows = row + tl.arange(0, BLOCK)
    x_ptr = sample_at(rows_ptr, start_ptr, pair_ptr, 2 * pair)
    y_ptr = sample_at(rows_ptr, start_ptr, pair_ptr, 2 * pair + 1)
    xs, ys = coordinates(x_ptr + rows.to(tl.int64) * X, X), coordinates(y_ptr + rows.to(tl.int64) * Y, Y)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    here = first_row(BLOCK) + tl.arange(0, BLOCK)
    top = tl.load(top_ptr + here)
    place = here * tl.num_programs(1) + tl.program_id(1)
    words = words_ptr + place * limit
    count = tl.zeros((BLOCK,), tl.int32)
    first, near, far, last = cut_at_own(row, n, window, share, WORD, BLOCK)
    count = listed(
        count, words, rows, xs, ys, top, x_ptr, y_ptr, labels, label_ptr, first, near, window, limit,
        KIND, X, Y, False, LABELS, PARTNERS,
    )  # fmt: skip
    count = listed(
        count, words, rows, xs, ys, top, x_ptr, y_ptr, labels, label_ptr, near, far, window, limit,
        KIND, X, Y, True, LABELS, PARTNERS,
    )  # fmt: skip
    count = listed(
        count, words, rows, xs, ys, top, x_ptr, y_ptr, labels, label_ptr, far, last, window, limit,
        KIND, X, Y, False, LABELS, PARTNERS,
    )  # fmt: skip
    tl.store(count_ptr + place, count)


@triton.jit
def tile_halves(half, rows_ptr, start_ptr, width_ptr, pair_ptr, which, i, j, size):
    """half (BLOCK_N, BLOCK_M), or the upper half of one sample's keys where that is larger."""
    at = sample_at(rows_ptr, start_ptr, pair_ptr, which)
    for _ in range(tl.load(width_ptr + tl.load(pair_ptr + which))):
        half = tl.maximum(half, upper_half(tl.abs(tl.load(at + i) - tl.load(at + j))))
        at += size
    return half


@triton.jit
def tile_near(near, rows_ptr, start_ptr, width_ptr, pair_ptr, which, i, j, size, top):
    """near (BLOCK_N, BLOCK_M) and the keys of one sample at most top (BLOCK_N, 1)."""
    at = sample_at(rows_ptr, start_ptr, pair_ptr, which)
    for _ in range(tl.load(width_ptr + tl.load(pair_ptr + which))):
        near = near & (tl.abs(tl.load(at + i) - tl.load(at + j)) <= top)
        at += size
    return near


@triton.jit(do_not_specialize=UNSPECIALISED)
def tile_bounds_kernel(
    rows_ptr, start_ptr, width_ptr, pair_ptr, label_ptr, partner_ptr, best_ptr, n, size, window, share, begin,
    LABELS: tl.constexpr, PARTNERS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    best = tl.full((BLOCK_N, BLOCK_M), EMPTY, tl.uint32)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        i, j = rows[:, None], cols[None, :]
        half = tl.zeros((BLOCK_N, BLOCK_M), tl.uint32)
        half = tile_halves(half, rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair, i, j, size)
        half = tile_halves(half, rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair + 1, i, j, size)
        keep = pairing(rows, cols, labels, label_ptr, window, LABELS, PARTNERS)
        best = tl.minimum(best, tl.where(keep, half, EMPTY))
    width = tl.num_programs(1) * BLOCK_M
    at = tl.arange(0, BLOCK_N)[:, None] * width + tl.arange(0, BLOCK_M)[None, :]
    tl.store(best_ptr + first_row(BLOCK_N) * width + split * BLOCK_M + at, best.to(tl.int32, bitcast=True))


@triton.jit(do_not_specialize=UNSPECIALISED)
def tile_lists_kernel(
    rows_ptr, start_ptr, width_ptr, pair_ptr, label_ptr, partner_ptr, top_ptr, words_ptr, count_ptr,
    n, size, window, share, begin, limit,
    LABELS: tl.constexpr, PARTNERS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row, split, pair = begin + tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    rows = row + tl.arange(0, BLOCK_N)
    labels = labels_of(label_ptr, partner_ptr, pair, rows, size, LABELS, PARTNERS)
    WORDS: tl.constexpr = BLOCK_M // WORD
    here = first_row(BLOCK_N) + tl.arange(0, BLOCK_N)
    top = tl.load(top_ptr + here)[:, None]
    place = here * tl.num_programs(1) + split
    words_ptr += (place * limit)[:, None]
    count = tl.zeros((BLOCK_N,), tl.int32)
    for start in range(split * share, tl.minimum(n, (split + 1) * share), BLOCK_M):
        cols = tl.arange(0, BLOCK_M) + start
        i, j = rows[:, None], cols[None, :]
        near = pairing(rows, cols, labels, label_ptr, window, LABELS, PARTNERS)
        near = tile_near(near, rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair, i, j, size, top)
        near = tile_near(near, rows_ptr, start_ptr, width_ptr, pair_ptr, 2 * pair + 1, i, j, size, top)
        word = words_of(near, BLOCK_N, WORDS)
        found = (word != 0).to(tl.int32)
        slot = count[:, None] + tl.cumsum(found, axis=1) - found
        number = tl.cast(start // WORD, tl.int64) + tl.arange(0, WORDS)[None, :]
        tl.store(words_ptr + slot, (word.to(tl.int64) << 32) | number, mask=(word != 0) & (slot < limit))
        count += tl.sum(found, axis=1)
    tl.store(count_ptr + place, count)


def low_tiles(x: int, y: int) -> Sequence[Configuration]:
    """Of bounds and lists alike, which share their blocks. Large blocks of more than one coordinate a side are the exception:
    there newer compilers spill with the limit and not without."""
    if x + y == 2:
        return LOW
    return (LOW[0]._replace(only=_OLDER), LOW[0]._replace(only=_NEWER, registers=None), *LOW[1:])


def low_needs(x: int, y: int) -> Callable[[Configuration], Need]:
    """A row's coordinates, its bins or its bound, word and list; the coordinates of two columns a thread."""
    return lambda tile: Need(tile.blocks["BLOCK"] * (2 * (x + y) + 12) + 128 * 4 * (x + y), 0)


def tile_needs(tile: Configuration) -> Need:
    """A difference, its half and the best of a bin."""
    return Need(8 * tile.blocks["BLOCK_N"] * tile.blocks["BLOCK_M"], 0)


def stacked(samples: Sequence[Tensor], pairs: Sequence[Sequence[int]]) -> Stack:
    """Of samples (n, d_s) float32 or float64, S of them, which are paired as (left, right)."""
    n, widths, device = samples[0].shape[0], [sample.shape[1] for sample in samples], samples[0].device
    few = None
    if max(widths) <= FEW:
        sides = [{pair[side] for pair in pairs} for side in (0, 1)]
        x, y = (max(widths[s] for s in side) for side in sides)
        if sides[0] & sides[1]:
            x = y = max(x, y)
        few = x, y
        widths = [x if s in sides[0] else y for s in range(len(samples))]
    parts = []
    for sample, width in zip(samples, widths, strict=True):
        values = torch.nn.functional.pad(sample.to(torch.float64), (0, width - sample.shape[1]))
        values = torch.nn.functional.pad(values, (0, 0, 0, -n % LOW_ROWS), value=float("nan"))
        parts.append((values if few else values.T).reshape(-1))
    size = n + -n % LOW_ROWS
    ends = torch.tensor(widths).cumsum(0) * size
    start = ends - torch.tensor(widths) * size
    return Stack(torch.cat(parts), start.to(device), torch.tensor(widths, dtype=torch.int32, device=device), size, few)


def cuts(stack: Stack) -> tuple[Cut, Cut]:
    """How a launch cuts rows and columns, for bounds and for lists."""
    tile = _tile(stack)
    if stack.few:
        return Cut(tile["BLOCK"], BINS.value, BINS.value), Cut(tile["BLOCK"], WORD.value, WORD.value)
    return Cut(tile["BLOCK_N"], tile["BLOCK_M"], tile["BLOCK_M"]), Cut(tile["BLOCK_N"], tile["BLOCK_M"], WORD.value)


def bounds(stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range) -> Tensor:
    """best (T, R, bins)."""
    cut = cuts(stack)[0]
    shape = pairs.samples.shape[0], height(rows, cut.rows), splits * cut.held
    best = torch.empty(shape, dtype=torch.int32, device=stack.rows.device)
    kernel = low_bounds_kernel if stack.few else tile_bounds_kernel
    _launch(kernel, stack, pairs, kind, (best,), (), splits, cut, rows)
    return best


def top_of(best: Tensor) -> Tensor:
    """The largest keys with this upper half, float64."""
    most = ((best.to(torch.int64) << 32) | 0xFFFFFFFF).view(torch.float64)
    return torch.where(best >= EMPTY.value, float("inf"), most)


def lists(
    stack: Stack, pairs: Pairs, kind: str, splits: int, rows: range, top: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """(words (T, R, splits, limit), their number (T, R, splits)); top (T, R) float64."""
    words = torch.empty(*top.shape, splits, limit, dtype=torch.int64, device=top.device)
    count = torch.empty(words.shape[:3], dtype=torch.int32, device=top.device)
    kernel = low_lists_kernel if stack.few else tile_lists_kernel
    _launch(kernel, stack, pairs, kind, (top.contiguous(), words, count), (limit,), splits, cuts(stack)[1], rows)
    return words, count


def columns_of(words: Tensor) -> tuple[Tensor, Tensor]:
    """(which word, column) int64 of every column in words (C,)."""
    which, bit = set_bits(words >> 32)
    return which, (words[which] & 0xFFFFFFFF) * WORD.value + bit


def _tile(stack: Stack) -> dict[str, Any]:
    if stack.few:
        return launched(low_tiles(*stack.few), low_needs(*stack.few), stack.rows.device)
    return launched(TILES, tile_needs, stack.rows.device)


def _launch(
    kernel: Any,
    stack: Stack,
    pairs: Pairs,
    kind: str,
    tensors: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    splits: int,
    cut: Cut,
    rows: range,
) -> None:
    """One program a block of rows, split and pair."""
    flags: dict[str, Any] = {"LABELS": pairs.labels is not None, "PARTNERS": pairs.partners is not None}
    samples: tuple[Tensor, ...] = stack.rows, stack.start, stack.width
    if stack.few:
        samples = samples[:2]
        flags |= {"KIND": kind, "X": stack.few[0], "Y": stack.few[1]}
    labels = [pairs.samples if each is None else each for each in (pairs.labels, pairs.partners)]
    _, share = split(pairs.n, cut.columns, splits)
    grid = (height(rows, cut.rows) // cut.rows, splits, pairs.samples.shape[0])
    numbers = pairs.n, stack.size, pairs.window, share, rows.start, *sizes
    kernel[grid](*samples, pairs.samples, *labels, *tensors, *numbers, **flags, **_tile(stack), **EXACT)
