"""pairwise_distances and its gradient with Triton kernels, on CUDA tensors (or in the interpreter).

x (n, d) or (b, n, d), y (m, d) or (b, m, d) or None -> (n, m) or (b, n, m)

Forward. float32 rows of (sq)euclidean, manhattan and chebyshev: direct float32 differences, within 1e-6 relative (euclidean)
on GPUs of any float64 rate; (sq)euclidean in _MANY coordinates: the torch backend's float64 products, where the GPU has units
for them. Everything else is the canonical float64 key and its distance, rounded once: products of float32
rows leave no relative accuracy where they cancel, whatever their terms, and the other backends return the rounded key too.
An arc sine, and a float64 power, are taken in place; minkowski of a fractional p in float64 is the torch backend's.

Backward. A block of rows at a time: distances again, weights from them, and two sums over pairs. No array but the blocks (some
100 MiB) is larger than the rows. Under inner_product, cosine and correlation the sums are matrix products in float64.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.exact import sqrt
from msma_fast.backends.torch.gradients import Gradients
from msma_fast.backends.torch.gradients import pairwise_distances_backward as plain_backward
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.ops import check_overflow, problem_of
from msma_fast.backends.torch.pairwise_distances import pairwise_distances as all_pairs
from msma_fast.backends.torch.prepare import kernel_of

_BLOCK = 1 << 22  # pairs of one block of the backward
_MANY = 384  # coordinates from which on float64 products win, on an H100
_FAST_PRODUCTS = (80, 90, 100)  # compute capabilities with float64 at half the rate of float32
_DIRECT = frozenset(["sqeuclidean", "manhattan", "chebyshev"])
_FORMS = dict.fromkeys(("euclidean", "mahalanobis", "jensen_shannon"), "root")
_FORMS |= {"hellinger": "hellinger", "fisher_rao": "half root"}
_PRODUCTS = frozenset(["cosine", "correlation"])


def plain_metric(metric: str, p: float) -> str:
    """The name of minkowski 1, 2 and inf."""
    return {1: "manhattan", 2: "euclidean", math.inf: "chebyshev"}.get(p, metric) if metric == "minkowski" else metric


def pairwise_distances(
    keys: Keys, x: Tensor, y: Tensor | None, metric: str, p: float, tensor: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Distances in dtype. Raises ValueError where a canonical key leaves float64."""
    out = torch.empty(*x.shape[:-1], (x if y is None else y).shape[-2], dtype=dtype, device=x.device)
    write = partial(_write, keys, metric=metric, p=p, tensor=tensor)
    if x.ndim == 2:
        write(x, y, out)
    else:
        for b in range(x.shape[0]):
            write(x[b], None if y is None else y[b], out[b])
    return out


def _write(keys: Keys, x: Tensor, y: Tensor | None, out: Tensor, metric: str, p: float, tensor: Tensor | None) -> None:
    problem = problem_of(keys, x, y, metric, p, tensor, ("x", "y"))
    check_overflow(problem, Admissible(), metric)
    from msma_fast.triton_kernels.resources import capability_of

    single = out.dtype == torch.float32
    products = single and problem.kernel.kind == "sqeuclidean" and x.shape[1] >= _MANY
    if (problem.kernel.kind == "power" and not single) or (products and capability_of(x.device) in _FAST_PRODUCTS):
        out.copy_(all_pairs(*problem, metric, p, out.dtype))
    else:
        fill(problem.kernel, problem.x, None if y is None else problem.y, plain_metric(metric, p), out)


