"""Centred products of distance and of Gaussian matrices."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import centered_products

_TYPES = dict.fromkeys(("a_ptr", "b_ptr", "scalar_ptr", "sums_ptr", "rows_ptr", "columns_ptr"), "*fp64")
_TYPES |= dict.fromkeys(("n", "da", "db", "blocks", "first"), "i32")


def variants() -> Iterator[Variant]:
    for form in ("distance", "gaussian"):
        yield Variant(
            "centered_products", form, centered_products.products_kernel, _TYPES, {"FORM": form},
            centered_products.TILES, centered_products.needs, slow=form == "distance",
        )  # fmt: skip
