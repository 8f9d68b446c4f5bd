"""The CUDA backend over the emulator, on CPU tensors, for as long as a block lasts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from msma_fast.backends import cuda, registry

ROOT = Path(__file__).resolve().parent.parent
_CACHED = (cuda._load, cuda.available, cuda.beside_triton, registry._availability, registry._ops)


@contextmanager
def emulated_cuda(module: Path) -> Iterator[ModuleType]:
    """The module of that file in the place of msma_fast._cuda."""
    with patch.dict(os.environ, {"MSMA_FAST_CUDA_EMULATED": str(module)}):
        _forget()
        yield cuda.compiled()
    _forget()


def built(folder: Path) -> Path:
    """The file of _cuda_emulated, made in `folder`; skips where it cannot be."""
    if not (ROOT / "csrc" / "cuda" / "knn.cu").exists() or not (ROOT / "python_tests" / "emulator").is_dir():
        pytest.skip("the sources are not here")
    cmake = shutil.which("cmake") or pytest.importorskip("cmake").CMAKE_BIN_DIR + "/cmake"
    if shutil.which("g++") is None or sys.platform != "linux":
        pytest.skip("the emulator takes g++ and Linux")
    pybind11 = pytest.importorskip("pybind11").get_cmake_dir()
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DMSMA_CUDA_EMULATED=ON", f"-Dpybind11_DIR={pybind11}"]
    _run(cmake, "-S", str(ROOT), "-B", str(folder), f"-DPython_EXECUTABLE={sys.executable}", *options)
    _run(cmake, "--build", str(folder), "--target", "_cuda_emulated", "--parallel", str(os.cpu_count() or 1))
    (found,) = folder.rglob("_cuda_emulated*.so")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def _forget() -> None:
    for each in _CACHED:
        each.cache_clear()
