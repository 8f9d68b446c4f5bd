"""msma_fast._cuda: what it refuses, what it was compiled for, and that importing it starts nothing."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cuda_emulated import ROOT, emulated_cuda

RULE = (0, 0, 0, 0, 0)
X = torch.zeros(4, 3, dtype=torch.float64)
OUT = torch.zeros(128, 32, dtype=torch.float64)  # for whatever a call might write
SIDE, AT = (X.data_ptr(), 0, 4), OUT.data_ptr()
SCREEN = (OUT.data_ptr(), AT, AT, 128)
GOOD: dict[str, dict[str, Any]] = {
    "knn": {
        "kind": "sqeuclidean",
        "p": 0,
        "wide": True,
        "x": SIDE,
        "y": SIDE,
        "d": 3,
        "rule": RULE,
        "k": 2,
        "keys": AT,
        "indices": AT,
        "stream": 0,
    },
    "radius_count": {
        "kind": "minkowski",
        "p": 3,
        "wide": True,
        "x": SIDE,
        "y": SIDE,
        "d": 3,
        "rule": RULE,
        "thresholds": AT,
        "radii": 1,
        "counts": AT,
        "stream": 0,
    },
    "finish": {
        "kind": "manhattan",
        "p": 0,
        "wide": True,
        "x": SIDE,
        "y": SIDE,
        "d": 3,
        "columns": AT,
        "ends": AT,
        "n": 2,
        "first_row": 1,
        "k": 2,
        "keys": AT,
        "indices": AT,
        "stream": 0,
    },
    "select_k": {"values": AT, "ids": 0, "rows": 2, "m": 3, "k": 2, "keys": AT, "indices": AT, "stream": 0},
    "select_large": {"values": AT, "rows": 2, "m": 3, "k": 2, "keys": AT, "indices": AT, "stream": 0},
    "collect": {
        "x": SCREEN,
        "y": SCREEN,
        "c": AT,
        "width": 64,
        "rule": RULE,
        "top": AT,
        "begin": 0,
        "end": 128,
        "limit": 4,
        "listed": AT,
        "low": AT,
        "count": AT,
        "stream": 0,
    },
    "ksg": {
        "kind": "chebyshev",
        "samples": AT,
        "widths": AT,
        "pairs": AT,
        "count": 1,
        "n": 4,
        "ks": AT,
        "k_count": 1,
        "k_most": 2,
        "closed": False,
        "rule": RULE,
        "partner_stride": 0,
        "n_x": AT,
        "n_y": AT,
        "tied": AT,
        "stream": 0,
    },
}
BAD = [
    ("knn", {"kind": "euclid"}, "kind: expected one of sqeuclidean"),
    ("knn", {"kind": "mahalanobis"}, "kind: expected a metric without a tensor"),
    ("knn", {"kind": "cosine"}, "x_norms: expected the address of an array, got 0"),
    ("knn", {"k": 0}, "k: expected an integer from 1 to 1024, got 0"),
    ("knn", {"k": 1025}, "k: expected an integer from 1 to 1024, got 1025"),
    ("knn", {"d": 0}, "d: expected an integer from 1"),
    ("knn", {"x": (X.data_ptr(), 0, -1)}, "x: expected an integer from 0 to 2147483647, got -1"),
    ("knn", {"y": (0, 0, 4)}, "y: expected the address of an array, got 0"),
    ("knn", {"keys": 0}, "keys: expected the address"),
    ("knn", {"indices": 0}, "indices: expected the address"),
    ("knn", {"rule": (0, -1, 0, 0, 0)}, "window: expected an integer from 0"),
    ("knn", {"rule": (0, 0, AT, 0, 0)}, "labels: expected labels of both sides or of neither"),
    ("radius_count", {"p": 0}, "p: expected an integer from 1 to 16, got 0"),
    ("radius_count", {"radii": 33}, "radii: expected an integer from 1 to 32, got 33"),
    ("radius_count", {"thresholds": 0}, "thresholds: expected the address"),
    ("finish", {"first_row": 3}, "n: expected an integer from 0 to 1, got 2"),
    ("finish", {"first_row": 5}, "first_row: expected an integer from 0 to 4, got 5"),
    ("finish", {"ends": 0}, "ends: expected the address"),
    ("select_k", {"k": 1025}, "k: expected an integer from 1 to 1024"),
    ("select_large", {"k": 4}, "k: expected an integer from 1 to 3, got 4"),
    ("collect", {"x": (AT, AT, AT, 100)}, "x: expected a multiple of 128, got 100"),
    ("collect", {"y": (AT + 8, AT, AT, 128)}, "y: expected rows aligned to 16 bytes"),
    ("collect", {"width": 32}, "width: expected a multiple of 64, got 32"),
    ("collect", {"begin": 64}, "begin: expected a multiple of 128, got 64"),
    ("collect", {"end": 256}, "end: expected an integer from 0 to 128, got 256"),
    ("collect", {"limit": 0}, "limit: expected an integer from 1"),
    ("collect", {"rule": (0, 0, 0, 0, AT)}, "partners: expected 0"),
    ("ksg", {"kind": "cosine"}, "kind: expected one of sqeuclidean, chebyshev, got 'cosine'"),
    ("ksg", {"k_most": 1024}, "k_most: expected an integer from 1 to 1023"),
    ("ksg", {"k_count": 33}, "k_count: expected an integer from 1 to 32"),
    ("ksg", {"partner_stride": 3}, "partner_stride: expected 0 or n = 4, got 3"),
]


@pytest.fixture(scope="module")
def emulated(emulated_file: Path) -> Iterator[ModuleType]:
    with emulated_cuda(emulated_file) as module:
        yield module


@pytest.mark.parametrize(("name", "wrong", "says"), BAD)
def test_a_bad_argument_is_named(name: str, wrong: dict[str, Any], says: str, emulated: ModuleType) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        getattr(emulated, name)(**{**GOOD[name], **wrong})


def test_the_emulated_module_says_so(emulated: ModuleType) -> None:
    assert emulated.emulated() is True
    assert emulated.architectures() == []
    assert (emulated.MOST_NEIGHBORS, emulated.MOST_RADII) == (1024, 32)


FRESH = """
import sys, torch
sys.path.insert(0, {folder!r})
import {name} as module
assert not torch.cuda.is_initialized()
assert not module.emulated()
assert "libcuda" not in open("/proc/self/maps").read() or torch.version.cuda
print(*module.architectures())
"""


def compiled_for(name: str, folder: Path) -> list[str]:
    """What a process of its own finds on import, with no device to be seen."""
    code = FRESH.format(name=name, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_installed_module_starts_nothing() -> None:
    if importlib.util.find_spec("msma_fast._cuda") is None:
        pytest.skip("msma_fast._cuda is not built here")
    found = compiled_for("msma_fast._cuda", ROOT)
    assert found
    assert all(re.fullmatch(r"\d+a?(-ptx)?", one) for one in found)
    assert found[-1].endswith("-ptx")


def test_it_is_compiled_for_what_is_asked(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc here")
    cmake = shutil.which("cmake") or pytest.importorskip("cmake").CMAKE_BIN_DIR + "/cmake"
    pybind11 = pytest.importorskip("pybind11").get_cmake_dir()
    options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}", "-DMSMA_CUDA=ON"]
    subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(tmp_path), "-DMSMA_CUDA_ARCHITECTURES=80", *options],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    subprocess.run([cmake, "--build", str(tmp_path), "--target", "_cuda"], check=True, stdout=subprocess.DEVNULL)
    (module,) = tmp_path.rglob("_cuda*.so")
    assert compiled_for("_cuda", module.parent) == ["80", "80-ptx"]
