"""Sums over pairs of rows by the compiled module, on CPU tensors; see csrc/include/msma/reductions.hpp.

Each function stands for the one of its name in backends/torch/. Rows are handed over in float64, tiles of canonical keys live
in the cache of a thread, and a self problem computes half of its matrix. Results do not depend on the number of threads
(torch.get_num_threads()).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.native import compiled
from msma_fast.backends.torch.distance_counts import count_keys as count_torch_keys
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.ops import Reductions
from msma_fast.backends.torch.similarity import Form, centered_means

_KINDS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "inner_product", "cosine"])


def _wide(tensor: Tensor | None) -> Any:
    """float64 numpy memory, shared where it already is that."""
    return None if tensor is None else tensor.detach().to(torch.float64).contiguous().numpy()


def count_keys(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, groups: Tensor | None, window: int, limits: Tensor
) -> Tensor:
    """(E + 1,) int64 counts of keys between limits (E,)."""
    if kernel.kind not in _KINDS:
        return count_torch_keys(keys, kernel, x, y, groups, window, limits)
    other: tuple[Tensor | None, Tensor | None] = (None, None) if x is y else y
    labels = None if groups is None else groups.contiguous().numpy()
    counts = compiled().count_keys(
        kernel.kind, *map(_wide, x), *map(_wide, other), labels, window, _wide(limits), torch.get_num_threads()
    )
    return torch.from_numpy(counts)


def centered_products(a: Form, b: Form) -> tuple[Tensor, Tensor, Tensor]:
    """mean((HAH) (HBH)), mean((HAH)^2), mean((HBH)^2)."""
    sides = [(_wide(side.x), side.form, side.scale, side.shift()) for side in (a, b)]
    found = compiled().centered_products(*sides[0], *sides[1], torch.get_num_threads())
    return centered_means(*map(torch.from_numpy, found))


def gaussian_sums(x: Tensor, y: Tensor | None, scales: Tensor) -> Tensor:
    """(B,) float64."""
    sums = compiled().gaussian_kernel_sums(_wide(x), _wide(y), _wide(scales), torch.get_num_threads())
    return torch.from_numpy(sums)


def gaussian_gradients(x: Tensor, y: Tensor | None, scales: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients (n, d), (m, d) or None, float64."""
    to_x, to_y = compiled().gaussian_kernel_gradients(
        _wide(x), _wide(y), _wide(scales), _wide(weights), torch.get_num_threads()
    )
    return torch.from_numpy(to_x), None if to_y is None else torch.from_numpy(to_y)


def stress(x: Tensor, y: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value (), gradient of x or None, gradient of y or None), float64."""
    value, *gradients = compiled().stress(_wide(x), _wide(y), *needs, torch.get_num_threads())
    to_x, to_y = (None if gradient is None else torch.from_numpy(gradient) for gradient in gradients)
    return torch.tensor(value, dtype=torch.float64), to_x, to_y


REDUCTIONS = Reductions(count_keys, centered_products, gaussian_sums, gaussian_gradients, stress)
