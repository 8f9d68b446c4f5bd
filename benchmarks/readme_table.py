"""python -m benchmarks.readme_table [RESULTS]: the README's table of knn in Markdown, "time | wrong neighbours" for each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.case import OURS
from benchmarks.compare import RESULTS
from benchmarks.results import fault_text, read, seconds_text, title

WHO = ("faiss", "torch", "scikit-learn", OURS)


def table(results: dict[str, Any], op: str = "knn") -> str:
    """A row for each case that anybody of WHO besides us took part in."""
    head = ["case", *(f"{name} {what}" for name in WHO for what in ("time", "wrong"))]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for case in results["cases"]:
        entries = {entry["name"]: entry for entry in case["contenders"]}
        if case["op"] == op and any(name in entries for name in WHO if name != OURS):
            rows.append([title(case), *(cell for name in WHO for cell in _cells(entries.get(name)))])
    machine = results["machine"]
    source = (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['instruction_set']}; medians of alternating rounds; "
        f"commit {machine['commit'][:12]}{' with changes' if machine['dirty'] else ''}, {results['created'][:10]}"
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{source}\n"


def _cells(entry: dict[str, Any] | None) -> tuple[str, str]:
    if entry is None:
        return "", ""
    if entry["status"] != "ok":
        return entry["status"], ""
    return seconds_text(entry["median"]), fault_text(entry.get("fault"))


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)), end="")
