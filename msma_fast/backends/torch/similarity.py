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
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 21

Gram = Callable[[Tensor], Tensor]  # row indices (B,) -> (B, n) float64


def _blocks(n: int, device: torch.device) -> Iterator[Tensor]:
    yield from torch.arange(n, device=device).split(max(1, _BLOCK // n))


def _distances(x: Tensor) -> Gram:
    """Euclidean distances of all rows to a block of rows, by direct differences in float64."""
    return lambda rows: torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")


def centered_products(a: Gram, b: Gram, n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """mean((HAH) (HBH)), mean((HAH)^2), mean((HBH)^2) of two symmetric (n, n) matrices given by blocks of rows.

    The matrices are first shifted by their mean over one block, so that the sums below cancel little.
    """
    shift_a, shift_b = (float(gram(torch.arange(min(n, 64), device=device)).mean()) for gram in (a, b))
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    mean_a = torch.empty(n, dtype=torch.float64, device=device)
    mean_b = torch.empty(n, dtype=torch.float64, device=device)
    for rows in _blocks(n, device):
        block_a, block_b = a(rows) - shift_a, b(rows) - shift_b
        mean_a[rows], mean_b[rows] = block_a.mean(1), block_b.mean(1)
        sums += torch.stack([(block_a * block_b).sum(), (block_a * block_a).sum(), (block_b * block_b).sum()])
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


def distance_correlation(x: Tensor, y: Tensor) -> Tensor:
    """() float64 in [0, 1] for x (n, dx) and y (n, dy)."""
    x, y = _scaled(x.to(torch.float64)), _scaled(y.to(torch.float64))
    return _ratio(*centered_products(_distances(x), _distances(y), x.shape[0], x.device)).clamp_min(0).sqrt()


def _gaussian(x: Tensor) -> Gram:
    step = max(1, x.shape[0] // 1024)
    sample = x[::step]
    distances = torch.pdist(sample)
    width = distances.median() if distances.numel() else x.new_ones(())
    block = _distances(x)
    if not bool(width > 0):
        return lambda rows: (block(rows) == 0).to(torch.float64)
    return lambda rows: torch.exp(-0.5 * (block(rows) / width) ** 2)


def _squared_norm(x: Tensor, y: Tensor) -> Tensor:
    product = x.T @ y
    return (product * product).sum()


def cka(x: Tensor, y: Tensor, kernel: str) -> Tensor:
    """() float64 for x (n, dx), y (n, dy); kernel "linear" or "rbf"."""
    n = x.shape[0]
    x, y = _scaled(x.to(torch.float64)), _scaled(y.to(torch.float64))
    if kernel == "rbf":
        return _ratio(*centered_products(_gaussian(x), _gaussian(y), n, x.device))
    if max(x.shape[1], y.shape[1]) <= n:
        return _ratio(_squared_norm(x, y), _squared_norm(x, x), _squared_norm(y, y))
    return _ratio(*centered_products(lambda rows: x[rows] @ x.T, lambda rows: y[rows] @ y.T, n, x.device))


def cka_matrix(layers: list[Tensor]) -> Tensor:
    """(L, L) float64 linear CKA of all pairs of (n, d_l) layers, by d x d products in each layer's own precision."""
    centered = [_scaled(layer) for layer in layers]
    count = len(centered)
    hsic = torch.zeros(count, count, dtype=torch.float64, device=layers[0].device)
    for a in range(count):
        for b in range(a, count):
            dtype = torch.promote_types(centered[a].dtype, centered[b].dtype)
            product = (centered[a].to(dtype).T @ centered[b].to(dtype)).to(torch.float64)
            hsic[a, b] = hsic[b, a] = (product * product).sum()
    root = hsic.diagonal().sqrt()
    scale = root[:, None] * root[None, :]
    return torch.where(scale > 0, hsic / scale, torch.zeros_like(scale)).clamp_max(1.0)
