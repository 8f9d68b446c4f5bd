"""The install: from a source distribution elsewhere, and without a compiler, where it succeeds and says so once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import msma_fast

ROOT = Path(__file__).resolve().parents[1]
TREES = ("benchmarks", "csrc", "examples", "msma_fast", "python_tests", "triton_kernels")
FILES = ("CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
WARNING = "WARNING: msma_fast._native was not built"
PIP_INSTALL = ["-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps"]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the sources are not here")


def source_files(folder: Path) -> set[str]:
    """Relative names of what must travel with the sources."""
    paths = [folder / name for name in FILES]
    for tree in TREES:
        paths += [path for path in (folder / tree).rglob("*") if path.is_file()]
    ignored = ("__pycache__", ".pyc", ".so", ".pyd")
    return {str(path.relative_to(folder)) for path in paths if not str(path).endswith(ignored)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone: nothing that was built here."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in source_files(ROOT):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "MSMA_FAST_CUDA": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done


REPORT = """
import msma_fast as mf, msma_fast.triton_kernels, importlib.resources, numpy
assert mf.__file__.startswith({site!r}), mf.__file__
assert msma_fast.triton_kernels.__file__.startswith({site!r})
assert importlib.resources.files("msma_fast.report.templates").joinpath("page.html").is_file()
print(mf.knn(numpy.arange(12.0).reshape(6, 2) ** 2, k=1).indices.tolist())
print({{b.name: b.available for b in mf.backends()}}["native"], {{b.name: b.reason for b in mf.backends()}}["native"])
"""


# With -S the environment's own install of the package, editable or not, is not looked for: only what is on PYTHONPATH.
LIBRARIES = sysconfig.get_paths()["purelib"]


def report(site: Path) -> tuple[str, str]:
    """Nearest neighbors found by the package installed in `site`, and what it says of its native backend."""
    path = os.pathsep.join((str(site), LIBRARIES))
    done = python("-S", "-c", REPORT.format(site=str(site)), cwd=site, PYTHONPATH=path)
    neighbors, native = done.stdout.strip().splitlines()
    return neighbors, native


NEIGHBORS = "[[1], [0], [1], [2], [3], [4]]"


def test_the_two_versions_agree() -> None:
    assert f'\nversion = "{msma_fast.__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def break_compiler(_: Path) -> dict[str, str]:
    return {"CXX": "/bin/false"}


def break_path(_: Path) -> dict[str, str]:
    return {"PATH": ""}


def break_cmake(folder: Path) -> dict[str, str]:
    (folder / "cmake.py").write_text("raise ImportError('hidden')\n")
    return {"PATH": "", "PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    "how",
    [
        break_compiler,
        pytest.param(break_path, marks=pytest.mark.slow),
        pytest.param(break_cmake, marks=pytest.mark.slow),
    ],
)
def test_without_a_compiler_the_install_succeeds_and_says_so(how, checkout: Path, tmp_path: Path) -> None:
    source, site, hidden = tmp_path / "source", tmp_path / "site", tmp_path / "hidden"
    shutil.copytree(checkout, source)
    hidden.mkdir()
    done = python(*PIP_INSTALL, "-v", "--target", str(site), ".", cwd=source, **how(hidden))
    assert done.stdout.count(WARNING) == 1, done.stdout
    assert "Successfully installed msma_fast" in done.stdout
    assert ("CMake was not found" in done.stdout) == (how is break_cmake)
    assert not list(site.rglob("*.so"))
    neighbors, native = report(site)
    assert neighbors == NEIGHBORS
    assert native.startswith("False msma_fast._native cannot be imported")


def test_without_nvcc_the_install_succeeds_and_says_so_if_cuda_is_asked_for(checkout: Path, tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(checkout, source)
    broken = {"CXX": "/bin/false", "CUDACXX": "/bin/false"}
    done = python(*PIP_INSTALL, "-v", "--target", str(site), ".", cwd=source, MSMA_FAST_CUDA="1", **broken)
    assert done.stdout.count("WARNING: msma_fast._cuda was not built") == 1, done.stdout
    assert "Successfully installed msma_fast" in done.stdout


@pytest.mark.slow
def test_the_source_distribution_is_complete_and_builds_elsewhere(checkout: Path, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    source, dist, site = tmp_path / "source", tmp_path / "dist", tmp_path / "site"
    shutil.copytree(checkout, source)
    build = ("-m", "build", "--no-isolation", "--outdir", str(dist))
    python(*build, "--sdist", ".", cwd=source)
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "elsewhere", filter="data")
    (unpacked,) = (tmp_path / "elsewhere").iterdir()
    assert source_files(checkout) <= source_files(unpacked)

    done = python(*build, "--wheel", ".", cwd=unpacked)
    assert WARNING not in done.stdout
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive_of_wheel:
        names = archive_of_wheel.namelist()
    assert any(name.startswith("msma_fast/_native") for name in names)
    assert not [
        name for name in names if name.startswith(("benchmarks", "examples", "python_tests", "triton_kernels", "csrc"))
    ]
    python(*PIP_INSTALL, "--target", str(site), str(wheel), cwd=tmp_path)
    neighbors, native = report(site)
    assert neighbors == NEIGHBORS
    assert native.startswith("True C++ kernels, instruction set")


@pytest.mark.slow
def test_an_editable_install_puts_the_module_beside_its_sources(checkout: Path, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(checkout, source)
    python(*PIP_INSTALL, "--target", str(site), "--editable", ".", cwd=source)
    assert list((source / "msma_fast").glob("_native*"))
    code = "import site, sys; site.addsitedir(sys.argv[1]); import msma_fast._native as n; print(n.__file__)"
    done = python("-S", "-c", code, str(site), cwd=tmp_path, PYTHONPATH=os.pathsep.join((str(site), LIBRARIES)))
    assert Path(done.stdout.strip()).parent == source / "msma_fast"
