"""CUDA kernels (csrc/cuda) compiled by nvcc for GPUs that are not here, read as the Triton ones are.

collect   a tile of 128 x 128 pairs: its loop over coordinates is two loops deep, what is around it one
finish    eight candidates of a query: the loop over coordinates two loops deep
What a tile does only where a vote finds somebody to list is weighed by how often one does on real activations
(candidates.json); every other branch is counted as taken.
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
from benchmarks.gpu.kernels.narrow import moved as moved_by_narrowing
from msma_fast.backends import triton_search
from msma_fast.backends.cuda_launch import FIRST

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = {80: "sm_80", 90: "sm_90a", 100: "sm_100"}
COLLECT = "collect_kernel<false>"  # without labels
FINISH = "finish_kernel<(msma::Kind)0, float>"
_TILE, _STEP, _WARPS = 128, 64, 4  # of a block of the collect pass: queries and points, coordinates at a time, warps
_AT_ONCE, _LANES, _PAIRS = (
    8,
    8,
    2,
)  # candidates of a warp, lanes that share the coordinates of one, candidates of a lane
_ROUNDS = 21  # of a sort of 64
_SECTION = re.compile(r"^\.text\.(\S+):$", re.MULTILINE)
_CALLED = re.compile(r"^\$\S+:$", re.MULTILINE)
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")


def available() -> bool:
    """Whether there is a compiler for them."""
    return all(shutil.which(tool) for tool in ("nvcc", "c++filt"))


def sources() -> list[str]:
    """The files csrc/cuda/<name>.cu."""
    return sorted(each.stem for each in (CSRC / "cuda").glob("*.cu"))


@cache
def functions(source: str, architecture: int) -> dict[str, Compiled]:
    """The kernels of a file by their names in C++, `knn_kernel<(msma::Kind)1, 4, 4>`, and with ", called" the longest function
    that one calls; shared memory is that of the launch, and not known here."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = ["nvcc", "-std=c++17", "-O3", "-cubin", f"-arch={ARCHITECTURES[architecture]}"]
        command += [
            f"-I{CSRC / 'include'}",
            f"-I{CSRC / 'cuda'}",
            str(CSRC / "cuda" / f"{source}.cu"),
            "-o",
            str(cubin),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        usage = {name: numbers for name, *numbers in _USAGE.findall(run_tool("cuobjdump", "-res-usage", str(cubin)))}
        parts = _SECTION.split(run_tool("nvdisasm", "-c", str(cubin)))
        binary = cubin.read_bytes()
    mangled, code = parts[1::2], parts[2::2]
    told = subprocess.run(["c++filt", *mangled], check=True, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for symbol, full, text in zip(mangled, told, code, strict=True):
        registers, stack, shared = (int(number) for number in usage[symbol])
        own, *called = _CALLED.split(text)
        found[_short(full)] = Compiled(registers, stack, shared, own, binary)
        if called:
            found[f"{_short(full)}, called"] = Compiled(registers, stack, shared, max(called, key=len), binary)
    return found


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
                if name.endswith(", called"):
                    continue
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
                    "instructions_per_entry": _collect(found, architecture, 576, 1.0, 1.0).issue
                    * bound.SCHEDULERS
                    * 32
                    / _TILE**2
                    if collects
                    else None,
                    "cubin": str(cubin),
                }


def _collect(found: Compiled, architecture: int, d: int, tiles: float, votes: float) -> Pass:
    """`tiles` tiles of the collect pass, in each of which the share `votes` of the votes finds somebody. Raises ValueError
    where its products are not in the code."""
    code = sass.instructions(found.sass)
    counted = bound.counts(code, _WARPS)
    wanted, per_step = 2.0 * _TILE * _TILE * d, 2.0 * _TILE * _TILE * _STEP
    if counted.products[2] != per_step:
        raise ValueError(
            f"{COLLECT}: expected {per_step:.0f} operations in the loop over coordinates, read {counted.products[2]:.0f}"
        )
    seldom = (1.0 - votes) * len(sass.guarded_by_a_vote(code))
    steps = math.ceil(d / _STEP)
    issue = tiles * (counted.issued[1] - seldom + steps * counted.issued[2]) * _WARPS / bound.SCHEDULERS
    return Pass("collect_kernel (CUDA)", tiles * max(steps * per_step, wanted) / bound.PEAK[architecture], issue)


def _finish(functions: dict[str, Compiled], d: int, rows: float, candidates: float) -> Pass:
    """The canonical keys of so many candidates of each of so many rows, and their order: one sort a row, of 64 places in 21
    rounds. The loop with most products is that of the coordinates; all else of a loop is counted once for its candidates."""
    code = sass.instructions(functions[FINISH].sass)
    counted = sass.counted(code, lambda each: each.word.split(".")[0])
    inner = max((loop for loop in counted if loop is not None), key=lambda loop: counted[loop]["DMUL"])
    (outer,) = (
        loop for loop in counted if loop is not None and loop.depth == inner.depth - 1 and inner.head in loop.body
    )
    trips = math.ceil(d / _LANES / (counted[inner]["DMUL"] / _PAIRS))
    group = trips * sum(counted[inner].values()) + sum(sum(counted[loop].values()) for loop in counted if loop is outer)
    sort = max(sass.loops(sass.instructions(functions[f"{FINISH}, called"].sass)), key=lambda loop: loop.depth)
    around = sum(counted[None].values())
    issued = rows * (math.ceil(candidates / _AT_ONCE) * group + _ROUNDS * len(sort.body) + around)
    return Pass("finish_kernel (CUDA)", 0.0, issued / bound.SCHEDULERS)


def op(architecture: int, measured: dict[str, Any]) -> Op:
    """A self-search as kernels/knn.py has it, its lists and its last pass in CUDA; measured: an entry of candidates.json."""
    n, d, k, candidates = (measured[name] for name in ("n", "d", "k", "candidates"))
    plain = knn.op(architecture, n, d, k, candidates)
    first, rest = measured["votes"]
    votes = first / FIRST + rest * (1 - 1 / FIRST)
    collect = _collect(functions("collect", architecture)[COLLECT], architecture, d, math.ceil(n / _TILE) ** 2, votes)
    finish = _finish(functions("finish", architecture), d, n, candidates)
    # Rows of both sides are put in panels, and the lists of the first part are looked through once more. What torch moves to
    # put candidates in order, which finish does in its place, is still counted.
    limit = triton_search.room(k)
    more = (
        n
        * (2 * 2 * 2 * (d + -d % _STEP) + moved_by_narrowing(limit, round(candidates)))
        / bound.BANDWIDTH[architecture]
    )
    return plain._replace(op="knn, CUDA collect", passes=[plain.passes[0], collect, finish], glue=plain.glue + more)


def ops(architecture: int) -> Iterator[Op]:
    """At the sizes whose candidates were counted."""
    for measured in json.loads(knn.COUNTED.read_text(encoding="utf-8")):
        yield op(architecture, measured)
