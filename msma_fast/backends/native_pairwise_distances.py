"""pairwise_distances and its gradient by the compiled module, on CPU tensors.

x (n, d) or (b, n, d), y (m, d) or (b, m, d) or None -> (n, m) or (b, n, m)

float32 (sq)euclidean: direct float32 differences within 1e-6 relative (csrc/cpu/pairwise_distances-inl.hpp). Other keys of the
compiled kinds: canonical float64 keys, rooted and rounded tile by tile. Both are written straight into the result, and only
the upper half of a symmetric one is computed. An arc sine, a power, a logarithm: the torch backend, over compiled keys.
"""

from __future__ import annotations

import math
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.gradients import Gradients
from msma_fast.backends.torch.gradients import pairwise_distances_backward as plain_backward
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.ops import Problem, check_overflow, problem_of
from msma_fast.backends.torch.pairwise_distances import pairwise_distances as all_pairs
from msma_fast.backends.torch.prepare import column_ranges, kernel_of, may_overflow

_ROOTS = {"euclidean": 1.0, "mahalanobis": 1.0, "hellinger": math.sqrt(2.0)}  # divisors of the rooted key
_KEYS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "inner_product", "cosine", "correlation"])


def pairwise_distances(
    module: ModuleType,
    keys: Keys,
    x: Tensor,
    y: Tensor | None,
    metric: str,
    p: float,
    tensor: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Distances in dtype. Raises ValueError where a canonical key leaves float64."""
    out = torch.empty(*x.shape[:-1], (x if y is None else y).shape[-2], dtype=dtype)
    kernel = kernel_of(metric, p, tensor)
    if metric == "minkowski" and p in (1, 2, math.inf):
        metric = {1: "manhattan", 2: "euclidean", math.inf: "chebyshev"}[p]
    write = partial(_write, module, metric=metric)
    if metric in ("euclidean", "sqeuclidean"):  # the rows as they are, a batch at once
        wide = torch.promote_types(torch.promote_types(x.dtype, (x if y is None else y).dtype), torch.float32)
        left, right = x.to(wide), None if y is None else y.to(wide)
        if wide == torch.float64:
            _check_batch(keys, kernel, left, right, metric)
        write(kernel, Rows(left), None if right is None else Rows(right), out)
    elif x.ndim == 2:
        _one(keys, write, x, y, metric, p, tensor, out)
    else:
        for b in range(x.shape[0]):
            _one(keys, write, x[b], None if y is None else y[b], metric, p, tensor, out[b])
    if y is None and metric != "inner_product":
        out.diagonal(dim1=-2, dim2=-1).zero_()
    return out


def _check_batch(keys: Keys, kernel: Kernel, x: Tensor, y: Tensor | None, metric: str) -> None:
    flat = x.flatten(0, -2)
    ranges = column_ranges(flat)
    if not may_overflow(kernel, ranges, ranges if y is None else column_ranges(y.flatten(0, -2))):
        return
    lefts = [x] if x.ndim == 2 else list(x)
    rights = lefts if y is None else [y] if y.ndim == 2 else list(y)
    for left, right in zip(lefts, rights, strict=True):
        check_overflow(Problem(keys, kernel, Rows(left), Rows(right)), Admissible(), metric)


def _one(
    keys: Keys, write: Any, x: Tensor, y: Tensor | None, metric: str, p: float, tensor: Tensor | None, out: Tensor
) -> None:
    problem = problem_of(keys, x, y, metric, p, tensor, ("x", "y"))
    check_overflow(problem, Admissible(), metric)
    if problem.kernel.kind in keys.kinds and metric in _KEYS | _ROOTS.keys():
        write(problem.kernel, problem.x, None if y is None else problem.y, out)
    else:
        out.copy_(all_pairs(*problem, metric, p, out.dtype))


def _write(module: ModuleType, kernel: Kernel, x: Rows, y: Rows | None, out: Tensor, *, metric: str) -> None:
    tensor = None if kernel.tensor is None else kernel.tensor.contiguous().numpy()
    sides = (*_side(x), *((None, None) if y is None else _side(y)))
    scale = metric in _ROOTS, _ROOTS.get(metric, 1.0)
    threads = torch.get_num_threads()
    module.pairwise_distances(kernel.kind, int(kernel.p), tensor, *sides, *scale, threads, _batched(out).numpy())


def _side(rows: Rows) -> tuple[Any, Any]:
    values = rows.values if rows.values.shape[-1] == 1 or rows.values.stride(-1) == 1 else rows.values.contiguous()
    return _batched(values.detach()).numpy(), None if rows.norms is None else rows.norms.numpy()


def _batched(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor[None]


def pairwise_distances_backward(
    keys: Keys,
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    metric: str,
    p: float,
    tensor: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """grad (n, m) of the distances of x (n, d) and y (m, d) -> their gradients in float64."""
    squares = partial(keys.block_keys, Kernel("sqeuclidean"))
    return plain_backward(grad, x, y, metric, p, tensor, needs, squares=lambda a, b: squares(Rows(a), Rows(b)))
