"""The page of an experiment: sentences, tables, dose curves and sample texts, in one file that loads nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from msma_fast.msma.experiment import STRENGTHS
from msma_fast.report.canvas import Canvas
from msma_fast.report.chart import HEIGHT, WIDTH, Panel, Series, draw_chart
from msma_fast.report.experiment_tables import Table, figure, markdown, tables
from msma_fast.report.figure import Figure, table, text
from msma_fast.report.schema import clean
from msma_fast.report.sections import Section
from msma_fast.report.templates import read, template
from msma_fast.report.theme import css_variables
from msma_fast.report.write import write_file

_SAMPLES = 2  # prompts whose texts are shown
_COLORS = ("accent", "other", "alert", "same-ink", "soft", "ink")


def write_experiment(results: dict[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Writes experiment.html, experiment.json, tables.md and figures/*.svg, and returns the path of experiment.html.

    Floats are written with six significant digits, what is not finite as null.

    :raises TypeError: a value that JSON cannot hold.
    """
    results = clean(results)
    folder = Path(folder)
    figures = dose_figures(results)
    write_file(folder / "experiment.json", json.dumps(results, ensure_ascii=False, allow_nan=False) + "\n")
    write_file(folder / "tables.md", markdown(results))
    for each in figures:
        write_file(folder / "figures" / f"{each.name}.svg", each.standalone())
    write_file(folder / "experiment.html", page(results, figures))
    return folder / "experiment.html"


def page(results: dict[str, Any], figures: list[Figure]) -> str:
    """The HTML."""
    sections = [_section(each) for each in tables(results)]
    if figures:
        body = '<p class="lead">How far from the untouched model each intervention takes the tokens of the prompts.</p>'
        sections.append(Section("dose", "Dose curves", body + "".join(each.html()[0] for each in figures), figures))
    if results["interventions"]:
        sections.append(Section("samples", "Sample texts", _samples(results), []))
    sections.append(Section("methods", "Methods", "".join(f"<p>{text(each)}</p>" for each in results["methods"]), []))
    return template("experiment.html").substitute(
        title=text(results["title"]),
        under=text(results["under"]),
        version=text(results["versions"].get("msma_fast", "")),
        date=text(results["created"][:10]),
        command=text(results["command"]),
        style=css_variables() + "".join(read(name) for name in ("base.css", "figures.css", "print.css")),
        rail="".join(f'<li><a href="#{each.name}">{text(each.title)}</a></li>' for each in sections),
        summary="".join(f"<li>{text(each)}</li>" for each in results["summary"]),
        body="".join(each.html() for each in sections),
    )


def dose_figures(results: dict[str, Any]) -> list[Figure]:
    """One a scale: KL against strength, a line a kind."""
    found = []
    for number, scale in enumerate(dict.fromkeys(one["scale"] for one in results["dose"])):
        series = [
            Series(
                one["kind"], [value or None for value in one["kl"]], _COLORS[place % len(_COLORS)], label=one["kind"]
            )
            for place, one in enumerate(one for one in results["dose"] if one["scale"] == scale)
        ]
        low, high = math.log(STRENGTHS[0]), math.log(STRENGTHS[-1])
        places = [(math.log(strength) - low) / (high - low) for strength in STRENGTHS]
        names = [f"{strength:g}" for strength in STRENGTHS]
        panel = Panel(
            measure="KL, nats per token", x_title="strength", places=places, x_names=names,
            x_ticks=list(zip(places, names, strict=True)), series=series, log=True, right=70,
        )  # fmt: skip
        rows = [[name, *(figure(one.values[place]) for one in series)] for place, name in enumerate(names)]

        def draw(canvas: Canvas, panel: Panel = panel) -> dict[str, Any]:
            return draw_chart(canvas, panel)

        read = (
            "Strengths of different kinds are not comparable; a line's height is. Table 3 compares all at one height."
        )
        caption = "Mean over the prompts' tokens, teacher-forced."
        head = ["strength", *(one.name for one in series)]
        found.append(Figure(f"dose-{number}", f"At {scale}", read, caption, (WIDTH, HEIGHT), draw, head, rows))
    return found


def _section(one: Table) -> Section:
    label = text(one.title)
    body = f'<p class="lead">{text(one.lead)}</p><div class="scroll" tabindex="0" role="region" aria-label="{label}">'
    return Section(one.name, one.title, f"{body}{table(one.head, one.rows)}</div>", [])


def _samples(results: dict[str, Any]) -> str:
    parts = []
    for number, prompt in enumerate(results["prompts"][:_SAMPLES]):
        rows = [["untouched", results["interventions"][0]["conditions"][0]["texts"][number]]]
        rows += [
            [one["name"], one["texts"][number]]
            for kind in results["interventions"]
            for one in kind["conditions"]
            if one["role"] in ("intervention", "scales")
        ]
        parts.append(f"<h3>After “{text(prompt)}”</h3>{table(['condition', 'text'], rows)}")
    return "".join(parts)
