"""How alike two models see the same texts: shared nearest neighbours, layer by layer, on planted models and on real ones.

    m(X, Y) = 1/n sum_i |A_i and B_i| / k        A_i, B_i: the k texts nearest to text i in a layer of each model

This is the mutual k-nearest-neighbour alignment of Huh et al., The Platonic Representation Hypothesis (arXiv 2405.07987), k =
10, with the cosine for distance. Two tokenisers cut a text into different tokens, so the unit is the text: the mean of its
token states, each divided by its root mean square first, so that a few states of large norm do not stand for the text. Both
models read the same characters, the first 240 of each text. As we read it the paper reports the largest value over pairs
of layers, and it does not divide token states by their size before it takes their mean.

Texts in random order share k / (n - 1) of their neighbours. The largest of many pairs is more than that by chance, so the
null takes the largest too: the texts of the second model are exchanged, the same way in every layer.

    python examples/two_models_overlap.py [MODEL MODEL]      minilm and smollm2 (the default), folders or names on the hub
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import msma_fast as mf
from msma_fast.activations import collect_activations, read_texts
from msma_fast.msma.spaces import rms_normalized
from msma_fast.report.canvas import Canvas
from msma_fast.report.color import LEVELS
from msma_fast.report.ticks import layer_ticks, linear_ticks, tick

K, DRAWS, CHARACTERS = 10, 199, 240
Layers = list[torch.Tensor]  # (n, d_l), a row for each text


class Found(NamedTuple):
    """overlap (L_a, L_b); null (DRAWS,) the largest overlap with exchanged texts; mean: of all pairs and draws; chance:
    k / (n - 1); p_value = (1 + draws at least the largest overlap) / (1 + DRAWS)."""

    overlap: np.ndarray
    null: np.ndarray
    mean: float
    chance: float
    p_value: float


def text_means(acts: mf.Activations) -> Layers:
    """The mean of the RMS-normalised states of each text (texts, d_l), in the order of the texts."""
    assert acts.text_ids is not None
    _, place, counts = acts.text_ids.unique(return_inverse=True, return_counts=True)
    rows = (rms_normalized(layer) for layer in acts)
    return [torch.zeros(len(counts), x.shape[1]).index_add_(0, place, x) / counts[:, None] for x in rows]


def of_models(a: str, b: str, texts: int) -> tuple[Layers, Layers]:
    """Texts of at least CHARACTERS characters, so that all are of one length, and no two that begin alike."""
    starts = dict.fromkeys(text[:CHARACTERS] for text in read_texts("commons").texts if len(text) >= CHARACTERS)
    given = list(starts)[:texts]
    one, other = (text_means(collect_activations(name, None, given, tokens_per_text=None)) for name in (a, b))
    return one, other


def planted(texts: int = 300, kind: str = "same", seed: int = 0) -> tuple[Layers, Layers]:
    """Two models of three and four layers, 64 wide, texts in 6 of them. "same": rotations of one cloud; "noisy": with more and
    more noise in the layers of the second; "independent": two clouds."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((texts, 6))
    other = rng.standard_normal((texts, 6)) if kind == "independent" else latent

    def layer(points: np.ndarray, noise: float = 0.0) -> torch.Tensor:
        frame = np.linalg.qr(rng.standard_normal((64, 6)))[0]
        return torch.from_numpy((points + noise * rng.standard_normal(points.shape)) @ frame.T)

    noises = (0.0, 0.3, 1.0, 3.0) if kind == "noisy" else (0.0,) * 4
    return [layer(latent) for _ in range(3)], [layer(other, noise) for noise in noises]


def edges(layers: Layers) -> torch.Tensor:
    """(L, n, n) float32, 1 where the text of a column is one of the K nearest to the text of a row."""
    n = len(layers[0])
    found = [mf.knn(rows, K, metric="cosine").indices for rows in layers]
    return torch.stack([torch.zeros(n, n).scatter_(1, indices, 1.0) for indices in found])


