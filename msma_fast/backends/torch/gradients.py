"""Distances as differentiable torch expressions, and the backward passes of pairwise_distances and knn.

distance(x (..., d), y (..., d)) broadcasts and reduces the last axis. At zero distance, and where a square root, a power
or a clamp has no derivative, the gradient is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 1 << 22  # elements of one (B, m, d) temporary


def _root(square: Tensor, power: float = 0.5) -> Tensor:
    """square^power with derivative zero at zero."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0) ** power, 0.0)


def _unit(x: Tensor) -> Tensor:
    return x / _root((x * x).sum(-1, keepdim=True))


def distance(x: Tensor, y: Tensor, metric: str, p: float, metric_tensor: Tensor | None) -> Tensor:
    """The distance of rows, written for autograd; its values are close to, not the same as, the canonical ones."""
    if metric == "minkowski" and p in (1, 2, math.inf):
        metric = {1: "manhattan", 2: "euclidean", math.inf: "chebyshev"}[p]
    if metric == "inner_product":
        return -(x * y).sum(-1)
    if metric in ("cosine", "correlation"):
        if metric == "correlation":
            x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
        return 1 - (_unit(x) * _unit(y)).sum(-1)
    if metric in ("kl", "jensen_shannon"):
        if metric == "kl":
            return _relative_entropy(x, y)
        middle = (x + y) / 2
        divergence = (_relative_entropy(x, middle) + _relative_entropy(y, middle)) / 2
        return _root(torch.where((x == y).all(-1), 0.0, divergence.clamp_min(0)))
    if metric in ("hellinger", "fisher_rao"):
        difference = _root(x) - _root(y)
        length = _root((difference * difference).sum(-1))
        return length / math.sqrt(2.0) if metric == "hellinger" else 4 * torch.asin(length / 2)
    a = x - y
    if metric == "mahalanobis":
        if metric_tensor is None:
            raise RuntimeError("mahalanobis needs the metric tensor")
        return _root(((a @ metric_tensor) * a).sum(-1).clamp_min(0))
    if metric == "chebyshev":
        return a.abs().amax(-1)
    if metric == "manhattan":
        return a.abs().sum(-1)
    if metric == "minkowski":
        return _root((_root(a.abs(), p)).sum(-1), 1 / p)
    square = (a * a).sum(-1)
    return square if metric == "sqeuclidean" else _root(square)


def _relative_entropy(x: Tensor, y: Tensor) -> Tensor:
    positive = x > 0
    safe = torch.where(positive, x, 1.0)
    return torch.where(positive, safe * torch.log(safe / torch.where(positive, y, 1.0)), 0.0).sum(-1)


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _accumulate(
    grad: Tensor, x: Tensor, y: Tensor, metric: str, p: float, tensor: Tensor | None, needs: tuple[bool, bool, bool]
) -> Gradients:
    """Gradients of sum(grad * distance(x, y)) for x, y (broadcast against each other) and the metric tensor, float64."""
    inputs = [x, y] if tensor is None else [x, y, tensor]
    with torch.enable_grad():
        # Equal rows are at distance zero, where rounding would leave dust instead of the promised zero.
        if metric != "inner_product":
            grad = torch.where((x == y).all(-1), 0.0, grad)
        leaves = [t.detach().to(torch.float64).requires_grad_(need) for t, need in zip(inputs, needs, strict=False)]
        value = distance(leaves[0], leaves[1], metric, p, leaves[2] if len(leaves) == 3 else None)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, grad.to(torch.float64), allow_unused=True))
    result = [next(found) if leaf.requires_grad else None for leaf in leaves]
    return result[0], result[1], result[2] if len(result) == 3 else None


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return part if total is None else total if part is None else total + part


