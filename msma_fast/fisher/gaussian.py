"""gaussian_fisher_rao: the Fisher-Rao distance of two normal distributions, where it is known, and bounds where it is not.

The Fisher metric of N(mu, S) is ds^2 = dmu^T S^-1 dmu + tr((S^-1 dS)^2) / 2 (Skovgaard, Scand. J. Statist. 11 (1984)).
It does not change under affine maps, so the pair becomes N(0, I), N(m, A) with S1 = L L^T, m = L^-1 (mu2 - mu1),
A = L^-1 S2 L^-T = B B^T, E = A - I. lambda: the eigenvalues of A. Below, log^2 is a sum of squared logarithms.

  half-plane   (0, 1) to (m, s), means and standard deviations: sqrt 8 asinh sqrt((m^2 / 2 + (s - 1)^2) / (4 s))
  closed       A m = rho m: the reflections that fix m leave the geodesic where m's axis has the half-plane of (|m|, sqrt rho)
               and the axes across it keep their means: d^2 = half-plane^2 + (log^2 lambda - log^2 rho) / 2
  below        [A + m m^T, m; m^T, 1] keeps lengths, not shortest paths, among the positive matrices: d^2 >= log^2 of its
               eigenvalues / 2 (Calvo and Oller, J. Multivariate Anal. 35 (1990)). And no marginal is farther apart than the
               whole: the half-plane of a^T x, with a = (I + A)^-1 m
  above        G = M diag(A^-1, 1, A) M^T, M = [I, 0, 0; m^T, 1, 0; -m m^T / 2, -m, I] (2 d + 1, 2 d + 1) is where N(m, A)
               is lifted to in a symmetric space over the normals (Eriksen 1987; Kobayashi, Inf. Geom. 6 (2023)).
               Projection from it shortens: d^2 <= log^2 of G's eigenvalues / 4, with equality in the closed case.

Logarithms near zero are log1p of the eigenvalues of a difference, else those of the singular values of a factor.
"""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import distance_dtype, float_tensor, from_array, wrapper_like
from msma_fast.results import Array

# |E| and |m| below which eigenvalues of differences from I are taken instead of singular values of factors.
_NEAR = 0.125
# The largest singular value of G's factor that leaves its values near one three digits in float64.
_LARGEST = 1e12


class GaussianFisherRao(NamedTuple):
    """Bounds of a Fisher-Rao distance, arrays of the batch shape: lower <= distance <= upper, equal where it is closed."""

    lower: Array
    upper: Array

    @property
    def distance(self) -> Array:
        """The distances. Raises ValueError where any pair has only bounds."""
        apart = self.lower != self.upper
        if bool(apart.any()):
            raise ValueError(
                "distance: expected pairs of normals with a closed form, got bounds that differ for "
                f"{int(apart.sum())} of them; read lower and upper"
            )
        return self.upper


class _Normal(NamedTuple):
    """mean (..., d), float64, and either variances (..., d) or 0-d, or a matrix with its Cholesky factor (..., d, d); the
    batch shape of both."""

    batch: torch.Size
    mean: Tensor
    variances: Tensor | None
    matrix: Any = None
    factor: Any = None

    def matrices(self) -> tuple[Tensor, Tensor]:
        """(..., d, d) covariance and Cholesky factor."""
        if self.variances is None:
            return self.matrix, self.factor
        diagonal = self.variances.expand(torch.broadcast_shapes(self.variances.shape, self.mean.shape[-1:]))
        return torch.diag_embed(diagonal), torch.diag_embed(diagonal.sqrt())


