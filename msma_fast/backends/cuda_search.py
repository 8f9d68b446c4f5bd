"""Neighbours and counts by CUDA kernels.

nearest   metrics that are products of rows, in more than FEW coordinates: the certified screen, where Triton's kernels run
          beside these, with its lists and its candidates' keys by CUDA (triton_search.py); else the torch backend's screen.
          Everything else: all canonical keys in one launch, which keeps the k best of a row in shared memory, for k up to
          MOST_NEIGHBORS; beyond, blocks of keys of which the k smallest are selected by radix.
within    likewise: the screen, or all canonical keys, MOST_RADII radii at a time.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from msma_fast.backends import cuda_launch as launch
from msma_fast.backends import triton_direct, triton_radius_count, triton_search
from msma_fast.backends.cuda import beside_triton, compiled
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.torch.knn import ALL_KEYS, Found, Search, search_all

FEW = 8  # coordinates in which a canonical key costs less than what bfloat16 cannot decide
_FILLED = 16 * 256  # queries: of a block, and blocks
_BLOCK = 1 << 24  # keys of one block, where all of them are written: 128 MiB


def nearest(search: Search) -> Found:
    """The exact neighbours of every row of x among the rows of y."""
    (m, d), most = search.y.values.shape, compiled().MOST_NEIGHBORS
    screened = screens.screenable(search.kernel) and d > FEW and 4 * search.k <= m
    if screened and search.admissible.partners is None and search.k <= most:
        if beside_triton():
            return triton_search.screened(search, triton_search.Steps(launch.collect, finish))
        return search_all(search)
    if beside_triton() and _idle(search.x) and search.k <= most:
        return triton_direct.nearest_direct(search)
    keys, indices = _every_key(search) if search.k > most else launch.knn(*search[1:])
    n, device = keys.shape[0], keys.device
    count = search.admissible.counts(n, m).to(device)
    return Found(keys, indices, count, torch.full_like(count, ALL_KEYS))


def _idle(x: Rows) -> bool:
    """Whether so few queries leave a GPU idle: a block has them for all points, and Triton's kernels split the points."""
    return x.values.shape[0] < _FILLED


def finish(search: Search, possible: triton_search.Candidates) -> tuple[Tensor, Tensor]:
    """keys (n, k) and columns (n, k) of the best candidates; k at most MOST_NEIGHBORS."""
    ends = torch.bincount(possible.rows, minlength=search.x.values.shape[0]).cumsum(0)
    return launch.finish(search.kernel, search.x, search.y, possible.columns.contiguous(), ends, 0, search.k)


def _every_key(search: Search) -> tuple[Tensor, Tensor]:
    """For any k: blocks of keys, NaN where nobody is admissible."""
    m, device = search.y.values.shape[0], search.x.values.device
    keys, indices = launch.found_of(search.x.values.shape[0], search.k, device)
    for rows in torch.arange(search.x.values.shape[0], device=device).split(max(1, _BLOCK // m)):
        block = search.keys.block_keys(search.kernel, search.x.take(rows), search.y)
        keys[rows], indices[rows] = launch.select_large(search.admissible.fill(block, rows, float("nan")), search.k)
    return keys, indices


def within(kernel: Kernel, x: Rows, y: Rows, threshold: Tensor, admissible: Admissible) -> Tensor:
    """int64 of the shape of threshold, (n,) or (n, T) float64: admissible points whose key is at most that."""
    if beside_triton():
        return triton_radius_count.within(kernel, x, y, threshold, admissible, counts)
    return counts(kernel, x, y, threshold.reshape(x.values.shape[0], -1), admissible).reshape(threshold.shape)


def counts(kernel: Kernel, x: Rows, y: Rows, thresholds: Tensor, admissible: Admissible) -> Tensor:
    """(n, T) int64 of thresholds (n, T) float64, from all canonical keys."""
    if beside_triton() and _idle(x):
        return triton_direct.counts(kernel, x, y, thresholds, admissible)
    count = partial(launch.radius_count, kernel, x, y, who=admissible)
    return torch.cat([count(some) for some in thresholds.split(compiled().MOST_RADII, dim=1)], 1)
