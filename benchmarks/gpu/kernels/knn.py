"""The screen of knn, with and without what excludes pairs."""

from __future__ import annotations

from collections.abc import Iterator

from msma_fast.triton_kernels import knn

from benchmarks.gpu.variants import Variant

FLOATS = ("near_i_ptr", "far_i_ptr", "top_ptr", "c_ptr", "near_ptr", "far_ptr", "col_ptr", "best_ptr", "low_ptr")
INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "column_ptr", "count_ptr")
SIZES = ("m", "d", "window", "limit", "share", "step")
TYPES = dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(INTEGERS, "*i32") | dict.fromkeys(SIZES, "i32")
TYPES |= {"listed_ptr": "*i64"}
ROWS = {"b_ptr": "BLOCK_N", "p_ptr": "BLOCK_M"}


def variants() -> Iterator[Variant]:
    for self_search, labels in ((True, False), (True, True), (False, False)):
        flags = {"SELF": self_search, "LABELS": labels}
        label = f"self={self_search} labels={labels}"
        slow = not self_search
        collect = knn.COLLECT_LABELLED if labels else knn.COLLECT
        bounds = flags | {"COLUMNS": False}
        yield Variant(
            "knn", label, knn.bounds_kernel, TYPES, bounds, knn.BOUNDS, knn.bounds_needs, ROWS, tensor_core=True,
            lacks=("SHFL",), slow=slow,  # a bin is a register of one thread
        )  # fmt: skip
        yield Variant(
            "knn", label, knn.collect_kernel, TYPES, flags, collect, knn.collect_needs, ROWS, tensor_core=True,
            slow=slow,
        )  # fmt: skip
