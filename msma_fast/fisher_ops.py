"""The Fisher ops that are losses, with their gradients: torch.autograd over the registry, so that every backend has them.

logit_fisher_quadratic is differentiable once in h and v, fisher_rao_distances in h and other; weight and bias are constants.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends import registry


@torch.library.custom_op("msma_fast::logit_fisher_quadratic", mutates_args=())
def logit_fisher_quadratic(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor, backend: str) -> Tensor:
    """(n,) of h's dtype."""
    found: Tensor = registry.run("logit_fisher_quadratic", h.device, backend, h, weight, bias, v)
    return found


@logit_fisher_quadratic.register_fake
def _(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor, backend: str) -> Tensor:
    return h.new_empty(h.shape[0])


@torch.library.custom_op("msma_fast::logit_fisher_quadratic_backward", mutates_args=())
def logit_fisher_quadratic_backward(
    grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of h and v."""
    to_h, to_v = registry.run("logit_fisher_quadratic_backward", h.device, backend, grad, h, weight, bias, v)
    return to_h, to_v


@logit_fisher_quadratic_backward.register_fake
def _(grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h), torch.empty_like(v)


def _keep_quadratic(ctx: Any, inputs: Any, output: Any) -> None:
    h, weight, bias, v, backend = inputs
    ctx.backend = registry.asked(backend)
    ctx.save_for_backward(h, weight, bias, v)


def _quadratic_backward(ctx: Any, grad: Tensor) -> Any:
    h, weight, bias, v = ctx.saved_tensors
    to_h, to_v = logit_fisher_quadratic_backward(grad.contiguous(), h, weight, bias, v, ctx.backend)
    return to_h, None, None, to_v, None


logit_fisher_quadratic.register_autograd(_quadratic_backward, setup_context=_keep_quadratic)


@torch.library.custom_op("msma_fast::fisher_rao_distances", mutates_args=())
def fisher_rao_distances(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, backend: str) -> Tensor:
    """(n, m) of h's dtype."""
    found: Tensor = registry.run("fisher_rao_distances", h.device, backend, h, weight, bias, other)
    return found


@fisher_rao_distances.register_fake
def _(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, backend: str) -> Tensor:
    return h.new_empty(h.shape[0], h.shape[0] if other is None else other.shape[0])


@torch.library.custom_op("msma_fast::fisher_rao_distances_backward", mutates_args=())
def fisher_rao_distances_backward(
    grad: Tensor, distances: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of h and other (empty where other is None)."""
    to_h, to_other = registry.run(
        "fisher_rao_distances_backward", h.device, backend, grad, distances, h, weight, bias, other
    )
    return to_h, h.new_empty(0) if to_other is None else to_other


@fisher_rao_distances_backward.register_fake
def _(
    grad: Tensor, distances: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h), h.new_empty(0) if other is None else torch.empty_like(other)


def _keep_distances(ctx: Any, inputs: Any, output: Any) -> None:
    h, weight, bias, other, backend = inputs
    ctx.backend = registry.asked(backend)
    ctx.save_for_backward(output, h, weight, bias, other)


def _distances_backward(ctx: Any, grad: Tensor) -> Any:
    distances, h, weight, bias, other = ctx.saved_tensors
    to_h, to_other = fisher_rao_distances_backward(grad.contiguous(), distances, h, weight, bias, other, ctx.backend)
    return to_h, None, None, None if other is None else to_other, None


fisher_rao_distances.register_autograd(_distances_backward, setup_context=_keep_distances)
