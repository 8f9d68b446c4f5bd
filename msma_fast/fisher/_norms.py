"""Modules that scale: y = (c + w) * xhat + b, with w and b over the last axes and xhat free of both, as norms are.

    dw = sum over positions of g * xhat        db = sum over positions of g

LayerNorm and the RMSNorms of torch, Llama and T5 have c = 0, Gemma's c = 1. None is known by name: xhat is what the module
itself makes of x where c + w = 1 and b = 0, in its own arithmetic, and the module counts as one of these where the formula
gives what it makes of x for weights drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

AROUND = {"norm": 0, "norm around one": 1}  # kind -> c


def norm_kind(module: nn.Module, x: Tensor) -> str:
    """The kind of a module that scales this x, else "other"."""
    weights = dict(module.named_parameters(recurse=False))
    if "weight" not in weights or weights.keys() - {"weight", "bias"} or not x.numel():
        return "other"
    source = torch.Generator().manual_seed(0)  # the caller's random state is left alone
    drawn = {name: (torch.rand(p.shape, generator=source) + 0.5).to(p) for name, p in weights.items()}
    scale, result = drawn["weight"], _apply(module, x, drawn)
    for kind, around in AROUND.items():
        xhat = normalised(module, x, kind)
        if xhat.shape != result.shape or xhat.shape[-scale.ndim :] != scale.shape:
            continue
        scaled = (around + scale) * xhat + drawn.get("bias", 0)
        # Rounding alone may differ; a weight used in another way changes results by about their own size.
        slack = 64 * torch.finfo(result.dtype).eps * scaled.abs().amax()
        if bool(((result - scaled).abs() <= slack).all()):
            return kind
    return "other"


def normalised(module: nn.Module, x: Tensor, kind: str) -> Tensor:
    """xhat, of the shape of the module's result."""
    weights = module.named_parameters(recurse=False)
    return _apply(
        module, x, {name: torch.full_like(p, 1 - AROUND[kind] if name == "weight" else 0) for name, p in weights}
    )


def _apply(module: nn.Module, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.func.functional_call(module, weights, (x,))
