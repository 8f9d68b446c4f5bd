"""The figures as files: well-formed SVG, in true and even colours, with hatching where it belongs and nowhere else."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report_data import make_results

from msma_fast.report import first_figure, write_report
from msma_fast.report.canvas import Canvas
from msma_fast.report.chart import Panel, Series, Zone, draw_chart
from msma_fast.report.color import LEVELS, linear_from_oklab, oklab_from_oklch, ramp
from msma_fast.report.heatmap import draw_heatmap
from msma_fast.report.theme import palette
from msma_fast.report.ticks import layer_ticks, limits, linear_ticks, log_ticks, number, percent, tick

SVG = "{http://www.w3.org/2000/svg}"
NAMES = {
    "norms", "top-coordinate", "massive-rows", "distinct-rows", "overlap", "cka", "dimension-scale",
    "dimension-layers", "excess", "mi", "null", "knows-token-id", "knows-next-token", "knows-position",
    "turnover", "turnover-spaces", "excess-dimensions", "untrained-cka", "untrained-dimension", "untrained-token-id",
    "untrained-next-token", "untrained-position", "fisher-trace", "fisher-rank", "fisher-steps",
}  # fmt: skip


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results(n_layers=7, n_rows=64, n_tokens=3)


def test_every_figure_is_a_standalone_file(results: dict[str, Any], tmp_path: Path) -> None:
    write_report(results, tmp_path)
    files = {path.stem: path for path in (tmp_path / "figures").glob("*.svg")}
    assert set(files) == NAMES
    for path in files.values():
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg"
        assert float(root.get("width", "0")) > 100
        assert root.find(f"{SVG}title") is not None
        text = path.read_text(encoding="utf-8")
        assert "var(" not in text
        assert 'class="plot"' not in text
        assert re.findall(r'(?:href|src)="', text) == []


def test_names_with_markup_do_not_break_the_xml(results: dict[str, Any], tmp_path: Path) -> None:
    results["layers"][0]["name"] = "<b>&\x01\ud800"
    results["cka"]["kernel"] = "<script>"
    write_report(results, tmp_path)
    for path in (tmp_path / "figures").glob("*.svg"):
        ElementTree.parse(path)


def test_hatching_is_exactly_where_the_estimate_is_unreliable(results: dict[str, Any], tmp_path: Path) -> None:
    flags = [[(3 * i + j) % 5 == 0 for j in range(7)] for i in range(7)]
    results["information"]["unreliable"] = flags
    write_report(results, tmp_path)
    wanted = {f"{i},{j}" for i in range(7) for j in range(7) if flags[i][j]}
    for name in ("mi", "null", "excess"):
        root = ElementTree.parse(tmp_path / "figures" / f"{name}.svg").getroot()
        hatched = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "hatched"]
        assert {e.get("data-cell") for e in hatched} == wanted
        assert len(hatched) == len(wanted)
        for element in hatched:
            row, column = map(int, element.get("data-cell", "").split(","))
            # Layer 0 is at the lower left, at (42, 340) on the canvas.
            assert float(element.get("x", "nan")) == pytest.approx(42 + 310 / 7 * column, abs=0.01)
            assert float(element.get("y", "nan")) == pytest.approx(340 - 310 / 7 * (row + 1), abs=0.01)
    for name in ("overlap", "cka"):
        assert "hatch" not in (tmp_path / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def test_each_value_gets_its_cell_and_its_color() -> None:
    canvas = Canvas(420, 388, name="t", title="t", standalone=True)
    matrix: list[list[float | None]] = [[0.0, 0.5, None], [1.0, 2.0, -3.0], [None, None, 0.25]]
    draw_heatmap(canvas, matrix, low=0.0, high=1.0, measure="m")
    root = ElementTree.fromstring(canvas.svg())
    cells = {}
    for path in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path.get("d", "")):
            cells[2 - int(y), int(x)] = path.get("fill")
    level = {i: palette()[f"m{i}"] for i in range(LEVELS)}
    assert cells == {
        (0, 0): level[0],
        (0, 1): level[round(0.5 * 63)],
        (1, 0): level[63],
        (1, 1): level[63],
        (1, 2): level[0],
        (2, 2): level[round(0.25 * 63)],
    }


def test_the_first_figure_is_the_overlap_map(results: dict[str, Any], tmp_path: Path) -> None:
    path = first_figure({"layers": results["layers"], "overlap": results["overlap"]}, tmp_path / "first.svg")
    root = ElementTree.parse(path).getroot()
    squares = sum(len(re.findall("h1v1", e.get("d", ""))) for e in root.iter(f"{SVG}path"))
    assert squares == 49
    assert "15 nearest neighbours" in "".join(root.itertext())


def _oklab(color: str) -> tuple[float, float, float]:
    """sRGB hex to OKLab by the published matrices, written apart from the code under test."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    medium = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def test_the_color_map_is_perceptually_uniform() -> None:
    colors = [_oklab(color) for color in ramp()]
    assert len(colors) == LEVELS
    steps = [math.dist(a, b) for a, b in pairwise(colors)]
    # Rounding to 8 bits moves a color by up to about 0.003; the steps are 0.0135.
    assert max(steps) / min(steps) < 1.5
    smooth = [math.dist(a, b) for a, b in zip(colors, colors[7:], strict=False)]
    assert max(smooth) / min(smooth) < 1.2
    assert all(a[0] > b[0] for a, b in pairwise(colors))
    assert colors[0][0] - colors[-1][0] > 0.7