def gaussian_fisher_rao(mean1: Array, cov1: Any, mean2: Array, cov2: Any) -> GaussianFisherRao:
    """The Fisher-Rao distance of N(mean1, cov1) and N(mean2, cov2): the length of the shortest path of normals.

    mean1, mean2 (..., d); leading axes are a batch and broadcast. cov: one variance (a number or 0-d), variances (..., d)
    with as many axes as the mean, or symmetric positive definite matrices (..., d, d) with one axis more. Returns
    GaussianFisherRao(lower, upper), each of the batch shape; .distance is their common value, and raises ValueError where
    they differ. Without units, the same under every affine map; a small shift of the mean counts in standard deviations.

    The distance depends on what a path may run through. Two covariances given as variances: normals with diagonal
    covariance, a product of hyperbolic half-planes (Costa, Santos, Strapasson, Discrete Appl. Math. 197 (2015)), closed for
    every pair. Otherwise all normals: closed for d = 1, for equal means (sqrt(log^2 eigenvalues of cov1^-1 cov2 / 2)), for
    proportional covariances, and wherever the shift of the mean is an eigenvector of cov2 cov1^-1; else bounds (below:
    Calvo and Oller 1990 and a marginal, above: Eriksen's symmetric space; sources in the module). In random pairs with
    d <= 5 the upper bound was within 6 % of the distance, mostly within 1 %, and the lower within 20 %. Among all normals a
    path may turn its axes, so that diagonal matrices are never farther apart than the same variances, and up to sqrt(d)
    times nearer where the means are far apart.

    float64 inside; results are float64 where any array is, else float32. Accurate relative to the distance near zero too.
    Differentiable in every argument, the bounds too; the gradient is zero at distance zero. Cost O(d^3) a pair: singular
    values of size d where closed, and of size 2 d + 1 where not (at d = 512 about 1 and 7 s on a busy CPU core); O(d) for
    variances.

    Raises ValueError / TypeError for shapes that do not fit, NaN or inf, variances that are not positive, and matrices that
    are not symmetric positive definite. When not to use it: as the distance of two samples whose shape is not a normal's;
    with a covariance estimated from fewer than d rows (shrink it first).
    """
    first, second = _normal("mean1", mean1, "cov1", cov1), _normal("mean2", mean2, "cov2", cov2)
    one, two = first.mean, second.mean
    if one.shape[-1] != two.shape[-1]:
        raise ValueError(f"mean2: expected d = {one.shape[-1]} as in mean1, got d = {two.shape[-1]}")
    if one.device != two.device:
        raise ValueError(f"mean2: expected device {one.device} as mean1, got {two.device}")
    _broadcast("mean2 with cov2", second.batch, "mean1 with cov1", first.batch)
    dtype = distance_dtype(
        *(from_array("cov", part) for part in (mean1, cov1, mean2, cov2) if not isinstance(part, numbers.Real))
    )
    if first.variances is not None and second.variances is not None:
        lower = upper = _root(_half_plane(two - one, first.variances, second.variances).sum(-1))
    else:
        lower, upper = _all_normals(two - one, first.matrices(), second.matrices(), torch.finfo(dtype).eps ** 0.5 / 16)
    wrap = wrapper_like(mean1)
    return GaussianFisherRao(wrap(lower.to(dtype)), wrap(upper.to(dtype)))


def _normal(mean_name: str, mean: Any, name: str, cov: Any) -> _Normal:
    mu = float_tensor(mean_name, mean)
    if mu.ndim < 1 or mu.numel() == 0:
        raise ValueError(f"{mean_name}: expected shape (..., d) with d >= 1, got shape {tuple(mu.shape)}")
    _finite(mean_name, mu)
    wide = mu.to(torch.float64)
    if isinstance(cov, numbers.Real):
        given = torch.tensor(_checks.number(name, cov), dtype=torch.float64, device=mu.device)
    else:
        given = float_tensor(name, cov)
        if given.device != mu.device:
            raise ValueError(f"{name}: expected device {mu.device} as {mean_name}, got {given.device}")
    _finite(name, given)
    value = given.to(torch.float64)
    d = mu.shape[-1]
    if given.ndim == 0 or (given.ndim == mu.ndim and given.shape[-1] == d):
        if d > 1 and given.ndim > 1 and given.shape[-2] == d and _is_covariance(value):
            raise ValueError(
                f"{name}: expected variances for {mean_name} of shape {tuple(mu.shape)}, got a symmetric positive definite "
                f"matrix; one matrix for all means is {name}[None]"
            )
        if not bool((value > 0).all()):
            raise ValueError(f"{name}: expected positive variances, got {float(value.min()):.3g}")
        return _Normal(_broadcast(name, given.shape[:-1], mean_name, mu.shape[:-1]), wide, value)
    if given.ndim != mu.ndim + 1 or given.shape[-2:] != (d, d):
        lead = "..., " if mu.ndim > 1 else ""
        raise ValueError(
            f"{name}: expected a variance, variances ({lead}{d}{'' if lead else ','}) or matrices ({lead}{d}, {d}) "
            f"for {mean_name} of shape {tuple(mu.shape)}, got shape {tuple(given.shape)}"
        )
    batch = _broadcast(name, given.shape[:-2], mean_name, mu.shape[:-1])
    matrix, factor = _factored(name, value, torch.finfo(given.dtype).eps)
    return _Normal(batch, wide, None, matrix, factor)


