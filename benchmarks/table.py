"""The results on screen: a table for each op."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import fault_text, memory_text, ratio_text, seconds_text, share_text, title


def show(results: dict[str, Any], console: Console) -> None:
    """Ratios are t_peer / t_ours, the median over rounds and its interval: above 1 where we are faster."""
    for op in dict.fromkeys(case["op"] for case in results["cases"]):
        measure = _measure(results, op)
        table = Table(title=op, title_justify="left", title_style="bold")
        for name in ("case", "who"):
            table.add_column(name)
        for name in ("median time", "t / t ours", measure, "peak MiB", "GEMM eq."):
            table.add_column(name, justify="right")
        for case in (case for case in results["cases"] if case["op"] == op):
            _add(table, case)
        console.print(table)
    console.print(
        "t / t ours: median over rounds of the ratio within a round, and its interval; above 1 where we are faster. "
        "GEMM eq.: 2 n m d / time over the rate of torch's matrix products, timed in the same rounds."
    )
    for one in results["red"]:
        console.print(f"[bold red]no number[/] {one['case']}: {one['reason']}", highlight=False)
    if results["quick"]:
        console.print("[bold]quick run: tiny cases, the numbers mean nothing[/]")


def _measure(results: dict[str, Any], op: str) -> str:
    """What the op's faults count."""
    entries = (entry for case in results["cases"] if case["op"] == op for entry in case["contenders"])
    return next((entry["fault"]["measure"] for entry in entries if entry.get("fault")), "fault")


def _add(table: Table, case: dict[str, Any]) -> None:
    name = title(case)
    for entry in case["contenders"]:
        if entry["status"] != "ok":
            table.add_row(name, entry["name"], f"[dim]{entry['status']}: {entry['reason']}[/]")
        else:
            ours = "ratio" not in entry
            table.add_row(
                name,
                f"[bold]{entry['name']}[/]" if ours else entry["name"],
                seconds_text(entry["median"]),
                ratio_text(entry),
                fault_text(entry.get("fault")),
                memory_text(entry),
                share_text(case) if ours else "",
            )
        name = ""
    table.add_section()
