"""Breaks every Triton kernel in several ways and shows that a test notices: `python python_tests/mutations [NAME...]`.

Each other file here is of the kernel file of its name: MUTATIONS, (what breaks, the text replaced, by what), and TEST, the
file of python_tests/triton that has to fail. A replacement is undone afterwards. Exit status 1 where the tests pass.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Mutation(NamedTuple):
    name: str
    path: Path
    old: str
    new: str
    test: str


def mutations() -> list[Mutation]:
    found = []
    for file in sorted(HERE.glob("[!_]*.py")):
        table = runpy.run_path(str(file))
        path = ROOT / "triton_kernels" / file.name
        for name, old, new in table["MUTATIONS"]:
            found.append(Mutation(f"{file.stem}: {name}", path, old, new, table["TEST"]))
    return found


def noticed(mutation: Mutation) -> bool:
    """Whether the tests fail with the mutation in place."""
    text = mutation.path.read_text(encoding="utf-8")
    if mutation.old not in text:
        raise ValueError(f"{mutation.name}: expected {mutation.old!r} in {mutation.path.name}, which does not have it")
    test = ROOT / "python_tests" / "triton" / mutation.test
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(test)]
    try:
        mutation.path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    finally:
        mutation.path.write_text(text, encoding="utf-8")
    return done.returncode == 1


def main() -> int:
    missed = 0
    for mutation in mutations():
        if sys.argv[1:] and not any(word in mutation.name for word in sys.argv[1:]):
            continue
        found = noticed(mutation)
        missed += not found
        print(f"{'noticed' if found else 'MISSED '}  {mutation.name}", flush=True)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
