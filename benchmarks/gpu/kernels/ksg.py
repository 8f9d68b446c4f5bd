"""KSG in the joint space of two samples: screened and exact, with and without labels."""

from __future__ import annotations

from collections.abc import Iterator

from msma_fast.triton_kernels import ksg
from msma_fast.triton_kernels.resources import EXACT

from benchmarks.gpu.variants import Variant

_SIZES = ("n", "size", "window", "share", "begin", "limit", "levels")
_INTEGERS = ("width_ptr", "pair_ptr", "label_ptr", "partner_ptr", "columns_ptr", "count_ptr")
_TYPES = dict.fromkeys(_SIZES, "i32") | dict.fromkeys(_INTEGERS, "*i32") | {"start_ptr": "*i64"}
_SCREENED = _TYPES | dict.fromkeys(("margin_ptr", "factor_ptr", "best_ptr", "top_ptr"), "*fp32") | {"rows_ptr": "*bf16"}
_EXACT = _TYPES | dict.fromkeys(("best_ptr", "top_ptr", "threshold_ptr"), "*fp64")


def variants() -> Iterator[Variant]:
    for labels, partners in ((False, False), (True, True), (True, False)):
        flags = {"LABELS": labels, "PARTNERS": partners}
        label, slow = f"labels={labels} partners={partners}", labels and not partners
        for kernel in (ksg.screened_bounds_kernel, ksg.screened_lists_kernel):
            tiles, needs = ksg.TILES[kernel]
            yield Variant("ksg", label, kernel, _SCREENED, flags, tiles, needs, tensor_core=True, slow=slow)
        for kind, dtype in (("chebyshev", "fp32"), ("sqeuclidean", "fp32"), ("chebyshev", "fp64")):
            types, seldom = (
                _EXACT | {"rows_ptr": f"*{dtype}"},
                slow or labels != (kind == "chebyshev") or dtype == "fp64",
            )
            for kernel in (ksg.exact_bounds_kernel, ksg.exact_lists_kernel, ksg.exact_counts_kernel):
                tiles, needs = ksg.TILES[kernel]
                yield Variant(
                    "ksg", f"{kind} {dtype} {label}", kernel, types, flags | {"KIND": kind}, tiles, needs, options=EXACT,
                    lacks=("DFMA",), slow=seldom,
                )  # fmt: skip
