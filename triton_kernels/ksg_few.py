# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, misc"
# Triton's tuples grow by addition, which both complain of.
"""KSG's joint neighbours by canonical keys in few coordinates: `bounds` and `lists` of ksg_exact.py.

At most FEW coordinates in either sample, known to the compiler as X and Y: a thread owns whole rows and walks over the columns
one by one, as in few_coordinates.py. Rows (N, X) and (N, Y), those beyond n NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import triton
import triton.language as tl

from . import few_coordinates
from .few_coordinates import UNROLL, all_within, few_key
from .ksg import UNSPECIALISED, first_row, labels_of
from .resources import MOST_REGISTERS, Configuration, Need
from .screen import WORD

_OLDER, _NEWER = (80, 86, 89), (90, 100, 120)
# Without the limit, the compiler spills some shapes for one more resident program.
TILES = tuple(each._replace(registers=MOST_REGISTERS) for each in few_coordinates.TILES)
BINS = tl.constexpr(4)  # of a program's row
EMPTY = tl.constexpr(0x7FF00000)  # infinity


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


def tiles(x: int, y: int) -> Sequence[Configuration]:
    """Of bounds and lists alike, which share their blocks. Large blocks of more than one coordinate a side are the exception:
    there newer compilers spill with the limit and not without."""
    if x + y == 2:
        return TILES
    return (TILES[0]._replace(only=_OLDER, since=(3, 9)), TILES[0]._replace(only=_NEWER, registers=None), *TILES[1:])


def needs(x: int, y: int) -> Callable[[Configuration], Need]:
    """A row's coordinates, its bins or its bound, word and list; the coordinates of two columns a thread."""
    return lambda tile: Need(tile.blocks["BLOCK"] * (2 * (x + y) + 12) + 128 * 4 * (x + y), 0)
