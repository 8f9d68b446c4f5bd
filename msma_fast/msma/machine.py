"""What computed the results: versions of the software, the processor, the backend."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msma_fast._version import __version__
from msma_fast.activations import Activations
from msma_fast.explain import explain_backend


def versions(acts: Activations | None = None) -> dict[str, str]:
    """Versions of what took part, of the collection where it says so."""
    found = {
        "msma_fast": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    collected = {} if acts is None else acts.metadata.get("versions", {})
    return found | {name: str(version) for name, version in collected.items() if name not in found}


def hardware() -> dict[str, Any]:
    """CPU, threads, and the backend that serves neighbours here."""
    backend = explain_backend("knn").splitlines()[0].rpartition(" ")[2]
    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), "backend": backend}


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
