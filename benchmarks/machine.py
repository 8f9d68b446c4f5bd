"""What the numbers were measured on and with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import QUICK
from msma_fast._version import __version__
from msma_fast.backends import native
from msma_fast.bench import timed
from msma_fast.msma.machine import cpu_name

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("torch", "numpy", "scipy", "faiss-cpu", "scikit-learn", "ennemi", "npeet-plus", "pytest-benchmark")
# Variables that pin or cap the kernels of somebody here: their values belong to the numbers.
_VARIABLES = (
    "MSMA_FAST_CPU", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "FAISS_SIMD_LEVEL",
    "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA",
)  # fmt: skip
_SIZE = 256 if QUICK else 2048


def describe() -> dict[str, Any]:
    """JSON-able; takes about a second, for the rates."""
    built = native.available()[0]
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "flags": [flag for flag in _flags() if flag.startswith(("avx", "amx", "fma", "sse4"))],
        "instruction_set": native.instruction_set() if built else "torch only: the native module is not built",
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "versions": {"msma_fast": __version__} | {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "gemm_gflops": rates(),
    }


def rates() -> dict[str, float]:
    """Billions of operations a second of torch's square matrix products, by precision; the best of three."""
    wide = torch.randn(_SIZE, _SIZE)
    half = wide.bfloat16()
    small = torch.randint(-100, 100, (_SIZE, _SIZE), dtype=torch.int8)
    double = wide[: _SIZE // 2, : _SIZE // 2].double()
    products: dict[str, tuple[int, Callable[[], Any]]] = {
        "float64": (_SIZE // 2, lambda: torch.mm(double, double)),
        "float32": (_SIZE, lambda: torch.mm(wide, wide)),
        "bfloat16": (_SIZE, lambda: torch.mm(half, half)),
        "int8": (_SIZE, lambda: torch._int_mm(small, small)),
    }
    return {name: _rate(size, product) for name, (size, product) in products.items()}


def _rate(size: int, product: Callable[[], Any]) -> float:
    product()
    return 2.0 * size**3 / min(timed(product) for _ in range(3)) / 1e9


def _flags() -> list[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((sorted(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), [])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""  # no git, no commit
    return done.stdout.strip()
