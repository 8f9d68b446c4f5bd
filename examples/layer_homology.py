"""Holes and gaps in layers: persistent homology of sparse distances, on planted clouds and then on a real model.

Tokens within r of each other are joined, three of them joined make a triangle, and r grows (the Vietoris-Rips filtration).
H0 bars are components: each begins at 0 and ends where it is joined to an older one, and one never ends. H1 bars are
loops: each begins where it closes and ends where triangles fill it. Ripser (Bauer 2021, coefficients in Z/2) reads the
sparse matrix of `radius_graph`; up to the graph's radius its bars are those of the dense matrix. The radius here is the
smallest at which one token is joined to all others: from there on the complex is a cone, and no bar is left but one.

Rows are divided by their root mean square and distances by sqrt(d): chords of the unit sphere, from 0 to 2. A few hundred
tokens, the same in every layer, stand for it: in many dimensions almost all pairs are joined before the last loop is
filled (`joined`), and the number of triangles grows as the cube of the tokens, time and memory with it.

Noise has bars too. The null is DRAWS times as many tokens from a Gaussian of the mean and covariance of all the rows of the
layer, divided by their root mean square as the rows are; p = (1 + draws whose longest bar is at least as long) / (1 + DRAWS),
for each layer by itself. A small p says that the cloud is not Gaussian, not that it has a loop: "curved" below has none,
only fewer dimensions than its covariance shows. A loop worth the name ends at several times the distance at which it
began. A long H0 bar may have a single far token on its other side: `beyond it` counts the tokens there.

    pip install ripser
    python examples/layer_homology.py [MODEL]      minilm (the default), smollm2, a folder or a name on the hub
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

import msma_fast as mf
from msma_fast.activations import collect_activations, read_texts
from msma_fast.msma.spaces import rms_normalized
from msma_fast.report.canvas import Canvas
from msma_fast.report.ticks import limits, linear_ticks, tick

try:
    from ripser import ripser
except ImportError as error:
    raise ImportError(
        "ripser: expected the package that computes the bars, which is missing: pip install ripser"
    ) from error

TOKENS, PLANTED, DRAWS = 300, 150, 39  # rows of a layer, of a planted cloud; draws of noise
KINDS = {
    "circle": "one loop",
    "two clusters": "one gap",
    "blob": "nothing",
    "plane": "a loop made by the division",
    "curved": "no loop, no Gaussian",
}


class Found(NamedTuple):
    """tokens: how many; bars: H0 and H1, each (b, 2) of begin and end, inf where it has no end, none of length 0; longest,
    total (2,): of the bars of H0 and of H1 that end; null_longest, null_total (draws, 2): the same of noise; p_values (2,):
    of the longest; beyond: tokens on the smaller side of the longest H0 bar; joined: the share of pairs within the radius."""

    tokens: int
    bars: list[np.ndarray]
    longest: np.ndarray
    total: np.ndarray
    null_longest: np.ndarray
    null_total: np.ndarray
    p_values: np.ndarray
    beyond: int
    joined: float


def unit_rows(states: torch.Tensor) -> torch.Tensor:
    """(n, d) -> rows of length one, float32; distances are then root mean squares over coordinates."""
    return rms_normalized(states) / states.shape[1] ** 0.5


def cone_radius(rows: torch.Tensor) -> float:
    """The smallest distance within which some row (n, d) has all the others."""
    return float(torch.as_tensor(mf.pairwise_distances(rows, rows)).amax(1).min())


def homology(graph: mf.NeighborGraph) -> list[np.ndarray]:
    """H0 and H1 (b, 2) float64 of the graph's distances; inf: a bar that does not end within the radius of the graph."""
    bars: list[np.ndarray] = ripser(graph.to_scipy(), maxdim=1, distance_matrix=True)["dgms"]
    return bars


def lengths(bars: np.ndarray) -> np.ndarray:
    """(b,) of the bars that end."""
    return np.diff(bars[np.isfinite(bars[:, 1])], axis=1)[:, 0]


def summary(bars: list[np.ndarray]) -> np.ndarray:
    """(2, 2): the longest and the sum, of H0 and of H1."""
    return np.array([[lengths(one).max(initial=0.0), lengths(one).sum()] for one in bars]).T


