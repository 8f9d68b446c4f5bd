"""Counts of canonical keys within thresholds: by the screen where the metric is a product of rows, else from keys directly.

The screen decides nearly all pairs, canonical keys the listed ones. Rows with too long a list get a longer one, and where that
does not do either, are counted directly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from msma_fast.backends import triton_direct
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.triton_screen import of_rows, ready

LIMIT = 128  # entries of a row's list, of 32 columns each, for one radius
_LONG = 1024  # for all radii
_LONGEST = 4096  # of the rows for which that is too short
_ENTRIES = 1 << 24  # of the lists of one block of queries


Direct = Callable[[Kernel, Rows, Rows, Tensor, Admissible], Tensor]  # counts from all canonical keys


def within(
    kernel: Kernel, x: Rows, y: Rows, threshold: Tensor, admissible: Admissible, direct: Direct | None = None
) -> Tensor:
    """int64 of the shape of threshold, (n,) or (n, T) float64: admissible points whose key is at most that. direct: who counts
    where no screen serves, by default Triton."""
    from msma_fast.triton_kernels.few_coordinates import FEW

    (n, d), m = x.values.shape, y.values.shape[0]
    if not n or not m:
        return torch.zeros(threshold.shape, dtype=torch.int64, device=threshold.device)
    tops = threshold.reshape(n, -1)
    screened = screens.screenable(kernel) and d > FEW and admissible.partners is None
    direct = direct or triton_direct.counts
    count = partial(_screened, direct=direct) if screened else direct
    return count(kernel, x, y, tops, admissible).reshape(threshold.shape)


def _screened(
    kernel: Kernel, x: Rows, y: Rows, tops: Tensor, who: Admissible, direct: Direct, longest: int = 0
) -> Tensor:
    """longest: entries of a row's list; 0: few, and again with more for whom they are too few."""
    from msma_fast.backends.triton import pair_keys
    from msma_fast.triton_kernels import radius_count as kernels
    from msma_fast.triton_kernels.screen import ROWS, WORD

    (n, radii), sides = tops.shape, ready(kernel, x, y, who)
    low, high = (_padded(value) for value in edges(sides.screen, tops))
    words = sides.y.side.b.shape[0] // WORD.value
    limit = min(longest or min(LIMIT * radii, _LONG), words * radii)
    total, crowded = torch.zeros_like(tops, dtype=torch.int64), []
    size = max(1, _ENTRIES // limit // ROWS) * ROWS
    for start in range(0, n, size):
        rows = slice(start, start + size)
        block = sides.block(start, min(n, start + size))
        inside, listed, count = kernels.counts(
            block.x, block.y, block.rule, low[:, rows].contiguous(), high[:, rows].contiguous(), limit
        )
        count = count[: n - start]
        total[rows] = inside[:, : n - start].T
        crowded.append(start + (count > limit).nonzero().squeeze(1))
        near, which, cols = kernels.pairs(listed[: n - start], count, words)
        real = cols < y.values.shape[0]  # a margin that is infinite or NaN lists the padding too
        near, which, cols = near[real] + start, which[real], cols[real]
        hit = pair_keys(kernel, x, y, near, cols) <= tops[near, which]
        total += torch.bincount((near * radii + which)[hit], minlength=n * radii).reshape(n, radii)
    rest = torch.cat(crowded)
    if rest.numel():
        again = direct if longest else partial(_screened, direct=direct, longest=_LONGEST)
        total[rest] = again(kernel, x.take(rest), y, tops[rest], of_rows(who, rest))
    return total


def edges(screen: screens.Screen, tops: Tensor) -> tuple[Tensor, Tensor]:
    """(low, high), (n, T) float32: a pair is surely inside where g plus its margin is below low, surely outside where g less
    its margin is above high. tops (n, T): canonical keys."""
    rows = torch.arange(tops.shape[0], device=tops.device)
    edge = screens.scaled_key(screen, tops, rows[:, None])
    c = screen.left.c[:, None]
    start = edge - c
    # The rounding of the edge, of its start and of both to float32, beside what a query's own margin holds.
    reach = screens.row_margin(screen, rows)[:, None] + 2.0**-40 * edge.abs() + 2.0**-20 * (start.abs() + c)
    reach = reach * (1.0 + 2.0**-20)
    most = torch.finfo(torch.float32).max
    everything, nothing = tops == float("inf"), ~(tops > -float("inf"))
    low, high = (
        value.clamp(-most, most).masked_fill(everything, most).masked_fill(nothing, -float("inf")).to(torch.float32)
        for value in (start - reach, start + reach)
    )
    return low, high


def _padded(values: Tensor) -> Tensor:
    """(n, T) -> (T, N), -inf for queries that do not exist."""
    from msma_fast.triton_kernels.screen import ROWS

    return torch.nn.functional.pad(values.T, (0, -values.shape[0] % ROWS), value=-float("inf"))
