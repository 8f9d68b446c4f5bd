"""KSG by canonical keys in few coordinates, with and without labels; what a pair costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu import bound, sass
from benchmarks.gpu.bound import Op, Pass
from benchmarks.gpu.compiled import compiled
from benchmarks.gpu.kernels import few_coordinates as counts
from benchmarks.gpu.kernels.ksg_exact import TYPES, WHO
from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import few_coordinates, ksg_few
from msma_fast.triton_kernels.resources import EXACT

_FEW = [("sqeuclidean", 1, 1), ("sqeuclidean", 2, 2), ("sqeuclidean", 8, 8), ("chebyshev", 2, 2), ("chebyshev", 16, 16)]
_MORE = [("sqeuclidean", 1, 3), ("sqeuclidean", 4, 4), ("chebyshev", 1, 1), ("chebyshev", 8, 8), ("chebyshev", 3, 1)]


def variants() -> Iterator[Variant]:
    for labels, partners in WHO:
        flags = {"LABELS": labels, "PARTNERS": partners}
        label = f"labels={labels} partners={partners}"
        for kind, x, y in (*_FEW, *_MORE):
            for kernel in (ksg_few.low_bounds_kernel, ksg_few.low_lists_kernel):
                yield Variant(
                    "ksg", f"{kind} d={x},{y} {label}", kernel, TYPES, flags | {"KIND": kind, "X": x, "Y": y},
                    ksg_few.tiles(x, y), ksg_few.needs(x, y), options=EXACT, lacks=("DFMA",),
                    slow=labels or (kind, x, y) not in _FEW,
                )  # fmt: skip


def ops(architecture: int) -> Iterator[Op]:
    """ksg_mi of two samples of d coordinates and one k: the joint search looks at every pair twice, the counts once in either
    sample. No way does with less than one look at the joint keys, a difference, product and sum a coordinate and a comparison,
    and the counts'."""
    n, k = 20_000, 3
    warps_of_pairs = n * n / 32 / bound.SCHEDULERS
    for d in (1, 2, 8):
        label = f"sqeuclidean d={d},{d} labels=False partners=False"
        passes = [
            Pass(each.name, 0.0, warps_of_pairs * instructions_per_pair(each, architecture))
            for each in variants()
            if each.label == label
        ]
        label = f"sqeuclidean 0 excluded=False d={d} radii=1"
        within = next(each for each in counts.variants() if each.label == label)
        passes += [Pass(within.name, 0.0, warps_of_pairs * counts.instructions_per_pair(within, architecture))] * 2
        yield Op(
            "ksg_mi", architecture, n, n, d, k, passes, "issue", warps_of_pairs * (2 * 3 * d + 2 + 2 * (3 * d + 2))
        )


def instructions_per_pair(variant: Variant, architecture: int) -> float:
    """Of the loops over columns, several of them at once: two over those that are admissible by their index, one over the
    others, of which this takes the one in the middle. In lists a word is stored around it."""
    configuration = variant.fitting(architecture)[0]
    code = sass.instructions(compiled(variant, configuration, architecture).sass)
    sizes = {loop: words.total() for loop, words in sass.counted(code, lambda each: each.word).items() if loop}
    threads = 32 * configuration.warps
    deepest = max(loop.depth for loop in sizes)
    inner = sorted((loop for loop in sizes if loop.depth == deepest), key=lambda loop: sizes[loop])[1]
    taken = ksg_few.BINS.value if inner.depth == 1 else few_coordinates.UNROLL.value
    total = sizes[inner] / taken
    for loop, size in sizes.items():
        if loop.depth < inner.depth and inner.head in loop.body:
            total += size / ksg_few.WORD.value
    return total * threads / configuration.blocks["BLOCK"]
