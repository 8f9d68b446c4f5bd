"""CUDA kernels (csrc/cuda) compiled by nvcc for GPUs that are not here, read as the Triton ones are.

collect   a tile of 128 x 128 pairs: its loop over coordinates is two loops deep, what is around it one
finish    eight candidates of a query: the loop over coordinates two loops deep
Every branch of a tile is counted as taken, also what is done only where a vote finds somebody to list.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.gpu import bound, sass
from benchmarks.gpu.bound import Op, Pass
from benchmarks.gpu.compiled import Compiled, run_tool
from benchmarks.gpu.kernels import knn

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = {80: "sm_80", 90: "sm_90a", 100: "sm_100"}
COLLECT = "collect_kernel<false>"  # without labels
FINISH = "finish_kernel<(msma::Kind)0, float>"
_TILE, _WARPS = 128, 4  # of a block of either kernel: warps
_AT_ONCE, _LANES = 8, 8  # candidates of a warp, and lanes that share the coordinates of one
_SECTION = re.compile(r"^\.text\.(\S+):$", re.MULTILINE)
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")


def available() -> bool:
    """Whether there is a compiler for them."""
    return all(shutil.which(tool) for tool in ("nvcc", "c++filt"))


def sources() -> list[str]:
    """The files csrc/cuda/<name>.cu."""
    return sorted(each.stem for each in (CSRC / "cuda").glob("*.cu"))


@cache
def functions(source: str, architecture: int) -> dict[str, Compiled]:
    """The kernels of a file by their names in C++, `knn_kernel<(msma::Kind)1, 4, 4>`; shared memory is that of the launch, and
    not known here."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = ["nvcc", "-std=c++17", "-O3", "-cubin", f"-arch={ARCHITECTURES[architecture]}"]
        command += [f"-I{CSRC / 'include'}", f"-I{CSRC / 'cuda'}", str(CSRC / "cuda" / f"{source}.cu"), "-o", str(cubin)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        usage = {name: numbers for name, *numbers in _USAGE.findall(run_tool("cuobjdump", "-res-usage", str(cubin)))}
        parts = _SECTION.split(run_tool("nvdisasm", "-c", str(cubin)))
        binary = cubin.read_bytes()
    mangled, code = parts[1::2], parts[2::2]
    told = subprocess.run(["c++filt", *mangled], check=True, capture_output=True, text=True).stdout.splitlines()
    return {
        _short(full): Compiled(*(int(number) for number in usage[name]), text, binary)
        for name, full, text in zip(mangled, told, code, strict=True)
    }


def _short(full: str) -> str:
    """The name without its namespace and arguments."""
    name, depth = full.removeprefix("void ").removeprefix("msma::device::"), 0
    for at, character in enumerate(name):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "(" and depth == 0:
            return name[:at]
    return name


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """One a kernel and architecture, as benchmarks.gpu.__main__.kernels has them; cubins, one a file, go to the folder."""
    for source in sources():
        for architecture in ARCHITECTURES:
            for name, found in functions(source, architecture).items():
                cubin = folder / f"cuda_{source}.sm_{architecture}.cubin"
                cubin.write_bytes(found.cubin)
                collects = name.startswith("collect_kernel")
                yield {
                    "op": source,
                    "kernel": name,
                    "language": "cuda",
                    "arch": f"sm_{architecture}",
                    "default": True,
                    "d": None,
                    "blocks": {"queries": _TILE, "points": _TILE} if collects else {},
                    "warps": None,
                    "registers": found.registers,
                    "spill_bytes": found.spilled,
                    "shared_bytes": None,
                    "occupancy": None,
                    "tensor_core": " HMMA" in found.sass,
                    "instructions_per_entry": _collect(found, architecture, 576, 1.0).issue * bound.SCHEDULERS * 32 / _TILE**2
                    if collects
                    else None,
                    "cubin": str(cubin),
                }


def _collect(found: Compiled, architecture: int, d: int, tiles: float) -> Pass:
    """`tiles` tiles of the collect pass. Raises ValueError where its products are not in the code."""
    code = bound.counts(sass.instructions(found.sass), _WARPS)
    wanted = 2.0 * _TILE * _TILE * d
    per_step = 2.0 * _TILE * _TILE * 64
    if code.products[2] != per_step:
        raise ValueError(f"{COLLECT}: expected {per_step:.0f} operations a step of 64 coordinates, read {code.products[2]:.0f}")
    steps = math.ceil(d / 64)
    issue = tiles * (code.issued[1] + steps * code.issued[2]) * _WARPS / bound.SCHEDULERS
    return Pass("collect_kernel (CUDA)", tiles * max(steps * per_step, wanted) / bound.PEAK[architecture], issue)


def _finish(found: Compiled, d: int, rows: float, candidates: float) -> Pass:
    """The canonical keys of so many candidates of each of so many rows, and their order. The longest inner loop is that of the
    coordinates; everything else is counted once for eight candidates, and once for a row."""
    code = sass.instructions(found.sass)
    counted = sass.counted(code, lambda each: each.word.split(".")[0])
    inner = max((words for loop, words in counted.items() if loop is not None), key=lambda words: words["DMUL"])
    trips = math.ceil(d / _LANES) / (inner["DMUL"] / 2)  # two candidates of eight lanes
    total = sum(sum(words.values()) for words in counted.values())
    around = total - sum(inner.values())
    issued = rows * (math.ceil(candidates / _AT_ONCE) * (trips * sum(inner.values()) + around) + around)
    return Pass("finish_kernel (CUDA)", 0.0, issued / bound.SCHEDULERS)


def op(architecture: int, n: int, d: int, k: int, candidates: float) -> Op:
    """A self-search of n rows as kernels/knn.py has it, its lists and its last pass in CUDA."""
    plain = knn.op(architecture, n, d, k, candidates)
    tiles = math.ceil(n / _TILE) ** 2
    collect = _collect(functions("collect", architecture)[COLLECT], architecture, d, tiles)
    finish = _finish(functions("finish", architecture)[FINISH], d, n, candidates)
    return plain._replace(op="knn, CUDA collect", passes=[plain.passes[0], collect, finish], glue=0.0)


def ops(architecture: int) -> Iterator[Op]:
    """At the sizes whose candidates were counted."""
    for measured in json.loads(knn.COUNTED.read_text(encoding="utf-8")):
        yield op(architecture, measured["n"], measured["d"], measured["k"], measured["candidates"])
