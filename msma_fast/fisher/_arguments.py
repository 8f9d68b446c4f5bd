"""What the functions over a read-out check, once, before anything is computed."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import Wrap, distance_dtype, wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.fisher.norms import Frame, Linearized, at


class Checked(NamedTuple):
    """h (n, d) and bias (V,) of the dtype of the computation, weight (V, d) as it came; wrap: to the caller's kind."""

    h: Tensor
    weight: Tensor
    bias: Tensor | None
    norm: Any
    backend: str
    wrap: Wrap

    def rows(self, name: str, value: Any) -> Tensor:
        """Vectors (n, d), one for each row of h."""
        tensor = _checks.points(name, value, ndims=(2,))
        if tensor.shape != self.h.shape:
            raise ValueError(f"{name}: expected shape {tuple(self.h.shape)} as h, got {tuple(tensor.shape)}")
        return self.like(name, tensor)

    def others(self, name: str, value: Any) -> Tensor:
        """Another set of hidden states (m, d)."""
        tensor = _checks.points(name, value, ndims=(2,))
        if tensor.shape[1] != self.h.shape[1]:
            raise ValueError(f"{name}: expected d = {self.h.shape[1]} as in h, got d = {tensor.shape[1]}")
        return self.like(name, tensor)

    def like(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.device != self.h.device:
            raise ValueError(f"{name}: expected device {self.h.device} as h, got {tensor.device}")
        return tensor.to(self.h.dtype)

    def at(self, h: Tensor) -> Frame | Linearized | None:
        """The norm at rows h; None where there is none."""
        if self.norm is None:
            return None
        frame = at(self.norm, h)
        if frame.x.shape != (h.shape[0], self.weight.shape[1]):
            raise ValueError(
                f"norm: expected a map of rows ({h.shape[0]}, {h.shape[1]}) -> ({h.shape[0]}, {self.weight.shape[1]}), "
                f"got shape {tuple(frame.x.shape)}"
            )
        return frame

    def normed(self, h: Tensor) -> Tensor:
        frame = self.at(h)
        return h if frame is None else frame.x


def readout_of(h: Any, weight: Any, bias: Any, norm: Any, backend: Any) -> Checked:
    check_name(backend)
    if norm is not None and not callable(norm):
        raise TypeError(f"norm: expected a LayerNorm, an RMSNorm or a map of rows, got {type(norm).__name__}")
    rows = _checks.points("h", h, ndims=(2,))
    matrix = _checks.points("weight", weight, ndims=(2,))
    if norm is None and matrix.shape[1] != rows.shape[1]:
        raise ValueError(
            f"weight: expected shape (V, {rows.shape[1]}) for h of d = {rows.shape[1]}, got {tuple(matrix.shape)}"
        )
    if matrix.shape[0] < 2:
        raise ValueError(f"weight: expected at least two tokens (V >= 2), got V = {matrix.shape[0]}")
    dtype = distance_dtype(rows, matrix)
    offset = None
    if bias is not None:
        offset = _checks.vector("bias", bias, matrix.shape[0])
    for name, tensor in (("weight", matrix), ("bias", offset)):
        if tensor is not None and tensor.device != rows.device:
            raise ValueError(f"{name}: expected device {rows.device} as h, got {tensor.device}")
    offset = None if offset is None else offset.detach().to(dtype)
    return Checked(rows.to(dtype), matrix.detach(), offset, norm, backend or "", wrapper_like(h))


def within(result: Tensor, read: Checked) -> Tensor:
    """The result, unless it shows that logits or what is made of them left the dtype's range."""
    if not registry.all_finite(result):
        raise ValueError(
            f"h: expected logits whose differences stay within {str(read.h.dtype).removeprefix('torch.')}, got values that "
            "overflow; rescale h or weight, or pass float64"
        )
    return result
