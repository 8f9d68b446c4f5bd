"""Closed-form maps between two scales, x (n, d) -> x @ weight (d, e), of rows that are centred and of one size.

procrustes   weight = U V^T of U S V^T = x^T y: the rotation, or reflection, nearest to the pairs (Schoenemann, Psychometrika
             31, 1966); of d != e the nearest weight with orthonormal rows or columns
ridge        (x^T x + n l)^-1 x^T y (Hoerl, Kennard, Technometrics 12, 1970)
low-rank     the same, projected on the leading r right singular vectors of the fitted x @ weight: reduced rank regression
             (Izenman, Journal of Multivariate Analysis 5, 1975), with the ridge of the full rank; the singular
             vectors are those of the fitted values alone
moments      unpaired: the optimal transport between normal distributions with the moments of x and of y, for d = e:
             A = Sx^-1/2 (Sx^1/2 Sy Sx^1/2)^1/2 Sx^-1/2 (Dowson, Landau, Journal of Multivariate Analysis 12, 1982)

l and r have the least squared error on rows of other texts, and the map is then fitted to all rows. float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_RIDGES = tuple(10.0**power for power in range(-12, 2))  # l, of rows whose mean square is 1
_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Linear(NamedTuple):
    """weight (d, e) float64, and the constants that were chosen, by name."""

    weight: Tensor
    chosen: dict[str, float]

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x)

    def isometry_deviation(self, _: Tensor, __: int) -> float:
        """|W W^T - I|_F / sqrt(d): 0 of an isometry."""
        d = self.weight.shape[0]
        gap = self.weight @ self.weight.T - torch.eye(d, dtype=self.weight.dtype, device=self.weight.device)
        return float(gap.square().sum().div(d).sqrt())

    def hessian_norm(self, _: Tensor, __: int) -> float:
        return 0.0


def procrustes(x: Tensor, y: Tensor, _: Tensor) -> Linear:
    """Of paired rows; the third argument is not looked at."""
    u, _, vt = torch.linalg.svd(x.T @ y, full_matrices=False)
    return Linear(u @ vt, {})


def ridge(x: Tensor, y: Tensor, held: Tensor) -> Linear:
    """held (n,) bool: the rows that choose l."""
    best = _Path.of(x[~held], y[~held]).best(x[held], y[held])
    return Linear(_Path.of(x, y).weight(best), {"ridge": best})


def low_rank(x: Tensor, y: Tensor, held: Tensor) -> Linear:
    """held (n,) bool: the rows that choose l and r."""
    path = _Path.of(x[~held], y[~held])
    l2 = path.best(x[held], y[held])
    part = path.weight(l2)
    axes = _axes(x[~held] @ part)
    inside, wanted = x[held] @ part @ axes, y[held] @ axes
    # |x W A_r A_r^T - y|^2 = |y|^2 + sum over the first r columns of (x W A)^2 - 2 (x W A) (y A)
    saved = (inside.square() - 2.0 * inside * wanted).sum(0).cumsum(0)
    ranks = sorted({rank for rank in _RANKS if rank < axes.shape[1]} | {axes.shape[1]})
    best = int(_least(ranks, lambda rank: saved[int(rank) - 1]))
    whole = _Path.of(x, y).weight(l2)
    leading = _axes(x @ whole)[:, :best]
    return Linear(whole @ leading @ leading.T, {"ridge": l2, "rank": float(best)})


def moments(x: Tensor, y: Tensor, _: Tensor) -> Linear:
    """Of centred rows in any order; directions in which x does not vary are mapped to 0."""
    values, vectors = torch.linalg.eigh(x.T @ x / x.shape[0])
    kept = values > values[-1] * 1e-10
    root, inverse = (
        (vectors * torch.where(kept, values.clamp_min(0) ** power, 0.0)) @ vectors.T for power in (0.5, -0.5)
    )
    inner, axes = torch.linalg.eigh(root @ (y.T @ y / y.shape[0]) @ root)
    middle = (axes * inner.clamp_min(0).sqrt()) @ axes.T
    return Linear(inverse @ middle @ inverse, {})


CLOSED: dict[str, Callable[[Tensor, Tensor, Tensor], Linear]] = {
    "procrustes": procrustes,
    "ridge": ridge,
    "low-rank": low_rank,
}


class _Path(NamedTuple):
    """Ridge weights of every l: V diag(1 / (values + l)) turned, from x^T x = n V diag(values) V^T, turned = V^T x^T y / n."""

    values: Tensor
    vectors: Tensor
    turned: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Path:
        values, vectors = torch.linalg.eigh(x.T @ x / x.shape[0])
        return cls(values.clamp_min(0), vectors, vectors.T @ (x.T @ y / x.shape[0]))

    def weight(self, ridge: float) -> Tensor:
        return (self.vectors / (self.values + ridge)) @ self.turned

    def best(self, x: Tensor, y: Tensor) -> float:
        """The l with the least error on other rows. With a = x V and g = 1 / (values + l), |a diag(g) turned - y|^2 is
        |y|^2 + g^T Q g - 2 c^T g for every l, Q = (a^T a) * (turned turned^T), c = the row sums of (a^T y) * turned."""
        a = x @ self.vectors
        quadratic = (a.T @ a) * (self.turned @ self.turned.T)
        linear = ((a.T @ y) * self.turned).sum(1)

        def error(ridge: float) -> Tensor:
            g = 1.0 / (self.values + ridge)
            return g @ quadratic @ g - 2.0 * linear @ g

        return _least(_RIDGES, error)


def _axes(fitted: Tensor) -> Tensor:
    """(e, e) the right singular vectors, leading ones first."""
    return torch.linalg.eigh(fitted.T @ fitted).eigenvectors.flip(1)


def _least(options: tuple[float, ...] | list[int], error: Callable[[float], Tensor]) -> float:
    return min(options, key=lambda option: float(error(option)))
