"""The engine's operators as `torch.library` custom ops, so that torch.compile, opcheck and autograd know them.

torch.ops.msma_fast.pairwise_distances, .knn, .radius_count take checked tensors: x (n, d) or (b, n, d); the public
functions in distances.py and neighbors.py are the doors. backend "" is automatic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import distance_dtype
from msma_fast.backends import registry

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]  # of x, y and the metric tensor


def _per_problem(run: Any, x: Tensor, y: Tensor | None, *labels: Tensor | None) -> Any:
    """Runs one (n, d) problem, or each of a batch (b, n, d), stacked."""
    if x.ndim == 2:
        return run(x, y, *labels)
    results = [
        run(x[i], None if y is None else y[i], *(None if label is None else label[i] for label in labels))
        for i in range(x.shape[0])
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results)
    return tuple(torch.stack(field) for field in zip(*results, strict=True))


def _dtype(x: Tensor, y: Tensor | None) -> torch.dtype:
    return distance_dtype(x) if y is None else distance_dtype(x, y)


@torch.library.custom_op("msma_fast::pairwise_distances", mutates_args=())
def pairwise_distances(
    x: Tensor, y: Tensor | None, metric: str, p: float, metric_tensor: Tensor | None, backend: str
) -> Tensor:
    """(..., n, m) distances, float64 for float64 input, else float32."""
    found: Tensor = registry.run("pairwise_distances", x.device, backend, x, y, metric, p, metric_tensor, _dtype(x, y))
    return found


@pairwise_distances.register_fake
def _(x: Tensor, y: Tensor | None, metric: str, p: float, metric_tensor: Tensor | None, backend: str) -> Tensor:
    m = (x if y is None else y).shape[-2]
    return x.new_empty((*x.shape[:-1], m), dtype=_dtype(x, y))


@torch.library.custom_op("msma_fast::knn", mutates_args=())
def knn(
    queries: Tensor,
    points: Tensor | None,
    k: int,
    metric: str,
    p: float,
    metric_tensor: Tensor | None,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    certified: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(distances (..., n, k), indices (..., n, k), candidates (..., n), widened (..., n))."""
    dtype = _dtype(queries, points)

    def run(x: Tensor, y: Tensor | None, g: Tensor | None, h: Tensor | None) -> Any:
        return registry.run("knn", x.device, backend, x, y, k, metric, p, metric_tensor, g, h, window, certified, dtype)

    result: tuple[Tensor, Tensor, Tensor, Tensor] = _per_problem(run, queries, points, groups, point_groups)
    return result


