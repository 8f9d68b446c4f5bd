"""A figure: how it is drawn, how it is read, what it was made from, and its numbers as a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from msma_fast.report.canvas import Canvas, printable

Rows = list[list[str]]


@dataclass(frozen=True)
class Figure:
    """`draw` puts the figure on a canvas and returns what the page's tooltips need; `table` is its text
    alternative.

    `read` is the one sentence that says how to read it; `caption` names N, k and space.
    """

    name: str
    title: str
    read: str
    caption: str
    size: tuple[float, float]
    draw: Callable[[Canvas], dict[str, Any]]
    head: list[str]
    table: Rows

    def inline(self) -> tuple[str, dict[str, Any]]:
        """The themed SVG and its hover data."""
        canvas = Canvas(*self.size, name=self.name, title=self.title)
        hover = self.draw(canvas)
        return canvas.svg(), hover

    def standalone(self) -> str:
        """A complete SVG file in the colours of the light theme."""
        canvas = Canvas(*self.size, name=self.name, title=self.title, standalone=True)
        self.draw(canvas)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + canvas.svg() + "\n"

    def html(self) -> tuple[str, dict[str, Any]]:
        """The figure element with its caption and table, and the hover data."""
        svg, hover = self.inline()
        return (
            f'<figure id="figure-{self.name}"><h3>{text(self.title)}</h3>{svg}<figcaption>'
            f'<p class="read"><b>How to read it.</b> {text(self.read)}</p><p>{prose(self.caption)}</p>'
            f"</figcaption>{self.numbers()}</figure>"
        ), hover

    def numbers(self) -> str:
        return (
            '<details class="numbers"><summary>The numbers as a table</summary><div class="scroll" '
            'tabindex="0" '
            f'role="region" aria-label="{text(self.title)}, '
            f'numbers">{table(self.head, self.table)}</div></details>'
        )


def text(value: Any) -> str:
    """Any text from outside, safe in HTML."""
    return escape(printable(str(value)))


def prose(value: Any) -> str:
    """Like `text`, with "N = 8,000" kept on one line."""
    return re.sub(r"\b(\w) = (?=\d)", "\\1\u00a0=\u00a0", text(value))


def table(head: list[str], rows: Rows) -> str:
    """A table whose first column names the row."""
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>{"".join(f"<td>{text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
