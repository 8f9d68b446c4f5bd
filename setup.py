"""Builds msma_fast._native with CMake where a C++ compiler is found, and msma_fast._cuda where nvcc is; everything else is in
pyproject.toml.

Both modules are optional: where one cannot be built the install goes on, says so once, and other backends serve. Without nvcc
nothing is said of _cuda. MSMA_FAST_CUDA=0 leaves it out, MSMA_FAST_CUDA=1 says so where it cannot be built;
MSMA_FAST_CUDA_ARCHITECTURES (all, or a list such as 80;90a) is what it is compiled for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LAST_LINES = 15  # of a failing command's output, for the warning


class BuildFailed(Exception):
    """Why there is no module, for a person to read."""


class Module(NamedTuple):
    """What is said where a module is not built."""

    instead: str
    needs: str


MODULES = {
    "_native": Module(
        "msma_fast runs on its torch backend (same results, slower)", "CMake 3.18 or later and a C++17 compiler"
    ),
    "_cuda": Module(
        "CUDA tensors are served by Triton or torch (same results)", "CMake 3.18 or later and nvcc 12 or later"
    ),
}


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


def find_nvcc() -> str | None:
    """The CUDA compiler: CUDACXX, on PATH, or below CUDA_HOME or CUDA_PATH."""
    if named := os.environ.get("CUDACXX"):
        return shutil.which(named)
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    return shutil.which("nvcc") or next(
        (found for home in homes if home and (found := shutil.which("nvcc", path=str(Path(home, "bin"))))), None
    )


def extensions() -> list[Extension]:
    """The modules to build here."""
    wanted = ["_native"]
    asked = os.environ.get("MSMA_FAST_CUDA", "")
    if asked not in ("", "0", "1"):
        raise SystemExit(f"MSMA_FAST_CUDA: expected 0, 1 or nothing, got {asked!r}")
    if asked == "1" or (asked == "" and find_nvcc()):
        wanted.append("_cuda")
    return [Extension(f"msma_fast.{name}", sources=[], optional=True) for name in wanted]


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
            module = MODULES[ext.name.rpartition(".")[2]]
            print(
                f"\nWARNING: {ext.name} was not built: {module.instead}.\n"
                f"It needs {module.needs}. The reason: {failure}\n",
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
        name = ext.name.rpartition(".")[2]
        configure.append(f"-DMSMA_CUDA={'ON' if name == '_cuda' else 'OFF'}")
        if name == "_cuda":
            nvcc = find_nvcc()
            if nvcc is None:
                raise BuildFailed("nvcc was not found")
            configure.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
            if architectures := os.environ.get("MSMA_FAST_CUDA_ARCHITECTURES"):
                configure.append(f"-DMSMA_CUDA_ARCHITECTURES={architectures}")
        if ninja := find_tool("ninja"):
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        run(configure)
        parallel = str(os.cpu_count() or 1)
        run([cmake, "--build", str(build), "--config", "Release", "--target", name, "--parallel", parallel])
        install = [cmake, "--install", str(build), "--config", "Release", "--component", name]
        run([*install, "--prefix", str(target.parent)])
        if not target.exists():
            raise BuildFailed(f"CMake did not produce {target.name}")


setup(
    packages=[*find_packages(include=["msma_fast", "msma_fast.*"]), "msma_fast.triton_kernels"],
    package_dir={"msma_fast.triton_kernels": "triton_kernels"},
    package_data={"msma_fast": ["py.typed", "report/templates/*"]},
    ext_modules=extensions(),
    cmdclass={"build_ext": CMakeBuild},
)
