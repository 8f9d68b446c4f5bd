"""The normalisation before a read-out, x = norm(h), with its Jacobian J: the metric at h is J^T G(x) J.

    x = gamma xhat + beta     xhat = (h - mu) / sigma     J = diag(gamma) K / sigma     K = I - U U^T
LayerNorm: mu the mean, sigma^2 = var + eps, U = [1, xhat] / sqrt(d).
RMSNorm: mu = 0, sigma^2 = mean h^2 + eps, U = xhat / sqrt(d).
(Ba, Kiros, Hinton, arXiv 1607.06450; Zhang, Sennrich, arXiv 1910.07467; differentiated here.) K is symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """At rows h (n, d): x (n, d), gamma (d,), 1 / sigma (n, 1), U^T (n, q, d)."""

    x: Tensor
    gamma: Tensor
    inverse: Tensor
    across: Tensor

    def push(self, v: Tensor) -> Tensor:
        """J v for v (n, r, d)."""
        return self.gamma * self._project(v) * self.inverse[:, None]

    def pull(self, u: Tensor) -> Tensor:
        """J^T u for u (n, r, d)."""
        return self._project(self.gamma * u) * self.inverse[:, None]

    def _project(self, v: Tensor) -> Tensor:
        return v - (v @ self.across.mT) @ self.across


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """weight (d,), bias (d,) or None, eps."""

    weight: Tensor
    bias: Tensor | None = None
    eps: float = 1e-5

    def __call__(self, h: Tensor) -> Tensor:
        return self.frame(h).x

    def frame(self, h: Tensor) -> Frame:
        gamma = self.weight.detach().to(h)
        off = h - h.mean(1, keepdim=True)
        inverse = (off.square().mean(1, keepdim=True) + self.eps).rsqrt()
        hat = off * inverse
        across = torch.stack([torch.ones_like(hat), hat], 1) / math.sqrt(h.shape[1])
        x = gamma * hat if self.bias is None else gamma * hat + self.bias.detach().to(h)
        return Frame(x, gamma, inverse, across)


@dataclass(frozen=True, eq=False)
class RMSNorm:
    """weight (d,), eps."""

    weight: Tensor
    eps: float = 1e-6

    def __call__(self, h: Tensor) -> Tensor:
        return self.frame(h).x

    def frame(self, h: Tensor) -> Frame:
        gamma = self.weight.detach().to(h)
        inverse = (h.square().mean(1, keepdim=True) + self.eps).rsqrt()
        hat = h * inverse
        return Frame(gamma * hat, gamma, inverse, hat[:, None] / math.sqrt(h.shape[1]))


@dataclass(frozen=True, eq=False)
class Linearized:
    """Any differentiable map of rows at h (n, d), by forward and reverse differentiation; as Frame, without a closed form."""

    function: Callable[[Tensor], Tensor]
    h: Tensor

    @cached_property
    def x(self) -> Tensor:
        return self.function(self.h)

    def push(self, v: Tensor) -> Tensor:
        def along(step: Tensor) -> Any:
            return torch.func.jvp(self.function, (self.h,), (step,))[1]

        return torch.func.vmap(along, in_dims=1, out_dims=1)(v)

    def pull(self, u: Tensor) -> Tensor:
        back = torch.func.vjp(self.function, self.h)[1]
        return torch.func.vmap(lambda weights: back(weights)[0], in_dims=1, out_dims=1)(u)


def at(norm: Any, h: Tensor) -> Frame | Linearized:
    """A LayerNorm or RMSNorm (ours or torch's) in closed form, any other map of rows by differentiation."""
    if isinstance(norm, torch.nn.LayerNorm):
        if len(norm.normalized_shape) != 1 or norm.weight is None:
            raise ValueError("norm: expected a LayerNorm over one axis with a weight, got " + repr(norm))
        norm = LayerNorm(norm.weight, norm.bias, norm.eps)
    if isinstance(norm, (LayerNorm, RMSNorm)):
        if norm.weight.shape != h.shape[1:]:
            raise ValueError(f"norm: expected a weight of shape ({h.shape[1]},), got {tuple(norm.weight.shape)}")
        return norm.frame(h)
    return Linearized(norm, h)
