"""The certified screen: low-precision products with a rigorous bound on every pair.

A metric that is a squared distance in some picture z of the rows (t_ij = |z_i - z_j|^2, or -2 x.y for inner_product) is
screened by b, the rows rounded to few bits after a shift mu and a power-of-two scale, with r = (z - mu) - b in float64:

    g_ij = c_j - 2 b_i.b_j                one GEMM; t_ij is c_i + g_ij up to
    margin_ij = 2 r_i X_j + 2 M_i (r_j + kappa M_j) + row_i + col_j      (Cauchy-Schwarz on the product)
    | |z_i - z_j| - |b_i - b_j| | <= r_i + r_j                           (triangle on the distance)

with c = X^2, X = |z - mu|, r its residual's norm, M = max(|b|, X), all rounded up. kappa covers the accumulation of the
product in any order, rounding or truncation and the rounding of the epilogue; row and col hold what the picture itself
loses. Level 0 keeps bf16 values in float32, so that no matmul-precision flag changes the product; level 1 keeps float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch.kernel import Kernel, Rows

# Level 0 holds |b| between these powers of two: products stay normal in float32 and their sums stay finite.
TOP, TINY = 2.0**30, 2.0**-60
_UP = 1.0 + 2.0**-40  # rounds a float64 norm up, for any d below 2^12 blocks of rounding
_SAMPLE = 512  # rows of the sample whose coordinate-wise median is the shift

SMALL_NORM = 2.0**-480  # below it the squares of a row may be subnormal

LEVELS = (torch.float32, torch.float64)


class Side(NamedTuple):
    """One side of the screen; every norm is an upper bound except c and b2, which are plain values."""

    b: Tensor  # (n, d) low-precision rows, float32 or float64; bfloat16 and padded where kernels made them
    c: Tensor  # (n,) float64: |z - mu|^2, 0 for inner_product
    b2: Tensor  # (n,) float64: |b|^2
    x: Tensor  # (n,) float64: X
    r: Tensor  # (n,) float64: r
    m: Tensor  # (n,) float64: M
    slack: Tensor  # (n,) float64: what the picture loses, per row


class Screen(NamedTuple):
    """Both sides at one level, and the constants of the bounds."""

    left: Side
    right: Side
    kappa: float  # accumulation, relative to M_i M_j
    epsilon: float  # epilogue rounding, relative to the terms themselves
    flush: float  # products that underflow, absolute
    factor: float  # t is about factor * canonical key
    scale: float  # t is measured in units of 1 / scale: t_screen = scale * factor * key
    offset: Tensor | None  # (n,) inner_product: t = scale (2 key + offset)
    euclidean: bool  # the triangle bound holds


class Sums(NamedTuple):
    """What one side's rows come to, scaled: plain float64 sums in any order."""

    b: Tensor  # as Side has it
    residual: Tensor  # (n,) |z - mu - b|
    x2: Tensor  # (n,) |z - mu|^2
    b2: Tensor  # (n,) |b|^2


def lost_in_keys(d: int, scale_x: float, scale_y: float) -> float:
    """What a canonical key loses where its terms are subnormal, in units of t; inf where t has no room for it."""
    return (d + 16) * (2.0**-1074 * scale_x) * scale_y


