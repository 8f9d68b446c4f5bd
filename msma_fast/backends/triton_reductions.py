"""Sums over pairs of rows by Triton kernels, on CUDA tensors (or in the interpreter).

Each function stands for the one of its name in backends/torch/. Linear alignment in many dimensions is blocks of matrix
products, kinds of keys that no kernel has are read plainly, and in _MANY coordinates float64 products, which GPUs have units
for, are faster than the kernels' differences: all of these stay torch's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import distance_counts, similarity
from msma_fast.backends.torch import gaussian_kernel_sums as gaussian
from msma_fast.backends.torch import stress as plain_stress
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.ops import Reductions
from msma_fast.backends.torch.similarity import Form
from msma_fast.backends.torch.squares import by_products

_MANY = 384  # coordinates from which on products win, on an H100
_MANY_OF_STRESS = 64


def count_keys(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, groups: Tensor | None, window: int, limits: Tensor
) -> Tensor:
    """(E + 1,) int64 counts of keys between limits (E,); a self problem where x and y are the same object."""
    from msma_fast.triton_kernels import distance_counts as kernels
    from msma_fast.triton_kernels.keys import KINDS

    if kernel.kind not in KINDS or kernel.kind == "minkowski":
        return distance_counts.count_keys(keys, kernel, x, y, groups, window, limits)
    labels = None if groups is None else groups.contiguous()
    points = None if x is y else (y.values, y.norms)
    return kernels.counts(kernel.kind, (x.values, x.norms), points, labels, window, limits)


def centered_products(a: Form, b: Form) -> tuple[Tensor, Tensor, Tensor]:
    """mean((HAH) (HBH)), mean((HAH)^2), mean((HBH)^2)."""
    from msma_fast.triton_kernels import centered_products as kernels

    if a.form != b.form or a.form == "product":
        return similarity.centered_products(a, b)
    if min(a.x.shape[1], b.x.shape[1]) >= _MANY:
        return similarity.centered_products(a, b, by_products)
    sides = [(each.x, each.scale, each.shift()) for each in (a, b)]
    return similarity.centered_means(*kernels.products(a.form, *sides))


def gaussian_sums(x: Tensor, y: Tensor | None, scales: Tensor) -> Tensor:
    """(B,) float64."""
    from msma_fast.triton_kernels import gaussian_kernel_sums as kernels

    if x.shape[1] >= _MANY:
        return gaussian.gaussian_sums(x.detach(), None if y is None else y.detach(), scales, by_products)
    return kernels.sums(x.detach(), None if y is None else y.detach(), scales)


def gaussian_gradients(x: Tensor, y: Tensor | None, scales: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients (n, d), (m, d) or None, float64."""
    from msma_fast.triton_kernels import gaussian_kernel_sums as kernels

    if x.shape[1] >= _MANY:
        return gaussian.gaussian_gradients(x.detach(), None if y is None else y.detach(), scales, weights, by_products)
    return kernels.gradients(x.detach(), None if y is None else y.detach(), scales, weights)


def stress(x: Tensor, y: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value (), gradient of x or None, gradient of y or None), float64."""
    from msma_fast.triton_kernels import stress as kernels

    if min(x.shape[1], y.shape[1]) >= _MANY_OF_STRESS:
        return plain_stress.stress(x.detach(), y.detach(), needs, by_products)
    wide = (z.detach().to(torch.float64).contiguous() for z in (x, y))
    return kernels.stress(*wide, *needs)


REDUCTIONS = Reductions(count_keys, centered_products, gaussian_sums, gaussian_gradients, stress)
