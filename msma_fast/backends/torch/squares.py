"""Squared distances in float64, a block of rows at a time.

direct: by differences. by_products: |x_i - c|^2 + |y_j - c|^2 - 2 (x_i - c).(y_j - c) with c the mean of y, wrong by at most
about d 2^-52 of its first two terms; pairs nearer than a 64th of those are taken by differences, so that the relative error
stays below d 2^-46 (3e-12 at d = 200) and equal rows are at zero. On a GPU float64 products have units of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# rows (B,) -> (B, m) squared distances of those rows of x to all of y.
Blocks = Callable[[Tensor], Tensor]
# x (n, d), y (m, d), float64 -> Blocks
Squares = Callable[[Tensor, Tensor], Blocks]

_CLOSE = 1 / 64  # of |x|^2 + |y|^2: below, half a dozen digits would cancel
_FEW = 1 / 16  # of a block's pairs, that are worth collecting
_ENTRIES = 1 << 22  # of an array of collected differences


def rows_of(n: int, m: int, device: torch.device) -> tuple[Tensor, ...]:
    """The row numbers of n rows in blocks of about 2^21 pairs with m others; larger ones on a GPU, where launches are dear."""
    pairs = 1 << (21 if device.type == "cpu" else 24)
    return torch.arange(n, device=device).split(max(1, pairs // m))


def direct(x: Tensor, y: Tensor) -> Blocks:
    return lambda rows: torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist").square_()


def by_products(x: Tensor, y: Tensor) -> Blocks:
    middle = y.mean(0)
    right = y - middle
    left = right if x is y else x - middle
    norms = (right * right).sum(1)
    own = norms if x is y else (left * left).sum(1)

    def block(rows: Tensor) -> Tensor:
        size = own[rows, None] + norms
        square = torch.addmm(size, left[rows], right.T, alpha=-2.0)
        i, j = (~(square > _CLOSE * size)).nonzero(as_tuple=True)  # NaN too
        if i.numel() > _FEW * square.numel():
            return direct(x, y)(rows)
        for some in torch.arange(i.numel(), device=x.device).split(max(1, _ENTRIES // x.shape[1])):
            apart = x[rows[i[some]]] - y[j[some]]
            square[i[some], j[some]] = (apart * apart).sum(1)
        return square

    return block
