"""What a run of the benchmarks leaves: results, their page and table, and the comparison of two."""

from __future__ import annotations

import copy
import importlib
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import compare, readme_table, results
from benchmarks.case import OURS
from benchmarks.page import page
from benchmarks.table import show
from msma_fast.bench import interval


@pytest.fixture
def small() -> dict[str, Any]:
    """What a run leaves, with one peer twice as slow, one missing, and a red case."""
    times = [1.0, 1.1, 0.9, 1.0, 1.05]
    ratio = interval([2.0, 2.1, 1.9, 2.0, 2.05])._asdict()
    fault = {"measure": "wrong neighbours", "value": 3.0, "of": 600, "note": "1 not among the 5 nearest"}
    contenders = [
        {"name": OURS, "status": "ok", "seconds": times, "median": 1.0, "fault": {**fault, "value": 0.0, "note": ""}},
        {
            "name": "faiss",
            "status": "ok",
            "seconds": times,
            "median": 2.0,
            "fault": fault,
            "ratio": ratio,
            "peak_mib": 7.0,
        },
        {"name": "torch", "status": "missing", "reason": "torch is <not> installed"},
    ]
    equivalents = {
        "float32": {"gflops": 200.0, "equivalents": interval([0.5])._asdict()},
        "int8": {"gflops": 800.0, "equivalents": interval([0.125])._asdict()},
    }
    case = {"op": "knn", "case": "8 x 2, planted", "slow": False, "cap": None, "rounds": 5, "threads": 2}
    machine = {
        "cpu": "A processor", "threads": 2, "instruction_set": "avx2", "gemm_gflops": {"float32": 200.0},
        "versions": {"numpy": "2"}, "variables": {}, "commit": "0123456789abcdef", "dirty": True,
    }  # fmt: skip
    return {
        "schema": results.SCHEMA, "created": "2030-01-01T00:00:00", "quick": False, "machine": machine,
        "cases": [{**case, "contenders": contenders, "gemm": equivalents}],
        "red": [{"case": "test_knn[other]", "reason": "the answer is wrong"}],
    }  # fmt: skip


def changed(small: dict[str, Any], factor: float) -> dict[str, Any]:
    new = copy.deepcopy(small)
    new["red"] = []
    ratio = new["cases"][0]["contenders"][1]["ratio"]
    new["cases"][0]["contenders"][1]["ratio"] = ratio | {end: factor * ratio[end] for end in ("median", "low", "high")}
    return new


@pytest.mark.parametrize(
    ("factor", "regressed"),
    [(0.5, True), (0.85, True), (0.96, False), (1.0, False), (2.0, False)],
)
def test_a_regression_is_flagged_and_noise_is_not(small: dict[str, Any], factor: float, regressed: bool) -> None:
    screen = io.StringIO()
    assert compare.report(changed(small, factor), small, Console(file=screen, width=200)) == regressed
    assert ("slower knn" in screen.getvalue()) == regressed
    assert ("faster knn" in screen.getvalue()) == (factor == 2.0)


def test_a_drop_within_the_intervals_is_noise(small: dict[str, Any]) -> None:
    new = changed(small, 0.8)
    new["cases"][0]["contenders"][1]["ratio"]["high"] = 1.95
    assert not compare.report(new, small, Console(file=io.StringIO()))


def test_the_comparison_exits_as_it_says(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, worse, same = (tmp_path / name for name in ("old.json", "worse.json", "same.json"))
    for path, content in ((old, small), (worse, changed(small, 0.5)), (same, changed(small, 1.0))):
        results.write(content, path)
    assert compare.main([str(same), str(old)]) == 0
    assert compare.main([str(worse), str(old)]) == 1
    assert compare.main([str(same), str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().out


def test_the_page_says_everything_and_loads_nothing(small: dict[str, Any]) -> None:
    html = page(small)
    for said in (
        "8 x 2, planted",
        "faiss",
        "2.00 [1.90, 2.10]",
        "3 of 600",
        "0.50 float32, 0.12 int8",
        "the answer is wrong",
    ):
        assert said in html
    assert "torch is &lt;not&gt; installed" in html
    assert html.count("<svg") == 1
    for loaded in ("<script", "<link", "src=", "@import", "url("):
        assert loaded not in html


def test_the_table_and_the_readme_table(small: dict[str, Any]) -> None:
    screen = io.StringIO()
    show(small, Console(file=screen, width=200))
    for said in ("wrong neighbours", "2.00 [1.90, 2.10]", "missing: torch is <not> installed", "no number"):
        assert said in screen.getvalue()
    lines = readme_table.table(small).splitlines()
    assert lines[2] == "| 8 x 2, planted | 2 s | 3 of 600 | missing |  |  |  | 1 s | 0 of 600 |"
    assert lines[-1].endswith("commit 0123456789ab with changes, 2030-01-01")


def test_the_readme_table_of_information(small: dict[str, Any]) -> None:
    ours, faiss, _ = small["cases"][0]["contenders"]
    peers = [
        {**faiss, "name": "scikit-learn, 3 columns scaled", "median": 20.0},
        {**faiss, "name": "scikit-learn, each pair once", "ratio": {"median": 1234.4}},
        {"name": "ennemi", "status": "failed", "reason": "too large"},
    ]
    for op in ("mi_permutation_test", "ksg_mi_matrix", "ross_mi"):
        contenders = [ours | {"peak_mib": 34.4} if op == "mi_permutation_test" else ours, *peers]
        small["cases"].append({**small["cases"][0], "op": op, "case": "planted", "contenders": contenders})
    rows = readme_table.information_table(small).splitlines()[2:]
    scaled = "20 s (2x; 3 columns scaled); 2 s (1,234x; each pair once)"
    assert rows == [
        f"| `ksg_mi_matrix`, planted | 1 s |  | failed | {scaled} |  |",
        f"| `mi_permutation_test`, planted | 1 s, 34 MiB |  | failed | {scaled} |  |",
    ]


def test_every_peer_of_information_has_a_column() -> None:
    known = {OURS, *readme_table.ESTIMATORS}
    for op in readme_table.INFORMATION:
        for case in importlib.import_module(f"benchmarks.bench_{op}").CASES:
            assert {one.name.split(",")[0] for one in case.contenders} <= known


def test_other_files_are_not_results(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"expected schema 'msma_fast.bench/1', got 'list'"):
        results.read(tmp_path / "other.json")
