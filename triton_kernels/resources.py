"""Which tile sizes fit a GPU: registers and shared memory, by arithmetic, so that nobody compiles what cannot run well.

A kernel lists its configurations best first and says what one of them needs; `fitting` leaves those that fit the device, and
the first of these is launched. Sizes of the data are no part of it: one compiled kernel serves every shape.

Limits per compute capability: CUDA C++ Programming Guide, "Compute Capabilities".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import triton

# Said at every launch: Triton's own default changes between releases.
EXACT = {"enable_fp_fusion": False}  # a fused multiply-add rounds once where the canonical order rounds twice
FUSED = {"enable_fp_fusion": True}

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
MOST_REGISTERS = 255  # a thread
SPARE_REGISTERS = 48  # addresses, masks and loop state beside a kernel's own tiles


class Gpu(NamedTuple):
    """registers (32 bits) and shared (bytes) of a multiprocessor, shared_block: the most that one block may have."""

    registers: int
    shared: int
    shared_block: int
    warps: int  # resident at once


GPUS = {
    80: Gpu(65536, 164 << 10, 163 << 10, 64),
    86: Gpu(65536, 100 << 10, 99 << 10, 48),
    89: Gpu(65536, 100 << 10, 99 << 10, 48),
    90: Gpu(65536, 228 << 10, 227 << 10, 64),
    100: Gpu(65536, 228 << 10, 227 << 10, 64),
    120: Gpu(65536, 100 << 10, 99 << 10, 48),
}


class Configuration(NamedTuple):
    """blocks: the kernel's constexpr sizes by name; warps a program; stages of the software pipeline; only: the compute
    capabilities whose compiler keeps it in registers, where that is not all that the arithmetic admits; registers: what a
    thread may have, where the compiler would rather spill a few bytes for one more resident program; since: the first
    Triton that keeps it in registers."""

    blocks: dict[str, int]
    warps: int
    stages: int = 1
    only: tuple[int, ...] = ()
    registers: int | None = None
    since: tuple[int, int] = (0, 0)

    def options(self) -> dict[str, int]:
        """What a launch takes beside the kernel's own arguments."""
        found = {"num_warps": self.warps, "num_stages": self.stages}
        return found if self.registers is None else found | {"maxnreg": self.registers}

    def launch(self) -> dict[str, int]:
        return self.blocks | self.options()


class Need(NamedTuple):
    """registers: 32-bit values that a whole program keeps in its tiles; shared: bytes a program keeps in shared memory."""

    registers: int
    shared: int


Needs = Callable[[Configuration], Need]


def fits(configuration: Configuration, need: Need, gpu: Gpu) -> bool:
    """Whether one program fits without spills."""
    threads = 32 * configuration.warps
    held = need.registers / threads + SPARE_REGISTERS
    return held <= MOST_REGISTERS and threads * held <= gpu.registers and need.shared <= gpu.shared_block


def fitting(configurations: Sequence[Configuration], needs: Needs, capability: int) -> list[Configuration]:
    """Those that fit, best first. Raises RuntimeError where none does."""
    entry = entry_of(capability)
    able = [each for each in configurations if entry in (each.only or GPUS) and each.since <= VERSION]
    found = [each for each in able if fits(each, needs(each), GPUS[entry])]
    if not found:
        raise RuntimeError(f"no configuration fits compute capability {capability}: {list(configurations)}")
    return found


def entry_of(capability: int) -> int:
    """The key of a compute capability in GPUS, or of the last one before it."""
    return max((known for known in GPUS if known <= capability), default=min(GPUS))


def has_descriptors(capability: int) -> bool:
    """Whether tiles are copied by the tensor memory accelerator, so that descriptors are cheaper than pointers."""
    return capability >= 90


@cache
def capability_of(device: torch.device) -> int:
    """10 major + minor of a CUDA device; the smallest known one in the interpreter."""
    if device.type != "cuda":
        return min(GPUS)
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def launched(configurations: Sequence[Configuration], needs: Needs, device: torch.device) -> dict[str, Any]:
    """Keyword arguments of a launch: the first configuration that fits the device."""
    return fitting(configurations, needs, capability_of(device))[0].launch()
