"""One perceptually uniform colour map, made in OKLCH and resampled to equal steps in OKLab.

The map runs from sand over teal to indigo: lightness L falls as the value grows, the hue turns once, and
the chroma stays inside sRGB. Its levels are spaced so that each step has the same OKLab distance |dLab|,
which is what makes equal differences of a value look equally large. On a dark page the same levels are
used in reverse, so that a large value always stands out from the paper.

OKLab: B. Ottosson, "A perceptual color space for image processing", 2020.
"""

from __future__ import annotations

import itertools
import math

LEVELS = 64
Triple = tuple[float, float, float]

# Anchors (L, chroma, hue in degrees) along the map, from small to large.
_ANCHORS: tuple[Triple, ...] = (
    (0.955, 0.018, 95.0),
    (0.87, 0.060, 130.0),
    (0.76, 0.092, 172.0),
    (0.62, 0.098, 215.0),
    (0.47, 0.112, 258.0),
    (0.34, 0.118, 282.0),
    (0.22, 0.075, 292.0),
)


def oklab_from_oklch(color: Triple) -> Triple:
    """Lightness, chroma, hue in degrees to OKLab (L, a, b)."""
    lightness, chroma, hue = color
    angle = math.radians(hue)
    return lightness, chroma * math.cos(angle), chroma * math.sin(angle)


def linear_from_oklab(color: Triple) -> Triple:
    """OKLab to linear sRGB; values outside [0, 1] are outside the gamut."""
    lightness, a, b = color
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def hex_from_oklab(color: Triple) -> str:
    """OKLab to an sRGB hex string; the chroma is reduced until the colour is inside the gamut."""
    lightness, a, b = color
    keep = 1.0
    while keep > 0 and not all(-1e-4 <= c <= 1 + 1e-4 for c in linear_from_oklab((lightness, a * keep, b * keep))):
        keep -= 0.02
    channels = linear_from_oklab((lightness, a * max(keep, 0), b * max(keep, 0)))
    return "#" + "".join(f"{round(255 * _gamma(min(1.0, max(0.0, c)))):02x}" for c in channels)


def hex_from_oklch(lightness: float, chroma: float, hue: float) -> str:
    """One colour of the page from its lightness (0..1), chroma and hue in degrees."""
    return hex_from_oklab(oklab_from_oklch((lightness, chroma, hue)))


def ramp(levels: int = LEVELS) -> list[str]:
    """The map as hex strings, small values first, equal OKLab steps."""
    fine = [oklab_from_oklch(_between(i / 2000)) for i in range(2001)]
    length = [0.0]
    for before, after in itertools.pairwise(fine):
        length.append(length[-1] + math.dist(before, after))
    colors, position = [], 0
    for level in range(levels):
        wanted = length[-1] * level / (levels - 1)
        while position < 2000 and length[position] < wanted:
            position += 1
        colors.append(hex_from_oklab(fine[position]))
    return colors


def _between(t: float) -> Triple:
    """A Catmull-Rom curve through the anchors at t in [0, 1]; straight pieces would show as bands."""
    x = t * (len(_ANCHORS) - 1)
    i = min(int(x), len(_ANCHORS) - 2)
    u = x - i
    p0, p1, p2, p3 = (_ANCHORS[min(max(j, 0), len(_ANCHORS) - 1)] for j in range(i - 1, i + 3))
    lightness, chroma, hue = (
        0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)
        for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
    )
    return lightness, chroma, hue


def _gamma(channel: float) -> float:
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055
