"""The whole page: template, style, script and data in one file that loads nothing."""

from __future__ import annotations

from typing import Any

from msma_fast.report.figure import Figure, text
from msma_fast.report.methods import paragraphs, sources
from msma_fast.report.pack import page_data
from msma_fast.report.sections import Section, all_sections, header
from msma_fast.report.templates import read, template
from msma_fast.report.theme import css_variables

_STYLES = ("base.css", "figures.css", "explorer.css", "print.css")
_SCRIPTS = (
    "core.js", "hover.js", "explorer_model.js", "explorer_list.js", "explorer_near.js", "explorer.js",
    "main.js",
)  # fmt: skip
_RAIL = {
    "summary": "Summary", "data": "Data", "health": "Health", "maps": "Layers compared",
    "dimension": "Dimension", "information": "Information",
    "fisher": "Fisher geometry", "scales": "Scales", "untrained": "Untrained", "explorer-section": "Neighbours",
    "methods": "Methods",
}  # fmt: skip


def page(results: dict[str, Any]) -> tuple[str, list[Figure]]:
    """The HTML of a checked result dict, and every figure on it."""
    sections: list[Section] = all_sections(results)
    figures = [figure for section in sections for figure in section.figures]
    copy = {"methods": "\n\n".join(paragraphs(results)) + "\n", "bibtex": sources(results) + "\n"}
    scripts = "\n".join(read(name) for name in _SCRIPTS)
    html = template("page.html").substitute(
        title=text(f"{results['model']['name'] or 'A model'} on {results['data']['name'] or 'unnamed data'}"),
        version=text(results["versions"].get("msma_fast", "")),
        date=text(results["created"][:10]),
        style=css_variables() + "".join(read(name) for name in _STYLES),
        rail="".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in _RAIL.items()),
        body=header(results) + "".join(section.html() for section in sections),
        data=page_data(results, {figure.name: figure.inline()[1] for figure in figures}, copy),
        # One closure: nothing of the page's script becomes a global name.
        script=f'(() => {{\n"use strict";\n{scripts}}})();',
    )
    return html, figures
