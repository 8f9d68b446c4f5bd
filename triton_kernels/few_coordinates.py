# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, misc"
# Triton's tuples grow by addition, which both complain of.
"""Canonical keys of at most FEW coordinates, a number known to the compiler as WIDTH, and the counts made of them.

counts_low   inside (T, n) int32 += #{admissible j: K_ij <= top_ti}

A thread owns whole queries, their coordinates in registers, and walks over the points one by one: a point is read once for
all queries of a thread, nothing is summed across threads, and a pair costs a subtraction, product and addition a coordinate,
one comparison, one addition. direct.py launches it, and says how operations are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import triton
import triton.language as tl

from .keys import combine_lanes, finish_key, lane_term
from .resources import Configuration, Need
from .screen import SIZES

FEW = 16  # coordinates that fit a thread's registers
RADII = 4  # thresholds a query has in registers
UNROLL = tl.constexpr(4)  # points that the loop takes at once


@triton.jit
def few_key(xs, ys, norm_x, norm_y, KIND: tl.constexpr, P: tl.constexpr, WIDTH: tl.constexpr):
    """The keys of rows whose coordinates are the tuples xs and ys."""
    lanes = ()
    equal = xs[0] == ys[0]
    for lane in tl.static_range(8):
        total = tl.full((1,), -0.0, tl.float64)
        for c in tl.static_range(lane, WIDTH, 8):
            total = lane_term(total, xs[c], ys[c], KIND, P)
            if KIND == "cosine":
                equal = equal & (xs[c] == ys[c])
        lanes = lanes + (total,)
    total = combine_lanes(lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5], lanes[6], lanes[7], KIND)
    return finish_key(total, equal, norm_x, norm_y, KIND)


@triton.jit
def all_within(xs, ys, top, WIDTH: tl.constexpr):
    """Whether every coordinate's difference is at most top: a maximum of float64 takes many operations."""
    inside = tl.abs(xs[0] - ys[0]) <= top
    for c in tl.static_range(1, WIDTH):
        inside = inside & (tl.abs(xs[c] - ys[c]) <= top)
    return inside


@triton.jit
def counted(
    counts, xs, norm_x, tops, own, label, partner, y_ptr, norm_y_ptr, label_ptr, partner_ptr, first, last, window,
    KIND: tl.constexpr, P: tl.constexpr, WIDTH: tl.constexpr, SELF: tl.constexpr, LABELS: tl.constexpr,
    PARTNERS: tl.constexpr, RADII: tl.constexpr,
):  # fmt: skip
    """counts, a tuple of RADII, with the points first .. last - 1."""
    at = y_ptr + tl.cast(first, tl.int64) * WIDTH
    short: tl.constexpr = KIND == "sqeuclidean" or KIND == "inner_product" or P == 1
    together: tl.constexpr = UNROLL if short and not SELF else 1
    for j in tl.range(first, last, loop_unroll_factor=together):
        ys = ()
        for c in tl.static_range(WIDTH):
            ys = ys + (tl.load(at + c),)
        at += WIDTH
        key = xs[0]
        if KIND != "chebyshev":
            norm_y = tl.load(norm_y_ptr + j) if KIND == "cosine" else norm_x
            key = few_key(xs, ys, norm_x, norm_y, KIND, P, WIDTH)
        more = ()
        for t in tl.static_range(RADII):
            inside = all_within(xs, ys, tops[t], WIDTH) if KIND == "chebyshev" else key <= tops[t]
            if SELF:
                inside = inside & (tl.abs(own - j) > window)
            if LABELS:
                inside = inside & (label != tl.load(label_ptr + j))
            if PARTNERS:
                inside = inside & (partner != tl.load(partner_ptr + j))
            more = more + (tl.where(inside, counts[t] + 1, counts[t]),)
        counts = more
    return counts


@triton.jit(do_not_specialize=(*SIZES, "share"))
def counts_low_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, top_ptr, own_ptr, label_i_ptr, label_ptr, partner_ptr, inside_ptr,
    n, m, window, share, KIND: tl.constexpr, P: tl.constexpr, WIDTH: tl.constexpr, SELF: tl.constexpr,
    LABELS: tl.constexpr, PARTNERS: tl.constexpr, RADII: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.cast(n, tl.int64)
    top_ptr += tl.program_id(2) * RADII * n
    inside_ptr += tl.program_id(2) * RADII * n
    xs, tops, counts = (), (), ()
    for c in tl.static_range(WIDTH):
        xs = xs + (tl.load(x_ptr + c * n + rows),)
    for t in tl.static_range(RADII):
        tops = tops + (tl.load(top_ptr + t * n + rows),)
        counts = counts + (tl.zeros((BLOCK,), tl.int32),)
    norm_x = tl.load(norm_x_ptr + rows) if KIND == "cosine" else xs[0]
    label = tl.load(label_i_ptr + rows) if LABELS else rows
    partner = tl.load(partner_ptr + rows) if PARTNERS else rows
    first = tl.program_id(1) * share
    last = tl.minimum(m, first + share)
    if SELF:  # only near the queries themselves is their own column looked for
        own = tl.load(own_ptr + rows)
        near = tl.minimum(tl.maximum(tl.min(own) - window, first), last)
        far = tl.minimum(tl.maximum(tl.max(own) + window + 1, near), last)
        counts = counted(
            counts, xs, norm_x, tops, own, label, partner, y_ptr, norm_y_ptr, label_ptr, partner_ptr, near, far, window,
            KIND, P, WIDTH, True, LABELS, PARTNERS, RADII,
        )  # fmt: skip
        counts = counted(
            counts, xs, norm_x, tops, own, label, partner, y_ptr, norm_y_ptr, label_ptr, partner_ptr, far, last, window,
            KIND, P, WIDTH, False, LABELS, PARTNERS, RADII,
        )  # fmt: skip
        last = near
    counts = counted(
        counts, xs, norm_x, tops, rows, label, partner, y_ptr, norm_y_ptr, label_ptr, partner_ptr, first, last, window,
        KIND, P, WIDTH, False, LABELS, PARTNERS, RADII,
    )  # fmt: skip
    for t in tl.static_range(RADII):
        tl.atomic_add(inside_ptr + t * n + rows, counts[t], sem="relaxed")


TILES = tuple(Configuration({"BLOCK": block}, 4) for block in (1024, 512, 256, 128))
WIDE = 12  # beyond so many coordinates older compilers spill blocks larger than the least
ROWS = 1024  # queries are padded to multiples of it


def tiles(width: int) -> Sequence[Configuration]:
    return TILES if width <= WIDE else (*(each._replace(since=(3, 9)) for each in TILES[:-1]), TILES[-1])


def needs(kind: str, width: int, radii: int) -> Callable[[Configuration], Need]:
    """A query's coordinates, thresholds and counts, and what a division takes; the coordinates of two points a thread."""
    query = 2 * width + 4 + 3 * radii + (24 if kind == "cosine" else 0)
    return lambda tile: Need(tile.blocks["BLOCK"] * query + 128 * 4 * width, 0)
