"""KSG by canonical keys: tiles of chebyshev, with and without labels."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import ksg_exact
from msma_fast.triton_kernels.resources import EXACT

_SIZES = ("n", "size", "window", "share", "begin", "limit")
_INTEGERS = ("width_ptr", "pair_ptr", "label_ptr", "partner_ptr", "best_ptr", "count_ptr")
TYPES = dict.fromkeys(_SIZES, "i32") | dict.fromkeys(_INTEGERS, "*i32")
TYPES |= {"start_ptr": "*i64", "words_ptr": "*i64", "rows_ptr": "*fp64", "top_ptr": "*fp64"}
WHO = ((False, False), (True, True), (True, False))  # labels, partners


def variants() -> Iterator[Variant]:
    for labels, partners in WHO:
        flags = {"LABELS": labels, "PARTNERS": partners}
        for kernel in (ksg_exact.tile_bounds_kernel, ksg_exact.tile_lists_kernel):
            yield Variant(
                "ksg", f"chebyshev labels={labels} partners={partners}", kernel, TYPES, flags, ksg_exact.TILES,
                ksg_exact.tile_needs, options=EXACT, lacks=("DFMA",), slow=labels != partners,
            )  # fmt: skip
