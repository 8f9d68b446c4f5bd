"""results.json: what pytest-benchmark recorded, as one list of cases.

schema    "msma_fast.bench/1"
machine   processor, instruction set, threads, versions, commit, rates of matrix products (machine.py)
cases     [{op, case, slow, cap, rounds, threads, contenders, gemm}], in the order they ran; cap is None, or the instruction
          set that everybody was held to; contenders: ours first, each {name, status "ok" | "missing" | "failed", reason,
          seconds, median, ratio {median, low, high, coverage}, fault {measure, value, of, note}, peak_mib};
          gemm: {precision: {gflops, equivalents}} of torch's matrix products, float32 and the precision of ours
red       [{case, reason}]: cases without a number, because the gate or the case itself failed
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SCHEMA = "msma_fast.bench/1"


def distil(runs: Sequence[tuple[Path, Path]], *, quick: bool) -> dict[str, Any]:
    """One result from pytest's runs, each (pytest-benchmark's JSON, JUnit XML); the first run's machine is the machine."""
    cases: list[dict[str, Any]] = []
    red: list[dict[str, str]] = []
    machine: dict[str, Any] = {}
    created = ""
    for record, junit in runs:
        raw = json.loads(record.read_text(encoding="utf-8")) if record.exists() and record.stat().st_size else {}
        machine = machine or raw.get("machine_info", {}).get("msma_fast", {})
        created = created or raw.get("datetime", "")
        cases += [found for one in raw.get("benchmarks", []) if (found := one["extra_info"].get("record"))]
        red += _failures(junit)
    return {"schema": SCHEMA, "created": created, "quick": quick, "machine": machine, "cases": cases, "red": red}


def _failures(junit: Path) -> list[dict[str, str]]:
    found = []
    for case in ElementTree.parse(junit).iter("testcase"):
        for problem in [*case.iter("failure"), *case.iter("error")]:
            found.append(
                {"case": str(case.get("name")), "reason": str(problem.get("message")).removeprefix("Failed: ")}
            )
    return found


def read(path: Path) -> dict[str, Any]:
    """Raises FileNotFoundError, or ValueError for a file of another kind."""
    if not path.exists():
        raise FileNotFoundError(f"expected results at {path}, got no file; `make bench` writes them")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        got = found.get("schema") if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: expected schema {SCHEMA!r}, got {got!r}")
    return found


def title(case: dict[str, Any]) -> str:
    """The case's name, with the instruction set everybody was held to."""
    return case["case"] + (f", everybody held to {case['cap']}" if case["cap"] else "")


def seconds_text(seconds: float) -> str:
    """Three digits, in the unit that reads well."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def fault_text(fault: dict[str, Any] | None) -> str:
    """ "0 of 7,680" for a count, a magnitude otherwise."""
    if fault is None:
        return "not judged"
    if fault["of"] is not None:
        return f"{fault['value']:,.0f} of {fault['of']:,}"
    return f"{fault['value']:.1e}" if fault["value"] else "0"


def digits(ratio: float) -> str:
    """Two decimals, or two digits of a small one."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def ratio_text(entry: dict[str, Any]) -> str:
    ratio = entry.get("ratio")
    return f"{digits(ratio['median'])} [{digits(ratio['low'])}, {digits(ratio['high'])}]" if ratio else ""


def share_text(case: dict[str, Any]) -> str:
    """How many times the rate of torch's matrix products: float32, and the precision of our own."""
    shares = (f"{digits(share['equivalents']['median'])} {name}" for name, share in case.get("gemm", {}).items())
    return ", ".join(shares)


def memory_text(entry: dict[str, Any]) -> str:
    peak = entry.get("peak_mib")
    return "" if peak is None else f"{peak:,.0f}"


def write(results: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