def smaller_side(graph: mf.NeighborGraph, at: float) -> int:
    """Points of the smallest component, of those that are still apart just below the distance `at`."""
    near = graph.to_scipy()
    near.data = np.where(near.data < at, 1.0, 0.0)  # a distance of 0 would be no edge to scipy
    near.eliminate_zeros()
    return int(np.bincount(connected_components(near, directed=False)[1]).min())


def study(states: torch.Tensor, pick: torch.Tensor, draws: int = DRAWS, seed: int = 0) -> Found:
    """Of a layer (n, d): rows `pick` (m,) for its bars, and every row for the Gaussian that it is compared with."""
    generator = torch.Generator().manual_seed(seed)
    every = unit_rows(states).to(torch.float64)
    mean = every.mean(0)
    spread = (every - mean) / len(every) ** 0.5
    rows = every[pick].to(torch.float32)
    radius = cone_radius(rows)
    graph = mf.radius_graph(rows, radius, closed=True)
    bars = homology(graph)
    longest, total = summary(bars)
    null = np.empty((draws, 2, 2))
    for draw in range(draws):
        normal = torch.randn(len(pick), len(every), generator=generator, dtype=torch.float64)
        noise = unit_rows(mean + normal @ spread)  # covariance: that of the rows, exactly
        null[draw] = summary(homology(mf.radius_graph(noise, cone_radius(noise), closed=True)))
    p_values = (1 + (null[:, 0] >= longest).sum(0)) / (1 + draws)
    beyond, joined = smaller_side(graph, longest[0]), len(graph.indices) / (graph.n * (graph.n - 1))
    return Found(graph.n, bars, longest, total, null[:, 0], null[:, 1], p_values, beyond, joined)


def planted(kind: str, n: int = 1500, width: int = 64, seed: int = 0) -> torch.Tensor:
    """States (n, width) of each of KINDS. The circle lies off the origin, so that it is not the division that makes it."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((width, width)))[0]
    noise = rng.standard_normal((n, width)) / width**0.5
    if kind == "circle":
        angle = rng.uniform(0, 2 * np.pi, n)
        states = np.column_stack([np.cos(angle), np.sin(angle), np.ones(n)]) @ frame[:3] + 0.2 * noise
    elif kind == "two clusters":
        states = frame[rng.integers(0, 2, n)] + 0.4 * noise
    elif kind == "plane":
        states = rng.standard_normal((n, 2)) @ frame[:2]
    elif kind == "curved":
        waves = rng.standard_normal((6, width)) / 6**0.5
        states = np.cos(2 * rng.standard_normal((n, 6)) @ waves + rng.uniform(0, 2 * np.pi, width))
    else:
        states = noise
    return torch.from_numpy(states)


def of_model(model: str, texts: int) -> mf.Activations:
    given = read_texts("commons").texts[:texts]
    return collect_activations(model, None, given, tokens_per_text=8, max_length=64)


def chosen(n: int, m: int, seed: int = 0) -> torch.Tensor:
    """(m,) of n rows at random, all of them where there are no more."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:m]


def longest_loop(found: Found) -> np.ndarray:
    """(2,) begin and end of the longest H1 bar that ends; nan where there is none."""
    bars = found.bars[1][np.isfinite(found.bars[1][:, 1])]
    return bars[np.diff(bars, axis=1)[:, 0].argmax()] if len(bars) else np.full(2, np.nan)


def show(title: str, found: dict[str, Found]) -> None:
    wide = max(map(len, (title, *found))) + 1
    print(f"{title:<{wide}}{'':8}{'H0: components':^47}{'H1: loops':^61}")
    head = f"{'longest':>9}{'noise':>7}{'p':>7}{'total':>8}{'noise':>7}"
    print(f"{'':<{wide}}{'joined':>8}{head}{'beyond it':>11}{head}{'end/begin':>11}   the longest loop")
    for name, one in found.items():
        begin, end = longest_loop(one)
        print(f"{name:<{wide}}{one.joined:8.2f}", end="")
        for degree, last in enumerate((f"{one.beyond:>11}", f"{end / begin:>11.1f}")):
            noise = one.null_longest[:, degree].max(), one.null_total[:, degree].mean()
            print(f"{one.longest[degree]:9.3f}{noise[0]:7.3f}{one.p_values[degree]:7.3f}", end="")
            print(f"{one.total[degree]:8.1f}{noise[1]:7.1f}{last}", end="")
        print(f"   {'beyond this noise' if one.p_values[1] <= 0.05 else 'noise has it too'}")
    print()


