"""A module's call as autograd sees it: its input x, the gradient g of its output, and from these the parameter gradient
of each sequence.

    linear      y_t = W x_t + b, W (out, in)    dW = sum_t g_t x_t^T    db = sum_t g_t
    conv1d      the same with W stored (in, out), as in GPT-2
    embedding   y_t = W[x_t], W (V, d)          dW[v] = sum over t with x_t = v of g_t, without padding_idx
    other       any module without children: the module is run again on one sequence and differentiated
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def kind_of(module: nn.Module) -> str:
    """Subclasses with a forward of their own (scaled embeddings, say) are "other"."""
    conv1d = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", nn.Linear)
    kinds = {nn.Embedding.forward: "embedding", conv1d.forward: "conv1d", nn.Linear.forward: "linear"}
    kind = kinds.get(type(module).forward, "other")
    if kind == "embedding" and (module.scale_grad_by_freq or module.max_norm is not None):
        return "other"
    return kind


class Call(NamedTuple):
    """x (size, ..., in) of `size` sequences, or any shape where size is 1: then all of it belongs to one sequence."""

    module: Any  # of that kind
    kind: str
    x: Tensor
    size: int

    def rows(self, g: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x (size, t, in), or (size, t) of an embedding, and g (size, t, out)."""
        x, g = self.x.detach(), g.detach().reshape(self.size, -1, g.shape[-1]).to(dtype)
        if self.kind == "embedding":
            return x.reshape(self.size, -1), g
        return x.reshape(self.size, -1, x.shape[-1]).to(dtype), g

    def counted(self, ids: Tensor) -> Tensor:
        """Which of an embedding's positions reach its weight."""
        padding = self.module.padding_idx
        return ids != (-1 if padding is None else padding)

    def gradients(self, parameter: nn.Parameter, g: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """The gradient of each sequence in turn, of the parameter's shape."""
        if self.kind == "other":
            for i in range(self.size):
                own = slice(None) if self.size == 1 else slice(i, i + 1)
                with torch.enable_grad():
                    result = self.module(self.x.detach()[own])
                yield torch.autograd.grad(result, parameter, g.detach()[own])[0].to(dtype)
            return
        for x, out in zip(*self.rows(g, dtype), strict=True):
            if self.kind == "embedding":
                keep = self.counted(x)
                yield torch.zeros(parameter.shape, dtype=dtype, device=g.device).index_add_(0, x[keep], out[keep])
            elif parameter is not self.module.weight:
                yield out.sum(0)
            else:
                yield x.T @ out if self.kind == "conv1d" else out.T @ x
