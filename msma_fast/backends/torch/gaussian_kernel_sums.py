"""Sums of the Gaussian kernel over pairs of rows, and their gradients, without a matrix of pairs.

S_b = sum exp(-c_b |x_i - y_j|^2) over all pairs, or over i != j where y is None; scales c (B,) -> S (B,) float64.
d/dx_i sum_b g_b S_b = sum_j w_ij (x_i - y_j), d/dy_j = -sum_i w_ij (x_i - y_j), with w_ij = -2 sum_b g_b c_b
exp(-c_b |x_i - y_j|^2), taken as products of rows less the mean of x: the error is relative to the longest such row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from msma_fast.backends.torch.squares import Squares, direct, rows_of


def _blocks(x: Tensor, y: Tensor | None, squares: Squares) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, (B, m) squared distances), inf on the diagonal of a self problem."""
    others = x if y is None else y
    of = squares(x, others)
    for rows in rows_of(x.shape[0], others.shape[0], x.device):
        square = of(rows)
        if y is None:
            square[torch.arange(rows.shape[0], device=x.device), rows] = torch.inf
        yield rows, square


def gaussian_sums(x: Tensor, y: Tensor | None, scales: Tensor, squares: Squares = direct) -> Tensor:
    """(B,) float64; x (n, d), y (m, d) or None."""
    x, y = x.to(torch.float64), None if y is None else y.to(torch.float64)
    sums = torch.zeros_like(scales)
    for _, square in _blocks(x, y, squares):
        sums += torch.stack([torch.exp(-scale * square).sum() for scale in scales])
    return sums


def gaussian_gradients(
    x: Tensor, y: Tensor | None, scales: Tensor, weights: Tensor, squares: Squares = direct
) -> tuple[Tensor, Tensor | None]:
    """Gradients (n, d), (m, d) or None, float64, of the sums weighted by weights (B,)."""
    x, y = x.to(torch.float64), None if y is None else y.to(torch.float64)
    middle = x.mean(0)
    shifted = x - middle
    columns = shifted if y is None else y - middle
    to_x, to_y = torch.empty_like(x), None if y is None else torch.zeros_like(y)
    for rows, square in _blocks(x, y, squares):
        pull = torch.zeros_like(square)
        for scale, weight in zip(scales, weights, strict=True):
            pull += -2 * weight * scale * torch.exp(-scale * square)
        to_x[rows] = pull.sum(1, keepdim=True) * shifted[rows] - pull @ columns
        if to_y is not None:
            to_y += pull.sum(0)[:, None] * columns - pull.T @ shifted[rows]
    return (2 * to_x, None) if to_y is None else (to_x, to_y)
