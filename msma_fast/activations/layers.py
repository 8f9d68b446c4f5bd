"""Where the (n, d) values of a layer lie: a tensor in memory, or shards on disk, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from msma_fast._arrays import Parted
from msma_fast.activations.folder import open_tensors

DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class MemoryLayer:
    """A layer held as a tensor (n, d)."""

    tensor: Tensor

    @property
    def n(self) -> int:
        return int(self.tensor.shape[0])

    @property
    def dim(self) -> int:
        return int(self.tensor.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def parted(self, rows: Tensor | None) -> Parted:
        return Parted((self.tensor,), None if rows is None else rows.to(self.tensor.device))


@dataclass(frozen=True)
class Shard:
    """Rows start to stop of one layer: the tensor called `key` in `file`."""

    file: Path
    key: str
    start: int
    stop: int


@dataclass(frozen=True)
class DiskLayer:
    """A layer held in shards that cover its n rows in order."""

    shards: tuple[Shard, ...]
    dim: int
    dtype: torch.dtype

    @property
    def n(self) -> int:
        return self.shards[-1].stop

    def parted(self, rows: Tensor | None) -> Parted:
        """The shards, mapped: their pages are read when they are touched."""
        return Parted(tuple(self._map(shard) for shard in self.shards), rows)

    def _map(self, shard: Shard) -> Tensor:
        with open_tensors(shard.file) as handle:
            if shard.key not in handle.keys():  # noqa: SIM118 (not a dict)
                raise ValueError(f"{shard.file}: expected a tensor {shard.key!r}, got {sorted(handle.keys())[:8]}")
            tensor = handle.get_tensor(shard.key)
        expected = (shard.stop - shard.start, self.dim)
        if tuple(tensor.shape) != expected or tensor.dtype != self.dtype:
            raise ValueError(
                f"{shard.file}: expected {shard.key!r} of shape {expected} in {dtype_name(self.dtype)}, "
                f"got {tuple(tensor.shape)} and {dtype_name(tensor.dtype)}"
            )
        return tensor


Layer = MemoryLayer | DiskLayer
