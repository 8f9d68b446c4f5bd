"""The page as a browser and a reader meet it: well formed, complete, in order, safe, and dependent on nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_data import make_results

from msma_fast.report import write_report

VOID = {"meta", "input", "br", "link", "img", "hr"}
SECTIONS = ["summary", "data", "health", "maps", "dimension", "information", "fisher", "explorer-section", "methods"]


class Page(HTMLParser):
    """Collects ids, attributes and visible text, and fails on a tag that is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute: {names}"
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def write(results: dict[str, Any], folder: Path) -> tuple[str, Page]:
    html = write_report(results, folder).read_text(encoding="utf-8")
    return html, Page(html)


def page_data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results(n_layers=6, n_rows=96, n_tokens=7)


def test_every_section_is_there_in_order(results: dict[str, Any], tmp_path: Path) -> None:
    _, page = write(results, tmp_path)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    links = [value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert set(links) <= set(page.ids)
    text = " ".join(page.text)
    for sentence in results["summary"]:
        assert sentence in text
    for warning in results["warnings"]:
        assert warning["text"] in text


def test_every_figure_says_how_to_read_it_and_what_it_is_made_of(results: dict[str, Any], tmp_path: Path) -> None:
    html, _ = write(results, tmp_path)
    figures = re.findall(r"<figure .*?</figure>", html, re.DOTALL)
    assert len(figures) == 25
    for figure in figures:
        assert figure.count("How to read it.") == 1
        caption = figure[figure.index("<figcaption>") : figure.index("</figcaption>")]
        assert re.search("N\u00a0=\u00a0|tokens", caption)
        assert "<details" in figure
        assert "<table" in figure
        assert re.search(r'<svg [^>]*role="img" aria-label="[^"]+"', figure)


def test_the_page_loads_nothing(results: dict[str, Any], tmp_path: Path) -> None:
    html, page = write(results, tmp_path)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "data", "action", "poster", "srcset", "background"):
            assert (tag, value[:1]) == ("a", "#"), (tag, name, value)
    assert not {tag for tag, _, _ in page.attributes} & {"link", "img", "iframe", "object", "embed", "video", "audio"}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    script = page.scripts[-1]
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|import\()", script)
    assert "default-src 'none'" in html


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\u2028\ud800"


def test_text_from_outside_stays_text(results: dict[str, Any], tmp_path: Path) -> None:
    tags = {(tag, name) for tag, name, _ in write(results, tmp_path)[1].attributes}
    results["model"]["name"] = EVIL
    results["data"]["name"] = EVIL
    results["data"]["sampling"] = EVIL
    results["command"] = EVIL
    results["created"] = EVIL
    results["versions"]["msma_fast"] = EVIL
    results["hardware"]["cpu"] = EVIL
    results["spaces"]["geometry"] = EVIL
    results["cka"]["kernel"] = EVIL
    results["layers"][1]["name"] = EVIL
    results["summary"][0] = EVIL
    results["warnings"][0]["subject"] = EVIL
    results["information"]["reasons"][2][3] = EVIL
    first = str(results["explorer"]["tokens"][0])
    results["explorer"]["rows"][first][:3] = [EVIL, EVIL, EVIL]
    for row in results["fisher"]["rows"].values():
        row[:3] = [EVIL, EVIL, EVIL]
    html, page = write(results, tmp_path)
    assert len(page.scripts) == 2
    assert {(tag, name) for tag, name, _ in page.attributes} == tags
    assert "alert(1)" not in page.scripts[1]
    assert "\x00" not in html
    row = page_data(html)["explorer"]["rows"][0]
    assert row[1] == EVIL.replace("\ud800", "\ufffd")


def test_invisible_markup_cannot_end_the_data(results: dict[str, Any], tmp_path: Path) -> None:
    html, _ = write(results, tmp_path)
    start = html.index('id="report-data">') + len('id="report-data">')
    blob = html[start : html.index("</script>", start)]
    assert not set("<>&\u2028\u2029") & set(blob)


