"""Rows to a side of the screen, from float32 and float64, with and without a norm to divide by."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.backends.torch.screen import TINY
from msma_fast.triton_kernels import prepare
from msma_fast.triton_kernels.resources import EXACT

_TYPES = dict.fromkeys(("norm_x_ptr", "middle_ptr", "scale_ptr", "out_ptr", "sums_ptr"), "*fp64") | {"b_ptr": "*bf16"}
_TYPES |= dict.fromkeys(("n", "d", "width"), "i32")


def variants() -> Iterator[Variant]:
    for dtype in ("fp32", "fp64"):
        for norms in (False, True):
            lacks = () if norms else ("DFMA",)  # a division of float64 is made of fused operations
            for kernel, constants in ((prepare.largest_kernel, {}), (prepare.sums_kernel, {"TINY": TINY})):
                yield Variant(
                    "prepare", f"norms={norms} {dtype}", kernel, _TYPES | {"x_ptr": f"*{dtype}"},
                    constants | {"NORMS": norms}, prepare.TILES, prepare.needs, options=EXACT, lacks=lacks,
                    slow=norms and dtype == "fp64",
                )  # fmt: skip


def moved(n: int, d: int, itemsize: int) -> float:
    """Bytes of both readings of n rows and of what they write."""
    width, lines = d + -d % prepare.COLUMNS, n + -n % prepare.ROWS
    return 2 * n * d * itemsize + 2 * lines * width + 8 * n * (1 + 3)
