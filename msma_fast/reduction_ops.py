"""Sums over pairs of rows as `torch.library` custom ops, so that torch.compile, opcheck and autograd know them.

torch.ops.msma_fast.gaussian_kernel_sums and .stress take checked tensors; kernel_sums.py and distortion.py are the doors.
backend "" is automatic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends import registry


@torch.library.custom_op("msma_fast::gaussian_kernel_sums", mutates_args=())
def gaussian_kernel_sums(x: Tensor, y: Tensor | None, bandwidths: Tensor, backend: str) -> Tensor:
    """(B,) float64 for bandwidths (B,) float64; y None: over i != j."""
    sums: Tensor = registry.run("gaussian_kernel_sums", x.device, backend, x, y, bandwidths)
    return sums


@gaussian_kernel_sums.register_fake
def _(x: Tensor, y: Tensor | None, bandwidths: Tensor, backend: str) -> Tensor:
    return torch.empty_like(bandwidths)


@torch.library.custom_op("msma_fast::gaussian_kernel_sums_backward", mutates_args=())
def gaussian_kernel_sums_backward(
    grad: Tensor, x: Tensor, y: Tensor | None, bandwidths: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of x and y (empty where y is None), float64."""
    to_x, to_y = registry.run("gaussian_kernel_sums_backward", x.device, backend, grad, x, y, bandwidths)
    return to_x, to_x.new_empty(0) if to_y is None else to_y


@gaussian_kernel_sums_backward.register_fake
def _(grad: Tensor, x: Tensor, y: Tensor | None, bandwidths: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return _gradient_like(x), _gradient_like(y)


def _gradient_like(rows: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.float64) if rows is None else torch.empty_like(rows, dtype=torch.float64)


def _sums_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, bandwidths, backend = inputs
    ctx.backend = registry.asked(backend)
    ctx.save_for_backward(x, y, bandwidths)


def _sums_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, y, bandwidths = ctx.saved_tensors
    to_x, to_y = gaussian_kernel_sums_backward(grad, x, y, bandwidths, ctx.backend)
    return to_x.to(x.dtype), None if y is None else to_y.to(y.dtype), None, None


gaussian_kernel_sums.register_autograd(_sums_backward, setup_context=_sums_setup)


@torch.library.custom_op("msma_fast::stress", mutates_args=())
def stress(x: Tensor, y: Tensor, needs_x: bool, needs_y: bool, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """(raw stress (), gradient of x, gradient of y), float64; a gradient is taken where it is asked for, else empty.

    The pass that has the distances at hand takes the gradients too, so that the backward is a multiplication.
    """
    value, *gradients = registry.run("stress", x.device, backend, x, y, (needs_x, needs_y))
    to_x, to_y = (value.new_empty(0) if gradient is None else gradient for gradient in gradients)
    return value, to_x, to_y


@stress.register_fake
def _(x: Tensor, y: Tensor, needs_x: bool, needs_y: bool, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    sides = ((x, needs_x), (y, needs_y))
    to_x, to_y = (z.new_empty(z.shape if needed else 0, dtype=torch.float64) for z, needed in sides)
    return x.new_empty((), dtype=torch.float64), to_x, to_y


def _stress_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, ctx.needs_x, ctx.needs_y, _ = inputs
    ctx.dtypes = x.dtype, y.dtype
    ctx.save_for_backward(*output[1:])


def _stress_backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    to_x, to_y = ctx.saved_tensors
    return (
        (grad * to_x).to(ctx.dtypes[0]) if ctx.needs_x else None,
        (grad * to_y).to(ctx.dtypes[1]) if ctx.needs_y else None,
        None,
        None,
        None,
    )


stress.register_autograd(_stress_backward, setup_context=_stress_setup)