@pytest.mark.parametrize("name", ["cka", "dimension", "information", "fisher", "explorer"])
def test_a_skipped_part_says_why(results: dict[str, Any], name: str, tmp_path: Path) -> None:
    results[name] = {"skipped": f"no {name} without <token ids>"}
    _, page = write(results, tmp_path)
    assert [one for one in page.ids if one in SECTIONS] == SECTIONS
    assert f"no {name} without <token ids>" in " ".join(page.text)
    results[name] = None
    _, page = write(results, tmp_path)
    assert "was not computed" in " ".join(page.text)


def test_steps_alone_are_drawn_where_no_trace_is_known(results: dict[str, Any], tmp_path: Path) -> None:
    results["fisher"]["trace"] = {name: [None] * len(results["layers"]) for name in ("lower", "median", "upper")}
    html, _ = write(results, tmp_path)
    assert "Steps through depth" in html
    assert "Trace of the token metric" not in html
    assert "Trace and effective rank are not known" in html


def test_nulls_are_drawn_as_gaps(results: dict[str, Any], tmp_path: Path) -> None:
    layers = len(results["layers"])
    for name in ("norm_median", "norm_max", "top_coordinate", "top_coordinate_share", "distinct_rows"):
        results["health"][name] = [None] * layers
    results["dimension"]["estimates"] = [[None] * 6 for _ in range(layers)]
    results["dimension"]["mle"] = None
    for name in ("top_tenth", "effective_rank"):
        results["fisher"][name] = [None] * layers
    for name in ("lower", "median", "upper"):
        results["fisher"]["trace"][name] = [None] * layers
    results["information"]["null"] = results["information"]["excess"] = None
    results["information"]["knowledge"]["next_token"] |= {"value": [None] * layers, "null": [None] * layers}
    for section in ("model", "data"):
        results[section] = {k: v if k in ("n_tokens",) else None for k, v in results[section].items()}
    html, page = write(results, tmp_path)
    text = " ".join(page.text)
    assert "no estimate at any layer" in text
    assert "None" not in text
    assert "nan" not in text.lower().split()
    assert [name for name in page.ids if name.startswith("show-")] == ["show-mi"]
    assert set(page_data(html)["heat"]) == {"overlap", "cka", "mi"}


def test_one_layer_and_an_empty_warning_list(tmp_path: Path) -> None:
    results = make_results(n_layers=1, n_rows=40, n_tokens=2)
    results["warnings"] = []
    _, page = write(results, tmp_path)
    assert "No warning was raised." in " ".join(page.text)


def test_the_explorer_holds_exact_neighbours(results: dict[str, Any], tmp_path: Path) -> None:
    html, _ = write(results, tmp_path)
    packed, explorer = page_data(html)["explorer"], results["explorer"]
    assert len(packed["near"]) == len(results["layers"])
    for layer, given in zip(packed["near"], explorer["neighbors"], strict=True):
        for token, flat, near in zip(packed["tokens"], layer, given, strict=True):
            assert len(packed["rows"][token]) == 4
            rows = [packed["rows"][row][1:] for row in flat[::2]]
            assert [[r[0], r[2]] for r in rows] == [explorer["rows"][str(j)][1::2] for j, _ in near]
            assert flat[1::2] == pytest.approx([distance for _, distance in near], rel=1e-3)