def _is_covariance(value: Tensor) -> bool:
    """Whether (..., d, d) are covariance matrices, and hardly variances that happen to be symmetric."""
    return torch.equal(value, value.mT) and not bool(torch.linalg.cholesky_ex(value).info.any())


def _factored(name: str, value: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The symmetrised matrices and their Cholesky factors."""
    size = value.detach().abs().amax((-2, -1))
    off = (value - value.mT).detach().abs().amax((-2, -1))
    if bool((off > 64 * eps * size).any()):
        raise ValueError(f"{name}: expected symmetric matrices, got entries that differ by {float(off.max()):.3g}")
    matrix = (value + value.mT) / 2
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool((info > 0).any()):
        raise ValueError(
            f"{name}: expected positive definite matrices, got {int((info > 0).sum())} of {info.numel()} that are not"
        )
    return matrix, factor


def _finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")


def _broadcast(name: str, batch: torch.Size, other_name: str, other: torch.Size) -> torch.Size:
    try:
        return torch.broadcast_shapes(batch, other)
    except RuntimeError as error:
        raise ValueError(
            f"{name}: expected leading axes that broadcast with {tuple(other)} of {other_name}, got {tuple(batch)}"
        ) from error


def _root(square: Tensor) -> Tensor:
    """sqrt with gradient zero at zero; rounding below zero is zero."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def _half_plane(shift: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of univariate normals `shift` apart with these variances, by differences."""
    one, two = first.sqrt(), second.sqrt()
    change = (second - first) / (one + two)
    return _squared_length((shift * shift / 2 + change * change) / (4 * one * two))


def _squared_length(key: Tensor) -> Tensor:
    """8 asinh(sqrt key)^2."""
    return 8 * torch.asinh(_root(key)).square()


def _all_normals(
    shift: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], tolerance: float
) -> tuple[Tensor, Tensor]:
    """Lower and upper (...,) for shift (..., d) and covariances with their factors (..., d, d), broadcast."""
    batch = torch.broadcast_shapes(shift.shape[:-1], first[0].shape[:-2], second[0].shape[:-2])
    d = shift.shape[-1]
    change = second[0] - first[0]
    change, low1, low2 = (part.expand(*batch, d, d).reshape(-1, d, d) for part in (change, first[1], second[1]))
    m = torch.linalg.solve_triangular(low1, shift.expand(*batch, d).reshape(-1, d, 1), upper=False)
    b = torch.linalg.solve_triangular(low1, low2, upper=False)
    half = torch.linalg.solve_triangular(low1, change, upper=False)
    e = torch.linalg.solve_triangular(low1, half.mT, upper=False)
    e = (e + e.mT) / 2
    spread, size = _squared_logs(e, b, e.detach().norm(dim=(-2, -1)) < _NEAR), m.square().sum((-2, -1))
    exact, closed = _closed(m[..., 0], e, b, spread, size, tolerance)
    lower = upper = exact
    if not bool(closed.all()):
        rest = (~closed).nonzero()[:, 0]
        below, above = _bounds(m[rest], e[rest], b[rest], spread[rest], size[rest])
        lower, upper = (exact.index_copy(0, rest, part) for part in (torch.minimum(below, above), above))
    return lower.reshape(batch), upper.reshape(batch)


def _squared_logs(difference: Tensor, factor: Tensor, near: Tensor) -> Tensor:
    """Sum of squared logarithms of the eigenvalues of I + difference = factor factor^T, (N,)."""
    small = torch.where(near[:, None, None], difference, 0.0)
    around = torch.log1p(torch.linalg.eigvalsh(small)).square().sum(-1)
    return torch.where(near, around, 4 * torch.linalg.svdvals(factor).log().square().sum(-1))


