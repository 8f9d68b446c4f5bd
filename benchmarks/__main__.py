"""python -m benchmarks [--all] [--quick] [--out build/bench]: the suite, its table and its page.

One pytest process for the suite, then one for the capped cases of each older instruction set, since kernels are chosen
once in a process. Exit status 1 where a gate was red or a case failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import capped, openblas, results
from benchmarks.page import page
from benchmarks.table import show

_ROOT = Path(__file__).resolve().parents[1]


def _run(out: Path, name: str, marks: str, environment: dict[str, str]) -> tuple[Path, Path]:
    """pytest over the suite; (its JSON, its JUnit XML), fresh."""
    record, junit = out / f"{name}.raw.json", out / f"{name}.junit.xml"
    for path in (record, junit):
        path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "benchmarks", "-o", "python_files=bench_*.py", "-m", marks]
    command += ["-p", "no:cacheprovider", "-q", "--tb=short", "--benchmark-columns=min,median,iqr,rounds"]
    command += [f"--benchmark-json={record}", f"--junitxml={junit}"]
    done = subprocess.run(command, cwd=_ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode not in (0, 1):  # 1: tests failed, which the JUnit file tells
        raise RuntimeError(f"pytest: expected to run the suite, got exit status {done.returncode}")
    return record, junit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--all", action="store_true", help="the slow cases too")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to test the suite itself")
    parser.add_argument("--out", type=Path, default=_ROOT / "build" / "bench", help="folder of the results")
    chosen = parser.parse_args()
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    marks = "" if chosen.all else "not slow"
    shrink = {"MSMA_BENCH_QUICK": "1"} if chosen.quick else {}
    kernels = {} if chosen.quick else openblas.fastest()
    runs = [_run(out, "suite", marks, {**shrink, **kernels})]
    for level in capped.below():
        only = "capped" if chosen.all else "capped and not slow"
        runs.append(_run(out, level, only, {**shrink, **capped.ENVIRONMENT[level]}))
    found = results.distil(runs, quick=chosen.quick)
    results.write(found, out / "results.json")
    (out / "index.html").write_text(page(found), encoding="utf-8")
    show(found, Console(width=max(140, Console().width)))
    print(f"{out / 'results.json'}\n{out / 'index.html'}")
    return int(bool(found["red"]))


if __name__ == "__main__":
    raise SystemExit(main())
