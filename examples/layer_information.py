"""Mutual information between layers beside its nulls: on planted layers, where the truth is known, then on a real model.

    X_l = (place of the token in layer l, S_l)        S_{l+1} = r S_l + sqrt(1 - r^2) fresh noise, r = 0.9

Places are far apart, so that I(X_l; X_m) = log(tokens) + I(S_l; S_m): what the token's identity explains, and what two
layers share about one occurrence beyond it. The within-token null exchanges rows among equal tokens and keeps the first
part alone, so that the excess over it is the second; exchanging all rows (a sanity check) leaves nothing.

    python examples/layer_information.py [MODEL]      minilm (the default), smollm2, a folder or a name on the hub
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import msma_fast as mf
from msma_fast.activations import collect_activations, read_texts
from msma_fast.msma.layer_information import split
from msma_fast.msma.spaces import information_space, rms_normalized
from msma_fast.permutation import permute_within
from msma_fast.report.canvas import Canvas
from msma_fast.report.chart import Panel, Series, draw_chart
from msma_fast.report.heatmap import HEIGHT, WIDTH, draw_heatmap

K, DIMENSIONS, DRAWS = 5, 8, 19
TOKENS, R, COUNT = 5, 0.9, 6  # of the planted layers


class Layers(NamedTuple):
    """rows[l - 1] (n, d): layer l = 1, 2, ...; tokens and texts (n,) ids; truth (L, L) nats, where it is known."""

    name: str
    rows: list[np.ndarray]
    tokens: np.ndarray
    texts: np.ndarray
    truth: np.ndarray | None = None


class Found(NamedTuple):
    """Nats. mi (L, L), nan on the diagonal; within, free (DRAWS, L, L): rows exchanged among equal tokens, among all;
    first: layer 1 with each later one."""

    mi: np.ndarray
    within: np.ndarray
    free: np.ndarray
    first: list[mf.MIResult]


def planted(texts: int = 120, per_text: int = 16, seed: int = 0) -> Layers:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, TOKENS, texts * per_text)
    signal, rows = rng.standard_normal(len(tokens)), []
    for turn in rng.uniform(0, 2 * np.pi, COUNT):
        angle = 2 * np.pi * tokens / TOKENS + turn
        rows.append(np.column_stack([50 * np.cos(angle), 50 * np.sin(angle), signal]))
        signal = R * signal + np.sqrt(1 - R**2) * rng.standard_normal(len(tokens))
    apart = np.abs(np.subtract.outer(np.arange(COUNT), np.arange(COUNT))) + np.diag([np.nan] * COUNT)
    truth = np.log(TOKENS) - np.log1p(-(R ** (2 * apart))) / 2
    return Layers("planted layers", rows, tokens, np.repeat(np.arange(texts), per_text), truth)


def of_model(model: str, n: int) -> Layers:
    """The pipeline's space: RMS-normalised, centred, on the leading components of other texts, one scale for a layer."""
    texts = read_texts("commons").texts[: n // 6]
    acts = collect_activations(model, None, texts, tokens_per_text=16, max_length=64)
    token_ids, text_ids = acts.token_ids, acts.text_ids
    assert token_ids is not None
    assert text_ids is not None
    use, fit, _ = split(text_ids, token_ids, n, seed=0)
    blocks = (rms_normalized(acts.layer(index)) for index in range(1, len(acts)))  # 0, the embedding, repeats rows
    rows = [information_space(block[use], block[fit], DIMENSIONS).numpy() for block in blocks]
    return Layers(model, rows, token_ids[use].numpy(), text_ids[use].numpy())


def information(layers: Layers, seed: int = 0) -> Found:
    generator = torch.Generator().manual_seed(seed)

    def null(labels: np.ndarray) -> np.ndarray:
        orders = [permute_within(torch.from_numpy(labels), generator).numpy() for _ in range(DRAWS)]
        return np.stack([mf.ksg_mi_matrix(layers.rows, K, groups=layers.texts, permutation=o) for o in orders])

    pairs = [(layers.rows[0], later) for later in layers.rows[1:]]
    first = [mf.ksg_mi(x, y, K, metric="euclidean", groups=layers.texts, diagnostics=True) for x, y in pairs]
    mi = mf.ksg_mi_matrix(layers.rows, K, groups=layers.texts)
    np.fill_diagonal(mi, np.nan)  # of a layer with itself the estimator says its ceiling
    return Found(mi, null(layers.tokens), null(np.zeros_like(layers.tokens)), first)


def show(layers: Layers, found: Found) -> None:
    print(f"{layers.name}: {len(layers.tokens)} rows, k = {K}, ceiling {found.first[0].ceiling:.2f} (nats)")
    print(f"{'layers':>8}{'truth':>8}{'MI':>8}{'all rows':>10}{'within token':>14}{'excess':>8}   verdict")
    for m, one in enumerate(found.first, 1):
        truth = "" if layers.truth is None else f"{layers.truth[0, m]:.2f}"
        within, free = found.within[:, 0, m].mean(), found.free[:, 0, m].mean()
        numbers = f"{truth:>8}{one.mi:8.2f}{free:10.2f}{within:14.2f}{one.mi - within:8.2f}"
        why = ", ".join(dict.fromkeys(reason.partition(":")[0] for reason in one.reasons))
        print(f"{f'1, {m + 1}':>8}{numbers}   {why or one.verdict}")


def draw_lines(canvas: Canvas, layers: Layers, found: Found) -> None:
    """Layer 1 with the others: the estimate, the range of each null, and the truth."""
    kinds = [
        ("MI", "accent", found.mi[None]),
        ("within token", "alert", found.within),
        ("all rows", "other", found.free),
    ]
    kinds += [] if layers.truth is None else [("truth", "ink", layers.truth[None])]
    series = []
    for name, color, draws in kinds:
        low, high = draws[:, 0, 1:].min(0), draws[:, 0, 1:].max(0)
        middle, reach = ((high + low) / 2).tolist(), ((high - low) / 2).tolist()
        series.append(Series(name, middle, color, reach, label=name, dashed=name == "truth"))
    names = [str(m) for m in range(2, len(found.mi) + 1)]
    places = np.linspace(0, 1, len(names)).tolist()
    ticks = list(zip(places, names, strict=True))[:: -(-len(names) // 9)]
    measure = "layer 1 with layer m: MI and its nulls, nats"
    draw_chart(canvas, Panel(measure, "layer m", places, names, ticks, series, include=0, right=92))
    about = f"{len(layers.tokens):,} rows of {len(np.unique(layers.texts))} texts, k = {K}; each null: {DRAWS} permutations,"
    ceiling = f'all in its band. Near the ceiling of {found.first[0].ceiling:.2f}: "more than this".'
    for at, note in enumerate((about, ceiling, "Blank: layer 0, the embedding, and a layer with itself.")):
        canvas.text(46, 312 + 18 * at, note, size=11.5)


def draw_map(canvas: Canvas, values: np.ndarray, high: float, measure: str) -> None:
    count = len(values) + 1
    cells: list[list[float | None]] = [[None] * count for _ in range(count)]
    for a, b in np.argwhere(~np.isnan(values)) + 1:
        cells[a][b] = float(values[a - 1, b - 1])
    place = draw_heatmap(canvas, cells, low=0.0, high=high, measure=measure)
    side = place["side"] / count
    for a, b in np.argwhere(~np.isnan(values)) + 1 if side > 30 else ():
        value, x, y = values[a - 1, b - 1], place["left"] + (b + 0.5) * side, place["top"] + (count - a - 0.5) * side
        canvas.text(x, y + 4, f"{value:.2f}", anchor="middle", color="paper" if value > 0.45 * high else "ink")


def main(model: str = "minilm", n: int = 1500, out: str | Path = "layer_information.svg") -> dict[str, Found]:
    answers = {}
    sheet = Canvas(3 * WIDTH, 2 * (HEIGHT + 56), name="sheet", title="Information between layers", standalone=True)
    for row, make in enumerate((planted, lambda: of_model(model, n))):
        layers, top = make(), row * (HEIGHT + 56)
        found = answers[layers.name] = information(layers)
        show(layers, found)
        print()
        null = found.within.mean(0)
        said = f"layers 1 and {len(null)} share {found.mi[0, -1]:.2f} nats, token identity alone {null[0, -1]:.2f}"
        if layers.truth is not None:
            said = f"every estimate is within {np.nanmax(abs(found.mi - layers.truth)):.2f} nats of the truth"
        sheet.text(46, top + 34, f"{layers.name}: {said}", size=17, color="ink", weight=600)
        panels = [Canvas(WIDTH, HEIGHT, name=layers.name, title=layers.name, standalone=True) for _ in range(3)]
        high = float(np.ceil(np.nanmax(found.mi)))
        draw_lines(panels[0], layers, found)
        draw_map(panels[1], found.mi, high, "mutual information, nats")
        draw_map(panels[2], found.mi - null, high, "excess over the within-token null, nats")
        for at, panel in enumerate(panels):
            sheet.add(f'<g transform="translate({at * WIDTH} {top + 48})">{panel.svg()}</g>')
    Path(out).write_text(sheet.svg(), encoding="utf-8")
    print(f"drawn in {out}")
    return answers


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "minilm")
