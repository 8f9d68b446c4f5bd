"""Gaussian kernel sums and their gradients, of one set and of two."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import gaussian_kernel_sums as sums

_FLOATS = ("x_ptr", "y_ptr", "points_ptr", "scale_ptr", "factor_ptr", "total_ptr", "pulled_ptr", "out_ptr")
_TYPES = dict.fromkeys(_FLOATS, "*fp64") | dict.fromkeys(("n", "m", "d", "count", "each"), "i32")


def variants() -> Iterator[Variant]:
    for own in (True, False):
        flags = {"SELF": own}
        yield Variant(
            "gaussian_kernel_sums", f"self={own}", sums.sums_kernel, _TYPES, flags | {"WIDTHS": sums.WIDTHS},
            sums.SUMS, sums.sums_needs, slow=own,
        )  # fmt: skip
        yield Variant(
            "gaussian_kernel_sums", f"self={own}", sums.gradients_kernel, _TYPES, flags,
            sums.GRADIENTS, sums.gradients_needs, slow=own,
        )  # fmt: skip
