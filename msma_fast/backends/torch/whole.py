"""float32 products that a caller lets torch take in TF32 or bfloat16, for models' sake, would void what is promised here.

The setting is the process's, so that changing it for an op would change it for other threads too: instead, such an op gets its
float32 arguments in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only


def reduced(device: torch.device) -> bool:
    """Whether float32 matrix products may be taken in less on the device."""
    backend: Any = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    precision = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if precision is None:  # torch before 2.9
        return torch.get_float32_matmul_precision() != "highest"
    return precision in ("tf32", "bf16")


def whole(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op, whose answers are of its arguments' dtype, in float64 where its products would be reduced."""

    @wraps(op)
    def run(*arguments: Any) -> Any:
        first = next(each for each in tree_leaves(arguments) if isinstance(each, Tensor))
        if not reduced(first.device):
            return op(*arguments)
        found = op(*tree_map_only(Tensor, _widened, arguments))
        return tree_map_only(Tensor, _narrowed, found) if first.dtype == torch.float32 else found

    return run


def _widened(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64) if tensor.dtype == torch.float32 else tensor


def _narrowed(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.dtype == torch.float64 else tensor
