# mypy: disable-error-code="assignment, misc"
# Triton's tuples grow by addition, which both complain of.
"""KSG's neighbours in the joint space by canonical keys, in few coordinates or under chebyshev; the rest of ksg.py.

bounds  best (T, R, bins) int32: the upper half of the bits of the least joint key of each bin, EMPTY for none. Keys are no
        less than +0.0, so that their bits are in their order, and NaN is above all: an integer maximum joins two keys, and an
        integer minimum keeps the least, one operation each. A key is at most the number whose lower half is all ones.
lists   words (T, R, splits, limit) int64 and their number (T, R, splits) int32: bits 32.. are WORD adjacent columns, those
        whose keys are at most top (T, R) float64 in both samples, the lower half is the number of the word; ascending, words
        without a column are not there. Where the number exceeds limit the list is not complete.

low_bounds, low_lists     at most FEW coordinates in either sample: ksg_few.py. Rows (N, X) and (N, Y).
tile_bounds, tile_lists   chebyshev in more: a program owns a tile and walks over the coordinates. Rows (d, N).

Rows beyond n are NaN: nobody's neighbours, so that nothing loaded is masked. A sample of fewer coordinates than its
side's X or Y has zeros for the rest, which change no bit of a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import ksg_few
from .few_coordinates import FEW, ROWS
from .ksg import UNSPECIALISED, Cut, Pairs, first_row, height, labels_of, pairing
from .ksg_few import BINS, EMPTY, sample_at, upper_half
from .resources import EXACT, Configuration, Need, launched
from .screen import WORD, set_bits, split, words_of

TILES = (Configuration({"BLOCK_N": 16, "BLOCK_M": 128}, 8, registers=168),)


class Stack(NamedTuple):
    """S samples one after the other: rows (flat) float64, start (S,) int64 of each sample's first number, width (S,) int32;
    N; few: (X, Y), or None where samples are read by tiles."""

    rows: Tensor
    start: Tensor
    width: Tensor
    size: int
    few: tuple[int, int] | None


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
        values = torch.nn.functional.pad(values, (0, 0, 0, -n % ROWS), value=float("nan"))
        parts.append((values if few else values.T).reshape(-1))
    size = n + -n % ROWS
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
    kernel = ksg_few.low_bounds_kernel if stack.few else tile_bounds_kernel
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
    kernel = ksg_few.low_lists_kernel if stack.few else tile_lists_kernel
    _launch(kernel, stack, pairs, kind, (top.contiguous(), words, count), (limit,), splits, cuts(stack)[1], rows)
    return words, count


def columns_of(words: Tensor) -> tuple[Tensor, Tensor]:
    """(which word, column) int64 of every column in words (C,)."""
    which, bit = set_bits(words >> 32)
    return which, (words[which] & 0xFFFFFFFF) * WORD.value + bit


def _tile(stack: Stack) -> dict[str, Any]:
    if stack.few:
        return launched(ksg_few.tiles(*stack.few), ksg_few.needs(*stack.few), stack.rows.device)
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
