"""A module's call as autograd sees it: its input x, the gradient g of its output, and from these the parameter gradient
of each sequence, for all sequences at once.

    linear      y_t = W x_t + b, W (out, in)    dW = sum_t g_t x_t^T    db = sum_t g_t
    conv1d      the same with W stored (in, out), as in GPT-2
    embedding   y_t = W[x_t], W (V, d)          dW[v] = sum over t with x_t = v of g_t, without padding_idx
    norm        y_t = w * xhat_t + b, (d,)      dw = sum_t g_t * xhat_t    db = sum_t g_t, see _norms.py
    other       any module without children: the module is run again on one sequence and differentiated
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msma_fast.fisher._norms import AROUND, norm_kind, normalised

Add = Callable[
    [Tensor, int], None
]  # adds a parameter's gradient, rows start, start + 1, ..., to total (size, rows, ...)


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
        """x (size, t, in) and g (size, t, out); of an embedding the ids (size, t), -1 where they do not reach its weight."""
        x, g = self.x.detach(), g.detach().reshape(self.size, -1, g.shape[-1]).to(dtype)
        if self.kind != "embedding":
            return x.reshape(self.size, -1, x.shape[-1]).to(dtype), g
        ids, padding = x.reshape(self.size, -1), self.module.padding_idx
        return ids if padding is None else ids.masked_fill(ids == padding, -1), g

    def known(self) -> Call:
        """With the kind that only shows in what the module makes of x."""
        return self._replace(kind=norm_kind(self.module, self.x.detach())) if self.kind == "other" else self

    def one(self, i: int) -> Call:
        """The call of the i-th sequence alone."""
        return self._replace(x=self.x[i : i + 1], size=1)

    def gradient(self, parameter: nn.Parameter, g: Tensor, dtype: torch.dtype) -> Add:
        """What adds the gradient of every sequence to a total."""
        if self.kind == "other":
            return partial(_add_part, self._differentiated(parameter, g).to(dtype))
        if self.kind in AROUND:
            g = g.detach().to(dtype)
            if parameter is self.module.weight:
                g = g * normalised(self.module, self.x.detach(), self.kind)
            return partial(_add_part, g.reshape(self.size, -1, *parameter.shape).sum(1))
        x, g = self.rows(g, dtype)
        if self.kind == "embedding":
            return partial(_add_at_ids, x, g)
        if parameter is not self.module.weight:
            return partial(_add_part, g.sum(1))
        return partial(_add_products, x, g) if self.kind == "conv1d" else partial(_add_products, g, x)

    def _differentiated(self, parameter: nn.Parameter, g: Tensor) -> Tensor:
        """The gradient (1, ...) of a single sequence, of a number (1, 1)."""
        with torch.enable_grad():
            result = self.module(self.x.detach())
        return torch.atleast_1d(torch.autograd.grad(result, parameter, g.detach())[0])[None]


def _add_part(whole: Tensor, total: Tensor, start: int) -> None:
    total += whole[:, start : start + total.shape[1]]


def _add_products(left: Tensor, right: Tensor, total: Tensor, start: int) -> None:
    """sum_t left_t right_t^T, left (size, t, rows of the parameter), right (size, t, columns)."""
    total.baddbmm_(left[:, :, start : start + total.shape[1]].mT, right)


def _add_at_ids(ids: Tensor, g: Tensor, total: Tensor, start: int) -> None:
    """g_t in the row of each id in ids (size, t) that is among the rows of total."""
    sequence, position = ((ids >= start) & (ids < start + total.shape[1])).nonzero(as_tuple=True)
    total.index_put_((sequence, ids[sequence, position] - start), g[sequence, position], accumulate=True)
