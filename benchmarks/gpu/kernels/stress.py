"""Raw stress, with and without its gradients."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import stress
from msma_fast.triton_kernels.resources import EXACT

_ROWS = ("x_ptr", "y_ptr", "shifted_x_ptr", "shifted_y_ptr", "partial_ptr", "to_x_ptr", "to_y_ptr")
_TYPES = dict.fromkeys(_ROWS, "*fp64") | dict.fromkeys(("n", "d_x", "d_y"), "i32")


def variants() -> Iterator[Variant]:
    for to_x, to_y in ((False, False), (True, True), (True, False), (False, True)):
        flags = {"TO_X": to_x, "TO_Y": to_y}
        yield Variant(
            "stress", f"x={to_x} y={to_y}", stress.stress_kernel, _TYPES, flags, stress.TILES, stress.needs, options=EXACT,
            slow=to_x != to_y,
        )  # fmt: skip
