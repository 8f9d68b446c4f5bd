"""The panels of lines and bars: health of the layers, intrinsic dimension, token identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msma_fast.report.canvas import Canvas
from msma_fast.report.chart import HEIGHT, WIDTH, Panel, Series, Zone, depth_color, draw_chart
from msma_fast.report.figure import Figure
from msma_fast.report.ticks import layer_ticks, number, percent, tick

# Levels of the map that can be read as lines and as small text on both papers.
FINE, MIDDLE, PALE = "m60", "m47", "m34"
BAR = "m32"


def health_figures(results: dict[str, Any]) -> list[Figure]:
    """Norms, the share of the largest coordinate, massive rows and distinct rows, one panel each."""
    health = results["health"]
    n = number(results["data"]["n_tokens"])
    raw = f"N = {n} tokens, rows as the model made them, before any normalisation."
    norms = [
        Series("largest", health["norm_max"], PALE, label="max"),
        Series("95th percentile", health["norm_p95"], MIDDLE, label="95 %"),
        Series("median", health["norm_median"], FINE, label="median"),
    ]
    coordinates = [f"coordinate {number(c)}" for c in health["top_coordinate"]]
    share = Series("share", health["top_coordinate_share"], BAR, notes=coordinates)
    return [
        by_layer(
            results, "norms", "Norms", norms, measure="euclidean norm of a row (log scale)", log=True,
            right=54,
            read="The lines should run together; a largest norm far above the rest means a few tokens that "
            "would decide every raw distance.",
            caption=raw,
        ),
        by_layer(
            results, "top-coordinate", "The largest coordinate", [share], measure="share of the squared norm",
            bars=True, include=0, form=percent,
            read="How much of a typical row's squared length sits in its largest coordinate: high bars mean "
            "that one axis drowns the other ones.",
            caption=f"Median over rows; the tooltip names the coordinate. {raw}",
        ),
        by_layer(
            results, "massive-rows", "Massive rows", [Series("massive rows", health["massive_rows"], BAR)],
            measure="rows with more than 10 times the median norm", bars=True, include=0, whole=True,
            read="Tokens with massive activations, often the first of a text or a delimiter; zero is the "
            "healthy value.",
            caption=raw,
        ),
        by_layer(
            results, "distinct-rows", "Distinct rows",
            [Series("distinct rows", health["distinct_rows"], BAR)],
            measure="rows that differ from every other row", bars=True, include=0, whole=True,
            read=f"Full bars ({n}) mean no duplicates; at the embedding equal tokens are equal rows, and "
            "neighbours at distance zero are ordered by their index.",
            caption=raw,
        ),
    ]  # fmt: skip


def dimension_figures(results: dict[str, Any]) -> list[Figure]:
    """Dimension against neighbourhood scale, one line a layer, and over depth at the finest scale."""
    dimension, layers = results["dimension"], results["layers"]
    scales = dimension["scales"]
    method = {"twonn": "TwoNN", "mle": "Maximum likelihood"}.get(dimension["method"], dimension["method"])
    last = max(1, len(layers) - 1)
    lines = [
        Series(layer["name"], row, depth_color(i / last))
        for i, (layer, row) in enumerate(zip(layers, dimension["estimates"], strict=True))
    ]
    places = _log_places(scales)
    panel = Panel(
        measure="intrinsic dimension", x_title="points kept (fewer points, wider neighbourhoods)",
        places=places,
        x_names=[f"{number(s)} points" for s in scales],
        x_ticks=[(p, tick(s)) for p, s in zip(places, scales, strict=True)],
        series=lines, nearest=True, depth_legend=(layers[0]["name"], layers[-1]["name"]), include=0,
    )  # fmt: skip
    sizes = " / ".join(number(s) for s in scales)
    caption = f"{method} on N = {sizes} tokens. Space: {results['spaces']['geometry']}."
    rows = [[s.name, *(number(v) for v in s.values)] for s in lines]

    def draw(canvas: Canvas) -> dict[str, Any]:
        return draw_chart(canvas, panel)

    by_scale = Figure(
        "dimension-scale", "Dimension against neighbourhood scale",
        "A level line is a dimension; a line that moves with the scale means that the number depends on how "
        "far one looks, and should not be quoted without it.",
        caption, (WIDTH, HEIGHT), draw, ["", *(number(s) for s in scales)], rows,
    )  # fmt: skip
    finest = [row[0] for row in dimension["estimates"]]
    errors = [row[0] for row in dimension["standard_error"]]
    profile = [Series(method, finest, FINE, errors=errors, label=method)]
    if dimension.get("mle") is not None:
        profile.append(Series("local estimate", dimension["mle"], PALE, label="local", dashed=True))
    over_depth = by_layer(
        results, "dimension-layers", "Dimension by layer", profile, measure="intrinsic dimension", include=0,
        right=58,
        read="Where the line rises the layer spreads its tokens over more directions, where it falls it "
        "folds them together; the band is one standard error.",
        caption=f"{method} at the finest scale, N = {number(scales[0])} tokens. Space: "
        f"{results['spaces']['geometry']}.",
    )  # fmt: skip
    return [by_scale, over_depth]


def by_layer(
    results: dict[str, Any], name: str, title: str, series: list[Series], *, measure: str, read: str,
    caption: str, log: bool = False, bars: bool = False, include: float | None = None, right: float = 18,
    form: Any = number, whole: bool = False, zones: Sequence[Zone] = (), scaled_by: Sequence[int] | None = None,
) -> Figure:  # fmt: skip
    """One measure against the layers."""
    layers = results["layers"]
    count = len(layers)
    # Bars need half a step of room at both ends.
    places = [(i + 0.5) / count for i in range(count)] if bars else [i / max(1, count - 1) for i in range(count)]
    panel = Panel(
        measure=measure, x_title="layer", places=places, x_names=[layer["name"] for layer in layers],
        x_ticks=[(places[i], str(i)) for i in layer_ticks(count)], series=series, log=log, bars=bars,
        include=include, right=right, whole=whole, zones=zones, scaled_by=scaled_by, form=form,
        tick_form=percent if form is percent else tick,
    )  # fmt: skip

    def draw(canvas: Canvas) -> dict[str, Any]:
        return draw_chart(canvas, panel)

    rows = [[layer["name"], *(form(s.values[i]) for s in series)] for i, layer in enumerate(layers)]
    return Figure(name, title, read, caption, (WIDTH, HEIGHT), draw, ["", *(s.name for s in series)], rows)


def _log_places(scales: list[float]) -> list[float]:
    """Where the scales lie on a logarithmic axis that runs from the first to the last."""
    first, last = math.log(scales[0]), math.log(scales[-1])
    return [0.5 if first == last else (math.log(s) - first) / (last - first) for s in scales]
