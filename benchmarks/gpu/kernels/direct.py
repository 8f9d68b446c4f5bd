"""Counts and neighbours from keys in registers: every formula, few coordinates and many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu import bound, sass
from benchmarks.gpu.bound import Op, Pass
from benchmarks.gpu.compiled import compiled
from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import direct
from msma_fast.triton_kernels.resources import EXACT

_FLOATS = ("x_ptr", "y_ptr", "norm_x_ptr", "norm_y_ptr", "top_ptr", "best_ptr", "keys_ptr")
_INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "partner_ptr", "inside_ptr", "columns_ptr", "count_ptr")
_SIZES = ("n", "m", "stride", "d", "window", "limit", "share", "step", "radii")
_TYPES = dict.fromkeys(_FLOATS, "*fp64") | dict.fromkeys(_INTEGERS, "*i32") | dict.fromkeys(_SIZES, "i32")
_KINDS = (
    ("sqeuclidean", 0),
    ("minkowski", 1),
    ("minkowski", 16),
    ("chebyshev", 0),
    ("inner_product", 0),
    ("cosine", 0),
)
_WIDTHS = (1, 2, 3, 8, 12, 16)
_USUAL = {("sqeuclidean", 2), ("sqeuclidean", 3), ("sqeuclidean", 8), ("chebyshev", 3)}


def variants() -> Iterator[Variant]:
    for kind, p in _KINDS:
        lacks = () if kind == "cosine" else ("DFMA",)  # a division of float64 is made of fused operations
        for excluded, partners in ((False, False), (True, False), (True, True)):
            flags = {"KIND": kind, "P": p, "SELF": excluded, "LABELS": excluded}
            label = f"{kind} {p} excluded={excluded}{' partners' if partners else ''}"
            for width in _WIDTHS:
                for radii in (1,) if kind == "chebyshev" else (1, direct.RADII):
                    needs = direct.low_needs(kind, width, radii)
                    yield Variant(
                        "direct", f"{label} d={width} radii={radii}", direct.counts_low_kernel, _TYPES,
                        flags | {"WIDTH": width, "RADII": radii, "PARTNERS": partners}, direct.LOW_TILES, needs, options=EXACT,
                        lacks=lacks, slow=excluded or radii > 1 or (kind, width) not in _USUAL,
                    )  # fmt: skip
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
                    "direct", f"{label}{which}", kernel, _TYPES, flags | more, tiles, direct.tile_needs, options=EXACT,
                    lacks=lacks, slow=(kind, p, excluded) != ("minkowski", 1, False),
                )  # fmt: skip


def ops(architecture: int) -> Iterator[Op]:
    """radius_count in few coordinates: the least instructions of a pair are a difference, a product and a sum for each
    coordinate, a comparison and a count."""
    n = 20_000
    for d in (2, 3, 8):
        label = f"sqeuclidean 0 excluded=False d={d} radii=1"
        variant = next(each for each in variants() if each.label == label)
        per_pair = instructions_per_pair(variant, architecture)
        warps_of_pairs = n * n / 32 / bound.SCHEDULERS
        done = Pass(variant.name, 0.0, warps_of_pairs * per_pair)
        yield Op("radius_count", architecture, n, n, d, None, [done], "issue", warps_of_pairs * (3 * d + 2))


def instructions_per_pair(variant: Variant, architecture: int) -> float:
    """Of the loop over points, which takes several at once; what is left over has a loop of its own, which is shorter."""
    configuration = variant.fitting(architecture)[0]
    code = sass.instructions(compiled(variant, configuration, architecture).sass)
    longest = max(
        loop_counts.total() for loop, loop_counts in sass.counted(code, lambda each: each.word).items() if loop
    )
    return longest * 32 * configuration.warps / (configuration.blocks["BLOCK"] * direct.UNROLL.value)
