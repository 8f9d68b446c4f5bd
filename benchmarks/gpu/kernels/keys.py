"""Canonical keys: every formula, from float32 and float64 rows."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.triton_kernels import keys
from msma_fast.triton_kernels.resources import EXACT

_KINDS = [
    ("sqeuclidean", 0),
    ("chebyshev", 0),
    ("minkowski", 1),
    ("minkowski", 16),
    ("inner_product", 0),
    ("cosine", 0),
]
_TYPES = {"norm_x_ptr": "*fp64", "norm_y_ptr": "*fp64", "out_ptr": "*fp64", "i_ptr": "*i64", "j_ptr": "*i64"}
_TYPES |= {"n": "i32", "m": "i32", "d": "i32", "pairs": "i32"}


def variants() -> Iterator[Variant]:
    for kind, p in _KINDS:
        # A division of float64 is made of fused operations; chebyshev has none of any kind.
        lacks = () if kind == "cosine" else ("DFMA",)
        for dtype in ("fp32", "fp64"):
            types = _TYPES | {"x_ptr": f"*{dtype}", "y_ptr": f"*{dtype}"}
            for kernel, tiles, needs, entries in (
                (keys.block_keys_kernel, keys.BLOCK_TILES, keys.block_needs, ("BLOCK_N", "BLOCK_M")),
                (keys.pair_keys_kernel, keys.PAIR_TILES, keys.pair_needs, ("BLOCK",)),
            ):
                yield Variant(
                    "keys", f"{kind} {p} {dtype}", kernel, types, {"KIND": kind, "P": p}, tiles, needs, options=EXACT,
                    lacks=lacks, tiling=Tiling(entries, 8, 1), slow=dtype == "fp64",
                )  # fmt: skip
