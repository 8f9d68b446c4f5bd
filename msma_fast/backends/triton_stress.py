"""Raw stress with a Triton kernel, on CUDA tensors (or in the interpreter)."""

from __future__ import annotations

import torch
from torch import Tensor


def stress(x: Tensor, y: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(value (), gradient of x or None, gradient of y or None), float64."""
    from msma_fast.triton_kernels import stress as kernels

    wide = (z.detach().to(torch.float64).contiguous() for z in (x, y))
    return kernels.stress(*wide, *needs)
