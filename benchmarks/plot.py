"""Ratio bars of one op: a group for each case, a bar for each peer, on a logarithmic axis with the line at 1."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.results import digits, fault_text, title
from msma_fast.report.canvas import Canvas

_WIDTH, _LEFT, _RIGHT = 900.0, 170.0, 700.0
_BAR, _STEP, _GROUP, _TOP = 14.0, 24.0, 40.0, 12.0
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def ratio_plot(op: str, cases: list[dict[str, Any]]) -> str:
    """The themed SVG."""
    groups = [(case, [entry for entry in case["contenders"] if "ratio" in entry]) for case in cases]
    ends = [entry["ratio"][end] for _, entries in groups for entry in entries for end in ("low", "high")]
    low, high = min([*ends, 0.8]) / 1.15, max([*ends, 1.25]) * 1.15
    bars = sum(len(entries) for _, entries in groups)
    bottom = _TOP + len(groups) * _GROUP + bars * _STEP
    canvas = Canvas(_WIDTH, bottom + 34, name=f"ratios-{op}", title=f"{op}: time of the others over ours, by case")

    def place(ratio: float) -> float:
        share = (math.log(ratio) - math.log(low)) / (math.log(high) - math.log(low))
        return _LEFT + share * (_RIGHT - _LEFT)

    _axis(canvas, place, low, high, bottom)
    y = _TOP
    for case, entries in groups:
        canvas.text(0, y + 22, title(case), size=13, color="ink", weight=600)
        y += _GROUP - 6
        for entry in entries:
            _bar(canvas, place, entry, y)
            y += _STEP
        y += 6
    canvas.path(f"M{place(1):.2f} {_TOP}V{bottom}", stroke="ink", width=1.2)
    return canvas.svg()


def _axis(canvas: Canvas, place: Any, low: float, high: float, bottom: float) -> None:
    shown = [tick for tick in _TICKS if low <= tick <= high]
    for tick in shown:
        canvas.path(f"M{place(tick):.2f} {_TOP}V{bottom}", stroke="line")
        canvas.text(place(tick), bottom + 16, f"{tick:g}", anchor="middle", size=11)
    canvas.text(_RIGHT + 14, bottom + 16, "t / t ours", size=11)
    canvas.text(_WIDTH, _TOP + 2, "wrong", anchor="end", size=11)


def _bar(canvas: Canvas, place: Any, entry: dict[str, Any], y: float) -> None:
    """The bar from 1 to the ratio, its interval, the ratio, and how wrong the peer is."""
    ratio = entry["ratio"]
    start, end = sorted((place(1.0), place(ratio["median"])))
    faster = ratio["median"] >= 1
    canvas.text(_LEFT - 12, y + 11, entry["name"], anchor="end", size=12)
    canvas.rect(start, y, max(1.0, end - start), _BAR, "accent" if faster else "alert", ' rx="2" opacity="0.85"')
    middle = y + _BAR / 2
    a, b = place(ratio["low"]), place(ratio["high"])
    canvas.path(f"M{a:.2f} {middle}H{b:.2f}M{a:.2f} {middle - 4}v8M{b:.2f} {middle - 4}v8", stroke="ink", width=1.2)
    beyond = max(b, end, place(1.0)) + 8
    canvas.text(beyond, y + 11, digits(ratio["median"]), size=12, color="ink", weight=600)
    if entry.get("fault"):
        canvas.text(_WIDTH, y + 11, fault_text(entry["fault"]), anchor="end", size=11)
