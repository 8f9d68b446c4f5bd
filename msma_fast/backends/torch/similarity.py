"""Similarities of two paired point sets without an n x n array in memory.

distance_correlation: A, B distance matrices; with row means a_i, b_i and grand means a, b
    dCov^2 = mean(A B) - 2 mean_i(a_i b_i) + a b,   dCor = sqrt(dCov^2(x, y) / sqrt(dCov^2(x, x) dCov^2(y, y)))
    (biased V-statistic; Szekely, Rizzo, Bakirov, Ann. Statist. 35, 2007).
cka: HSIC(K, L) = tr(K H L H), CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (biased; Kornblith et al., ICML 2019).
    linear: |Yc^T Xc|_F^2 where the features fit, blocks of the Gram matrices where d is large.
    rbf: K = exp(-|x - x'|^2 / (2 s^2)), s the median distance of up to 1024 evenly spread rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch.squares import Blocks, Squares, direct, rows_of
from msma_fast.backends.torch.whole import reduced

_SAMPLE = 64  # rows whose pairs give the shift


class Form(NamedTuple):
    """A symmetric (n, n) matrix as a value for each pair of rows of x (n, d) float64.

    "distance" |x - x'|, "gaussian" exp(-scale |x - x'|^2) (scale inf: 1 for equal rows, else 0), "product" x . x'.
    """

    x: Tensor
    form: str
    scale: float = 1.0

    def blocks(self, squares: Squares = direct) -> Blocks:
        """rows (B,) -> (B, n) of the matrix."""
        if self.form == "product":
            return lambda rows: self.x[rows] @ self.x.T
        of = squares(self.x, self.x)
        if self.form == "distance":
            return lambda rows: of(rows).sqrt_()

        def values(rows: Tensor) -> Tensor:
            square = of(rows)
            return torch.where(square > 0, torch.exp(-self.scale * square), 1.0)

        return values

    def shift(self) -> float:
        """About the mean of the matrix, from a sample of rows."""
        sample = self.x[:: max(1, self.x.shape[0] // _SAMPLE)][:_SAMPLE]
        return float(self._replace(x=sample).blocks()(torch.arange(sample.shape[0], device=sample.device)).mean())


# mean((HAH) (HBH)), mean((HAH)^2), mean((HBH)^2), each () float64.
Products = Callable[[Form, Form], tuple[Tensor, Tensor, Tensor]]


def centered_products(a: Form, b: Form, squares: Squares = direct) -> tuple[Tensor, Tensor, Tensor]:
    """mean((HAH) (HBH)), mean((HAH)^2), mean((HBH)^2) by blocks of rows, less shifts so that the sums cancel little."""
    n, device = a.x.shape[0], a.x.device
    shift_a, shift_b = a.shift(), b.shift()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    rows_a, rows_b = a.x.new_empty(n), a.x.new_empty(n)
    of_a, of_b = a.blocks(squares), b.blocks(squares)
    for rows in rows_of(n, n, device):
        block_a, block_b = of_a(rows) - shift_a, of_b(rows) - shift_b
        rows_a[rows], rows_b[rows] = block_a.sum(1), block_b.sum(1)
        sums += torch.stack([(block_a * block_b).sum(), (block_a * block_a).sum(), (block_b * block_b).sum()])
    return centered_means(sums, rows_a, rows_b)


def centered_means(sums: Tensor, rows_a: Tensor, rows_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From sums (3,) of AB, AA, BB and the row sums (n,) of A and B to the means of the centred products."""
    n = rows_a.shape[0]
    mean_a, mean_b = rows_a / n, rows_b / n
    grand_a, grand_b = mean_a.mean(), mean_b.mean()
    pairs = ((mean_a, grand_a, mean_b, grand_b), (mean_a, grand_a) * 2, (mean_b, grand_b) * 2)
    corrections = [-2 * (u * v).mean() + gu * gv for u, gu, v, gv in pairs]
    product, square_a, square_b = sums / (n * n) + torch.stack(corrections)
    return product, square_a, square_b


def _scaled(x: Tensor) -> Tensor:
    """x centred and divided by a power of two: the ratios below do not feel it, and squares stay in range."""
    x = x / _power_of_two(x)
    x = x - x.mean(0)
    return x / _power_of_two(x)


def _power_of_two(x: Tensor) -> float:
    """About the largest absolute value, 1 for all zero; capped so that it and its inverse are normal."""
    largest = float(x.abs().amax())
    if not 0.0 < largest < math.inf:
        return 1.0
    exponent = math.frexp(largest)[1]
    bound = 120 if x.dtype == torch.float32 else 1000
    return 2.0 ** max(-bound, min(bound, exponent))


def _ratio(product: Tensor, square_a: Tensor, square_b: Tensor) -> Tensor:
    """product / sqrt(square_a square_b), 0 where a set does not vary."""
    scale = square_a.clamp_min(0).sqrt() * square_b.clamp_min(0).sqrt()
    return torch.where(scale > 0, product / scale, torch.zeros_like(scale))


def distance_correlation(products: Products, x: Tensor, y: Tensor) -> Tensor:
    """() float64 in [0, 1] for x (n, dx) and y (n, dy)."""
    a, b = (Form(_scaled(z.to(torch.float64)), "distance") for z in (x, y))
    return _ratio(*products(a, b)).clamp_min(0).sqrt()


def _gaussian(x: Tensor) -> Form:
    step = max(1, x.shape[0] // 1024)
    distances = torch.pdist(x[::step])
    width = float(distances.median()) if distances.numel() else 1.0
    return Form(x, "gaussian", 0.5 / width**2 if width > 0 else math.inf)


def _squared_norm(x: Tensor, y: Tensor) -> Tensor:
    product = x.T @ y
    return (product * product).sum()


def cka(products: Products, x: Tensor, y: Tensor, kernel: str) -> Tensor:
    """() float64 for x (n, dx), y (n, dy); kernel "linear" or "rbf"."""
    x, y = _scaled(x.to(torch.float64)), _scaled(y.to(torch.float64))
    if kernel == "rbf":
        return _ratio(*products(_gaussian(x), _gaussian(y)))
    if max(x.shape[1], y.shape[1]) <= x.shape[0]:
        return _ratio(_squared_norm(x, y), _squared_norm(x, x), _squared_norm(y, y))
    return _ratio(*products(Form(x, "product"), Form(y, "product")))


def cka_matrix(layers: list[Tensor]) -> Tensor:
    """(L, L) float64 linear CKA of all pairs of (n, d_l) layers, by d x d products in each layer's own precision."""
    centered = [_scaled(layer) for layer in layers]
    count = len(centered)
    hsic = torch.zeros(count, count, dtype=torch.float64, device=layers[0].device)
    for a in range(count):
        for b in range(a, count):
            dtype = torch.promote_types(centered[a].dtype, centered[b].dtype)
            dtype = torch.float64 if reduced(layers[0].device) else dtype
            product = (centered[a].to(dtype).T @ centered[b].to(dtype)).to(torch.float64)
            hsic[a, b] = hsic[b, a] = (product * product).sum()
    root = hsic.diagonal().sqrt()
    scale = root[:, None] * root[None, :]
    return torch.where(scale > 0, hsic / scale, torch.zeros_like(scale)).clamp_max(1.0)
