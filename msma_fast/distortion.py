"""stress: how far the distances of one representation are from those of another, differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks, reduction_ops
from msma_fast.backends.registry import check_name
from msma_fast.results import Array


def stress(
    x: Array, y: Array, *, normalized: bool = False, check_finite: bool = True, backend: str | None = None
) -> Any:
    """The sum over i < j of (|x_i - x_j| - |y_i - y_j|)^2 of paired rows x (n, dx), y (n, dy): raw stress, float64.

    Kruskal, Psychometrika 29 (1964); the geometry term of Multi-Scale Manifold Alignment. normalized=True: the square root
    of that sum over the sum of |x_i - x_j|^2, a relative distortion without units, with x as the reference (Kruskal's
    stress-1). A float, or a () tensor for tensors. Zero for an isometry. Differentiable once in x and y; the gradient is
    zero for pairs at distance zero, and for a normalized stress of zero.

    Cost n^2 (dx + dy) / 2 and about as much again for gradients, which the same pass takes; memory a tile per thread
    (blocks of rows on the torch backend), never n x n. Raises ValueError / TypeError for NaN or inf (check_finite=False
    switches this off), fewer than 2 rows, different n, squared distances that overflow, and normalized=True where all rows
    of x are equal. When not to use it: to compare up to scale (divide by a typical distance first), or where only
    neighbourhoods matter (`neighborhood_overlap`): far pairs dominate the sum.
    """
    check_name(backend)
    a, b = _checks.paired(x, y, check_finite)
    if normalized and bool((a == a[0]).all()):
        raise ValueError("x: expected rows that differ for normalized=True, got all rows equal")
    wanted = [torch.is_grad_enabled() and side.requires_grad for side in (a, b)]
    raw = reduction_ops.stress(a, b, *wanted, backend or "")[0]
    value = _relative(raw, a) if normalized else raw
    return value if isinstance(x, Tensor) else float(value)


def _relative(raw: Tensor, x: Tensor) -> Tensor:
    """sqrt(raw / sum_{i<j} |x_i - x_j|^2), by sum_{i<j} |x_i - x_j|^2 = n sum_i |x_i - mean|^2."""
    centered = x.to(torch.float64) - x.to(torch.float64).mean(0)
    ratio = raw / (x.shape[0] * (centered * centered).sum())
    positive = ratio > 0
    return torch.where(positive, torch.where(positive, ratio, 1.0).sqrt(), 0.0)
