"""How much of a GPU's peak a kernel could reach at most, from its machine code: nothing here was run on a GPU.

bound_share             T_useful / (T_mma + T_issue)
bound_share_overlapped  T_useful / max(T_mma, T_issue)         tensor cores and issue slots busy at the same time
with the glue           both with T_glue added to what is below

All times are cycles of one multiprocessor. T_useful: 2 n m d at the peak of the datasheet, counted once however many passes.
T_mma: the matrix instructions of all passes at that peak. T_issue: all other instructions, in the loops as often as the
loops run, times the warps of a scheduler: each takes one slot, and no two happen at once. T_glue: the bytes that torch's
operations between our kernels move at least, and our kernels read in no order, at the datasheet's bandwidth. It is an upper
bound: other memory and latencies come on top. Where the matrix instructions of a pass do not account for its products, the
reading of the code is wrong, and `passed` raises.
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
# Bytes per cycle and multiprocessor, of the same datasheets and clocks: A100 80 GB 2.04, H100 SXM 3.35, B200 8.0 TB/s.
BANDWIDTH = {80: 13.4, 90: 13.9, 100: 29.1}
# Slots of a scheduler that an instruction of float64 takes: units for 8 (A100) and 16 (H100, B200) of a warp's 32 threads.
FLOAT64 = {80: 4, 90: 2, 100: 2}
_WARPGROUP = re.compile(r"HGMMA\.64x(\d+)x(\d+)")
_WARP = re.compile(r"HMMA\.(\d{2})(\d)(\d+)\.")
_BLOCK = re.compile(r"UTCHMMA\.(\d+)x(\d+)x(\d+)")
_DESCRIPTOR = re.compile(r"idesc\[(UR\d+)\]")
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


def shaped(code: list[Instruction]) -> list[Instruction]:
    """UTCHMMA with its shape in its word, as other matrix instructions have: UTCHMMA.64x128x16. The shape is in a register, an
    immediate number moved there before: bits 17 to 22 are columns / 8, 24 to 28 rows / 16; 16 terms are 32 bytes of bfloat16.
    """
    moved: dict[str, int] = {}
    found = []
    for each in code:
        if each.word == "UMOV" and (parts := each.rest.split(", "))[1].startswith("0x"):
            moved[parts[0]] = int(parts[1], 16)
        if each.word == "UTCHMMA" and (register := _DESCRIPTOR.search(each.rest)) and register[1] in moved:
            descriptor = moved[register[1]]
            rows, columns = 16 * (descriptor >> 24 & 31), 8 * (descriptor >> 17 & 63)
            each = each._replace(word=f"UTCHMMA.{rows}x{columns}x16")
        found.append(each)
    return found


def counts(code: list[Instruction], warps: int) -> Counts:
    """A loop that waits (for memory, for tensor memory) is passed once."""
    issued, products = [0.0] * 3, [0.0] * 3
    for loop, words in sass.counted(shaped(code), lambda each: each.word).items():
        depth = 0 if loop is None else loop.depth
        if loop is not None and _waits(loop, words):
            depth = loop.depth - 1
        for word, number in words.items():
            if word == "NOP":
                continue
            if operations := _operations(word) * (1 if word.startswith("UTCHMMA") else warps):
                products[depth] += number * operations
            else:
                issued[depth] += number
    return Counts((issued[0], issued[1], issued[2]), (products[0], products[1], products[2]))


def _waits(loop: Loop, words: Counter[str]) -> bool:
    return len(loop.body) < 12 and any(word.startswith(_WAITS) for word in words)


def _operations(word: str) -> float:
    """Multiplications and additions of a matrix instruction, the share of one warp (all of those of tensor memory, which one
    warp issues for the program); 0 for anything else."""
    if match := _WARPGROUP.match(word):
        return 2 * 64 * int(match[1]) * int(match[2]) / 4
    if match := _WARP.match(word) or _BLOCK.match(word):
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
        early = code.products[depth - 1]  # of steps before the loop, which has as many fewer
        seen = early + (steps - round(early * steps / wanted)) * code.products[depth]
        if seen < wanted:
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
    glue: float = 0.0  # cycles of memory between the passes

    def shares(self, glue: bool = False) -> tuple[float, float]:
        """(bound_share, bound_share_overlapped), of the kernels alone or with the glue."""
        useful = 2.0 * self.n * self.m * self.d / PEAK[self.architecture] if self.least is None else self.least
        mma, issue = sum(each.mma for each in self.passes), sum(each.issue for each in self.passes)
        more = self.glue if glue else 0.0
        return useful / (mma + issue + more), useful / (max(mma, issue) + more)


def occupancy(found: Compiled, configuration: Configuration, architecture: int) -> float:
    """Resident warps over the most that fit: registers are given out by 8 a thread, shared memory by KiB, one of them the
    system's."""
    gpu = GPUS[architecture]
    threads = 32 * configuration.warps
    by_registers = gpu.registers // (threads * (-(-found.registers // 8) * 8))
    by_shared = gpu.shared // (1024 * (-(-found.shared // 1024) + 1))
    programs = min(by_registers, by_shared, gpu.warps // configuration.warps, 32)
    return programs * configuration.warps / gpu.warps
