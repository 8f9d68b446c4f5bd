"""knn with precision="fast" on Triton: one pass of bfloat16 products and no certificate.

Each of B disjoint bins of points keeps its best one; the 2 k best of those get canonical keys and are put in order. A true
neighbour is lost where a better one shares its bin, for about k (k - 1) / (2 B) of the k, B >= BINS_WANTED k, or where
bfloat16 takes 2 k others for nearer.

Nothing here depends on a value, so that nobody waits for one and CUDA graphs can capture a call with check_finite=False and
without groups (the public function ranks labels, which waits for their number; cosine and correlation look at their norms
first): keep it free of `bool`, `float`, `nonzero` and boolean indexing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.knn import Found, Search
from msma_fast.backends.torch.ops import problem_of
from msma_fast.backends.torch.prepare import distances_of, kernel_of
from msma_fast.backends.triton_screen import of_rows, padded, padded_rows, rule_of

BINS_WANTED = 32  # bins for each neighbour, where there are points to fill them
_QUERIES = 1 << 14  # searched at a time: their bins stay in bounded memory
_SAMPLE = 512  # rows of the sample whose coordinate-wise median is the shift


def knn(
    keys: Keys,
    exact: Callable[..., Any],
    x: Tensor,
    y: Tensor | None,
    k: int,
    metric: str,
    p: float,
    tensor: Tensor | None,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    certified: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As backends.torch.ops.knn, by `exact` where a certificate is asked for or this file does not serve."""
    kernel = kernel_of(metric, p, tensor)
    if certified or not serves(kernel, k, (x if y is None else y).shape[0]):
        found: tuple[Tensor, Tensor, Tensor, Tensor] = exact(
            x, y, k, metric, p, tensor, groups, point_groups, window, certified, dtype
        )
        return found
    problem = problem_of(keys, x, y, metric, p, None, ("queries", "points"))
    own = torch.arange(x.shape[0], device=x.device) if y is None else None
    who = Admissible(own, groups, groups if y is None else point_groups, window=window)
    best = nearest(Search(*problem, who, k))
    distances = distances_of(best.keys, metric, p).to(dtype).masked_fill(best.indices < 0, float("inf"))
    return distances, best.indices, best.candidates, best.level


def serves(kernel: Kernel, k: int, m: int) -> bool:
    """Whether the metric is a product of rows and there are points enough for bins."""
    return kernel.kind in ("sqeuclidean", "cosine", "inner_product") and 2 * BINS_WANTED * k <= m


def nearest(search: Search) -> Found:
    """The k nearest of (nearly) every row of x among the rows of y."""
    from msma_fast.triton_kernels import knn as kernels
    from msma_fast.triton_kernels.screen import Points, Side

    left, right, c = _pictures(search.kernel, search.x, search.y)
    n, m = left.shape[0], right.shape[0]
    nothing = padded(c.new_zeros(m), 0.0)
    y = Points(Side(padded_rows(right), nothing, nothing, m), padded(c, float("inf")), nothing)
    parts = []
    for start in range(0, n, _QUERIES):
        rows = torch.arange(start, min(n, start + _QUERIES), device=left.device)
        zero = padded(c.new_zeros(rows.shape[0]), 0.0)
        rule = rule_of(of_rows(search.admissible, rows))
        x = Side(padded_rows(left[rows]), zero, zero, rows.shape[0])
        best, column = kernels.bounds(x, y, rule, BINS_WANTED // 8 * search.k, 1, with_columns=True)
        parts.append(_in_order(search, rows, best[: rows.shape[0]], column[: rows.shape[0]]))
    return Found(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _pictures(kernel: Kernel, x: Rows, y: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """(z of x (n, d), z of y (m, d), c (m,)) float32, scaled by a power of two: the order of c_j - 2 z_i.z_j is that of the
    keys."""
    z_x, z_y = x.values.to(torch.float64), y.values.to(torch.float64)
    if x.norms is not None and y.norms is not None:
        z_x, z_y = z_x / x.norms[:, None], z_y / y.norms[:, None]
    middle = z_y[:: max(1, z_y.shape[0] // _SAMPLE)].median(0).values
    z_y = z_y - middle
    if kernel.kind == "inner_product":  # no shift leaves it as it is: only the points may be moved
        z_x, z_y = z_x / _power_of_two(z_x), z_y / _power_of_two(z_y)
        c = torch.zeros_like(z_y[:, 0])
    else:
        unit = torch.maximum(_power_of_two(z_x - middle), _power_of_two(z_y))
        z_x, z_y = (z_x - middle) / unit, z_y / unit
        c = (z_y * z_y).sum(1)
    return z_x.to(torch.float32), z_y.to(torch.float32), c.to(torch.float32)


def _power_of_two(z: Tensor) -> Tensor:
    """() above every |z|."""
    return torch.exp2(torch.frexp(z.abs().amax()).exponent.clamp(-1000, 1000).to(torch.float64))


def _in_order(search: Search, rows: Tensor, best: Tensor, column: Tensor) -> Found:
    """The 2 k best bins of each row, by (canonical key, index)."""
    bin_of = best.topk(2 * search.k, dim=1, largest=False).indices
    cols = column.gather(1, bin_of).to(torch.int64).sort(1).values
    held = cols >= 0
    near = rows[:, None].expand_as(cols).reshape(-1)
    keys = search.keys.pair_keys(search.kernel, search.x, search.y, near, cols.clamp_min(0).reshape(-1))
    keys = torch.where(held, keys.view_as(cols), float("inf"))
    order = keys.argsort(dim=1, stable=True)[:, : search.k]
    found = torch.where(held, cols, -1).gather(1, order)
    count = held.sum(1)
    return Found(keys.gather(1, order), found, count, torch.zeros_like(count))
