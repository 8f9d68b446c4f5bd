"""Counts of keys between limits: every formula, and what excludes pairs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import distance_counts
from msma_fast.triton_kernels.resources import EXACT

_TYPES = dict.fromkeys(("x_ptr", "y_ptr", "norm_x_ptr", "norm_y_ptr", "limit_ptr"), "*fp64")
_TYPES |= {"label_ptr": "*i32", "count_ptr": "*i64"}
_TYPES |= dict.fromkeys(("n", "m", "d", "window", "limits", "half", "start", "each"), "i32")
_CASES = [
    ("sqeuclidean", 0, True, True),
    ("sqeuclidean", 0, False, False),
    ("minkowski", 1, True, False),
    ("chebyshev", 0, True, False),
    ("inner_product", 0, True, False),
    ("cosine", 0, True, True),
]


def variants() -> Iterator[Variant]:
    for kind, p, own, labels in _CASES:
        # A division of float64 is made of fused operations; chebyshev has none of any kind.
        yield Variant(
            "distance_counts", f"{kind} {p} self={own} labels={labels}", distance_counts.counts_kernel, _TYPES,
            {"KIND": kind, "P": p, "SELF": own, "LABELS": labels}, distance_counts.tiles(kind), distance_counts.needs,
            options=EXACT, lacks=() if kind == "cosine" else ("DFMA",), slow=kind not in ("chebyshev", "cosine"),
        )  # fmt: skip