def fill(kernel: Kernel, x: Rows, y: Rows | None, metric: str, out: Tensor) -> None:
    """Distances of prepared rows into out (n, m) float32 or float64."""
    from msma_fast.triton_kernels import pairwise_distances as kernels

    single = out.dtype == torch.float32
    if kernel.kind in _DIRECT and single and x.values.dtype == torch.float32:
        kernels.direct(kernel.kind, metric == "euclidean", x.values, None if y is None else y.values, out)
        return
    powered = metric == "minkowski"
    form = ("power" if powered and single else _FORMS.get(metric, "key")) if kernel.kind != "inner_product" else "key"
    zero = y is None and metric != "inner_product"
    other = x if y is None and metric == "kl" else y  # not symmetric: every tile
    tensor = None if kernel.tensor is None else kernel.tensor.detach().contiguous()
    kernels.canonical(kernel.kind, kernel.p, form, tuple(x), None if other is None else tuple(other), tensor, out, zero)
    if metric == "fisher_rao":
        out.asin_().mul_(4.0)
    elif powered and not single:
        out.pow_(1.0 / kernel.p)


class _Pull(NamedTuple):
    """One metric's gradient: the forms for the sides of x and y, rows to take differences of, and p."""

    metric: str
    kernel: Kernel
    forms: tuple[str, str]
    x: Tensor
    y: Tensor


def pairwise_distances_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    metric: str,
    p: float,
    tensor: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """grad (n, m) of the distances of x (n, d) and y (m, d) -> their gradients in float64."""
    if metric == "inner_product":
        return plain_backward(grad, x, y, metric, p, tensor, needs)
    if metric in _PRODUCTS:
        return _by_directions(grad, x, y, metric, needs)
    metric = plain_metric(metric, p)
    wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    if metric not in ("euclidean", "sqeuclidean", "manhattan", "mahalanobis"):
        wide = torch.float64
    rooted = metric in ("hellinger", "fisher_rao")
    rows = [(sqrt(each.to(wide)) if rooted else each.to(wide)).contiguous() for each in (x, y)]
    kernel = kernel_of(metric, p, tensor)
    problem = _Pull(metric, kernel, _pull_forms(metric), rows[0], rows[1])
    both = needs[2] or needs[0], needs[2] or needs[1]
    found = _sums(problem, grad, both)
    if found is None:  # a weight beyond float32
        found = _sums(problem._replace(x=rows[0].to(torch.float64), y=rows[1].to(torch.float64)), grad, both)
        if found is None:
            raise RuntimeError("float64 weights are never refused")
    to_x, to_y = found
    to_tensor = None
    if tensor is not None:
        if needs[2] and to_x is not None and to_y is not None:
            middle = rows[1].to(torch.float64).mean(0)  # the weighted differences of both sides add up to zero
            to_tensor = ((rows[0] - middle).T @ to_x + (rows[1] - middle).T @ to_y) / 2
        to_x, to_y = (None if each is None else each @ tensor.detach() for each in (to_x, to_y))
    if rooted:
        to_x = None if to_x is None else _through_root(to_x, rows[0])
        to_y = None if to_y is None else _through_root(to_y, rows[1])
    return to_x if needs[0] else None, to_y if needs[1] else None, to_tensor


def _through_root(to_root: Tensor, root: Tensor) -> Tensor:
    """d sqrt(x) / dx = 1 / (2 sqrt x), 0 at 0."""
    return torch.where(root > 0, to_root / (2.0 * root), 0.0)


def _pull_forms(metric: str) -> tuple[str, str]:
    if metric == "kl":
        return "kl first", "kl second"
    same = {"manhattan": "sign", "chebyshev": "largest", "minkowski": "power", "jensen_shannon": "jensen_shannon"}
    form = same.get(metric, "difference")
    return form, form


