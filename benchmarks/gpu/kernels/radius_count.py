"""Counts by the screen, with and without what excludes pairs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.triton_kernels import radius_count

_FLOATS = ("near_i_ptr", "far_i_ptr", "low_ptr", "high_ptr", "c_ptr", "near_ptr", "far_ptr", "col_ptr")
_INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "inside_ptr", "count_ptr")
_SIZES = ("n", "m", "d", "window", "limit", "share", "radii", "words")
_TYPES = dict.fromkeys(_FLOATS, "*fp32") | dict.fromkeys(_INTEGERS, "*i32") | dict.fromkeys(_SIZES, "i32")
_TYPES |= {"listed_ptr": "*i64"}
_ROWS = {"b_ptr": "BLOCK_N", "p_ptr": "BLOCK_M"}


def variants() -> Iterator[Variant]:
    for one in (True, False):
        for self_search, labels in ((True, False), (True, True), (False, False)):
            flags = {"SELF": self_search, "LABELS": labels, "ONE": one}
            label = f"self={self_search} labels={labels}{'' if one else ' radii'}"
            yield Variant(
                "radius_count", label, radius_count.radius_count_kernel, _TYPES, flags, radius_count.TILES,
                radius_count.needs, _ROWS, tensor_core=True, tiling=Tiling(), slow=labels,
            )  # fmt: skip