def test_large_values_stand_out_from_the_paper_in_both_themes() -> None:
    for dark in (False, True):
        colors = palette(dark)
        paper = _oklab(colors["paper"])
        assert math.dist(paper, _oklab(colors["m63"])) > 0.7
        assert math.dist(paper, _oklab(colors["m0"])) < 0.15


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(dark: bool) -> None:
    """WCAG contrast of at least 4.5 for text and 3 for the palest line of a chart."""
    colors = palette(dark)

    def light(name: str) -> float:
        r, g, b = (max(0.0, c) for c in linear_from_oklab(_oklab(colors[name])))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def contrast(a: str, b: str) -> float:
        high, low = sorted((light(a), light(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "soft", "accent", "other", "alert"):
        for ground in ("paper", "card"):
            assert contrast(name, ground) >= 4.5, (name, ground)
    assert contrast("same-ink", "same") >= 4.5
    assert contrast("m34", "paper") >= 3


def test_oklch_is_oklab_in_polar_form() -> None:
    assert oklab_from_oklch((0.5, 0.2, 90.0)) == pytest.approx((0.5, 0.0, 0.2))


def test_round_numbers() -> None:
    assert linear_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(-3, 7) == [-2, 0, 2, 4, 6]
    assert linear_ticks(2, 2) == [2]
    assert log_ticks(2.7, 1600) == [3, 10, 30, 100, 300, 1000]
    assert log_ticks(1e-14, 10.0) == pytest.approx([1e-14, 1e-11, 1e-8, 1e-5, 1e-2, 10.0], rel=1e-9)
    assert layer_ticks(31) == [0, 5, 10, 15, 20, 25, 30]
    assert layer_ticks(5) == [0, 1, 2, 3, 4]
    assert limits([0.37, 0.98, None], include=1.0) == (0.2, 1.0)
    assert limits([2.0, 2.0]) == (1.4, 2.6)
    assert limits([None], include=0) == (0.0, 1.0)
    assert [number(v) for v in (None, 0, 8000, 0.012345, -3.2, 1234.5)] == [
        "not available", "0", "8,000", "0.0123", "−3.20", "1,234",
    ]  # fmt: skip
    assert [tick(v) for v in (0.0, 0.5, 8000.0, -0.25)] == ["0", "0.5", "8,000", "−0.25"]
    assert [tick(v) for v in (1e-14, 2e-5, -1e-10, 1e-4)] == ["1e−14", "2e−5", "−1e−10", "0.0001"]
    assert [percent(v) for v in (None, 0.0, 0.021, 0.43)] == ["not available", "0 %", "2.1 %", "43 %"]


def test_zones_are_divided_between_their_layers() -> None:
    panel = Panel(
        measure="m", x_title="layer", places=[0.0, 0.25, 0.5, 0.75, 1.0], x_names=list("abcde"), x_ticks=[],
        series=[Series("s", [1.0, 2.0, 3.0, 4.0, 5.0])], zones=[Zone(0, 0, "A"), Zone(1, 3, "B"), Zone(4, 4, "C")],
    )  # fmt: skip
    canvas = Canvas(420, 280, name="t", title="t", standalone=True)
    draw_chart(canvas, panel)
    root = ElementTree.fromstring(canvas.svg())
    # The plot runs from 46 to 402: walls half a step of 89 inside the outer layers.
    walls = [e.get("d") for e in root.iter(f"{SVG}path") if e.get("stroke-dasharray") == "2 3"]
    assert walls == ["M90.5 22V236", "M357.5 22V236"]
    names = {e.text: float(e.get("x", "nan")) for e in root.iter(f"{SVG}text") if e.text in ("A", "B", "C")}
    assert names == {"A": 68.25, "B": 224.0, "C": 360.5}