def draw(found: dict[str, Found], title: str) -> str:
    """A panel for each layer: every loop, its begin to the right, its length upwards; a line at the longest loop of noise."""
    columns, side, gap = 4, 170.0, 54.0
    left, top = 60.0, 112.0
    rows = -(-len(found) // columns)
    low, right = limits(float(begin) for one in found.values() for begin in one.bars[1][:, 0])
    high = 1.1 * max(float(max(one.longest[1], one.null_longest[:, 1].max())) for one in found.values())
    sheet = Canvas(
        left + columns * (side + gap),
        top + rows * (side + gap + 22) - 24,
        name="homology",
        title=title,
        standalone=True,
    )
    beyond = sum(one.p_values[1] <= 0.05 for one in found.values())
    said = f"{title}: the longest loop is beyond Gaussian noise in {beyond} of {len(found)} layers"
    sheet.text(left, 30, said, size=17, color="ink")
    first = next(iter(found.values()))
    about = f"H1 bars of {first.tokens} tokens: distance at which a loop begins (right), how much later it ends (up);"
    sheet.text(left, 52, f"{about} line: the longest of {len(first.null_longest)} draws of noise", size=12)
    times = [end / begin for begin, end in map(longest_loop, found.values())]
    said = f"the longest end at {np.nanmin(times):.1f} to {np.nanmax(times):.1f} times the distance at which they began"
    sheet.text(left, 70, said, size=12)
    for place, (name, one) in enumerate(found.items()):
        x0, y0 = left + place % columns * (side + gap), top + place // columns * (side + gap + 22)

        def across(value: float, x0: float = x0) -> float:
            return x0 + side * (value - low) / (right - low)

        def upwards(value: float, y0: float = y0) -> float:
            return y0 + side * (1 - value / high)

        sheet.rect(x0, y0, side, side, "card")
        noise = float(one.null_longest[:, 1].max())
        for begin, end in one.bars[1]:
            color = "alert" if end - begin > noise else "accent"
            sheet.add(
                f'<circle cx="{across(begin):.2f}" cy="{upwards(end - begin):.2f}" r="2" fill="{sheet.color(color)}"/>'
            )
        sheet.path(f"M{x0:.2f} {upwards(noise):.2f}h{side:.2f}", stroke="ink", extra=' stroke-dasharray="4 3"')
        sheet.text(x0, y0 - 8, f"{name}: {one.longest[1]:.2f}, noise {noise:.2f}", color="ink")
        for value in linear_ticks(low, right, 3):
            sheet.text(across(value), y0 + side + 16, tick(value), anchor="middle", size=11)
        for value in linear_ticks(0, high, 3):
            sheet.text(x0 - 6, upwards(value) + 4, tick(value), anchor="end", size=11)
    return sheet.svg()


def main(
    model: str = "minilm", texts: int = 400, out: str | Path = "runs/layer_homology.svg"
) -> dict[str, dict[str, Found]]:
    clouds = {kind: planted(kind) for kind in KINDS}
    answers = {"planted": {kind: study(cloud, chosen(len(cloud), PLANTED)) for kind, cloud in clouds.items()}}
    show("planted", {f"{kind}: {KINDS[kind]}": one for kind, one in answers["planted"].items()})
    acts = of_model(model, texts)
    pick = chosen(len(acts.layer(0)), TOKENS)
    answers[model] = {name: study(acts.layer(name), pick) for name in acts.names}
    show(model, answers[model])
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(draw(answers[model], model), encoding="utf-8")
    print(f"longest and noise's longest of {DRAWS} draws, total and noise's mean; drawn in {out}")
    return answers


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "minilm")