def overlap(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """(L_a, L_b) from the edges of each. Common neighbours are common ones of the two matrices, so that one product counts
    all pairs of layers; of one pair it is mf.NeighborGraph.overlap, or mf.neighborhood_overlap from the rows."""
    return (a.flatten(1) @ b.flatten(1).T).double().numpy() / (K * a.shape[1])


def compare(a: Layers, b: Layers, seed: int = 0) -> Found:
    generator = torch.Generator().manual_seed(seed)
    mine, theirs = edges(a), edges(b)
    n, null = mine.shape[1], []
    for _ in range(DRAWS):
        order = torch.randperm(n, generator=generator)
        null.append(overlap(mine, theirs[:, order][:, :, order]))
    measured, largest = overlap(mine, theirs), np.max(null, (1, 2))
    p_value = (1 + int((largest >= measured.max()).sum())) / (1 + DRAWS)
    return Found(measured, largest, float(np.mean(null)), K / (n - 1), p_value)


def show(title: str, found: Found) -> None:
    row, column = np.unravel_index(found.overlap.argmax(), found.overlap.shape)
    print(title)
    print(f"  largest overlap {found.overlap.max():.3f}, layer {row} with layer {column} (p = {found.p_value:.3f})")
    print(f"  exchanged texts: largest {found.null.max():.3f}, mean {found.mean:.3f}; chance {found.chance:.3f}")
    print(f"  layer {row} with each: {' '.join(f'{value:.2f}' for value in found.overlap[row])}\n")


def draw(found: Found, a: str, b: str) -> str:
    """The overlaps as a map, the first model upwards and the second to the right, coloured from chance to the largest."""
    rows, columns = found.overlap.shape
    left, top, width, height = 56.0, 76.0, 460.0, 300.0
    low, high = found.chance, max(float(found.overlap.max()), float(found.null.max()))
    sheet = Canvas(620, 456, name="overlap", title=f"Shared neighbours of {a} and {b}", standalone=True)
    sheet.text(left, 30, f"{a} and {b} share up to {found.overlap.max():.0%} of neighbours", size=17, color="ink")
    about = f"by chance {found.chance:.2f}; at most {found.null.max():.2f} in {DRAWS} exchanges of the texts"
    sheet.text(left, 54, f"mean share of {K} nearest texts in common; {about}", size=12)
    w, h = width / columns, height / rows
    for row, column in np.ndindex(rows, columns):
        share = float(np.clip((found.overlap[row, column] - low) / (high - low), 0, 1))
        x, y = left + column * w, top + (rows - 1 - row) * h
        sheet.rect(x, y, w, h, f"m{round(share * (LEVELS - 1))}", ' shape-rendering="crispEdges"')
        if w > 30 and h > 15:
            color = "paper" if share > 0.45 else "ink"
            number = f"{found.overlap[row, column]:.2f}"
            sheet.text(x + w / 2, y + h / 2 + 4, number, anchor="middle", color=color)
    for row in layer_ticks(rows):
        sheet.text(left - 8, top + height - (row + 0.5) * h + 4, str(row), anchor="end")
    for column in layer_ticks(columns):
        sheet.text(left + (column + 0.5) * w, top + height + 18, str(column), anchor="middle")
    sheet.text(left + width / 2, top + height + 42, f"layer of {b}", anchor="middle")
    sheet.text(18, top + height / 2, f"layer of {a}", anchor="middle", turn=True)
    for level in range(LEVELS):
        sheet.rect(left + width + 16, top + height * (1 - (level + 1) / LEVELS), 12, height / LEVELS + 0.6, f"m{level}")
    for value in linear_ticks(low, high):
        sheet.text(left + width + 34, top + height * (1 - (value - low) / (high - low)) + 4, tick(value))
    return sheet.svg()


def main(
    a: str = "minilm", b: str = "smollm2", texts: int = 100, out: str | Path = "two_models_overlap.svg"
) -> dict[str, Found]:
    answers = {kind: compare(*planted(kind=kind)) for kind in ("same", "noisy", "independent")}
    answers["models"] = compare(*of_models(a, b, texts))
    titles = {"same": "planted: one cloud, rotated", "noisy": "planted: layers of growing noise"}
    titles |= {"independent": "planted: two independent clouds", "models": f"{a} and {b}, {texts} texts"}
    for kind, found in answers.items():
        show(titles[kind], found)
    Path(out).write_text(draw(answers["models"], a, b), encoding="utf-8")
    print(f"drawn in {out}")
    return answers


if __name__ == "__main__":
    first, second = sys.argv[1:3] or ("minilm", "smollm2")
    main(first, second)
