"""Writing the report to a folder, each file whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from msma_fast.report.maps import overlap_figure
from msma_fast.report.methods import methods_text
from msma_fast.report.page import page
from msma_fast.report.schema import clean, validate, validate_overlap


def write_report(results: dict[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Writes report.html, results.json, methods.txt and figures/*.svg, and returns the path of
    report.html.

    :param results: a result dict of schema msma_fast.analysis/1; it is not changed. Floats are written
        with six significant digits, and what is not finite as null.
    :param folder: made if it does not exist; files of an earlier report are replaced.
    :raises ValueError: a missing or odd field; nothing is written then.
    :raises TypeError: a value that JSON cannot hold.
    """
    results = clean(results)
    validate(results)
    html, figures = page(results)
    folder = Path(folder)
    write_file(folder / "results.json", json.dumps(results, ensure_ascii=False, allow_nan=False) + "\n")
    write_file(folder / "methods.txt", methods_text(results))
    for figure in figures:
        write_file(folder / "figures" / f"{figure.name}.svg", figure.standalone())
    write_file(folder / "report.html", html)
    return folder / "report.html"


def first_figure(results: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Writes the heat map of the neighbour overlap alone, from `layers` and `overlap`: all there is early
    in a run.

    :raises ValueError: a missing or odd field among these two.
    """
    results = clean(results)
    validate_overlap(results)
    write_file(Path(path), overlap_figure(results).standalone())
    return Path(path)


def write_file(path: Path, content: str) -> None:
    """The file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    # A lone surrogate (a byte that is no text) cannot be encoded; it becomes a question mark.
    half.write_text(content, encoding="utf-8", errors="replace")
    os.replace(half, path)
