"""Layer by layer heat maps, layer 0 at the lower left.

matrix (L, L) of float or None -> one unit square per cell, coloured by (value - low) / (high - low); None
is left blank, and the cells marked in `hatched` (L, L) carry a hatching that no colour can hide.
"""

from __future__ import annotations

from typing import Any

from msma_fast.report.canvas import Canvas, short
from msma_fast.report.color import LEVELS
from msma_fast.report.ticks import layer_ticks, linear_ticks, tick

WIDTH, HEIGHT = 420.0, 388.0
_LEFT, _TOP, _SIDE = 42.0, 30.0, 310.0
_BAR = _LEFT + _SIDE + 14

Matrix = list[list[float | None]]


def draw_heatmap(
    canvas: Canvas,
    matrix: Matrix,
    *,
    low: float,
    high: float,
    measure: str,
    hatched: list[list[bool]] | None = None,
) -> dict[str, Any]:
    """Draws the map and returns what the page needs to find the cell under the pointer."""
    count = len(matrix)
    cell = _SIDE / count
    canvas.text(_LEFT, 16, measure, size=12, color="ink")
    canvas.add(
        f'<g transform="translate({short(_LEFT)} {short(_TOP)}) scale({cell:.5f})" shape-rendering="crispEdges">'
    )
    canvas.rect(0, 0, count, count, "void")
    for level, squares in sorted(_by_level(matrix, low, high).items()):
        canvas.path("".join(squares), fill=f"m{level}")
    canvas.add("</g>")
    if hatched is not None:
        _hatch(canvas, hatched, cell)
    _axes(canvas, count, cell)
    _color_bar(canvas, low, high)
    return {"kind": "heat", "left": _LEFT, "top": _TOP, "side": _SIDE, "count": count}


def _by_level(matrix: Matrix, low: float, high: float) -> dict[int, list[str]]:
    """Unit squares as path pieces, one list for each level of the colour map: far smaller than a rect for
    each cell.
    """
    squares: dict[int, list[str]] = {}
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            if value is not None:
                share = min(1.0, max(0.0, (value - low) / (high - low)))
                piece = f"M{column} {len(matrix) - 1 - row}h1v1h-1z"
                squares.setdefault(round(share * (LEVELS - 1)), []).append(piece)
    return squares


def _hatch(canvas: Canvas, hatched: list[list[bool]], cell: float) -> None:
    name = f"hatch-{canvas.name}"
    # A dark and a light line side by side: one of the two shows on every level of the map, in both themes.
    canvas.add(
        f'<defs><pattern id="{name}" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)">'
        f'<path d="M1 0V5" stroke="{canvas.color("ink")}" stroke-width="1" stroke-opacity=".5"/>'
        f'<path d="M2 0V5" stroke="{canvas.color("paper")}" stroke-width="1" '
        'stroke-opacity=".75"/></pattern></defs>'
    )
    for row, flags in enumerate(hatched):
        for column, flag in enumerate(flags):
            if flag:
                x, y = _LEFT + column * cell, _TOP + (len(hatched) - 1 - row) * cell
                canvas.add(
                    f'<rect class="hatched" data-cell="{row},{column}" x="{short(x)}" y="{short(y)}" '
                    f'width="{short(cell)}" height="{short(cell)}" fill="url(#{name})"/>'
                )


def _axes(canvas: Canvas, count: int, cell: float) -> None:
    bottom = _TOP + _SIDE
    for index in layer_ticks(count):
        middle = (index + 0.5) * cell
        canvas.text(_LEFT + middle, bottom + 17, str(index), anchor="middle")
        canvas.text(_LEFT - 7, bottom - middle + 4, str(index), anchor="end")
    canvas.text(_LEFT + _SIDE / 2, bottom + 38, "layer", anchor="middle")
    canvas.text(12, _TOP + _SIDE / 2, "layer", anchor="middle", turn=True)


def _color_bar(canvas: Canvas, low: float, high: float) -> None:
    step = _SIDE / LEVELS
    for level in range(LEVELS):
        y = _TOP + _SIDE - (level + 1) * step
        # A little overlap upwards hides the seams between the levels.
        canvas.rect(_BAR, y, 10, step + (0.6 if level else 0), f"m{level}")
    for value in linear_ticks(low, high):
        y = _TOP + _SIDE * (1 - (value - low) / (high - low))
        canvas.text(_BAR + 15, min(max(y + 4, _TOP + 9), _TOP + _SIDE), tick(value), size=11.5)
