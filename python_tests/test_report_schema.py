"""What write_report accepts: every missing or odd field is named, and results.json comes back as it went in."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from report_data import make_results

from msma_fast.report import first_figure, validate, write_report
from msma_fast.report.schema import clean


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results(n_layers=4, n_rows=64, n_tokens=5)


REQUIRED = [
    ("created",),
    ("command",),
    ("seed",),
    ("versions",),
    ("hardware",),
    ("timings",),
    ("model", "quantisation"),
    ("model", "n_layers"),
    ("data", "n_tokens"),
    ("data", "sampling"),
    ("spaces", "geometry"),
    ("spaces", "neighbours"),
    ("layers",),
    ("health", "norm_p95"),
    ("health", "distinct_rows"),
    ("overlap", "k"),
    ("overlap", "matrix"),
    ("cka",),
    ("cka", "kernel"),
    ("dimension", "standard_error"),
    ("information", "null"),
    ("information", "n_nulls"),
    ("information", "knowledge"),
    ("information", "knowledge", "position", "most"),
    ("fisher",),
    ("fisher", "metric"),
    ("fisher", "trace", "median"),
    ("fisher", "path", "upper"),
    ("fisher", "steps"),
    ("fisher", "rows"),
    ("scales",),
    ("scales", "boundaries"),
    ("scales", "told"),
    ("scales", "spaces", "z-scores", "overlap"),
    ("scales", "untrained", "dimension"),
    ("explorer", "neighbors"),
    ("warnings",),
    ("summary",),
]


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_a_missing_field_is_named(results: dict[str, Any], path: tuple[str, ...]) -> None:
    section = results
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    with pytest.raises(ValueError, match=rf"results: {'.'.join(path)}: expected .* missing"):
        validate(results)


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(results: dict[str, Any]) -> None:
        section: Any = results
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = to

    return change


ODD = [
    (_set("schema", to="other/2"), "schema: expected 'msma_fast.analysis/1', got 'other/2'"),
    (_set("seed", to="zero"), "seed: expected a finite number"),
    (_set("seed", to=True), "seed: expected a finite number, got True"),
    (_set("model", "d", to="576"), "model.d: expected a number or null, got '576'"),
    (_set("data", "n_tokens", to=None), "data.n_tokens: expected a finite number, got None"),
    (_set("summary", to=["one", "two"]), "summary: expected 3 entries, got '2 entries'"),
    (_set("warnings", 0, "level", to="fatal"), r"warnings\[0\].level: expected 'warning' or 'note', got 'fatal'"),
    (_set("layers", to=[]), "layers: expected at least one layer"),
    (_set("layers", 2, "name", to=7), r"layers\[2\].name: expected text or null, got 7"),
    (_set("health", "norm_max", to=[1.0, 2.0]), "health.norm_max: expected 4 entries, got '2 entries'"),
    (_set("overlap", "matrix", 1, to=[1.0]), r"overlap.matrix\[1\]: expected 4 entries"),
    (_set("overlap", "matrix", 1, 2, to="x"), r"overlap.matrix\[1\]\[2\]: expected a number or null, got 'x'"),
    (_set("overlap", "matrix", 1, 2, to=True), r"overlap.matrix\[1\]\[2\]: expected a number or null, got True"),
    (_set("overlap", "matrix", to=np.eye(4)), "overlap.matrix: expected a list"),
    (_set("cka", to=[1]), "cka: expected a dict, {'skipped': reason} or null"),
    (_set("dimension", "scales", to=[]), "dimension.scales: expected at least one scale"),
    (_set("dimension", "scales", 0, to=None), r"dimension.scales\[0\]: expected a finite number, got None"),
    (_set("information", "unreliable", 1, 2, to=None), r"unreliable\[1\]\[2\]: expected true or false, got None"),
    (_set("information", "reasons", 1, 2, to=3), r"reasons\[1\]\[2\]: expected text or null, got 3"),
    (_set("information", "ceiling", to=math.inf), "information.ceiling: expected a finite number, got inf"),
    (_set("fisher", "n", to=None), "fisher.n: expected a finite number, got None"),
    (
        _set("fisher", "metric", 1, to="lens"),
        r"fisher.metric\[1\]: expected 'embedding', 'logit lens', 'Fisher' or null",
    ),
    (_set("fisher", "metric", to=[None] * 4), "fisher.metric: expected at least one layer"),
    (_set("fisher", "trace", "lower", to=[1.0]), "fisher.trace.lower: expected 4 entries"),
    (_set("fisher", "effective_rank", 2, to="x"), r"fisher.effective_rank\[2\]: expected a number or null, got 'x'"),
    (_set("fisher", "path", "median", to="x"), r"fisher.path.median\[0\]: expected a number or null, got 'x'"),
    (_set("fisher", "overlap", 0, "layer", to=4), r"fisher.overlap\[0\].layer: expected a layer from 0 to 3, got 4"),
    (_set("fisher", "shown", 1, "token", to=10**6), r"fisher.shown\[1\].token: expected a row that fisher.rows holds"),
    (_set("fisher", "shown", 1, "euclidean", 0, to=[1]), r"shown\[1\].euclidean: expected \[row, distance\]"),
    (_set("explorer", "tokens", 1, to=10**6), r"explorer.tokens\[1\]: expected a row that explorer.rows holds"),
    (_set("explorer", "tokens", to=[]), "explorer.tokens: expected at least one token"),
    (_set("explorer", "neighbors", 3, to=[]), r"explorer.neighbors\[3\]: expected 5 entries"),
    (_set("explorer", "neighbors", 3, 0, 0, to=[1]), r"neighbors\[3\]\[0\]: expected \[row, distance\]"),
]


@pytest.mark.parametrize(("change", "message"), ODD, ids=[message for _, message in ODD])
def test_an_odd_field_is_named(results: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str) -> None:
    change(results)
    with pytest.raises(ValueError, match="results: .*" + message):
        validate(results)


def test_a_full_result_is_valid(results: dict[str, Any]) -> None:
    validate(results)
    for name in ("cka", "dimension", "information", "fisher", "explorer"):
        for empty in (None, {"skipped": "no token ids"}):
            validate({**results, name: empty})


def test_nothing_is_written_when_a_field_is_odd(results: dict[str, Any], tmp_path: Any) -> None:
    results["summary"] = []
    with pytest.raises(ValueError, match="summary"):
        write_report(results, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_come_back_as_they_went_in(results: dict[str, Any], tmp_path: Any) -> None:
    before = copy.deepcopy(results)
    write_report(results, tmp_path)
    assert results == before
    back = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert back == clean(results)
    validate(back)
    assert back["overlap"]["matrix"][0][1] == pytest.approx(results["overlap"]["matrix"][0][1], rel=1e-5)


def test_what_is_not_finite_becomes_null(results: dict[str, Any], tmp_path: Any) -> None:
    results["information"]["mi"][1][2] = math.nan
    results["health"]["norm_max"][3] = math.inf
    results["health"]["norm_median"][3] = np.float32("nan")
    write_report(results, tmp_path)
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    back = json.loads(text)
    assert back["information"]["mi"][1][2] is None
    assert back["health"]["norm_max"][3] is None
    assert back["health"]["norm_median"][3] is None


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    cleaned = clean({1: [np.float32(0.1), np.int64(3), np.float64(2.0), True, None, (1, 2)]})
    assert cleaned == {"1": [0.1, 3, 2.0, True, None, [1, 2]]}
    assert [type(v) for v in cleaned["1"][:4]] == [float, int, float, bool]
    with pytest.raises(TypeError, match="got ndarray"):
        clean({"x": np.zeros(2)})


def test_the_first_figure_needs_only_layers_and_overlap(results: dict[str, Any], tmp_path: Any) -> None:
    early = {"layers": results["layers"], "overlap": results["overlap"]}
    path = first_figure(early, tmp_path / "deep" / "first.svg")
    assert path.read_text(encoding="utf-8").startswith("<?xml")
    del early["overlap"]
    with pytest.raises(ValueError, match="overlap"):
        first_figure(early, tmp_path / "second.svg")
