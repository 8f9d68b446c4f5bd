"""How much of a GPU's peak a kernel could reach at most, from its machine code: nothing here was run on a GPU.

bound_share             T_useful / (T_mma + T_issue)
bound_share_overlapped  T_useful / max(T_mma, T_issue)         tensor cores and issue slots busy at the same time

All times are cycles of one multiprocessor. T_useful: 2 n m d at the peak of the datasheet, counted once however many passes.
T_mma: the matrix instructions of all passes at that peak. T_issue: all other instructions, in the loops as often as the
loops run, times the warps of a scheduler: each takes one slot, and no two happen at once. It is an upper bound: memory,
latencies and the kernels of torch between ours come on top. Where the matrix instructions of a pass do not account for its
products, the reading of the code is wrong, and `passed` raises.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

from benchmarks.gpu import sass
from benchmarks.gpu.compiled import Compiled, compiled
from benchmarks.gpu.sass import Instruction, Loop
from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.triton_kernels.resources import GPUS, Configuration

SCHEDULERS = 4  # of a multiprocessor, one instruction of a warp each per cycle
# bfloat16 products with float32 sums, dense: operations per cycle and multiprocessor. Datasheet peaks at boost clock:
# A100 312, H100 SXM 989, B200 2250 TFLOP/s on 108 x 1.41, 132 x 1.83 and 148 x 1.86 GHz.
PEAK = {80: 2048, 90: 4096, 100: 8192}
_WARPGROUP = re.compile(r"HGMMA\.64x(\d+)x(\d+)")
_WARP = re.compile(r"HMMA\.(\d{2})(\d)(\d+)\.")
_WAITS = ("SYNCS", "NANOSLEEP", "UTCATOMSWS")


class Counts(NamedTuple):
    """Instructions of one warp by the depth of their loop: matrix instructions apart, as operations of the whole program."""

    issued: tuple[float, float, float]
    products: tuple[float, float, float]


class Pass(NamedTuple):
    """One kernel of an op on one multiprocessor's share: cycles."""

    name: str
    mma: float
    issue: float


def counts(code: list[Instruction], warps: int) -> Counts:
    """A loop that waits (for memory, for tensor memory) is passed once."""
    issued, products = [0.0] * 3, [0.0] * 3
    for loop, words in sass.counted(code, lambda each: each.word).items():
        depth = 0 if loop is None else loop.depth
        if loop is not None and _waits(loop, words):
            depth = loop.depth - 1
        for word, number in words.items():
            if word == "NOP":
                continue
            operations = _operations(word) * warps
            if operations or word.startswith("UTCHMMA"):
                products[depth] += number * operations
            else:
                issued[depth] += number
    return Counts((issued[0], issued[1], issued[2]), (products[0], products[1], products[2]))


def _waits(loop: Loop, words: Counter[str]) -> bool:
    return len(loop.body) < 12 and any(word.startswith(_WAITS) for word in words)


def _operations(word: str) -> float:
    """Multiplications and additions of a matrix instruction, the share of one warp; 0 for anything else, and for those of
    tensor memory, whose shape is no part of the word."""
    if match := _WARPGROUP.match(word):
        return 2 * 64 * int(match[1]) * int(match[2]) / 4
    if match := _WARP.match(word):
        return 2 * int(match[1]) * int(match[2]) * int(match[3])
    return 0.0


def issued_per_tile(variant: Variant, configuration: Configuration, found: Compiled, d: int) -> float:
    """Instructions that a warp issues for one tile; of a program with one tile its beginning and end are part of it."""
    issued = counts(sass.instructions(found.sass), configuration.warps).issued
    depth = _tiling(variant).depth
    return issued[depth - 1] + _steps(variant, configuration, d) * issued[depth]


def per_entry(variant: Variant, configuration: Configuration, found: Compiled, d: int) -> float:
    """Instructions that a thread issues for one entry of a tile."""
    threads = 32 * configuration.warps
    return issued_per_tile(variant, configuration, found, d) * threads / entries(variant, configuration)


def _tiling(variant: Variant) -> Tiling:
    if variant.tiling is None:
        raise ValueError(f"{variant.name}: expected a tiling, got None")
    return variant.tiling


def entries(variant: Variant, configuration: Configuration) -> int:
    return math.prod(configuration.blocks[name] for name in _tiling(variant).entries)


def _steps(variant: Variant, configuration: Configuration, d: int) -> int:
    step = _tiling(variant).step
    return -(-d // (configuration.blocks[step] if isinstance(step, str) else step))


def passed(
    variant: Variant,
    configuration: Configuration,
    found: Compiled,
    architecture: int,
    d: int,
    tiles: float,
    programs: float,
) -> Pass:
    """All of a kernel's tiles, where `programs` begin and end."""
    code = counts(sass.instructions(found.sass), configuration.warps)
    steps, depth = _steps(variant, configuration, d), _tiling(variant).depth
    issue = tiles * issued_per_tile(variant, configuration, found, d)
    if depth == 2:
        issue += programs * code.issued[0]
    mma = 0.0
    if variant.tensor_core:
        wanted = 2.0 * entries(variant, configuration) * d
        seen = code.products[depth - 1] + steps * code.products[depth]
        if architecture != 100 and seen < wanted:
            raise ValueError(f"{variant.name}: expected at least {wanted:.0f} operations a tile, read {seen:.0f}")
        mma = tiles * max(seen, wanted) / PEAK[architecture]
    return Pass(variant.name, mma, issue * configuration.warps / SCHEDULERS)


def pass_of(variant: Variant, architecture: int, d: int, tiles: float, programs: float) -> Pass:
    """`passed` of the default configuration."""
    configuration = variant.fitting(architecture)[0]
    found = compiled(variant, configuration, architecture)
    return passed(variant, configuration, found, architecture, d, tiles, programs)


class Op(NamedTuple):
    """All passes of an op over n queries and m points."""

    op: str
    architecture: int
    n: int
    m: int
    d: int
    k: int | None
    passes: list[Pass]
    bound: str = "tensor cores"
    least: float | None = None  # cycles that no implementation can go below, where these are not those of the products

    def shares(self) -> tuple[float, float]:
        """(bound_share, bound_share_overlapped)."""
        useful = 2.0 * self.n * self.m * self.d / PEAK[self.architecture] if self.least is None else self.least
        mma, issue = sum(each.mma for each in self.passes), sum(each.issue for each in self.passes)
        return useful / (mma + issue), useful / max(mma, issue)


def occupancy(found: Compiled, configuration: Configuration, architecture: int) -> float:
    """Resident warps over the most that fit: registers are given out by 8 a thread, shared memory by KiB, one of them the
    system's."""
    gpu = GPUS[architecture]
    threads = 32 * configuration.warps
    by_registers = gpu.registers // (threads * (-(-found.registers // 8) * 8))
    by_shared = gpu.shared // (1024 * (-(-found.shared // 1024) + 1))
    programs = min(by_registers, by_shared, gpu.warps // configuration.warps, 32)
    return programs * configuration.warps / gpu.warps
