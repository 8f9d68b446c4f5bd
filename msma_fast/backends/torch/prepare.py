"""From a metric to prepared rows and a kernel, and from canonical keys back to distances.

| metric              | rows                    | kernel        | distance of a key                      |
|---------------------|-------------------------|---------------|----------------------------------------|
| euclidean           | x                       | sqeuclidean   | sqrt(key)                              |
| sqeuclidean         | x                       | sqeuclidean   | key                                    |
| manhattan, minkowski 1 | x                    | manhattan     | key                                    |
| chebyshev, minkowski inf | x                  | chebyshev     | key                                    |
| minkowski 2         | x                       | sqeuclidean   | sqrt(key)                              |
| minkowski p         | x                       | minkowski (integer p <= 16) or power | key^(1/p)       |
| inner_product       | x                       | inner_product | key                                    |
| cosine              | x, norms                | cosine        | key                                    |
| correlation         | x - lane_sum(x) / d, norms | cosine     | key                                    |
| mahalanobis         | x                       | mahalanobis   | sqrt(key)                              |
| hellinger           | sqrt(x)                 | sqeuclidean   | sqrt(key) / sqrt(2)                    |
| fisher_rao          | sqrt(x)                 | sqeuclidean   | 4 asin(sqrt(key) / 2)                  |
| jensen_shannon      | x                       | jensen_shannon | sqrt(key)                             |
| kl                  | x                       | kl            | key                                    |
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from msma_fast.backends.torch.exact import sqrt
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.torch.keys import lane_sum, row_norms
from msma_fast.metrics import MAX_INTEGER_P


def kernel_of(metric: str, p: float, metric_tensor: Tensor | None) -> Kernel:
    """The formula behind a metric."""
    if metric == "minkowski":
        if p == 1 or p == math.inf:
            return Kernel("manhattan" if p == 1 else "chebyshev")
        if p == 2:
            return Kernel("sqeuclidean")
        return Kernel("minkowski", int(p)) if p == int(p) and p <= MAX_INTEGER_P else Kernel("power", p)
    if metric == "mahalanobis":
        return Kernel("mahalanobis", tensor=metric_tensor)
    same = {"manhattan", "chebyshev", "inner_product", "cosine", "kl", "jensen_shannon"}
    return Kernel("cosine" if metric == "correlation" else metric if metric in same else "sqeuclidean")


def prepare(x: Tensor, metric: str, name: str = "x") -> Rows:
    """Rows (n, d) of any float dtype -> what the metric's kernel reads. Raises ValueError where a norm leaves float64."""
    x = x.detach()
    values = (x if x.dtype == torch.float64 else x.to(torch.float32)).contiguous()
    if metric in ("hellinger", "fisher_rao"):
        return Rows(sqrt(values.to(torch.float64)))
    if metric not in ("cosine", "correlation"):
        return Rows(values)
    if metric == "correlation":
        wide = values.to(torch.float64)
        d = torch.tensor(float(wide.shape[1]), dtype=torch.float64, device=wide.device)
        values = wide - (lane_sum(wide) / d)[:, None]
    norms = row_norms(values)
    bad = ~((norms > 0) & (norms < math.inf))
    if bool(bad.any()) and not bool(torch.isnan(norms).any()):
        row = int(bad.nonzero()[0])
        what = "underflow to zero" if float(norms[row]) == 0 else "overflow"
        raise ValueError(
            f"{name}: expected rows whose squared norm is a positive float64 for metric={metric!r}, "
            f"got row {row} whose squares {what}; rescale the rows"
        )
    return Rows(values, norms)


def distances_of(keys: Tensor, metric: str, p: float, root: Callable[[Tensor], Tensor] = sqrt) -> Tensor:
    """Canonical keys -> distances, float64; monotone in the key. `root` is the square root: the correctly rounded one
    wherever distances are compared or promised bit for bit."""
    if metric in ("euclidean", "mahalanobis", "jensen_shannon") or (metric == "minkowski" and p == 2):
        return root(keys)
    if metric == "hellinger":
        return root(keys) / torch.tensor(math.sqrt(2.0), dtype=torch.float64, device=keys.device)
    if metric == "fisher_rao":
        two = torch.tensor(2.0, dtype=torch.float64, device=keys.device)
        return 4.0 * torch.asin((root(keys) / two).clamp_max(1.0))
    if metric == "minkowski" and p not in (1, math.inf):
        return keys ** (1.0 / p)
    return keys


def key_of_distance(radius: Tensor, metric: str, p: float) -> Tensor:
    """About the key whose distance is `radius`: a guide for the screen, never the comparison itself."""
    if metric in ("euclidean", "mahalanobis", "jensen_shannon") or (metric == "minkowski" and p == 2):
        return radius * radius
    if metric == "hellinger":
        return 2.0 * radius * radius
    if metric == "fisher_rao":
        return 4.0 * torch.sin((radius / 4.0).clamp_max(math.pi / 2)) ** 2
    if metric == "minkowski" and p not in (1, math.inf):
        return radius**p
    return radius


def column_ranges(values: Tensor) -> tuple[Tensor, Tensor]:
    """(low (d,), high (d,)) float64 of the columns of (n, d); NaN where a column holds one."""
    return values.amin(0).to(torch.float64), values.amax(0).to(torch.float64)


def may_overflow(kernel: Kernel, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> bool:
    """Whether some pair's canonical key could leave float64, from the column ranges of both sides alone.

    Rounding is monotone, so no key exceeds the key of the vector of ranges (of largest products for inner_product).
    False is a proof; True asks for a look at the keys themselves.
    """
    (low_x, high_x), (low_y, high_y) = x, y
    d = low_x.shape[0]
    if kernel.kind in ("kl", "jensen_shannon", "cosine"):
        return False
    if kernel.kind in ("inner_product", "mahalanobis"):
        top = float(torch.stack([low_x, high_x, low_y, high_y]).abs().amax())
        scale = 1.0 if kernel.tensor is None else 4.0 * kernel.tensor.shape[0] * float(kernel.tensor.abs().amax())
        return not math.isfinite(top * top * d * 2.0 * scale)
    spread = torch.maximum(high_x, high_y) - torch.minimum(low_x, low_y)
    power = {"sqeuclidean": 2.0, "minkowski": float(kernel.p), "power": float(kernel.p)}.get(kernel.kind, 1.0)
    return not bool(torch.isfinite((spread**power).sum() * 2.0))
