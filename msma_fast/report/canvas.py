"""The SVG pen of every figure. The same drawing code serves two readers: inside the page colours are CSS
variables, so that a figure follows the theme; in a standalone file they are plain hex values, which every
program understands.
"""

from __future__ import annotations

from html import escape

from msma_fast.report.theme import palette

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Canvas:
    """Elements in drawing order. `standalone` chooses hex colours, fixed size and a paper-coloured ground."""

    def __init__(self, width: float, height: float, *, name: str, title: str, standalone: bool = False) -> None:
        self.width, self.height, self.name, self.title = width, height, name, title
        self.standalone = standalone
        self._colors = palette() if standalone else {}
        self._parts: list[str] = []

    def color(self, name: str) -> str:
        """A named colour of the theme, as this reader needs it."""
        return self._colors[name] if self.standalone else f"var(--{name})"

    def add(self, element: str) -> None:
        self._parts.append(element)

    def rect(self, x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> None:
        self.add(
            f'<rect x="{short(x)}" y="{short(y)}" width="{short(width)}" height="{short(height)}" '
            f'fill="{self.color(fill)}"{extra}/>'
        )

    def path(
        self, d: str, *, stroke: str | None = None, fill: str | None = None, width: float = 1, extra: str = ""
    ) -> None:
        paint = f' fill="{self.color(fill) if fill else "none"}"'
        if stroke:
            paint += f' stroke="{self.color(stroke)}" stroke-width="{short(width)}"'
        self.add(f'<path d="{d}"{paint}{extra}/>')

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, color: str = "soft",
        weight: int | None = None, turn: bool = False,
    ) -> None:  # fmt: skip
        """Text at its baseline; `turn` writes it upwards."""
        place = f'x="{short(x)}" y="{short(y)}"'
        if turn:
            place += f' transform="rotate(-90 {short(x)} {short(y)})"'
        bold = f' font-weight="{weight}"' if weight else ""
        self.add(
            f'<text {place} text-anchor="{anchor}" font-size="{short(size)}"{bold} '
            f'fill="{self.color(color)}">'
            f"{escape(printable(text))}</text>"
        )

    def svg(self) -> str:
        title = escape(printable(self.title))
        size = f'width="{short(self.width)}" height="{short(self.height)}" ' if self.standalone else ""
        ground = f'<rect width="100%" height="100%" fill="{self.color("paper")}"/>' if self.standalone else ""
        focus = "" if self.standalone else ' class="plot" tabindex="0"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}viewBox="0 0 {short(self.width)} '
            f'{short(self.height)}" '
            f'role="img" aria-label="{title}" data-figure="{escape(self.name)}" font-family="{FONT}"{focus}>'
            f"<title>{title}</title>{ground}{''.join(self._parts)}</svg>"
        )


def short(value: float) -> str:
    """A coordinate with at most two decimals; a figure is mostly coordinates."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def printable(text: str) -> str:
    """Text without the control characters that XML forbids."""
    return "".join(
        c
        for c in text
        if c in "\t\n" or (ord(c) >= 0x20 and not 0xD800 <= ord(c) <= 0xDFFF and c not in "\ufffe\uffff\x7f")
    )
