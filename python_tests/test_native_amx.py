"""The AMX products of the certified screen on a model of the tile unit, for machines without one: csrc/tests/screen_driver.cpp
is built over csrc/tests/emulated_tiles.hpp, and holds products and whole searches against plain ones.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from msma_fast.backends import native

ROOT = Path(__file__).resolve().parent.parent


def find_cmake() -> str | None:
    """CMake on PATH, else the one inside its Python package."""
    if found := shutil.which("cmake"):
        return found
    package = pytest.importorskip("cmake", reason="no CMake here")
    return shutil.which("cmake", path=package.CMAKE_BIN_DIR)


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def driver() -> str:
    """The built driver; its objects stay in build/, so that only the first run takes long."""
    if not (ROOT / "CMakeLists.txt").exists():
        pytest.skip("the sources are not here")
    if platform.machine().lower() not in ("x86_64", "amd64") or os.name == "nt":
        pytest.skip("the tile unit is modelled on x86-64 with a GNU-like compiler")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler here")
    cmake = find_cmake()
    if cmake is None:
        pytest.skip("no CMake here")
    build = ROOT / "build" / "emulated-tiles"
    build.mkdir(parents=True, exist_ok=True)
    (build / "CMakeCache.txt").unlink(missing_ok=True)  # it may name tools of an environment that is gone
    run(cmake, "-S", str(ROOT), "-B", str(build), "-DMSMA_EMULATED_TILES=ON", "-DCMAKE_BUILD_TYPE=Release")
    run(cmake, "--build", str(build), "--parallel", str(os.cpu_count() or 1))
    return str(build / "screen_driver")


def test_the_amx_body_on_emulated_tiles(driver: str) -> None:
    assert run(driver, MSMA_FAST_CPU="amx") == "amx: passed\n"


def test_a_cap_keeps_the_tiles_out_of_use(driver: str) -> None:
    assert run(driver, MSMA_FAST_CPU="scalar") == "scalar: passed\n"


@pytest.mark.skipif(not native.available()[0], reason=native.available()[1])
def test_wrong_tiles_are_not_used_and_the_status_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.compiled().amx_fault() == ""
    assert "AMX tiles are not used" not in native.status()["native"]
    faulty = SimpleNamespace(instruction_set=lambda: "avx512", amx_fault=lambda: "row 0 is wrong", cpu_features=dict)
    monkeypatch.setattr(native, "compiled", lambda: faulty)
    assert native.status()["native"] == "instruction set avx512 (AMX tiles are not used: row 0 is wrong)"
