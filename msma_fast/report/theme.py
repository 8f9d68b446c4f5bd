"""The colours of the page, light and dark, as one table from which CSS variables and standalone SVG
colours are made.
"""

from __future__ import annotations

from msma_fast.report.color import LEVELS, hex_from_oklch, ramp

# name: (light, dark), each (lightness, chroma, hue) in OKLCH.
_NAMED: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "paper": ((0.988, 0.004, 90), (0.195, 0.010, 270)),
    "card": ((0.968, 0.006, 90), (0.232, 0.012, 270)),
    "line": ((0.895, 0.008, 90), (0.325, 0.014, 270)),
    "void": ((0.945, 0.004, 90), (0.255, 0.008, 270)),
    "ink": ((0.255, 0.018, 270), (0.920, 0.008, 90)),
    "soft": ((0.475, 0.016, 270), (0.735, 0.012, 270)),
    "accent": ((0.455, 0.125, 262), (0.780, 0.085, 235)),
    "same": ((0.865, 0.115, 80), (0.760, 0.120, 78)),
    "same-ink": ((0.300, 0.060, 70), (0.215, 0.035, 75)),
    "other": ((0.470, 0.095, 205), (0.800, 0.090, 195)),
    "alert": ((0.520, 0.150, 40), (0.780, 0.120, 55)),
}


def palette(dark: bool = False) -> dict[str, str]:
    """Colour name to hex string; the map's levels are named m0 (small) to m63 (large)."""
    colors = {name: hex_from_oklch(*pair[dark]) for name, pair in _NAMED.items()}
    levels = ramp()
    # Reversed on a dark page: a large value is always the one that stands out from the paper.
    colors |= {f"m{i}": levels[LEVELS - 1 - i if dark else i] for i in range(LEVELS)}
    return colors


def css_variables() -> str:
    """The variables of both themes, the system's choice first and the reader's toggle (data-theme) above
    it.
    """

    def block(dark: bool) -> str:
        scheme = "dark" if dark else "light"
        return f"color-scheme:{scheme};" + ";".join(f"--{name}:{value}" for name, value in palette(dark).items())

    fills = "".join(f".m{i}{{fill:var(--m{i})}}" for i in range(LEVELS))
    return (
        f":root{{{block(False)}}}\n@media screen and "
        f"(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{block(True)}}}}}\n@media "
        f"screen{{:root[data-theme=dark]{{{block(True)}}}}}\n{fills}\n"
    )
