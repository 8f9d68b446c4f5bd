"""Small panels of lines or bars with real axes: one measure against layers or against neighbourhood scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from msma_fast.report.canvas import Canvas, short
from msma_fast.report.ticks import limits, linear_ticks, log_ticks, number, tick

WIDTH, HEIGHT = 420.0, 280.0
_LEFT, _TOP, _BOTTOM = 46.0, 34.0, 236.0
Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """values[i] belongs to x position i; None leaves a gap. `errors` draws a band of one standard error."""

    name: str
    values: Values
    color: str = "accent"
    errors: Values | None = None
    label: str | None = None
    dashed: bool = False
    notes: Sequence[str] | None = None


@dataclass(frozen=True)
class Zone:
    """A run of x positions, first to last, whose values are of one kind."""

    first: int
    last: int
    name: str


@dataclass(frozen=True)
class Panel:
    """`places` are x positions in [0, 1], `x_names` their names in the tooltip, `x_ticks` (place, text);
    `whole` keeps the marks of a count at whole numbers; `zones` are named above the plot, with walls between;
    `scaled_by` are the positions that set the axis, all where None: others are drawn where their values fit.
    """

    measure: str
    x_title: str
    places: Sequence[float]
    x_names: Sequence[str]
    x_ticks: Sequence[tuple[float, str]]
    series: Sequence[Series]
    log: bool = False
    bars: bool = False
    nearest: bool = False
    include: float | None = None
    right: float = 18.0
    whole: bool = False
    depth_legend: tuple[str, str] | None = None
    zones: Sequence[Zone] = ()
    scaled_by: Sequence[int] | None = None
    form: Callable[[float | None], str] = number
    tick_form: Callable[[float], str] = tick
    low_high: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "low_high", self._limits())

    def _limits(self) -> tuple[float, float]:
        chosen = range(len(self.places)) if self.scaled_by is None else self.scaled_by
        found = [v for s in self.series for v in (s.values[i] for i in chosen) if v is not None]
        for s in self.series:
            pairs = zip(s.values, s.errors or [], strict=False)
            found += [v + sign * e for v, e in pairs if v is not None and e is not None for sign in (-1, 1)]
        if self.log:
            found = [v for v in found if v > 0] or [1.0]
            return min(found) / 1.15, max(found) * 1.15
        return limits(found, include=self.include)


def draw_chart(canvas: Canvas, panel: Panel) -> dict[str, Any]:
    """Draws the panel and returns pixel positions and texts for the page's tooltip."""
    right = WIDTH - panel.right
    xs = [_LEFT + place * (right - _LEFT) for place in panel.places]
    _axes(canvas, panel, right)
    _zones(canvas, panel, xs)
    bar = 0.66 * (right - _LEFT) / max(1, len(xs))
    ys, beyond = [], _beyond(panel)
    for series in panel.series:
        heights = [None if i in beyond else _height(panel, v) for i, v in enumerate(series.values)]
        ys.append([None if y is None else round(y, 1) for y in heights])
        if panel.bars:
            base = _BOTTOM
            for x, y in zip(xs, heights, strict=True):
                if y is not None and base - y > 0.05:
                    canvas.rect(x - bar / 2, y, bar, base - y, series.color)
        else:
            _line(canvas, panel, series, xs, heights)
    if all(y is None for line in ys for y in line):
        canvas.text((_LEFT + right) / 2, (_TOP + _BOTTOM) / 2, "no estimate at any layer", anchor="middle")
    _labels(canvas, panel, ys, right)
    if panel.depth_legend:
        _depth_legend(canvas, panel.depth_legend, right)
    return {
        "kind": "chart", "nearest": panel.nearest, "top": _TOP, "bottom": _BOTTOM,
        "xs": [round(x, 1) for x in xs], "names": list(panel.x_names),
        "series": [
            {"name": s.name, "ys": y, "texts": _texts(panel, s)} for s,
            y in zip(panel.series, ys, strict=True)
        ],
    }  # fmt: skip


def _texts(panel: Panel, series: Series) -> list[str]:
    texts = [panel.form(v) for v in series.values]
    if series.errors:
        texts = [t if e is None else f"{t} ± {panel.form(e)}" for t, e in zip(texts, series.errors, strict=True)]
    return [f"{t} ({n})" for t, n in zip(texts, series.notes, strict=True)] if series.notes else texts


