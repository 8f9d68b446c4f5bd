"""Every Triton kernel as it is launched: argument types, constexpr arguments, configurations. The compile tests and the GPU
report read the same table: kernels/<file>.py lists the variants of triton_kernels/<file>.py."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.gpu import kernels
from msma_fast.triton_kernels import resources
from msma_fast.triton_kernels.resources import Configuration, Need

# How the matrix instructions of an architecture are called in its machine code.
TENSOR_CORE = {80: " HMMA", 90: "HGMMA", 100: "UTCHMMA"}


class Tiling(NamedTuple):
    """How a kernel goes through its tiles: `entries` names the blocks whose product is the entries of a tile; a loop over the
    coordinates, `step` at a time (a block's name or a number), is `depth` loops deep (1 where a program has one tile)."""

    entries: tuple[str, ...] = ("BLOCK_N", "BLOCK_M")
    step: str | int = "BLOCK_D"
    depth: int = 2


class Variant(NamedTuple):
    """One kernel under one choice of its flags and dtypes."""

    op: str
    label: str  # what distinguishes it from the kernel's other variants
    kernel: Any
    types: Mapping[str, str]  # argument -> "*fp32", "i32", ...; more names than the kernel has do no harm
    constants: Mapping[str, Any]  # constexpr arguments that no configuration sets
    configurations: Sequence[Configuration]
    needs: Callable[[Configuration], Need]
    rows: Mapping[str, str] = {}  # bfloat16 rows of the screen -> the block size of their tiles
    options: Mapping[str, Any] = resources.FUSED  # how it is launched beside its configuration
    tensor_core: bool = False  # whether it must use the matrix instructions
    lacks: tuple[str, ...] = ()  # words that its machine code must not have
    tiling: Tiling | None = None  # None: its loops are of several kinds, and nobody counts instructions an entry
    slow: bool = False  # whether only `make test-all` compiles its default

    @property
    def name(self) -> str:
        return f"{self.kernel.__name__}[{self.label}]"

    def fitting(self, architecture: int) -> list[Configuration]:
        """The configurations that may be launched on an architecture, the default first."""
        return resources.fitting(self.configurations, self.needs, architecture)


def variants() -> Iterator[Variant]:
    """All of them, file by file."""
    for module in _files():
        yield from module.variants()


def ops(architecture: int) -> Iterator[Any]:
    """The ops whose bound is reported (bound.Op), of the files that say which passes they have."""
    for module in _files():
        if hasattr(module, "ops"):
            yield from module.ops(architecture)


def _files() -> list[Any]:
    names = sorted(each.name for each in pkgutil.iter_modules(kernels.__path__))
    return [importlib.import_module(f"benchmarks.gpu.kernels.{name}") for name in names]
