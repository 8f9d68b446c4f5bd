"""Breaks every Triton kernel in several ways and shows that a test notices: `python python_tests/mutations [NAME...]`.

Each other file here is of the kernel or backend file of its name: MUTATIONS, (what breaks, the text replaced, by what), and
TEST, the file of python_tests/triton that has to fail. All of it happens in a copy of the tree, where each TEST has to pass
before anything is broken. Exit status 1 where a test fails by itself or notices nothing.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = ("msma_fast", "triton_kernels", "python_tests", "benchmarks", "pyproject.toml")  # what the tests read
SOURCES = ("triton_kernels", "msma_fast/backends")


class Mutation(NamedTuple):
    """path and test are relative to the root of the tree."""

    name: str
    path: Path
    old: str
    new: str
    test: Path


def mutations() -> list[Mutation]:
    found = []
    for file in sorted(HERE.glob("[!_]*.py")):
        table = runpy.run_path(str(file))
        path = next(Path(part) / file.name for part in SOURCES if (ROOT / part / file.name).exists())
        text = (ROOT / path).read_text(encoding="utf-8")
        for name, old, new in table["MUTATIONS"]:
            if old not in text or old == new:
                raise ValueError(f"{file.stem}: {name}: expected text of {path} and another, got {old!r} and {new!r}")
            test = Path("python_tests", "triton", table["TEST"])
            found.append(Mutation(f"{file.stem}: {name}", path, old, new, test))
    return found


def copied(to: Path) -> Path:
    """The parts of the tree in a folder where they may be broken."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, to / part)
    link = to / "msma_fast" / "triton_kernels"  # which a setup of the package maps otherwise
    if not link.exists():
        link.symlink_to(to / "triton_kernels")
    return to


def status(tree: Path, test: Path) -> int:
    """pytest's exit status for a test file of the tree: 0 where all pass, 1 where one fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(test)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode


def noticed(tree: Path, mutation: Mutation) -> bool:
    """Whether the tests fail with the mutation in place."""
    path = tree / mutation.path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return status(tree, mutation.test) == 1
    finally:
        path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        unbroken = cache(lambda test: status(tree, test))
        for mutation in mutations():
            if words and not any(word in mutation.name for word in words):
                continue
            if unbroken(mutation.test):
                found = f"RED      {mutation.test.name} without"
            else:
                found = "noticed " if noticed(tree, mutation) else "MISSED  "
            wrong += found != "noticed "
            print(f"{found} {mutation.name}", flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
