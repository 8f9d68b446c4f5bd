"""KSG in the joint space of two samples by the screen, with and without labels."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import ksg

_SIZES = ("n", "size", "window", "share", "begin", "limit")
_INTEGERS = ("width_ptr", "pair_ptr", "label_ptr", "partner_ptr", "columns_ptr", "count_ptr")
_FLOATS = ("margin_ptr", "factor_ptr", "best_ptr", "top_ptr")
_TYPES = dict.fromkeys(_SIZES, "i32") | dict.fromkeys(_INTEGERS, "*i32") | dict.fromkeys(_FLOATS, "*fp32")
_TYPES |= {"start_ptr": "*i64", "rows_ptr": "*bf16"}


def variants() -> Iterator[Variant]:
    for labels, partners in ((False, False), (True, True), (True, False)):
        flags = {"LABELS": labels, "PARTNERS": partners}
        label, slow = f"labels={labels} partners={partners}", labels and not partners
        for kernel in (ksg.screened_bounds_kernel, ksg.screened_lists_kernel):
            yield Variant(
                "ksg", label, kernel, _TYPES, flags, ksg.SCREENED, ksg.screened_needs, tensor_core=True, slow=slow
            )
