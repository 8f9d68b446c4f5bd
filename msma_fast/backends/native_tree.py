"""Exact neighbours and counts in few dimensions by the compiled space partition, on CPU tensors.

tree_knn(kernel, x (n, d), y (m, d), k, ...)     -> keys (n, k) float64, indices (n, k) int64, candidates (n,) int64
tree_count(kernel, x, y, threshold keys (n,), ...) -> (n,) int64

Keys and their order are those of backends/torch/kernel.py: the answers are the same bits as those of comparing all pairs,
for every instruction set and thread count. Threads: torch.get_num_threads(). NaN coordinates are no neighbours of anybody.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.native import array, compiled
from msma_fast.backends.torch.kernel import Kernel, Rows

KINDS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "minkowski"])
LARGEST_DIMENSION = 16


def serves(kernel: Kernel, x: Rows) -> bool:
    """Whether the partition knows the formula and holds so many coordinates."""
    return kernel.kind in KINDS and 1 <= x.values.shape[1] <= LARGEST_DIMENSION


def tree_knn(
    kernel: Kernel, x: Rows, y: Rows, k: int, groups: Tensor | None, point_groups: Tensor | None, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k nearest admissible rows of y for each row of x, ascending by (key, index); a self-search where x is y.

    groups (n,), point_groups (m,): int32 labels, equal ones are no neighbours. window (self-search only): nor are rows at
    most so many places apart. inf and -1 where fewer than k are admissible. candidates: points of the leaves visited.
    Raises ValueError where shapes or dtypes do not fit.
    """
    problem = _problem(kernel, x, y)
    keys, indices, candidates = compiled().tree_knn(*problem, k, *_admissible(groups, point_groups, window))
    return torch.from_numpy(keys), torch.from_numpy(indices), torch.from_numpy(candidates)


def tree_count(
    kernel: Kernel,
    x: Rows,
    y: Rows,
    threshold_keys: Tensor,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
) -> Tensor:
    """How many admissible rows of y have a key at or below the row's threshold; (n,) float64 thresholds. Else as tree_knn."""
    thresholds = array("threshold_keys", threshold_keys)
    problem = _problem(kernel, x, y)
    return torch.from_numpy(compiled().tree_count(*problem, thresholds, *_admissible(groups, point_groups, window)))


def _problem(kernel: Kernel, x: Rows, y: Rows) -> tuple[Any, ...]:
    points = None if x is y else array("y", y.values)
    return kernel.kind, int(kernel.p), array("x", x.values), points


def _admissible(groups: Tensor | None, point_groups: Tensor | None, window: int) -> tuple[Any, ...]:
    labels = None if groups is None else array("groups", groups)
    point_labels = None if point_groups is None else array("point_groups", point_groups)
    return labels, point_labels, window, torch.get_num_threads()
