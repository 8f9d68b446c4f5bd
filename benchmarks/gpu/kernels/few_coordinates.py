"""Counts in few coordinates: every formula; what a pair costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu import bound, sass
from benchmarks.gpu.bound import Op, Pass
from benchmarks.gpu.compiled import compiled
from benchmarks.gpu.kernels.direct import KINDS, TYPES, flags_of, label_of, lacks_of
from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import few_coordinates
from msma_fast.triton_kernels.resources import EXACT

_WIDTHS = (1, 2, 3, 8, 12, 16)
_USUAL = {("sqeuclidean", 2), ("sqeuclidean", 3), ("sqeuclidean", 8), ("chebyshev", 3)}


def variants() -> Iterator[Variant]:
    for kind, p in KINDS:
        for excluded, partners in ((False, False), (True, False), (True, True)):
            for width in _WIDTHS:
                for radii in (1,) if kind == "chebyshev" else (1, few_coordinates.RADII):
                    yield Variant(
                        "direct", f"{label_of(kind, p, excluded, partners)} d={width} radii={radii}",
                        few_coordinates.counts_low_kernel, TYPES,
                        flags_of(kind, p, excluded) | {"WIDTH": width, "RADII": radii, "PARTNERS": partners},
                        few_coordinates.tiles(width), few_coordinates.needs(kind, width, radii), options=EXACT,
                        lacks=lacks_of(kind), slow=excluded or radii > 1 or (kind, width) not in _USUAL,
                    )  # fmt: skip


def ops(architecture: int) -> Iterator[Op]:
    """radius_count in few coordinates. The least instructions of a pair: a difference, a product and a sum a coordinate, a
    comparison and a count. chebyshev takes differences and comparisons of float64 alone, and their unit is slower."""
    n = 20_000
    warps_of_pairs = n * n / 32 / bound.SCHEDULERS
    for d in (2, 3, 8):
        variant = _one_radius("sqeuclidean", d)
        done = Pass(variant.name, 0.0, warps_of_pairs * instructions_per_pair(variant, architecture))
        yield Op("radius_count", architecture, n, n, d, None, [done], "issue", warps_of_pairs * (3 * d + 2))
    rate = bound.FLOAT64[architecture]
    for d in (2, 3, 8):
        variant = _one_radius("chebyshev", d)
        unit = rate * instructions_per_pair(variant, architecture, "D")
        done = Pass(variant.name, 0.0, warps_of_pairs * max(unit, instructions_per_pair(variant, architecture)))
        yield Op("radius_count", architecture, n, n, d, None, [done], "float64", warps_of_pairs * rate * 2 * d)


def _one_radius(kind: str, d: int) -> Variant:
    return next(each for each in variants() if each.label == f"{kind} 0 excluded=False d={d} radii=1")


def instructions_per_pair(variant: Variant, architecture: int, starts: str = "") -> float:
    """Of the loop over points, which takes several at once; what is left over has a loop of its own, which is shorter.
    `starts` picks instructions: those of float64 start with D."""
    configuration = variant.fitting(architecture)[0]
    code = sass.instructions(compiled(variant, configuration, architecture).sass)
    loops = [words for loop, words in sass.counted(code, lambda each: each.word).items() if loop]
    longest = max(loops, key=lambda words: words.total())
    taken = few_coordinates.UNROLL.value if len(loops) > 1 else 1
    issued = sum(number for word, number in longest.items() if word.startswith(starts))
    return issued * 32 * configuration.warps / (configuration.blocks["BLOCK"] * taken)
