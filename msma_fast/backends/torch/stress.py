"""Raw stress between the distances of paired rows x (n, dx) and y (n, dy), and its gradients, by blocks of rows.

With a_ij = |x_i - x_j| and b_ij = |y_i - y_j|: sum over i < j of (a_ij - b_ij)^2;
d/dx_i = sum_j 2 (a_ij - b_ij) / a_ij (x_i - x_j), d/dy_i = sum_j 2 (b_ij - a_ij) / b_ij (y_i - y_j), 0 at distance zero.
The gradients are taken as products of rows less their mean: their error is relative to the longest such row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch.squares import Squares, direct, rows_of


def _pull(off: Tensor, distance: Tensor, shifted: Tensor, rows: Tensor) -> Tensor:
    weight = torch.where(distance > 0, 2 * off / distance, 0.0)
    return weight.sum(1, keepdim=True) * shifted[rows] - weight @ shifted


def stress(
    x: Tensor, y: Tensor, needs: tuple[bool, bool], squares: Squares = direct
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value (), gradient of x or None, gradient of y or None), float64."""
    x, y = x.to(torch.float64), y.to(torch.float64)
    shifted_x, shifted_y = x - x.mean(0), y - y.mean(0)
    n = x.shape[0]
    value = torch.zeros((), dtype=torch.float64, device=x.device)
    to_x = torch.empty_like(x) if needs[0] else None
    to_y = torch.empty_like(y) if needs[1] else None
    of_x, of_y = squares(x, x), squares(y, y)
    for rows in rows_of(n, n, x.device):
        a, b = of_x(rows).sqrt_(), of_y(rows).sqrt_()
        off = a - b
        value += (off * off).sum()
        if to_x is not None:
            to_x[rows] = _pull(off, a, shifted_x, rows)
        if to_y is not None:
            to_y[rows] = _pull(-off, b, shifted_y, rows)
    return value / 2, to_x, to_y
