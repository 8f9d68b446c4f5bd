"""Every Triton kernel as it is launched: argument types, constexpr arguments, configurations. The compile tests and the GPU
report read the same table: kernels/<file>.py lists the variants of triton_kernels/<file>.py."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msma_fast.triton_kernels import resources
from msma_fast.triton_kernels.resources import Configuration, Need

from benchmarks.gpu import kernels

# How the matrix instructions of an architecture are called in its machine code.
TENSOR_CORE = {80: " HMMA", 90: "HGMMA", 100: "UTCHMMA"}


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
    slow: bool = False  # whether only `make test-all` compiles its default

    @property
    def name(self) -> str:
        return f"{self.kernel.__name__}[{self.label}]"

    def fitting(self, architecture: int) -> list[Configuration]:
        """The configurations that may be launched on an architecture, the default first."""
        return resources.fitting(self.configurations, self.needs, architecture)


def variants() -> Iterator[Variant]:
    """All of them, file by file."""
    for module in sorted(each.name for each in pkgutil.iter_modules(kernels.__path__)):
        yield from importlib.import_module(f"benchmarks.gpu.kernels.{module}").variants()
