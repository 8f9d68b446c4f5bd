"""The screen of knn, with and without what excludes pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.bound import BANDWIDTH, Op, pass_of
from benchmarks.gpu.kernels.keys import variants as variants_of_keys
from benchmarks.gpu.kernels.narrow import moved as moved_by_narrowing
from benchmarks.gpu.kernels.prepare import moved as moved_by_preparing
from benchmarks.gpu.traffic import Traffic
from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.backends import triton_search
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.knn import Search
from msma_fast.triton_kernels import knn, narrow, prepare
from msma_fast.triton_kernels.screen import ROWS as PADDING
from msma_fast.triton_kernels.screen import WORD, split

COUNTED = Path(__file__).parents[1] / "candidates.json"  # written by python -m benchmarks.gpu.candidates
FLOATS = ("near_i_ptr", "far_i_ptr", "top_ptr", "c_ptr", "near_ptr", "far_ptr", "col_ptr", "best_ptr", "low_ptr")
INTEGERS = ("own_ptr", "label_i_ptr", "label_ptr", "column_ptr", "count_ptr")
SIZES = ("m", "d", "window", "limit", "share", "step")
TYPES = dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(INTEGERS, "*i32") | dict.fromkeys(SIZES, "i32")
TYPES |= {"listed_ptr": "*i64"}
ROWS = {"b_ptr": "BLOCK_N", "p_ptr": "BLOCK_M"}
SEEN = 2048  # rows whose torch operations are counted


def variants() -> Iterator[Variant]:
    for self_search, labels in ((True, False), (True, True), (False, False)):
        flags = {"SELF": self_search, "LABELS": labels}
        label = f"self={self_search} labels={labels}"
        slow = not self_search
        collect = knn.COLLECT_LABELLED if labels else knn.COLLECT
        for columns in (False, True):  # the fast search wants to know whose bound is the least
            tiles = knn.BOUNDS_WITH_COLUMNS if columns else knn.BOUNDS
            # A bin is a register of one thread, so that nothing is compared across threads (Triton 3.6 may have a warp tell
            # its number to itself, which is another word).
            yield Variant(
                "knn", f"{label} columns" if columns else label, knn.bounds_kernel, TYPES, flags | {"COLUMNS": columns},
                tiles, knn.bounds_needs, ROWS, tensor_core=True, tiling=Tiling(),
                lacks=("SHFL.BFLY",), slow=slow or (columns and labels),
            )  # fmt: skip
        yield Variant(
            "knn", label, knn.collect_kernel, TYPES, flags, collect, knn.collect_needs, ROWS,
            tensor_core=True, tiling=Tiling(),
            slow=slow,
        )  # fmt: skip


def op(architecture: int, n: int, d: int, k: int, candidates: float) -> Op:
    """A self-search of n rows: the two passes of the screen, the canonical keys of `candidates` pairs a row, and what torch's
    operations around them and the rows of candidates move."""
    bounds, collect = (each for each in variants() if each.label == "self=True labels=False")
    keys = next(each for each in variants_of_keys() if each.name == "pair_keys_kernel[sqeuclidean 0 fp32]")
    step = triton_search.sample_step(n, k)
    passes = []
    for variant, sampled in ((bounds, step), (collect, 1)):
        blocks = variant.fitting(architecture)[0].blocks
        rows = n / blocks["BLOCK_N"]
        tiles = rows * math.ceil(n / (blocks["BLOCK_M"] * sampled))
        passes.append(pass_of(variant, architecture, d, tiles, programs=max(rows, knn.PROGRAMS)))
    pairs = n * candidates / keys.fitting(architecture)[0].blocks["BLOCK"]
    passes.append(pass_of(keys, architecture, d, pairs, programs=pairs))
    splits = splits_of(n, k, bounds.fitting(architecture)[0].blocks["BLOCK_N"])
    fetched = 4 * d * candidates  # of a pair the point; the query's row is the next pair's too
    moved = n * (glue(n, d, k, round(candidates), splits * knn.BINS) + fetched)
    return Op("knn", architecture, n, n, d, k, passes, glue=moved / BANDWIDTH[architecture])


def splits_of(n: int, k: int, rows: int) -> int:
    """Shares of the points in a launch of bounds_kernel, by `rows` queries a program, for n rows against themselves."""
    wanted = max(math.ceil(knn.PROGRAMS / math.ceil(n / rows)), math.ceil(8 * k / knn.BINS))
    return split(n, knn.BINS * triton_search.sample_step(n, k), wanted)[0]


@cache
def glue(n: int, d: int, k: int, candidates: int, bins: int) -> float:
    """Bytes that torch's operations of a self-search of n rows move for one of them, and the kernels that prepare the screen
    and narrow the lists; those with products left out. Counted on SEEN rows, with lists as long as those of n, of which
    `candidates` points are left by the second bound."""
    generator = torch.Generator().manual_seed(0)
    x = Rows(torch.randn(SEEN, d, generator=generator))
    limit = min(triton_search.room(k), (n + -n % PADDING) // WORD.value)
    full = torch.full((SEEN,), limit, dtype=torch.int32)
    points = (
        torch.arange(SEEN).repeat_interleave(candidates),
        torch.randint(SEEN, (SEEN * candidates,), generator=generator),
    )
    best, keys = torch.rand(SEEN, bins), torch.rand(SEEN * candidates, dtype=torch.float64)
    many = torch.zeros(n + -n % PADDING)
    lengths = torch.rand(3, SEEN, dtype=torch.float64)
    rounded = torch.zeros(SEEN + -SEEN % PADDING, d + -d % prepare.COLUMNS, dtype=torch.bfloat16)
    ready = triton_search.ready

    def wide(*problem: Any) -> Any:
        found = ready(*problem)
        seen.paused = True
        points = found.y.side._replace(b=found.y.side.b[:1].expand(many.shape[0], -1), near=many, far=many, size=n)
        seen.paused = False
        return found._replace(y=found.y._replace(side=points, c=many, col=many))

    with (
        patch.object(triton_search, "ready", wide),
        patch.object(prepare, "largest", lambda _: lengths[0]),
        patch.object(prepare, "sums", lambda *_: (rounded, lengths)),
        patch.object(knn, "bounds", lambda *_: (best, None)),
        patch.object(knn, "collect", lambda *_: (full, full, full)),
        patch.object(narrow, "second_bound", lambda *_: (full, full)),
        patch.object(narrow, "points", lambda *_: points),
        Traffic() as seen,
    ):
        own = Admissible(torch.arange(SEEN))
        keyed = Keys(lambda *_: keys, lambda *_: keys, frozenset(["sqeuclidean"]))
        triton_search.nearest(Search(keyed, Kernel("sqeuclidean"), x, x, own, k))
    prepared = moved_by_preparing(SEEN, d, x.values.element_size()) / SEEN
    return seen.bytes / SEEN + prepared + moved_by_narrowing(limit, candidates)


def ops(architecture: int) -> Iterator[Op]:
    """At the sizes whose candidates were counted."""
    for measured in json.loads(COUNTED.read_text(encoding="utf-8")):
        yield op(architecture, measured["n"], measured["d"], measured["k"], measured["candidates"])