def _direct_squares(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_()


def pairwise_distances_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    metric: str,
    p: float,
    tensor: Tensor | None,
    needs: tuple[bool, bool, bool],
    squares: Callable[[Tensor, Tensor], Tensor] = _direct_squares,
) -> Gradients:
    """grad (n, m) of the distances of x (n, d) and y (m, d) -> their gradients in float64.

    squares(x (B, d), y (m, d)) -> (B, m) squared distances by direct differences, so that zero is exact.
    """
    if metric in ("euclidean", "sqeuclidean", "inner_product"):
        return _by_products(grad, x, y, metric, needs, squares)
    n, m, d = x.shape[0], y.shape[0], x.shape[1]
    parts_x: list[Tensor] = []
    total_y: Tensor | None = None
    total_tensor: Tensor | None = None
    for rows in torch.arange(n, device=x.device).split(max(1, _BLOCK // (m * d))):
        part_x, part_y, part_tensor = _accumulate(grad[rows], x[rows, None, :], y[None, :, :], metric, p, tensor, needs)
        if part_x is not None:
            parts_x.append(part_x[:, 0, :])
        total_y = _add(total_y, None if part_y is None else part_y[0])
        total_tensor = _add(total_tensor, part_tensor)
    return (torch.cat(parts_x) if parts_x else None), total_y, total_tensor


def _by_products(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    metric: str,
    needs: tuple[bool, bool, bool],
    squares: Callable[[Tensor, Tensor], Tensor],
) -> Gradients:
    """W (n, m), the gradient over the distance: rowsum(W) x - W y and colsum(W) y - W^T x, a block of rows at a time."""
    x, y = x.to(torch.float64), y.to(torch.float64)
    shifted = metric != "inner_product"
    if shifted:  # by a common vector, so that the two terms of a difference do not cancel digits of a far origin
        middle = y.mean(0)
        x, y = x - middle, y - middle
    to_x = torch.empty_like(x) if needs[0] else None
    to_y = torch.zeros_like(y) if needs[1] else None
    columns = torch.zeros(y.shape[0], 1, dtype=torch.float64, device=y.device)
    size = max(1, _BLOCK // (2 * y.shape[0]))
    for first in range(0, x.shape[0], size):
        rows = slice(first, first + size)
        weight = grad[rows].to(torch.float64)
        if shifted:
            square = squares(x[rows], y)
            apart = square > 0
            slope = weight / square.sqrt_() if metric == "euclidean" else 2.0 * weight
            weight = torch.where(apart, slope, 0.0)
            del square, apart, slope
            columns += weight.sum(0)[:, None]
        if to_x is not None:
            torch.mm(weight, y, out=to_x[rows])
            if shifted:
                to_x[rows] -= weight.sum(1, keepdim=True) * x[rows]
        if to_y is not None:
            to_y.addmm_(weight.T, x[rows])
    if to_y is not None and shifted:
        to_y -= columns * y
    return None if to_x is None else to_x.neg_(), None if to_y is None else to_y.neg_(), None


def knn_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    indices: Tensor,
    metric: str,
    p: float,
    tensor: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """grad (n, k) of the distances of x[i] and y[indices[i]] (-1: none) -> gradients of x (n, d), y (m, d), float64."""
    k, d = indices.shape[1], x.shape[1]
    parts_x: list[Tensor] = []
    total_y = torch.zeros(y.shape, dtype=torch.float64, device=y.device) if needs[1] else None
    total_tensor: Tensor | None = None
    for rows in torch.arange(x.shape[0], device=x.device).split(max(1, _BLOCK // (k * d))):
        index = indices[rows]
        there = index >= 0
        index = index.clamp_min(0)
        part_x, part_y, part_tensor = _accumulate(
            torch.where(there, grad[rows], 0.0), x[rows, None, :], y[index], metric, p, tensor, needs
        )
        if part_x is not None:
            parts_x.append(part_x[:, 0, :])
        if total_y is not None and part_y is not None:
            total_y.index_add_(0, index.reshape(-1), part_y.reshape(-1, d))
        total_tensor = _add(total_tensor, part_tensor)
    return (torch.cat(parts_x) if parts_x else None), total_y, total_tensor
