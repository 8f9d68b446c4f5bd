"""The screen of knn, with and without what excludes pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from msma_fast.triton_kernels import knn

from benchmarks.gpu.bound import Op, pass_of
from benchmarks.gpu.kernels.keys import variants as variants_of_keys
from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.backends.triton_search import sample_step

COUNTED = Path(__file__).parents[1] / "candidates.json"  # written by python -m benchmarks.gpu.candidates
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
        for columns in (False, True):  # the fast search wants to know whose bound is the least
            tiles = knn.BOUNDS_WITH_COLUMNS if columns else knn.BOUNDS
            # A bin is a register of one thread; Triton 3.6 has a warp tell its number once, with 64 rows on sm_90.
            lacks = ("SHFL.BFLY",) if columns else ("SHFL",)
            yield Variant(
                "knn", f"{label} columns" if columns else label, knn.bounds_kernel, TYPES, flags | {"COLUMNS": columns},
                tiles, knn.bounds_needs, ROWS, tensor_core=True, tiling=Tiling(),
                lacks=lacks, slow=slow or (columns and labels),
            )  # fmt: skip
        yield Variant(
            "knn", label, knn.collect_kernel, TYPES, flags, collect, knn.collect_needs, ROWS,
            tensor_core=True, tiling=Tiling(),
            slow=slow,
        )  # fmt: skip


def op(architecture: int, n: int, d: int, k: int, candidates: float) -> Op:
    """A self-search of n rows: the two passes of the screen and the canonical keys of `candidates` pairs a row."""
    bounds, collect = (each for each in variants() if each.label == "self=True labels=False")
    keys = next(each for each in variants_of_keys() if each.name == "pair_keys_kernel[sqeuclidean 0 fp32]")
    passes = []
    for variant, sampled in ((bounds, sample_step(n, k)), (collect, 1)):
        blocks = variant.fitting(architecture)[0].blocks
        rows = n / blocks["BLOCK_N"]
        tiles = rows * math.ceil(n / (blocks["BLOCK_M"] * sampled))
        passes.append(pass_of(variant, architecture, d, tiles, programs=max(rows, knn.PROGRAMS)))
    pairs = n * candidates / keys.fitting(architecture)[0].blocks["BLOCK"]
    passes.append(pass_of(keys, architecture, d, pairs, programs=pairs))
    return Op("knn", architecture, n, n, d, k, passes)


def ops(architecture: int) -> Iterator[Op]:
    """At the sizes whose candidates were counted."""
    for measured in json.loads(COUNTED.read_text(encoding="utf-8")):
        yield op(architecture, measured["n"], measured["d"], measured["k"], measured["candidates"])
