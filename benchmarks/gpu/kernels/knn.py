"""The screen of knn, with and without what excludes pairs."""

from __future__ import annotations

from collections.abc import Iterator

from msma_fast.triton_kernels import knn

from benchmarks.gpu.variants import Variant

_FLOATS = ("near_i_ptr", "far_i_ptr", "top_ptr", "c_ptr", "near_ptr", "far_ptr", "col_ptr", "best_ptr")
_INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "columns_ptr", "count_ptr")
_TYPES = dict.fromkeys(_FLOATS, "*fp32") | dict.fromkeys(_INTEGERS, "*i32")
_TYPES |= dict.fromkeys(("n", "m", "d", "window", "limit"), "i32") | {"b_ptr": "*bf16", "p_ptr": "*bf16"}


def variants() -> Iterator[Variant]:
    for self_search, labels in ((True, False), (True, True), (False, False)):
        flags = {"SELF": self_search, "LABELS": labels}
        label = f"self={self_search} labels={labels}"
        bounds = Variant("knn", label, knn.bounds_kernel, _TYPES, flags, knn.BOUNDS, knn.needs, tensor_core=True)
        yield bounds._replace(lacks=("SHFL",))  # a bin is a register of one thread
        yield Variant("knn", label, knn.collect_kernel, _TYPES, flags, knn.COLLECT, knn.needs, tensor_core=True)
