"""The second bound of a search, and the points that it leaves."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.variants import Variant
from msma_fast.backends.triton_search import ALLOWED
from msma_fast.triton_kernels import narrow
from msma_fast.triton_kernels.resources import EXACT

_TYPES = dict.fromkeys(("listed_ptr", "end_ptr", "row_ptr", "column_ptr"), "*i64")
_TYPES |= dict.fromkeys(("low_ptr", "near_i_ptr", "far_i_ptr", "near_ptr", "far_ptr", "col_ptr", "tau_ptr"), "*fp32")
_TYPES |= dict.fromkeys(("count_ptr", "upper_ptr", "total_ptr"), "*i32") | {"margin_ptr": "*fp64"}
_TYPES |= dict.fromkeys(("n", "m", "k", "limit", "start_row"), "i32")


def variants() -> Iterator[Variant]:
    bounds = {"ALLOWED": ALLOWED, "MOST": torch.finfo(torch.float32).max}
    for kernel, constants in ((narrow.second_bound_kernel, bounds), (narrow.points_kernel, {})):
        yield Variant(
            "narrow", "words", kernel, _TYPES, constants, narrow.TILES, narrow.needs, options=EXACT, lacks=("DFMA",)
        )


def moved(limit: int, candidates: float) -> float:
    """Bytes for a row whose list is full: words and lower bounds twice from memory, where caches keep them for the second
    look of a kernel; upper bounds written; a row's own numbers; each point that is left."""
    return 2 * (8 + 4) * limit + 4 * limit + 2 * 4 + 2 * 4 + 8 + 3 * 8 + 16 * candidates
