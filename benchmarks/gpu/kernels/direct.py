"""Counts and neighbours from keys in registers, in any number of coordinates: every formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import direct
from msma_fast.triton_kernels.resources import EXACT

_FLOATS = ("x_ptr", "y_ptr", "norm_x_ptr", "norm_y_ptr", "top_ptr", "best_ptr", "keys_ptr")
_INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "partner_ptr", "inside_ptr", "columns_ptr", "count_ptr")
_SIZES = ("n", "m", "stride", "d", "window", "limit", "share", "step", "radii")
TYPES = dict.fromkeys(_FLOATS, "*fp64") | dict.fromkeys(_INTEGERS, "*i32") | dict.fromkeys(_SIZES, "i32")
KINDS = (
    ("sqeuclidean", 0),
    ("minkowski", 1),
    ("minkowski", 16),
    ("chebyshev", 0),
    ("inner_product", 0),
    ("cosine", 0),
)


def flags_of(kind: str, p: int, excluded: bool) -> dict[str, Any]:
    return {"KIND": kind, "P": p, "SELF": excluded, "LABELS": excluded}


def label_of(kind: str, p: int, excluded: bool, partners: bool) -> str:
    return f"{kind} {p} excluded={excluded}{' partners' if partners else ''}"


def lacks_of(kind: str) -> tuple[str, ...]:
    return () if kind == "cosine" else ("DFMA",)  # a division of float64 is made of fused operations


def variants() -> Iterator[Variant]:
    for kind, p in KINDS:
        for excluded, partners in ((False, False), (True, False), (True, True)):
            flags, label = flags_of(kind, p, excluded), label_of(kind, p, excluded, partners)
            counts = [
                (direct.counts_kernel, {"ONE": one, "PARTNERS": partners}, "" if one else " radii")
                for one in (True, False)
            ]
            searches: list[Any] = (
                [] if partners else [(direct.bins_kernel, {}, ""), (direct.collect_keys_kernel, {}, "")]
            )
            for kernel, more, which in (*counts, *searches):
                tiles = direct.count_tiles(kind) if kernel is direct.counts_kernel else direct.TILES
                yield Variant(
                    "direct", f"{label}{which}", kernel, TYPES, flags | more, tiles, direct.tile_needs, options=EXACT,
                    lacks=lacks_of(kind), slow=(kind, p, excluded) != ("minkowski", 1, False),
                )  # fmt: skip
