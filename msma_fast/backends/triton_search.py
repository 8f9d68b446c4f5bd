"""k nearest neighbours with the screen in Triton kernels, on CUDA tensors (or in the interpreter).

(A) least upper bounds in bins, of a sample of the points: the k-th smallest gives a first tau; (B) words of 32 points one of
which has its lower bound not above it, each with its least lower bound; (C) a better tau from those, which leaves little more
than the neighbours, and the points that it leaves; (D) canonical keys of those, in order. Rows with too long a list go to
the torch backend's finer screen. Metrics that are no products of rows, and few coordinates, are searched by their keys alone
(triton_direct.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.knn import Found, Search, search_all
from msma_fast.backends.torch.select import smallest
from msma_fast.backends.triton_direct import nearest_direct
from msma_fast.backends.triton_screen import Ready, of_rows, padded, ready

LEVEL = 0  # what a row certified by the bfloat16 screen reports
_SAMPLE = 16  # (A) looks at no less than every sixteenth tile of points
_SAMPLED = 64  # and at this many points for each neighbour wanted
_ENTRIES = 1 << 24  # of the lists of one block of queries: 192 MiB, a few times as much while they are looked through
_FEW = 8  # coordinates in which a canonical key costs less than what bfloat16 cannot decide
ALLOWED = 2.0 * (
    1.0 + 2.0**-20
)  # largest margins from a lower bound to an upper one, with what float32 sums of three lose


Lists = tuple[Tensor, Tensor, Tensor]  # listed, low, count: triton_kernels/knn.py
# (x, y, rule, top, limit, better): better(lists of some of the points) is a bound for the others.
Collect = Callable[[Any, Any, Any, Tensor, int, Callable[[Lists], Tensor]], Lists]


class Candidates(NamedTuple):
    """(row, column) of every pair that may be among the k nearest, rows ascending; the rows (L,) whose list is too long."""

    rows: Tensor
    columns: Tensor
    crowded: Tensor


class Steps(NamedTuple):
    """Who makes the lists of (B), and who puts candidates in order, (D): (search, candidates) -> keys (n, k) float64 and
    columns (n, k), inf and -1 where a row has fewer."""

    collect: Collect  # as triton_kernels.knn.collect
    finish: Callable[[Search, Candidates], tuple[Tensor, Tensor]]


def nearest(search: Search) -> Found:
    """The exact neighbours of every row of x among the rows of y."""
    m, d = search.y.values.shape
    if not screens.screenable(search.kernel) or d <= _FEW:
        return nearest_direct(search)
    if search.admissible.partners is not None or 4 * search.k > m:
        return search_all(search)
    return screened(search)


def screened(search: Search, steps: Steps | None = None) -> Found:
    """The same for a screenable metric, k <= m / 4 and no second labels; without `steps` by Triton alone."""
    steps = steps or TRITON
    possible = candidates(search, room(search.k), steps.collect)
    n, crowded = search.x.values.shape[0], possible.crowded
    count = torch.bincount(possible.rows, minlength=n)
    out = Found(*steps.finish(search, possible), count, torch.full_like(count, LEVEL))
    if crowded.numel():
        rest = search_all(search._replace(x=search.x.take(crowded), admissible=of_rows(search.admissible, crowded)))
        for whole, part in zip(out, rest, strict=True):
            whole[crowded] = part
    return out


def _collect(x: Any, y: Any, rule: Any, top: Tensor, limit: int, better: Callable[[Lists], Tensor]) -> Lists:
    from msma_fast.triton_kernels import knn as kernels

    found: Lists = kernels.collect(x, y, rule, top, limit)
    return found


def _finish(search: Search, possible: Candidates) -> tuple[Tensor, Tensor]:
    row, column = possible.rows, possible.columns
    order = (row * search.y.values.shape[0] + column).argsort()
    row, column = row[order], column[order]
    keys = search.keys.pair_keys(search.kernel, search.x, search.y, row, column)
    return smallest(row, column, keys, search.x.values.shape[0], search.k)


TRITON = Steps(_collect, _finish)


def room(k: int) -> int:
    """Words that a row's list may hold."""
    return max(2 * _SAMPLE * k + 64, 256)


def sample_step(m: int, k: int) -> int:
    """(A) looks at every step-th tile of m points."""
    return max(1, min(_SAMPLE, m // (_SAMPLED * k)))


def candidates(search: Search, limit: int, collect: Collect = _collect) -> Candidates:
    """Who may be among the k nearest, by the kernels; lists of more than `limit` words are too long."""
    from msma_fast.triton_kernels.screen import ROWS, WORD

    prepared = ready(search.kernel, search.x, search.y, search.admissible)
    n = search.x.values.shape[0]
    limit = min(limit, prepared.y.side.b.shape[0] // WORD.value)  # a row has no more words than that
    size = max(1, _ENTRIES // limit // ROWS) * ROWS
    parts = [_of_block(prepared, start, min(n, start + size), search.k, limit, collect) for start in range(0, n, size)]
    return Candidates(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _of_block(whole: Ready, start: int, end: int, k: int, limit: int, collect: Collect) -> Candidates:
    from msma_fast.triton_kernels import knn as kernels
    from msma_fast.triton_kernels import narrow
    from msma_fast.triton_kernels.screen import WORD

    part = whole.block(start, end)
    margin = screens.row_margin(whole.screen, torch.arange(start, end, device=whole.x.b.device))
    m = part.y.side.size
    best, _ = kernels.bounds(part.x, part.y, part.rule, k, sample_step(m, k))
    top = padded(_raised(_kth(best[: end - start], k), margin), 0.0)
    # (C) The point of a word's least lower bound has its upper bound at most two of the word's largest margins above it.
    margins = part.y.side.near, part.y.side.far, part.y.col
    word = tuple(each.view(-1, WORD.value).amax(1) for each in margins)

    def second(lists: Lists) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = narrow.second_bound(
            lists, (part.x.near, part.x.far, margin), word, m, k, ALLOWED
        )
        return found

    def better(lists: Lists) -> Tensor:
        tau = second((lists[0][: end - start], lists[1][: end - start], lists[2][: end - start]))[0]
        return torch.where(padded(tau, 0.0) < top, padded(tau, 0.0), top)  # of a NaN the first bound

    listed, low, count = collect(part.x, part.y, part.rule, top, limit, better)
    lists = listed[: end - start], low[: end - start], count[: end - start]
    crowded = lists[2] > limit
    tau, total = second(lists)
    row, column = narrow.points(lists, tau, total, m, start)
    return Candidates(row, column, start + crowded.nonzero().squeeze(1))


def _kth(values: Tensor, k: int) -> Tensor:
    """(n,) float64: the k-th smallest number of each row, inf where there are fewer."""
    if values.shape[1] < k:
        return torch.full_like(values[:, 0], float("inf"), dtype=torch.float64)
    found = values.topk(k, dim=1, largest=False).values[:, -1].to(torch.float64)
    return torch.where(found.isnan(), float("inf"), found)


def _raised(value: Tensor, margin: Tensor) -> Tensor:
    """A bound of g + margin as one of g - margin, float32; the largest number where all admissible points are to be kept."""
    top = value + 2.0 * margin
    return (top + top.abs() * 2.0**-20).clamp_max(torch.finfo(torch.float32).max).to(torch.float32)
