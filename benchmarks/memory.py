"""Peak memory of one call: python -m benchmarks.memory <op> <case> <contender> prints MiB above the loaded data.

Each runs in a fresh process, after a first call on a few rows has started the threads and loaded the libraries. The peak is
the kernel's VmHWM, reset before the call: ru_maxrss would still hold the peak of loading the data, and a child inherits
its parent's across exec.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Contender

_ROOT = Path(__file__).resolve().parents[1]
_FEW = 256


def measured(case: Case, contender: Contender) -> float | None:
    """MiB, or None where the system does not tell (/proc is Linux's)."""
    command = [sys.executable, "-m", "benchmarks.memory", case.op, case.name, contender.name]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: expected a number, got {done.stderr[-500:]}")
    printed = done.stdout.split()[-1]
    return None if printed == "unknown" else float(printed)


def peak(run: Any, inputs: tuple[Any, ...]) -> float | None:
    """MiB that run(*inputs) needs at its peak above what is resident before it."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    run(*(part[:_FEW] if isinstance(part, np.ndarray) else part for part in inputs))
    reset.write_text("5")
    before = _kib(status, "VmRSS")
    result = run(*inputs)
    after = _kib(status, "VmHWM")
    del result
    return max(0, after - before) / 1024


def _kib(status: Path, field: str) -> int:
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0])


def main(op: str, case_name: str, contender_name: str) -> None:
    from benchmarks.peers import same_threads

    cases = importlib.import_module(f"benchmarks.bench_{op}").CASES
    (case,) = [case for case in cases if case.name == case_name]
    (contender,) = [contender for contender in case.contenders if contender.name == contender_name]
    same_threads()
    value = peak(contender.run, case.inputs())
    print("unknown" if value is None else value)


if __name__ == "__main__":
    main(*sys.argv[1:])
