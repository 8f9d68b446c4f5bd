"""Fits the thresholds of the verdict on training tasks, and counts its mistakes on held-out ones that it has not seen.

    python -m benchmarks.calibrate_verdict              # prints the fit, writes the tables of docs/verdict.md (10 minutes)

A case is one sample of a task: n rows, a metric, a k. Its estimate is wrong when it is off by more than
diagnostics.tolerance(truth) and two standard errors. A miss is a wrong estimate with "no warning"; a false alarm is a right
one with a warning. The fit minimises MISS_COST * misses + false alarms over the training cases.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import msma_fast as mf
from benchmarks.information_tasks import Task, held_out_tasks, training_tasks
from msma_fast.diagnostics import CALIBRATED, ERRORS, Thresholds, reasons_against, tolerance
from msma_fast.results import Evidence

PAGE = Path(__file__).parents[1] / "docs" / "verdict.md"
MARK = "<!-- the rest is written by python -m benchmarks.calibrate_verdict -->\n"
SIZES = (500, 2000, 8000)
SEEDS = (1, 2)
KS = (3, 10)
MISS_COST = 2
INVISIBLE = ("wave", "parity")  # held-out families whose dependence no account is made to see
GRIDS = {
    "ceiling": np.arange(0.4, 0.96, 0.05).round(2),
    "extrapolation": np.arange(0.2, 3.01, 0.2).round(2),
    "linear": np.arange(0.2, 3.01, 0.2).round(2),
}


class Case(NamedTuple):
    """One estimate: the task, its number of rows, and the evidence."""

    task: Task
    n: int
    evidence: Evidence

    @property
    def wrong(self) -> bool:
        off = abs(self.evidence.mi - self.task.truth)
        return off > tolerance(self.task.truth) + ERRORS * (self.evidence.error + self.task.truth_error)

    def warned(self, thresholds: Thresholds) -> bool:
        return bool(reasons_against(self.evidence, thresholds))


class Counts(NamedTuple):
    """How often the verdict was what: of right estimates, and of wrong ones."""

    right_quiet: int
    false_alarms: int
    misses: int
    wrong_warned: int

    @property
    def cost(self) -> int:
        return MISS_COST * self.misses + self.false_alarms

    @property
    def false_quiet(self) -> float:
        """The share of wrong estimates among those with no warning."""
        quiet = self.right_quiet + self.misses
        return self.misses / quiet if quiet else float("nan")


def sampled(tasks: Iterable[Task], sizes: Iterable[int] = SIZES, seeds: Iterable[int] = SEEDS) -> list[Case]:
    """Every task at every size: chebyshev, and euclidean where that differs, for every k."""
    found = []
    for task, n, seed in itertools.product(tasks, sizes, seeds):
        x, y = task.sample(n, seed)
        for metric in ("chebyshev", "euclidean") if task.dx + task.dy > 2 else ("chebyshev",):
            result = mf.ksg_mi(x, y, KS, metric=metric, diagnostics=True)
            found += [Case(task, n, evidence) for evidence in result.evidence]
    return found


def counted(cases: Sequence[Case], thresholds: Thresholds = CALIBRATED) -> Counts:
    table = np.zeros((2, 2), dtype=int)
    for case in cases:
        table[int(case.wrong), int(case.warned(thresholds))] += 1
    return Counts(*(int(entry) for entry in table.ravel()))


def fitted(cases: Sequence[Case]) -> Thresholds:
    """One threshold after another, from the middle of its grid, until none moves."""
    best = Thresholds(**{name: float(grid[len(grid) // 2]) for name, grid in GRIDS.items()})
    while True:
        before = best
        for name, grid in GRIDS.items():
            tried = [best._replace(**{name: float(value)}) for value in grid]
            best = min(tried, key=lambda thresholds: counted(cases, thresholds).cost)
        if best == before:
            return best


def interval(cases: Sequence[Case], draws: int = 1000) -> tuple[float, float]:
    """95 % of `false_quiet` over bootstraps of the tasks: the cases of one task are not independent."""
    names = sorted({case.task.name for case in cases})
    by_task = np.array([counted([case for case in cases if case.task.name == name]) for name in names])
    rng = np.random.default_rng(0)
    rates = [Counts(*by_task[rng.integers(len(names), size=len(names))].sum(0)).false_quiet for _ in range(draws)]
    low, high = np.nanquantile(rates, [0.025, 0.975])
    return float(low), float(high)


HEAD = (
    "| {} | right, no warning | right, warned | wrong, warned | **wrong, no warning** | wrong among no warning |\n"
    "|---|---:|---:|---:|---:|---:|\n"
)


def row(name: str, cases: Sequence[Case]) -> str:
    counts = counted(cases)
    return (
        f"| {name} | {counts.right_quiet} | {counts.false_alarms} | {counts.wrong_warned} | **{counts.misses}** | "
        f"{counts.false_quiet:.1%} |\n"
    )


def report(training: Sequence[Case], held_out: Sequence[Case]) -> str:
    """The tables of docs/verdict.md."""
    visible = [case for case in held_out if case.task.family not in INVISIBLE]
    text = HEAD.format("tasks") + row("training", training) + row("held out", held_out)
    text += row(f"held out, without {' and '.join(INVISIBLE)}", visible)
    text += "\nThe share of wrong estimates among those with no warning, with its 95 % interval over tasks:\n"
    text += f"{_rate(held_out)} of all held-out ones, {_rate(visible)} without {' and '.join(INVISIBLE)}.\n"
    wrong = [case for case in (*training, *held_out) if case.wrong]
    high_ones = sum(case.evidence.mi > case.task.truth for case in wrong)
    text += f"Of all {len(wrong)} wrong estimates {high_ones} are too high.\n"
    groups = {
        "held out, by family": lambda case: case.task.family,
        "held out, by rows": lambda case: f"n = {case.n}",
        "held out, by dimensions": lambda case: _dimensions(case.task),
    }
    for title, key in groups.items():
        text += "\n" + HEAD.format(title)
        for name in dict.fromkeys(key(case) for case in sorted(held_out, key=lambda case: case.task.dx + case.task.dy)):
            text += row(name, [case for case in held_out if key(case) == name])
    missed: dict[str, list[Case]] = {}
    for case in held_out:
        if case.wrong and not case.warned(CALIBRATED):
            missed.setdefault(case.task.name, []).append(case)
    text += "\n| missed held-out task | times | truth | estimates |\n|---|---:|---:|---:|\n"
    for name, cases in sorted(missed.items(), key=lambda item: -len(item[1])):
        values = [case.evidence.mi for case in cases]
        text += f"| {name} | {len(cases)} | {cases[0].task.truth:.2f} | {min(values):.2f} to {max(values):.2f} |\n"
    return text


def _rate(cases: Sequence[Case]) -> str:
    low, high = interval(cases)
    return f"{counted(cases).false_quiet:.1%} ({low:.1%} to {high:.1%})"


def _dimensions(task: Task) -> str:
    total = task.dx + task.dy
    return "2" if total == 2 else "3 to 6" if total <= 6 else "7 to 12" if total <= 12 else "13 and more"


def main() -> None:
    training = sampled(training_tasks())
    best = fitted(training)
    print(f"fitted  {best}\nin use  {CALIBRATED}")
    if best != CALIBRATED:
        raise SystemExit(
            "msma_fast/diagnostics.py: expected CALIBRATED to be the fitted thresholds; set them, run again"
        )
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(MARK)] + MARK + "\n" + report(training, sampled(held_out_tasks())))


if __name__ == "__main__":
    main()
