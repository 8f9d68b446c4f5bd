"""python -m benchmarks.readme_table [RESULTS]: the README's tables in Markdown. Of knn "time | wrong neighbours" for each; of
information our time (and peak memory, where it was measured) and each peer's time and how many times ours it is; of the Fisher
metrics the same, and how far off either is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.case import OURS
from benchmarks.compare import RESULTS
from benchmarks.results import fault_text, memory_text, read, seconds_text, title

WHO = ("faiss", "torch", "scikit-learn", OURS)
INFORMATION = ("ksg_mi", "ksg_mi_matrix", "mi_permutation_test")
ESTIMATORS = ("npeet-plus", "ennemi", "scikit-learn", "plain torch")


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


def information_table(results: dict[str, Any]) -> str:
    """A row for each case of INFORMATION. A name that goes on behind a comma is the peer's, and says what was scaled."""
    head = ["case", OURS, *ESTIMATORS]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for case in (case for op in INFORMATION for case in results["cases"] if case["op"] == op):
        ours, *peers = case["contenders"]
        peak = memory_text(ours)
        mine = seconds_text(ours["median"]) + (f", {peak} MiB" if peak else "")
        cells = ("; ".join(_times(peer) for peer in peers if peer["name"].split(",")[0] == who) for who in ESTIMATORS)
        rows.append([f"`{case['op']}`, {title(case)}", mine, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def fisher_table(results: dict[str, Any]) -> str:
    """A row for each case and peer: time and memory, the peer's, how many times ours, and the largest error of the peer."""
    head = ["case", OURS, "plain torch", "ratio", "its error"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for case in (case for case in results["cases"] if case["op"] == "fisher"):
        ours, *peers = case["contenders"]
        name, _, rest = title(case).partition(", ")
        for number, peer in enumerate(peers):
            ratio, error = f"{peer['ratio']['median']:.3g}x", fault_text(peer.get("fault"))
            mine = (
                (f"`{name}`, {rest}", _weighed(ours)) if number == 0 else (f"the same, beside the {peer['name']}", "")
            )
            part = peer["name"].partition(", ")[2]
            scaled = f" ({part}, scaled)" if part.endswith("positions") else ""
            rows.append([*mine, _weighed(peer) + scaled, ratio, error])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _weighed(entry: dict[str, Any]) -> str:
    peak = memory_text(entry)
    return seconds_text(entry["median"]) + (f", {peak} MiB" if peak else "")


def _times(entry: dict[str, Any]) -> str:
    """ "66.4 ms (7.61x)", with what the time stands for."""
    if entry["status"] != "ok":
        return str(entry["status"])
    scaled = entry["name"].partition(", ")[2]
    ratio = entry["ratio"]["median"]
    times = f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"
    return f"{seconds_text(entry['median'])} ({times}{'; ' if scaled else ''}{scaled})"


if __name__ == "__main__":
    found = read(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
    print(information_table(found), fisher_table(found), table(found), sep="\n", end="")