def test_the_page_stays_small() -> None:
    """Thirty-one layers with 8,000 different rows of long context, the worst that the default run can bring."""
    from msma_fast.report.page import page
    from msma_fast.report.schema import clean

    results = make_results(n_rows=64, n_tokens=2)
    explorer = results["explorer"]
    context = "some words of a long speech " * 12
    explorer["rows"] = {str(row): [context, " word", context, row // 32] for row in range(8000)}
    explorer["tokens"] = list(range(200))
    explorer["neighbors"] = [
        [[[(8 * (200 * layer + token) + j) % 8000, 12.345678] for j in range(8)] for token in range(200)]
        for layer in range(31)
    ]
    html, _ = page(clean(results))
    assert 1e6 < len(html.encode()) < 3.2e6


def _fisher_section(html: str) -> str:
    found = re.search(r'<section id="fisher".*?</section>', html, re.DOTALL)
    assert found is not None
    return found.group(0)


def test_only_the_last_layer_is_called_fisher_without_a_lens(results: dict[str, Any], tmp_path: Path) -> None:
    html, _ = write(results, tmp_path)
    section = _fisher_section(html)
    tables = re.findall(r"<details.*?</details>", section, re.DOTALL)
    assert len(tables) == 3
    for table in tables:
        kinds = re.findall(r'<th scope="row">[^<]*</th><td>([^<]*)</td>', table)
        assert kinds[:-1] == ["logit-lens Fisher, embedding"] + ["logit-lens Fisher"] * 4
        assert kinds[-1] in ("Fisher", "logit-lens Fisher to Fisher")
    for name in ("fisher-trace", "fisher-rank"):
        drawing = re.search(rf'<svg [^>]*data-figure="{name}".*?</svg>', section, re.DOTALL)
        assert drawing is not None
        words = re.findall(r"<text [^>]*>([^<]*)</text>", drawing.group(0))
        assert [word for word in words if word in ("embedding", "logit-lens Fisher", "Fisher")] == [
            "embedding",
            "logit-lens Fisher",
            "Fisher",
        ]
        texts = page_data(html)["figures"][name]["series"][name == "fisher-trace"]["texts"]
        assert ["logit-lens" in text for text in texts] == [True] * 5 + [False]


def test_the_path_length_and_the_overlaps_are_said(results: dict[str, Any], tmp_path: Path) -> None:
    section = _fisher_section(write(results, tmp_path)[0]).replace("\u00a0", " ")
    assert "is 12.2 long at the median (quartiles 11.5 and 13.8)" in section
    assert "block 3 (logit-lens Fisher): 31 %; block 5 (Fisher): 32 %; by chance about 1.6 %" in section


def test_neighbours_of_both_kinds_are_listed(results: dict[str, Any], tmp_path: Path) -> None:
    fisher = results["fisher"]
    section = _fisher_section(write(results, tmp_path)[0])
    rows = re.findall(r"<tr><th scope=\"row\">(?:(?!</tr>).)*<ol>.*?</tr>", section, re.DOTALL)
    assert len(rows) == len(fisher["shown"]) == 6
    for row, one in zip(rows, fisher["shown"], strict=True):
        assert fisher["rows"][str(one["token"])][1] in row
        lists = [re.findall(r"<li>(.*?) <small>", part) for part in re.findall(r"<ol>(.*?)</ol>", row)]
        both = {j for j, _ in one["fisher"]} & {j for j, _ in one["euclidean"]}
        for words, name in zip(lists, ("fisher", "euclidean"), strict=True):
            wanted = [(fisher["rows"][str(j)][1].strip(), j in both) for j, _ in one[name]]
            assert [(re.sub("</?b>", "", word), "<b>" in word) for word in words] == wanted
        assert f"{one['shared']} of 4" in row


def test_an_embedding_far_below_the_blocks_does_not_set_the_axis(results: dict[str, Any], tmp_path: Path) -> None:
    inside = write(results, tmp_path)[0]
    assert "The axis is that of the blocks" in inside  # 10 at the embedding, 2.5 at the first block
    for name in ("lower", "median", "upper"):
        results["fisher"]["trace"][name] = [1e-12, 1.0, 0.5, 0.2, 0.1, 0.05]
    results["fisher"]["trace"]["upper"][0] = 0.3  # would fit, without the two beneath it
    html, _ = write(results, tmp_path)
    drawn = page_data(html)["figures"]["fisher-trace"]["series"]
    assert [[y is None for y in series["ys"]] for series in drawn] == 3 * [[True] + [False] * 5]
    hover = drawn[1]
    assert hover["texts"][0] == "1.00e\u221212 (logit-lens Fisher, embedding)"
    assert "at embedding the median is 1.00e\u221212, in the table" in _fisher_section(html)
    results["fisher"]["trace"] = {name: [0.1, 1.0, 0.5, 0.2, 0.1, 0.05] for name in ("lower", "median", "upper")}
    html, _ = write(results, tmp_path)
    assert "The axis is that of the blocks" not in html
    assert page_data(html)["figures"]["fisher-trace"]["series"][1]["ys"][0] is not None
