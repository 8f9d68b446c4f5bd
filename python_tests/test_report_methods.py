"""The methods paragraph: every number a reader needs to repeat the run, and the sources of what was used."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_data import make_results

from msma_fast.report import methods_text, write_report
from msma_fast.report.templates import read


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results(n_layers=5, n_rows=96, n_tokens=6)


def test_the_text_has_every_number(results: dict[str, Any]) -> None:
    results["seed"] = 4711
    results["data"] |= {
        "n_texts": 251,
        "n_texts_skipped": 13,
        "tokens_per_text": 33,
        "n_tokens": 8283,
        "max_length": 257,
    }
    results["model"] |= {"d": 577, "n_layers": 29, "vocabulary": 49153, "parameters": 134515009}
    results["overlap"]["k"] = 17
    results["explorer"]["k"] = 9
    results["dimension"]["scales"] = [8283, 4141, 2070, 1035, 517, 258]
    results["information"] |= {
        "k": 4,
        "n": 1999,
        "dimensions": 18,
        "ceiling": 6.54,
        "n_nulls": 2,
    }
    results["information"]["knowledge"]["token_id"]["most"] = 5.43
    results["fisher"] |= {"n": 63, "n_searched": 249, "k": 7}
    results["fisher"]["path"]["median"] = 11.75
    results["information"]["unreliable"] = [[{i, j} == {2, 3} for j in range(5)] for i in range(5)]
    text = methods_text(results)
    for wanted in (
        "Seed 4711", "251 texts", "13 more were skipped", "33 tokens of each text", "N = 8,283", "at most 257 tokens",
        "d = 577", "29 blocks", "49,153", "134,515,009", "k = 17", "k = 9", "6 tokens",
        "8,283, 4,141, 2,070, 1,035, 517, 258 points", "k = 4, N = 1,999", "18 dimensions", "6.54 nats",
        "mean of two permutations", "5.43 nats",
        "N = 63 tokens", "k = 7 among 249 tokens", "their sum is 11.8", "At block 4 this is how", "31 % at block 2",
        "\n", " 1 pairs of layers",
        results["model"]["name"], results["model"]["quantisation"], results["model"]["revision"],
        results["model"]["dtype"], results["data"]["name"], results["data"]["sampling"],
        results["spaces"]["geometry"], results["spaces"]["neighbours"],
        results["spaces"]["information"], results["command"], "2025-11-22",
        "msma_fast 0.1.0", "torch 2.13.0", "transformers 5.23.0", "python 3.11.2",
        results["hardware"]["cpu"], results["hardware"]["backend"], "2 threads",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "None" not in text


def _keys(text: str) -> set[str]:
    return set(re.findall(r"@\w+\{(\w+),", text))


def test_only_what_was_used_is_cited(results: dict[str, Any]) -> None:
    everything = {
        "zhang2025msma", "kornblith2019similarity", "facco2017estimating", "levina2004maximum", "mackay2005comments",
        "kraskov2004estimating", "ross2014mutual", "sun2024massive",
        "amari2000methods", "rao1945information", "roy2007effective", "nostalgebraist2020interpreting",
    }  # fmt: skip
    assert _keys(methods_text(results)) == everything
    results["information"]["knowledge"] = {}
    results["dimension"]["mle"] = None
    results["health"]["massive_rows"] = [0] * 5
    text = methods_text(results)
    unused = {"ross2014mutual", "levina2004maximum", "mackay2005comments", "sun2024massive"}
    assert _keys(text) == everything - unused
    for name in ("Ross", "Levina", "MacKay", "Sun et al."):
        assert name not in text
    results["fisher"]["trace"] = {name: [None] * 5 for name in ("lower", "median", "upper")}
    assert _keys(methods_text(results)) == everything - unused - {"roy2007effective"}
    assert "effective rank" not in methods_text(results)
    results["cka"] = results["dimension"] = results["information"] = results["fisher"] = {"skipped": "not asked for"}
    assert _keys(methods_text(results)) == {"zhang2025msma"}


def test_bibtex_is_balanced_and_complete(results: dict[str, Any]) -> None:
    text = methods_text(results)
    entries = text[text.index("References") :].split("\n\n")[1:]
    assert len(entries) == 12
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        for field in ("title", "author", "year"):
            assert re.search(rf"^  {field} +?= \{{|^  {field}\s*= \{{", entry, re.MULTILINE), (field, entry)


def test_the_file_and_the_page_say_the_same(results: dict[str, Any], tmp_path: Path) -> None:
    html = write_report(results, tmp_path).read_text(encoding="utf-8")
    text = (tmp_path / "methods.txt").read_text(encoding="utf-8")
    assert text == methods_text(results)
    plain = html.replace("\u00a0", " ").replace("<b>", "").replace("</b>", "")
    for paragraph in text[: text.index("References")].strip().split("\n\n"):
        assert paragraph in plain


def test_an_odd_result_is_refused(results: dict[str, Any]) -> None:
    del results["information"]["k"]
    with pytest.raises(ValueError, match=r"information\.k"):
        methods_text(results)


EXPLORER_CHECK = """
const raw = {
  tokens: [0],
  rows: [["a\\n b", " bank", "\\n c", 0], ["", " bank", "", 1], ["", "bank", "", 2], ["", "\\n", "", 3], ["", "  ", "", 4]],
  near: [[[1, 0, 2, 1.5]], [[2, 1, 3, 2]]],
};
const model = explorerModel(raw);
const same = (layer) => model.neighbors(layer, 0).map((one) => one.same);
const withIds = explorerModel({ ...raw, rows: raw.rows.map((row, i) => [...row, [7, 8, 7, 9, 9][i]]) });
console.log(JSON.stringify({
  same: [same(0), same(1)], shares: model.shares, farthest: model.farthest, begin: model.beginning(),
  parts: [0, 3, 4].map(model.parts), ids: withIds.neighbors(0, 0).map((one) => one.same),
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_the_explorer_counts_equal_tokens() -> None:
    import json

    script = read("explorer_model.js") + EXPLORER_CHECK
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert found["same"] == [[True, False], [False, False]]
    assert found["shares"] == [[0.5, 0]]
    assert found["farthest"] == [2]
    assert found["begin"] == [0, 0]
    assert found["ids"] == [False, True]
    assert found["parts"][0] == {"before": "a b ", "word": "bank", "after": " c", "text": 0}
    assert [part["word"] for part in found["parts"]] == ["bank", "\u21b5", "\u2423"]
