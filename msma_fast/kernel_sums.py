"""Gaussian kernel sums, and what distributions' distances make of them: mmd, cauchy_schwarz_divergence."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks, reduction_ops
from msma_fast._arrays import wrapper_like
from msma_fast.backends.registry import check_name
from msma_fast.results import Array


class _Kernel(NamedTuple):
    """Checked bandwidths (B,) float64, and whether a single number was given."""

    bandwidths: Tensor
    single: bool
    backend: str

    def sums(self, x: Tensor, y: Tensor | None) -> Tensor:
        found: Tensor = reduction_ops.gaussian_kernel_sums(x, y, self.bandwidths, self.backend)
        return found

    def wrap(self, like: Any, result: Tensor) -> Any:
        """(B,) -> the bandwidth's shape and the caller's kind, a single number as a float unless it came from tensors."""
        if not self.single:
            return wrapper_like(like)(result)
        return result[0] if isinstance(like, Tensor) else float(result[0])


def _kernel(bandwidth: Any, device: torch.device, backend: str | None) -> _Kernel:
    widths, single = _checks.reals("bandwidth", bandwidth, device)
    scale = 0.5 / (widths * widths)
    if not bool(((widths > 0) & (scale > 0) & torch.isfinite(scale)).all()):
        raise ValueError(
            f"bandwidth: expected positive numbers whose squares stay within float64, got {widths.tolist()[:8]}"
        )
    return _Kernel(widths, single, backend or "")


def _samples(x: Any, y: Any, check_finite: bool) -> tuple[Tensor, Tensor]:
    a = _checks.points("x", x, ndims=(2,), check_finite=check_finite)
    b = _checks.points("y", y, ndims=(2,), check_finite=check_finite)
    _checks.pair("x", a, "y", b)
    return a, b


def gaussian_kernel_sums(
    x: Array, y: Array | None = None, bandwidth: Any = None, *, check_finite: bool = True, backend: str | None = None
) -> Any:
    """Sums of exp(-|x_i - y_j|^2 / (2 h^2)) over pairs of rows, for each bandwidth h: (B,) float64.

    x (n, d) and y (m, d): all n m pairs. y=None: the ordered pairs i != j of x; the diagonal, n ones, is left out, as
    unbiased estimates need it (add n for the whole matrix). bandwidth: a number (the result is a float, or () for tensors)
    or (B,), in the units of x. Differentiable once in x and y, not in the bandwidth. The sum is float64 whatever the dtype.

    Cost n m d, half of it for y=None; memory a tile per thread (blocks of rows on the torch backend), also in the
    backward. Raises ValueError / TypeError for NaN or inf (check_finite=False switches this off), empty input, mismatched
    d, a bandwidth that is not positive, and squared distances that overflow. When not to use it: for one density value per
    row; this is a sum over both sides.
    """
    check_name(backend)
    if y is None:
        a, b = _checks.points("x", x, ndims=(2,), check_finite=check_finite), None
    else:
        a, b = _samples(x, y, check_finite)
    kernel = _kernel(bandwidth, a.device, backend)
    return kernel.wrap(x, kernel.sums(a, b))


def mmd(
    x: Array,
    y: Array,
    bandwidth: Any,
    *,
    unbiased: bool = True,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """The squared maximum mean discrepancy of samples x (n, d), y (m, d) under the Gaussian kernel k of that bandwidth.

    Gretton et al., JMLR 13 (2012), eqs. 3 and 5: mean k(x, x') + mean k(y, y') - 2 mean k(x, y); unbiased: without the
    diagonals (it may be negative), else with them (0 for equal samples, never negative but for rounding). Rows need not be
    paired. bandwidth, result, gradients, cost and errors as in `gaussian_kernel_sums`, three sums; unbiased needs n, m >= 2.
    When not to use it: as a measure of agreement of paired rows, which it does not see; and with one bandwidth far from the
    distances in the data, where it is 0 or a constant for every pair of samples.
    """
    check_name(backend)
    a, b = _samples(x, y, check_finite)
    kernel = _kernel(bandwidth, a.device, backend)
    total = torch.zeros_like(kernel.bandwidths)
    for name, rows in (("x", a), ("y", b)):
        n = rows.shape[0]
        if unbiased and n < 2:
            raise ValueError(f"{name}: expected at least 2 rows for unbiased=True, got {n}")
        sums = kernel.sums(rows, None)
        total = total + (sums / (n * (n - 1)) if unbiased else (sums + n) / n**2)
    return kernel.wrap(x, total - 2 * kernel.sums(a, b) / (a.shape[0] * b.shape[0]))


def cauchy_schwarz_divergence(
    x: Array, y: Array, bandwidth: Any, *, check_finite: bool = True, backend: str | None = None
) -> Any:
    """-log of the normalised cross information potential of samples x (n, d), y (m, d): -log(V_xy / sqrt(V_xx V_yy)), nats.

    V_ab is the mean of the Gaussian kernel of that bandwidth over all pairs, the diagonals included: the integral of the
    product of two Parzen densities with windows of width bandwidth / sqrt 2 (Principe, Information Theoretic Learning,
    2010; he and others also write the squared argument, twice this value). 0 for equal samples, never negative but for
    rounding; inf where no row of x is within reach of one of y. bandwidth, result, gradients, cost and errors as in
    `gaussian_kernel_sums`, three sums. When not to use it: in many dimensions with a narrow bandwidth, where the diagonals
    decide.
    """
    check_name(backend)
    a, b = _samples(x, y, check_finite)
    kernel = _kernel(bandwidth, a.device, backend)
    own = [kernel.sums(rows, None) + rows.shape[0] for rows in (a, b)]
    cross = kernel.sums(a, b)
    return kernel.wrap(x, (own[0].log() + own[1].log()) / 2 - cross.log())