def _sums(problem: _Pull, grad: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None] | None:
    """Gradients of both sides' rows, float64; None where float32 does not hold the weights."""
    from msma_fast.triton_kernels import pairwise_distances_backward as kernels

    x, y = problem.x, problem.y
    (n, d), m = x.shape, y.shape[0]
    to_x, to_y = (torch.zeros(len(z), d, dtype=torch.float64, device=z.device) if need else None
                  for z, need in zip((x, y), needs, strict=True))  # fmt: skip
    p = torch.tensor(float(problem.kernel.p), dtype=torch.float64, device=x.device)
    size = max(1, _BLOCK // m)
    for first in range(0, n, size):
        block = x[first : first + size]
        weight, second = _weights(problem, block, grad[first : first + size].to(x.dtype))
        if x.dtype == torch.float32 and not bool(torch.isfinite(weight).all()):
            return None
        if to_x is not None:
            kernels.pull(problem.forms[0], p, block, y, weight, second, to_x[first : first + size], add=False)
        if to_y is not None:
            turned = None if second is None else second.T
            kernels.pull(problem.forms[1], p, y, block, weight.T, turned, to_y, add=True)
    return to_x, to_y


def _weights(problem: _Pull, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, m) weights of a block of rows against y, and the second array of forms that have one."""
    from msma_fast.triton_kernels import pairwise_distances_backward as kernels

    metric = problem.metric
    if metric == "sqeuclidean":
        return 2.0 * grad, None
    if metric == "manhattan":
        return grad, None
    shape = {"hellinger": "euclidean", "fisher_rao": "euclidean", "kl": "chebyshev"}.get(metric, metric)
    distance = torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)
    kernel = problem.kernel if shape == metric else kernel_of(shape, 2.0, None)
    if kernel.kind == "power":
        distance.copy_(all_pairs(_torch_keys(), kernel, Rows(x), Rows(problem.y), metric, kernel.p, grad.dtype))
    else:
        fill(kernel, Rows(x), Rows(problem.y), shape, distance)
    apart = distance > 0
    if metric == "kl":
        return torch.where(apart, grad, 0.0), None
    if metric == "chebyshev":
        return torch.where(apart, grad / kernels.ties(x, problem.y, distance), 0.0), distance
    if metric == "minkowski":
        return torch.where(apart, grad, 0.0), torch.where(apart, distance.log2(), 0.0)
    slope = grad / distance
    if metric == "hellinger":
        slope = slope / math.sqrt(2.0)
    elif metric == "fisher_rao":
        slope = 2.0 * slope / (1.0 - distance * distance / 4.0).sqrt()
    elif metric == "jensen_shannon":
        slope = slope / 2.0
    return torch.where(apart, slope, 0.0), None


def _torch_keys() -> Keys:
    from msma_fast.backends.torch.ops import TORCH_KEYS

    return TORCH_KEYS


def _by_directions(grad: Tensor, x: Tensor, y: Tensor, metric: str, needs: tuple[bool, bool, bool]) -> Gradients:
    """1 - u.v of directions u and v: du = -W v, less its part along u, over the length of the row."""
    sides = [each.to(torch.float64) for each in (x, y)]
    if metric == "correlation":
        sides = [each - each.mean(1, keepdim=True) for each in sides]
    lengths = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in sides]
    u, v = (each / length for each, length in zip(sides, lengths, strict=True))
    to_u = torch.zeros_like(u) if needs[0] else None
    to_v = torch.zeros_like(v) if needs[1] else None
    raw = [
        each.to(torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)).contiguous()
        for each in (x, y)
    ]
    size = max(1, _BLOCK // y.shape[0])
    for first in range(0, x.shape[0], size):
        rows = slice(first, first + size)
        weight = grad[rows].to(raw[0].dtype)
        distance = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
        fill(Kernel("chebyshev"), Rows(raw[0][rows]), Rows(raw[1]), "chebyshev", distance)
        weight = torch.where(distance > 0, weight, 0.0).to(torch.float64)
        if to_u is not None:
            torch.mm(weight, v, out=to_u[rows])
        if to_v is not None:
            to_v.addmm_(weight.T, u[rows])
    found = (_through_direction(to_u, u, lengths[0], metric), _through_direction(to_v, v, lengths[1], metric))
    return *found, None


def _through_direction(to_unit: Tensor | None, unit: Tensor, length: Tensor, metric: str) -> Tensor | None:
    if to_unit is None:
        return None
    found = ((to_unit * unit).sum(1, keepdim=True) * unit - to_unit) / length
    return found - found.mean(1, keepdim=True) if metric == "correlation" else found
