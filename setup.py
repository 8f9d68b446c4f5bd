"""Builds msma_fast._native with CMake where a C++ compiler is found; everything else is in pyproject.toml.

The native module is optional: without CMake or a working compiler the install goes on, says so once, and the
torch backend serves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LAST_LINES = 15  # of a failing command's output, for the warning


class BuildFailed(Exception):
    """Why there is no native module, for a person to read."""


def find_tool(name: str) -> str | None:
    """The program on PATH, else the one inside its Python package."""
    if found := shutil.which(name):
        return found
    try:
        package = __import__(name)
    except ImportError:
        return None
    folder = getattr(package, "CMAKE_BIN_DIR" if name == "cmake" else "BIN_DIR", None)
    return shutil.which(name, path=folder) if folder else None


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise BuildFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise BuildFailed(f"`{' '.join(command[:2])} ...` failed:\n{tail}")


class CMakeBuild(build_ext):
    """Each extension is a CMake target of its own name, installed next to the package's modules."""

    def build_extension(self, ext: Extension) -> None:
        try:
            self.build_with_cmake(ext)
        except BuildFailed as failure:
            print(
                f"\nWARNING: {ext.name} was not built: msma_fast runs on its torch backend (same results, slower).\n"
                f"It needs CMake 3.18 or later and a C++17 compiler. The reason: {failure}\n",
                file=sys.stderr,
            )

    def build_with_cmake(self, ext: Extension) -> None:
        cmake = find_tool("cmake")
        if cmake is None:
            raise BuildFailed("CMake was not found")
        try:
            import pybind11
        except ImportError as error:
            raise BuildFailed("pybind11 was not found") from error
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / ext.name
        build.mkdir(parents=True, exist_ok=True)
        # Paths of an earlier build's temporary environment must not survive in the cache; compiled objects may.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        configure = [cmake, "-S", str(ROOT), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"]
        configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
        if ninja := find_tool("ninja"):
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        run(configure)
        run([cmake, "--build", str(build), "--config", "Release", "--parallel", str(os.cpu_count() or 1)])
        run([cmake, "--install", str(build), "--config", "Release", "--prefix", str(target.parent)])
        if not target.exists():
            raise BuildFailed(f"CMake did not produce {target.name}")


setup(
    packages=[*find_packages(include=["msma_fast", "msma_fast.*"]), "msma_fast.triton_kernels"],
    package_dir={"msma_fast.triton_kernels": "triton_kernels"},
    package_data={"msma_fast": ["py.typed", "report/templates/*"]},
    ext_modules=[Extension("msma_fast._native", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
