"""How many pairs have a canonical key between limits: x (n, d), y (m, d), limits (E,) ascending -> counts (E + 1,) int64.

Place b holds the keys with limits[b - 1] <= key < limits[b], the ends open; NaN falls into the last place. Of one set
the pairs i < j count, with j - i > window and unequal labels (n,).

A program owns ROWS rows and a share of the column blocks. A key finds its place by a binary search, a tile's places become a
histogram in the program's own registers, and at the end one integer atomic a place adds it to the counts: integers, whose
order does not matter. One launch counts BINS - 1 places; the last bin takes the pairs that do not count.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .keys import Side, combine_lanes, finish_key, lane_term
from .packed import block_of, kept, pack, shares
from .resources import EXACT, Configuration, Need, launched


@triton.jit
def tile_keys(
    x_ptr, y_ptr, norm_x, norm_y, d, KIND: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """(ROWS, BLOCK) canonical keys, pointers as in packed.squares; norms (ROWS, 1) and (1, BLOCK), read for cosine only."""
    i, j = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    zero = tl.zeros((ROWS, BLOCK), dtype=tl.float64)
    l0, l1, l2, l3, l4, l5, l6, l7 = zero, zero, zero, zero, zero, zero, zero, zero
    equal = zero == zero
    for t in range(0, d, 8):
        for u in tl.static_range(8):
            at = (t + u) * BLOCK
            x, y = tl.load(x_ptr + at + i)[:, None], tl.load(y_ptr + at + j)[None, :]
            if KIND == "cosine":
                equal = equal & (x == y)
            if u == 0:
                l0 = lane_term(l0, x, y, KIND, P)
            elif u == 1:
                l1 = lane_term(l1, x, y, KIND, P)
            elif u == 2:
                l2 = lane_term(l2, x, y, KIND, P)
            elif u == 3:
                l3 = lane_term(l3, x, y, KIND, P)
            elif u == 4:
                l4 = lane_term(l4, x, y, KIND, P)
            elif u == 5:
                l5 = lane_term(l5, x, y, KIND, P)
            elif u == 6:
                l6 = lane_term(l6, x, y, KIND, P)
            else:
                l7 = lane_term(l7, x, y, KIND, P)
    return finish_key(combine_lanes(l0, l1, l2, l3, l4, l5, l6, l7, KIND), equal, norm_x, norm_y, KIND)


@triton.jit(do_not_specialize=("n", "m", "d", "window", "limits", "half", "start", "each"))
def counts_kernel(
    x_ptr, y_ptr, norm_x_ptr, norm_y_ptr, label_ptr, limit_ptr, count_ptr, n, m, d, window, limits, half, start, each,
    KIND: tl.constexpr, P: tl.constexpr, SELF: tl.constexpr, LABELS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    """limit (2 half - 1,) padded with NaN, half a power of two; counts from place `start` on."""
    row, share = tl.program_id(0) * ROWS, tl.program_id(1)
    first = share * each
    stop = tl.minimum(first + each, tl.cdiv(m, BLOCK))
    if SELF:  # blocks left of the diagonal are others'
        first = tl.maximum(first, row // BLOCK)
    i, j, bins = row + tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.arange(0, BINS)
    norm_x = tl.load(norm_x_ptr + i, mask=i < n, other=1.0)[:, None] if KIND == "cosine" else 1.0
    label = tl.load(label_ptr + i, mask=i < n, other=0) if LABELS else i
    left = block_of(x_ptr, row, d, BLOCK)
    found = tl.zeros((BINS,), dtype=tl.int32)
    for tile in range(first, stop):
        col = tile * BLOCK
        norm_y = tl.load(norm_y_ptr + col + j, mask=col + j < m, other=1.0)[None, :] if KIND == "cosine" else 1.0
        key = tile_keys(left, block_of(y_ptr, col, d, BLOCK), norm_x, norm_y, d, KIND, P, ROWS, BLOCK)
        keep = kept(row, col, n, m, False, ROWS, BLOCK)
        if SELF:
            keep = keep & ((col + j)[None, :] - i[:, None] > window)
        if LABELS:
            other = tl.load(label_ptr + col + j, mask=col + j < m, other=0)
            keep = keep & (label[:, None] != other[None, :])
        place = tl.zeros((ROWS, BLOCK), dtype=tl.int32)
        step = half
        while step > 0:
            passed = tl.load(limit_ptr + place + step - 1) <= key
            place += tl.where(passed, step, 0)
            step //= 2
        place = tl.where(key == key, place, limits) - start
        place = tl.where(keep & (place >= 0) & (place < BINS - 1), place, BINS - 1)
        found += tl.histogram(tl.reshape(place, (ROWS * BLOCK,)), BINS)
    asked = (found > 0) & (bins < BINS - 1)  # no place beyond the last limit is ever found
    tl.atomic_add(count_ptr + start + bins, found.to(tl.int64), mask=asked, sem="relaxed")


TILES = (Configuration({"ROWS": 4, "BLOCK": 256, "BINS": 512}, 4),)
# A maximum that keeps NaN, and the comparison of equal rows, take more registers than a sum.
NARROW_TILES = (Configuration({"ROWS": 2, "BLOCK": 256, "BINS": 512}, 4),)


def tiles(kind: str) -> tuple[Configuration, ...]:
    return NARROW_TILES if kind in ("chebyshev", "cosine") else TILES


def needs(tile: Configuration) -> Need:
    """Eight lanes of float64."""
    return Need(16 * tile.blocks["ROWS"] * tile.blocks["BLOCK"], 4 * tile.blocks["BINS"])


def counts(kind: str, x: Side, y: Side | None, labels: Tensor | None, window: int, limits: Tensor) -> Tensor:
    """(E + 1,) int64; kind of keys.KINDS, minkowski left out; y None: a self problem, and only there labels and window."""
    tile = launched(tiles(kind), needs, limits.device)
    left = pack(x[0], tile["BLOCK"])
    right = left if y is None else pack(y[0], tile["BLOCK"])
    other, size = x if y is None else y, limits.shape[0]
    half = 1 << size.bit_length() - 1
    padded = limits.new_full((2 * half - 1,), float("nan"))
    padded[:size] = limits
    found = torch.zeros(size + 1, dtype=torch.int64, device=limits.device)
    n, m = x[0].shape[0], other[0].shape[0]
    programs, each = shares(right.shape[0])
    kind, p = ("minkowski", 1) if kind == "manhattan" else (kind, 0)
    norms = [limits if side[1] is None else side[1] for side in (x, other)]  # pointers have to be tensors
    for start in range(0, size + 1, tile["BINS"] - 1):
        counts_kernel[(triton.cdiv(n, tile["ROWS"]), programs)](
            left, right, *norms, found if labels is None else labels, padded, found, n, m, left.shape[1], window, size,
            half, start, each, KIND=kind, P=p, SELF=y is None, LABELS=labels is not None, **tile, **EXACT,
        )  # fmt: skip
    return found
