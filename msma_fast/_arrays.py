"""Arrays in, the same kind out: torch tensors, numpy arrays, and anything with `__dlpack__`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Wrap = Callable[[Tensor], Any]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Parted(NamedTuple):
    """Rows (n, d): those of the parts (m_j, d) in order, or the numbered `rows` (n,) int64 of these.

    A part may be mapped from a file: its pages are read when they are touched, and nothing is copied before `whole`."""

    parts: tuple[Tensor, ...]
    rows: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        n = sum(part.shape[0] for part in self.parts) if self.rows is None else self.rows.shape[0]
        return n, self.parts[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0].dtype

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    def take(self, rows: Tensor) -> Parted:
        """The chosen rows of these, uncopied."""
        return Parted(self.parts, rows if self.rows is None else self.rows[rows])

    def whole(self) -> Tensor:
        """One tensor; a copy unless it is one part with all its rows."""
        if self.rows is None:
            return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)
        if len(self.parts) == 1:
            return self.parts[0][self.rows]
        out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        start = 0
        for part in self.parts:
            here = (self.rows >= start) & (self.rows < start + part.shape[0])
            out[here] = part[self.rows[here] - start]
            start += part.shape[0]
        return out


def from_array(name: str, value: Any) -> Tensor:
    """A tensor sharing memory with `value` where that is possible.

    Raises TypeError where `value` is neither a tensor, a numpy array nor a DLPack object.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.byteorder not in "=|" or not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        if not value.flags.writeable or any(stride < 0 for stride in value.strides):
            value = value.copy()  # torch can neither share a read-only array without a warning nor step backwards
        try:
            return torch.from_numpy(value)
        except TypeError as error:
            raise TypeError(f"{name}: expected a float array, got a numpy array of dtype {value.dtype}") from error
    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)
    raise TypeError(
        f"{name}: expected a torch tensor, a numpy array or an object with __dlpack__, got {type(value).__name__}"
    )


def float_tensor(name: str, value: Any) -> Tensor:
    """`from_array`, restricted to float16, bfloat16, float32 and float64. Raises TypeError otherwise."""
    tensor = from_array(name, value)
    if tensor.dtype not in _FLOATS:
        kind = "complex" if tensor.is_complex() else "integer or boolean" if not tensor.is_floating_point() else "float"
        raise TypeError(
            f"{name}: expected float16, bfloat16, float32 or float64, got {kind} data ({tensor.dtype}); "
            "convert it with .astype('float32') or .float() if that is what you mean"
        )
    if tensor.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {tensor.layout}; call .to_dense() first")
    return tensor


def wrapper_like(value: Any) -> Wrap:
    """The function that turns a result tensor into the kind of array `value` is."""
    if isinstance(value, Tensor):
        return lambda tensor: tensor
    if isinstance(value, np.ndarray):
        return lambda tensor: tensor.detach().cpu().numpy()
    library = sys.modules.get(type(value).__module__.partition(".")[0])
    convert = getattr(library, "from_dlpack", None)
    return (lambda tensor: tensor) if convert is None else (lambda tensor: convert(tensor.detach()))


def distance_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where any input is float64, else float32 (half inputs too)."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def finite_or_none(value: float) -> float | None:
    """What a JSON file can hold."""
    return float(value) if math.isfinite(value) else None