def sample_step(n: int) -> int:
    """Every how many-th of n rows the median looks at."""
    return max(1, n // _SAMPLE)


def median(z: Tensor) -> Tensor:
    """Coordinate-wise median of an evenly spread sample: one huge coordinate cannot move it."""
    return z[:: sample_step(z.shape[0])].median(0).values


def power_of_two_below(top: float, largest: float) -> float:
    """The power of two that brings `largest` to at most `top`."""
    if not 0.0 < largest < math.inf:
        return 1.0
    exponent = math.frexp(top)[1] - 1 - math.frexp(largest)[1]
    return 2.0 ** max(-1000, min(1000, exponent))


def _side(z: Tensor, scale: float, level: int, slack: Tensor, squares: bool) -> Side:
    """z (n, d) float64, already shifted."""
    z = z * scale
    if level == 0:
        b = z.to(torch.bfloat16).to(torch.float32)
        b = torch.where(b.abs() < TINY, torch.zeros_like(b), b)
        r = torch.linalg.vector_norm(z - b.to(torch.float64), dim=1)
    else:
        b = z
        r = torch.zeros(z.shape[0], dtype=torch.float64, device=z.device)
    wide = b.to(torch.float64)
    return side_of(Sums(b, r, (z * z).sum(1), (wide * wide).sum(1)), slack, squares)


def side_of(sums: Sums, slack: Tensor, squares: bool) -> Side:
    """The sums rounded up. squares: whether c is |z - mu|^2."""
    b, r, x2, b2 = sums
    x = x2.sqrt() * _UP
    # The shift and the picture are computed in float64 themselves: 2^-50 |z| covers their rounding.
    r = r * _UP + x * 2.0**-50
    return Side(b, x2 if squares else torch.zeros_like(x2), b2, x, r, torch.maximum(b2.sqrt() * _UP, x), slack)


def _picture(kernel: Kernel, x: Rows, y: Rows) -> tuple[Tensor, Tensor, float, float]:
    """(z of x, z of y, factor, relative loss of the picture with respect to |z|^2)."""
    d = x.values.shape[1]
    wide_x, wide_y = x.values.to(torch.float64), y.values.to(torch.float64)
    rounding = rounding_of(d)
    if kernel.kind == "cosine":
        if x.norms is None or y.norms is None:
            raise RuntimeError("cosine needs norms")
        return wide_x / x.norms[:, None], wide_y / y.norms[:, None], 2.0, rounding
    if kernel.kind == "mahalanobis":
        middle = median(wide_y)
        root, loss = _root_of(kernel, d)
        return (wide_x - middle) @ root, (wide_y - middle) @ root, 1.0, loss
    return wide_x, wide_y, 1.0, rounding


def _root_of(kernel: Kernel, d: int) -> tuple[Tensor, float]:
    """(a root of M, what the picture x root and the canonical key lose relative to |x - y|^2)."""
    if kernel.tensor is None:
        raise RuntimeError("mahalanobis needs the metric tensor")
    values, vectors = torch.linalg.eigh(kernel.tensor)
    root = vectors * values.clamp_min(0.0).sqrt()
    # What root root^T misses of M, and the roundings of z and of the key.
    missed = float(torch.linalg.matrix_norm(kernel.tensor - root @ root.T))
    size = float(torch.linalg.matrix_norm(kernel.tensor))
    return root, 4.0 * missed + 64.0 * d * (d + 16) * 2.0**-50 * size


def mahalanobis_picture(kernel: Kernel, x: Rows, y: Rows) -> tuple[tuple[Rows, Tensor], tuple[Rows, Tensor]]:
    """((picture of x, what each row loses of a distance), the same of y), float64."""
    d = x.values.shape[1]
    root, loss = _root_of(kernel, d)
    middle = median(y.values.to(torch.float64))

    def picture(rows: Rows) -> tuple[Rows, Tensor]:
        shifted = rows.values.to(torch.float64) - middle
        length = math.sqrt(d) * shifted.abs().amax(1)  # an upper bound whose squares cannot underflow
        return Rows((shifted @ root).contiguous()), length * math.sqrt(loss)

    right = picture(y)
    return (right if x is y else picture(x)), right


def screenable(kernel: Kernel) -> bool:
    """Whether the kernel is a product of rows in some picture."""
    return kernel.kind in ("sqeuclidean", "cosine", "inner_product", "mahalanobis")


def constants(d: int, level: int) -> tuple[float, float, float]:
    """(kappa, epsilon, flush) of a Screen."""
    unit = 2.0**-21 if level == 0 else 2.0**-50
    flush = 2.0**-100 if level == 0 else 2.0**-1000
    return (d + 32) * unit, 8.0 * unit, (d + 32) * flush


def lost_in_inner_products(d: int, largest: Tensor, middle: Tensor, scale: float) -> Tensor:
    """(m,) what a point's residual takes on besides: the rounding of x.mu, of the canonical key and of the shift, relative to
    |x| |y|. largest (m,): the largest |y|."""
    size = math.sqrt(d) * (largest + middle.abs().amax())  # squares could underflow
    return (d + 16) * 2.0**-50 * size * scale


def rounding_of(d: int) -> float:
    """What a picture of plain or normalised rows loses, relative to |z|^2."""
    return (d + 16) * 2.0**-50


def build(kernel: Kernel, x: Rows, y: Rows, level: int) -> Screen:
    """The screen of x (n, d) against y (m, d) at a level of LEVELS. The two may be the same object."""
    d = x.values.shape[1]
    kappa, epsilon, flush = constants(d, level)
    if kernel.kind == "inner_product":
        wide_x, wide_y = x.values.to(torch.float64), y.values.to(torch.float64)
        middle = median(wide_y)
        shifted = wide_y - middle
        scale_x = power_of_two_below(TOP, float(wide_x.abs().amax()))
        scale_y = power_of_two_below(TOP, float(shifted.abs().amax()))
        lost = 2.0 * lost_in_keys(d, scale_x, scale_y)
        left = _side(wide_x, scale_x, level, wide_x.new_full((x.values.shape[0],), lost), squares=False)
        right = _side(shifted, scale_y, level, wide_y.new_full((y.values.shape[0],), lost), squares=False)
        right = right._replace(r=right.r + lost_in_inner_products(d, wide_y.abs().amax(1), middle, scale_y))
        offset = 2.0 * (wide_x @ middle)
        return Screen(left, right, kappa, epsilon, flush, 2.0, scale_x * scale_y, offset, euclidean=False)
    z_x, z_y, factor, loss = _picture(kernel, x, y)
    middle = median(z_y)
    z_y = z_y - middle
    z_x = z_y if x is y else z_x - middle
    scale = power_of_two_below(TOP, max(float(z_x.abs().amax()), float(z_y.abs().amax())))

    def side(z: Tensor, rows: Rows) -> Side:
        if kernel.kind == "mahalanobis":
            wide = rows.values.to(torch.float64)
            reach = wide - median(y.values.to(torch.float64))
        else:
            reach = z
        slack = loss * (1.0 if kernel.kind == "cosine" else (reach * reach).sum(1)) * scale * scale
        slack = slack_of(rows, slack, lost_in_keys(d, scale, scale))
        return _side(z, scale, level, slack, squares=True)

    right = side(z_y, y)
    left = right if x is y else side(z_x, x)
    return Screen(left, right, kappa, epsilon, flush, factor, scale * scale, None, euclidean=True)


def slack_of(rows: Rows, rounding: Tensor | float, lost: float) -> Tensor:
    """(n,) what the picture and canonical keys lose, of what the picture's rounding does, (n,) or one number."""
    slack = rounding + rows.values.new_full((rows.values.shape[0],), lost, dtype=torch.float64)
    if rows.norms is not None:  # squares that went subnormal: the norm is no longer the length of the row
        slack[rows.norms < SMALL_NORM] = math.inf
    return slack


def products(screen: Screen, rows: Tensor) -> Tensor:
    """g (B, m) = c_j - 2 b_i.b_j in the screen's precision, for the query rows given."""
    left, right = screen.left, screen.right
    return torch.addmm(right.c.to(right.b.dtype), left.b.index_select(0, rows), right.b.T, alpha=-2.0)


def point_margins(screen: Screen) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(c, near, far, col), each (m,) in the screen's precision: the pairwise part of the Cauchy-Schwarz margin of g is at most
    r_i near_j + m_i far_j + col_j. `row_margin` has the rest."""
    right, dtype = screen.right, torch.promote_types(screen.right.b.dtype, torch.float32)
    # 2^-9 and epsilon: the rounding of these very operations in g's precision.
    up = 1.0 + 2.0**-9
    q = (right.r + screen.kappa * right.m) * up
    col = screen.epsilon * right.c + right.slack
    return right.c.to(dtype), (2.0 * up * right.x).to(dtype), (2.0 * q).to(dtype), (col * up).to(dtype)


def subtract_margin(screen: Screen, g: Tensor, rows: Tensor, sign: float = 1.0) -> Tensor:
    """g -= the pairwise part of the margin, in place (sign -1 adds it)."""
    left = screen.left
    _, near, far, col = point_margins(screen)
    g.addr_(left.r[rows].to(g.dtype), near, alpha=-sign)
    g.addr_(left.m[rows].to(g.dtype), far, alpha=-sign)
    return g.sub_(col, alpha=sign)


def row_margin(screen: Screen, rows: Tensor) -> Tensor:
    """The part of the margin that depends on the query alone (B,) float64."""
    left = screen.left
    return screen.epsilon * left.c[rows] + left.slack[rows] + screen.flush


def bounds(screen: Screen, g: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of t (float64) for listed pairs from their g: the tighter of the two inequalities."""
    left, right = screen.left, screen.right
    g = g.to(torch.float64)
    accumulated = 2.0 * screen.kappa * left.m[i] * right.m[j] + screen.epsilon * (left.c[i] + right.c[j]) + screen.flush
    slack = left.slack[i] + right.slack[j]
    margin = 2.0 * (left.r[i] * right.x[j] + left.m[i] * right.r[j]) + accumulated + slack
    middle = left.c[i] + g
    lower, upper = middle - margin, middle + margin
    if screen.euclidean:
        low = g + (right.b2[j] - right.c[j]) + left.b2[i]
        reach = (left.r[i] + right.r[j]) * _UP
        near = ((low - accumulated).clamp_min(0.0).sqrt() / _UP - reach).clamp_min(0.0)
        far = (low + accumulated).clamp_min(0.0).sqrt() * _UP + reach
        lower = torch.maximum(lower, near * near / _UP - slack)
        upper = torch.minimum(upper, far * far * _UP + slack)
    return lower, upper


def scaled_key(screen: Screen, keys: Tensor, rows: Tensor) -> Tensor:
    """Canonical keys of query rows -> the screen's t (before any slack)."""
    t = screen.factor * keys
    if screen.offset is not None:
        t = t + screen.offset[rows]
    return t * screen.scale