def _closed(m: Tensor, e: Tensor, b: Tensor, spread: Tensor, size: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """The closed form (N,), and where it holds: its error is of second order in how far A m is from rho m."""
    moved = size > 0
    whole = torch.where(moved, size, 1.0)
    pulled = (e @ m[..., None])[..., 0]
    excess = torch.where(moved, (m * pulled).sum(-1) / whole, 0.0)  # rho - 1
    rho = torch.where(moved, (b.mT @ m[..., None]).square().sum((-2, -1)) / whole, 1.0)
    logarithm = torch.where(excess.abs() < 0.5, torch.log1p(excess.clamp(min=-0.5)), rho.log())
    root = rho.sqrt()
    key = (size / 2 + (excess / (1 + root)).square()) / (4 * root)
    square = _squared_length(key) + (spread - logarithm.square()).clamp(min=0) / 2
    off = (pulled - excess[:, None] * m).detach().norm(dim=-1)
    scale = size.detach().sqrt() * (1 + e.detach().norm(dim=(-2, -1)))
    return _root(square), off <= tolerance * scale


def _bounds(m: Tensor, e: Tensor, b: Tensor, spread: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper (N,) for m (N, d, 1)."""
    near = (e.detach().norm(dim=(-2, -1)) < _NEAR) & (size.detach() < _NEAR**2)
    a = torch.linalg.solve(b @ b.mT + torch.eye(m.shape[1], dtype=m.dtype, device=m.device), m)
    start, end = a.square().sum((-2, -1)), (b.mT @ a).square().sum((-2, -1))
    marginal = _half_plane((a * m).sum((-2, -1)), start, end)
    lower = torch.maximum(_embedded(m, e, b, near), marginal)
    # Two legs: the mean moves under whichever covariance makes that shorter, and the covariance where the mean rests.
    other = torch.linalg.solve_triangular(b, m, upper=False).square().sum((-2, -1))
    legs = _root(_squared_length(torch.minimum(size, other) / 8)) + _root(spread / 2)
    lifted, largest = _lifted(m, e, b, near)
    return _root(lower), torch.where(largest < _LARGEST, _root(lifted), legs)


def _embedded(m: Tensor, e: Tensor, b: Tensor, near: Tensor) -> Tensor:
    """log^2 of the eigenvalues of [A + m m^T, m; m^T, 1], halved."""
    zero = torch.zeros_like(m[:, :1])
    difference = _blocks([[e + m @ m.mT, m], [m.mT, zero]])
    factor = _blocks([[b, m], [torch.zeros_like(m.mT), zero + 1]])
    return _squared_logs(difference, factor, near) / 2


def _lifted(m: Tensor, e: Tensor, b: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """log^2 of the eigenvalues of G, over 4; and the largest singular value of G's factor M diag(B^-T, 1, B).

    The singular values are 1 and d pairs s, 1 / s; the larger of each pair is the accurate one."""
    d = m.shape[1]
    zeros, column, zero = torch.zeros_like(e), torch.zeros_like(m), torch.zeros_like(m[:, :1])
    eye = torch.eye(d, dtype=m.dtype, device=m.device)
    inverse = torch.linalg.solve_triangular(b, eye.expand_as(b), upper=False)
    shear = _blocks([[zeros, column, zeros], [m.mT, zero, column.mT], [-m @ m.mT / 2, -m, zeros]])  # M - I
    shrunk = -inverse.mT @ inverse @ e  # A^-1 - I
    stretch = _blocks([[(shrunk + shrunk.mT) / 2, column, zeros], [column.mT, zero, column.mT], [zeros, column, e]])
    sheared = shear + shear @ stretch
    difference = stretch + sheared + sheared.mT + sheared @ shear.mT  # G - I
    root = _blocks([[inverse.mT, column, zeros], [column.mT, zero + 1, column.mT], [zeros, column, b]])
    small = torch.where(near[:, None, None], difference, 0.0)
    around = torch.log1p(torch.linalg.eigvalsh(small)).square().sum(-1) / 4
    values = torch.linalg.svdvals(root + shear @ root)
    return torch.where(near, around, 2 * values[:, :d].log().square().sum(-1)), values[:, 0].detach()


def _blocks(rows: list[list[Tensor]]) -> Tensor:
    return torch.cat([torch.cat(row, 2) for row in rows], 1)
