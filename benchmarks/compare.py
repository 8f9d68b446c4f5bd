"""python -m benchmarks.compare [RESULTS] [BASELINE]: which ratios became worse beyond noise. Exit status 1 where one did.

A ratio t_peer / t_ours regressed when its median dropped by more than a tenth AND its interval lies wholly below the old
one. Ratios are compared, not times: the peer, timed in the same rounds, cancels the speed and the load of the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.results import read, title

_DROP = 0.1
RESULTS = Path("build/bench/results.json")
BASELINE = Path("benchmarks/baseline.json")
Key = tuple[str, str, str]


class Change(NamedTuple):
    """One ratio, then and now."""

    key: Key  # op, case, peer
    old: dict[str, float]
    new: dict[str, float]

    @property
    def regressed(self) -> bool:
        return self.new["median"] < (1 - _DROP) * self.old["median"] and self.new["high"] < self.old["low"]

    @property
    def improved(self) -> bool:
        return self.new["median"] > (1 + _DROP) * self.old["median"] and self.new["low"] > self.old["high"]


def ratios(results: dict[str, Any]) -> dict[Key, dict[str, float]]:
    return {
        (case["op"], title(case), entry["name"]): entry["ratio"]
        for case in results["cases"]
        for entry in case["contenders"]
        if "ratio" in entry
    }


def compare(new: dict[str, Any], old: dict[str, Any]) -> tuple[list[Change], list[Key]]:
    """(the ratios that both have, those that only the old one has)."""
    now, then = ratios(new), ratios(old)
    return [Change(key, then[key], now[key]) for key in then if key in now], [key for key in then if key not in now]


def report(new: dict[str, Any], old: dict[str, Any], console: Console) -> bool:
    """Print the changes beyond noise; whether anything regressed, a red gate included."""
    changes, gone = compare(new, old)
    for field in ("cpu", "instruction_set", "threads"):
        was, now = (results["machine"].get(field) for results in (old, new))
        if was != now:
            console.print(f"[yellow]another machine[/]: {field} was {was}, is {now}", highlight=False)
    for change in changes:
        if change.regressed or change.improved:
            word = "[bold red]slower[/]" if change.regressed else "[green]faster[/]"
            (op, case, peer), was, now = change
            console.print(
                f"{word} {op}, {case}, against {peer}: {was['median']:.2f} [{was['low']:.2f} to {was['high']:.2f}] -> "
                f"{now['median']:.2f} [{now['low']:.2f} to {now['high']:.2f}]",
                highlight=False,
                markup=True,
            )
    for op, case, peer in gone:
        console.print(f"[dim]only in the baseline[/] {op}, {case}, against {peer}", highlight=False)
    for one in new["red"]:
        console.print(f"[bold red]no number[/] {one['case']}: {one['reason']}", highlight=False)
    regressed = sum(change.regressed for change in changes)
    console.print(f"{len(changes)} ratios compared, {regressed} regressed, {len(new['red'])} without a number")
    return bool(regressed or new["red"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("baseline", nargs="?", type=Path, default=BASELINE)
    chosen = parser.parse_args(arguments)
    console = Console(width=160)
    try:
        new, old = read(chosen.results), read(chosen.baseline)
    except (OSError, ValueError) as error:
        console.print(f"bench-compare: {error}", highlight=False)
        return 2
    return int(report(new, old, console))


if __name__ == "__main__":
    raise SystemExit(main())