def _height(panel: Panel, value: float | None) -> float | None:
    if value is None or (panel.log and value <= 0):
        return None
    low, high = panel.low_high
    share = math.log(value / low) / math.log(high / low) if panel.log else (value - low) / (high - low)
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _axes(canvas: Canvas, panel: Panel, right: float) -> None:
    canvas.text(_LEFT, 16, panel.measure, color="ink")
    ticks = log_ticks(*panel.low_high) if panel.log else linear_ticks(*panel.low_high, about=4)
    for value in ticks:
        y = _height(panel, value)
        if y is not None and (not panel.whole or float(value).is_integer()):
            canvas.path(f"M{short(_LEFT)} {short(y)}H{short(right)}", stroke="line")
            canvas.text(_LEFT - 8, y + 4, panel.tick_form(value), anchor="end")
    for place, text in panel.x_ticks:
        canvas.text(_LEFT + place * (right - _LEFT), _BOTTOM + 18, text, anchor="middle")
    canvas.text((_LEFT + right) / 2, _BOTTOM + 38, panel.x_title, anchor="middle")


def _beyond(panel: Panel) -> set[int]:
    """Positions that did not set the axis and have a value outside it."""
    low, high = panel.low_high
    others = set() if panel.scaled_by is None else set(range(len(panel.places))) - set(panel.scaled_by)
    values = {i: [v for v in (s.values[i] for s in panel.series) if v is not None] for i in others}
    return {i for i in others if not all(low <= v <= high for v in values[i])}


def _zones(canvas: Canvas, panel: Panel, xs: list[float]) -> None:
    walls = [(xs[a.last] + xs[b.first]) / 2 for a, b in pairwise(panel.zones)]
    for x in walls:
        canvas.path(f"M{short(x)} {short(_TOP - 12)}V{short(_BOTTOM)}", stroke="line", extra=' stroke-dasharray="2 3"')
    for zone, start, end in zip(panel.zones, [_LEFT, *walls], [*walls, WIDTH], strict=False):
        # In the middle of its zone; the last one begins at its wall, for its layers may end there.
        last = end == WIDTH
        x = start + 3 if last else (start + end) / 2
        canvas.text(x, _TOP - 4, zone.name, size=10.5, anchor="start" if last else "middle")


def _line(canvas: Canvas, panel: Panel, series: Series, xs: list[float], heights: list[float | None]) -> None:
    if series.errors:
        _band(canvas, panel, series, xs)
    d, pen_down = "", False
    for i, (x, y) in enumerate(zip(xs, heights, strict=True)):
        if y is not None:
            d += f"{'L' if pen_down else 'M'}{short(x)} {short(y)}"
            alone = not pen_down and (i + 1 == len(heights) or heights[i + 1] is None)
            if alone:
                canvas.add(f'<circle cx="{short(x)}" cy="{short(y)}" r="2.5" fill="{canvas.color(series.color)}"/>')
        pen_down = y is not None
    dash = ' stroke-dasharray="4 4"' if series.dashed else ""
    if d:
        canvas.path(
            d, stroke=series.color, width=1.3 if panel.nearest else 1.9,
            extra=f' class="series" stroke-linejoin="round" stroke-linecap="round"{dash}',
        )  # fmt: skip


def _band(canvas: Canvas, panel: Panel, series: Series, xs: list[float]) -> None:
    upper, lower = [], []
    for x, value, error in zip(xs, series.values, series.errors or [], strict=True):
        if value is not None and error is not None:
            upper.append(f"{short(x)} {short(_height(panel, value + error) or _TOP)}")
            lower.append(f"{short(x)} {short(_height(panel, value - error) or _BOTTOM)}")
    if len(upper) > 1:
        canvas.path("M" + "L".join(upper + lower[::-1]) + "z", fill=series.color, extra=' fill-opacity=".18"')


def _labels(canvas: Canvas, panel: Panel, ys: list[list[float | None]], right: float) -> None:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    ends = sorted(
        (next((y for y in reversed(line) if y is not None), _BOTTOM), s)
        for line, s in zip(ys, range(len(ys)), strict=True)
        if panel.series[s].label and any(y is not None for y in line)
    )
    last = -math.inf
    for y, s in ends:
        last = max(y, last + 14)
        canvas.text(right + 6, last + 4, panel.series[s].label or "", size=11.5, color=panel.series[s].color)


def _depth_legend(canvas: Canvas, names: tuple[str, str], right: float) -> None:
    width, steps = 56.0, 24
    # Texts are measured by a typical advance of half an em and a bit; a little too much room does no harm.
    x0 = right - 6.2 * len(names[1]) - 8 - width
    for step in range(steps):
        canvas.rect(x0 + step * width / steps, 9, width / steps + 0.4, 6, depth_color(step / (steps - 1)))
    canvas.text(x0 - 7, 16, names[0], anchor="end", size=11)
    canvas.text(right, 16, names[1], anchor="end", size=11)


def depth_color(share: float) -> str:
    """The map's level for a depth in [0, 1]; the palest levels are left out, a line must be seen on paper."""
    return f"m{round(18 + 43 * share)}"
