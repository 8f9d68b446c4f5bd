"""Triton kernels compiled ahead of time for GPUs that are not here: registers, spills, and the machine code."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import resources
from msma_fast.triton_kernels.resources import Configuration

BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
ARCHITECTURES = (80, 90, 100)


class Compiled(NamedTuple):
    """What ptxas made of a kernel: registers a thread, bytes spilled to local memory, bytes of shared memory, SASS text."""

    registers: int
    spilled: int
    shared: int
    sass: str
    cubin: bytes


def compiled(variant: Variant, configuration: Configuration, architecture: int) -> Compiled:
    """The variant as a launch with this configuration on this architecture would compile it."""
    kernel = variant.kernel
    types = dict(variant.types)
    constants = dict(variant.constants) | configuration.blocks
    if variant.rows:
        constants["DESCRIPTORS"] = resources.has_descriptors(architecture)
        for name, block in variant.rows.items():
            tile = [configuration.blocks[block], configuration.blocks["BLOCK_D"]]
            types[name] = f"tensordesc<bf16{tile}>" if constants["DESCRIPTORS"] else "*bf16"
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    # As at a launch: torch aligns its memory, and the screen pads its rows.
    aligned = [name for name, kind in signature.items() if kind[0] == "*" or (variant.rows and name == "d")]
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    options = dict(variant.options) | configuration.options()
    source = ASTSource(kernel, signature, constants, attributes)
    found = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(found.asm["cubin"])
        usage = run_tool("cuobjdump", "-res-usage", str(cubin))
        sass = run_tool("nvdisasm", "-c", str(cubin))
    numbers = {
        key: int(value)
        for key, value in (
            word.split(":") for word in usage.split() if word.count(":") == 1 and word.split(":")[1].isdigit()
        )
    }
    return Compiled(numbers["REG"], numbers["STACK"], found.metadata.shared, sass, found.asm["cubin"])


def run_tool(tool: str, *arguments: str) -> str:
    return subprocess.run([BIN / tool, *arguments], capture_output=True, text=True, check=True).stdout