@knn.register_fake
def _(
    queries: Tensor,
    points: Tensor | None,
    k: int,
    metric: str,
    p: float,
    metric_tensor: Tensor | None,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    certified: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = queries.shape[:-1]
    return (
        queries.new_empty((*rows, k), dtype=_dtype(queries, points)),
        queries.new_empty((*rows, k), dtype=torch.int64),
        queries.new_empty(rows, dtype=torch.int64),
        queries.new_empty(rows, dtype=torch.int64),
    )


@torch.library.custom_op("msma_fast::radius_count", mutates_args=())
def radius_count(
    queries: Tensor,
    radius: Tensor,
    points: Tensor | None,
    metric: str,
    p: float,
    metric_tensor: Tensor | None,
    closed: bool,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    backend: str,
) -> Tensor:
    """(..., n) int64; radius (..., n) in the returned precision."""

    def run(x: Tensor, y: Tensor | None, r: Tensor, g: Tensor | None, h: Tensor | None) -> Any:
        return registry.run("radius_count", x.device, backend, x, r, y, metric, p, metric_tensor, closed, g, h, window)

    counts: Tensor = _per_problem(run, queries, points, radius, groups, point_groups)
    return counts


@radius_count.register_fake
def _(
    queries: Tensor,
    radius: Tensor,
    points: Tensor | None,
    metric: str,
    p: float,
    metric_tensor: Tensor | None,
    closed: bool,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    backend: str,
) -> Tensor:
    return queries.new_empty(queries.shape[:-1], dtype=torch.int64)


def _cast(found: Gradients, x: Tensor, y: Tensor | None, tensor: Tensor | None) -> list[Tensor | None]:
    """Gradients of (x, y, tensor) in their dtypes; a self-search sends both sides' share to x."""
    to_x, to_y, to_tensor = found
    if y is None:
        to_x = to_x if to_y is None else to_y if to_x is None else to_x + to_y
        to_y = None
    pairs = ((to_x, x), (to_y, y), (to_tensor, tensor))
    return [None if grad is None or like is None else grad.to(like.dtype) for grad, like in pairs]


def _batched(backward: Any, x: Tensor, *arrays: Tensor) -> Gradients:
    """One problem, or the gradients of a batch stacked (the metric tensor's summed)."""
    if x.ndim == 2:
        found: Gradients = backward(x, *arrays)
        return found
    each = [backward(x[i], *(array[i] for array in arrays)) for i in range(x.shape[0])]
    to_x, to_y, to_tensor = zip(*each, strict=True)
    return (
        None if to_x[0] is None else torch.stack(to_x),
        None if to_y[0] is None else torch.stack(to_y),
        None if to_tensor[0] is None else torch.stack(to_tensor).sum(0),
    )


@torch.library.custom_op("msma_fast::pairwise_distances_backward", mutates_args=())
def pairwise_distances_backward(
    grad: Tensor, x: Tensor, y: Tensor, metric: str, needs_x: bool, needs_y: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of x and y, float64, by the metrics' closed forms; empty where not needed."""

    def backward(a: Tensor, b: Tensor, g: Tensor) -> Gradients:
        found: Gradients = registry.run(
            "pairwise_distances_backward", x.device, backend, g, a, b, metric, 2.0, None, (needs_x, needs_y, False)
        )
        return found

    to_x, to_y, _ = _batched(backward, x, y, grad)
    none = x.new_empty(0, dtype=torch.float64)
    return none if to_x is None else to_x, none.clone() if to_y is None else to_y


@pairwise_distances_backward.register_fake
def _(
    grad: Tensor, x: Tensor, y: Tensor, metric: str, needs_x: bool, needs_y: bool, backend: str
) -> tuple[Tensor, Tensor]:
    to_x = x.new_empty(x.shape if needs_x else 0, dtype=torch.float64)
    return to_x, y.new_empty(y.shape if needs_y else 0, dtype=torch.float64)


def _distances_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, ctx.metric, ctx.p, tensor, backend = inputs
    ctx.backend = registry.asked(backend)
    ctx.save_for_backward(x, y, tensor)


# The other metrics' gradients are torch expressions under autograd, which an operator of its own would switch off.
_CLOSED_FORMS = ("euclidean", "sqeuclidean", "inner_product")


def _distances_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, y, tensor = ctx.saved_tensors
    points = x if y is None else y
    needs_x, needs_y, needs_tensor = ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[4]
    needs = (needs_x, needs_x if y is None else needs_y, needs_tensor)

    def backward(a: Tensor, b: Tensor, g: Tensor) -> Gradients:
        found: Gradients = registry.run(
            "pairwise_distances_backward", x.device, ctx.backend, g, a, b, ctx.metric, ctx.p, tensor, needs
        )
        return found

    found: Gradients
    if ctx.metric in _CLOSED_FORMS:
        of_x, of_y = pairwise_distances_backward(grad, x, points, ctx.metric, needs[0], needs[1], ctx.backend)
        found = of_x if needs[0] else None, of_y if needs[1] else None, None
    else:
        found = _batched(backward, x, points, grad)
    to_x, to_y, to_tensor = _cast(found, x, y, tensor)
    return to_x, to_y, None, None, to_tensor, None


pairwise_distances.register_autograd(_distances_backward, setup_context=_distances_setup)


def _knn_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    queries, points, _, ctx.metric, ctx.p, tensor = inputs[:6]
    ctx.backend = registry.asked(inputs[-1])
    ctx.save_for_backward(queries, points, tensor, output[1])


def _knn_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    queries, points, tensor, indices = ctx.saved_tensors
    others = queries if points is None else points
    needs_x, needs_y, needs_tensor = ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[5]
    needs = (needs_x, needs_x if points is None else needs_y, needs_tensor)

    def backward(x: Tensor, y: Tensor, g: Tensor, index: Tensor) -> Gradients:
        found: Gradients = registry.run(
            "knn_backward", x.device, ctx.backend, g, x, y, index, ctx.metric, ctx.p, tensor, needs
        )
        return found

    found = _batched(backward, queries, others, grad, indices)
    to_x, to_y, to_tensor = _cast(found, queries, points, tensor)
    return to_x, to_y, None, None, None, to_tensor, None, None, None, None, None


knn.register_autograd(_knn_backward, setup_context=_knn_setup)
