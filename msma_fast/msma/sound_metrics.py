"""What a map between scales can change, on rows that it was not fitted to. Rows are centred and of one size (sides.py).

r2                     1 - sum |f(x) - y|^2 / sum |y|^2: y is centred by the fitting rows
retrieval              share of rows whose f(x_i) has y_i, or a row equal to it, as its nearest neighbour among all y
knn_kl                 nats, D(f(x) || y) between disjoint halves of the texts (Wang, Kulkarni, Verdu 2009), in the target's
                       information space
distortion             Kruskal's stress-1 of distances within f(x), relative to those within y
mi                     nats, KSG1 of (g(w), t): t the target in its information space, w the image there of the source z in its
                       own, g the linear prediction of t (below). w is a function of z, so the truth is at most I(z; t);
                       `before` is KSG1 of (g(z, w), t), of all that the source and its image say, which is as much
distance_correlation, cka, overlap   which a rotation does not change: of (f(x), y)

A map cannot create information. But KSG compares distances, which a map also changes, and sees little of what 16 coordinates
of mixed use tell. So whatever tells of t is first laid on it, by least squares fitted to rows of other texts (five folds), and
divided by its size. That is a function of what is known, so that each estimate is of a lower bound; and an invertible linear
map, whose image has all that the source has, has exactly the source's estimate. What w bends into view is in (z, w) too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.distortion import stress
from msma_fast.entropy import knn_kl_divergence
from msma_fast.information import ksg_mi
from msma_fast.neighbors import knn
from msma_fast.similarity import cka, distance_correlation, neighborhood_overlap

METRICS = ("r2", "retrieval", "knn_kl", "distortion", "mi", "distance_correlation", "cka", "overlap")
HIGHER_IS_BETTER = {name: name not in ("knn_kl", "distortion") for name in METRICS}
INVARIANT = ("distance_correlation", "cka", "overlap")  # under rotations
DIMENSIONS = 16  # of an information space, or all there are
_K_INFORMATION, _K_DIVERGENCE, _K_OVERLAP = 3, 5, 10
_ROWS = 2000  # of what costs n^2
_FLAT = 1e-12  # of the largest variance: directions that a map has lost
_FOLDS = 5


class Space(NamedTuple):
    """The leading principal axes (d, d') of a scale's fitting rows, and the size that makes them one."""

    axes: Tensor
    size: float

    @classmethod
    def of(cls, rows: Tensor) -> Space:
        """rows (n, d), centred."""
        _, vectors = torch.linalg.eigh(rows.T @ rows)
        axes = vectors[:, -min(DIMENSIONS, rows.shape[1]) :].flip(1).contiguous()
        return cls(axes, float((rows @ axes).square().mean().sqrt()) or 1.0)

    def project(self, rows: Tensor) -> Tensor:
        return rows @ self.axes.to(rows) / self.size

    def restore(self, projected: Tensor) -> Tensor:
        """Rows (n, d) of the space alone."""
        return projected * self.size @ self.axes.to(projected).T


class Held(NamedTuple):
    """The rows to measure on: y (n, e), their space, texts (n,) or None. At most 2,000 are looked at where that costs n^2."""

    y: Tensor
    space: Space
    texts: Tensor | None

    def some(self) -> Tensor:
        n = self.y.shape[0]
        rows = torch.arange(n) if n <= _ROWS else torch.linspace(0, n - 1, _ROWS).long()
        return rows.to(self.y.device)

    def texts_of(self, rows: Tensor) -> Tensor | None:
        return None if self.texts is None else self.texts.to(rows.device)[rows]


def geometry(mapped: Tensor, held: Held) -> dict[str, float]:
    """Every metric of f(x) (n, e) but mi."""
    rows = held.some()
    f, y = mapped[rows], held.y[rows]
    return {
        **pair_measures(mapped, held),
        "distortion": float(stress(y, f, normalized=True)),
        **invariant(f, y, held.texts_of(rows)),
    }


def pair_measures(mapped: Tensor, held: Held) -> dict[str, float]:
    """r2, retrieval and knn_kl of f(x) (n, e)."""
    rows = held.some()
    return {
        "r2": 1.0 - float((mapped - held.y).square().sum() / held.y.square().sum()),
        "retrieval": _retrieval(mapped[rows], held.y[rows]),
        "knn_kl": _divergence(held.space.project(mapped), held.space.project(held.y), held.texts),
    }


def invariant(x: Tensor, y: Tensor, texts: Tensor | None) -> dict[str, float]:
    """What also compares sides of different width."""
    return {
        "distance_correlation": float(distance_correlation(x, y)),
        "cka": float(cka(x, y)),
        "overlap": float(neighborhood_overlap(x, y, _K_OVERLAP, groups=texts)),
    }


def information(told: Tensor, held: Held) -> float:
    """I(g(told); t), told (n, d') what is known of the source."""
    rows = held.some()
    target = held.space.project(held.y[rows])
    laid = predicted(told[rows], target, held.texts_of(rows))
    return float(ksg_mi(laid, target, _K_INFORMATION, metric="euclidean", groups=held.texts_of(rows)))


def predicted(x: Tensor, t: Tensor, texts: Tensor | None) -> Tensor:
    """(n, d), (n, e) -> (n, e) the least squares prediction of t, each row's by rows of other texts; of size one."""
    labels = torch.arange(len(x), device=x.device) if texts is None else torch.unique(texts, return_inverse=True)[1]
    found = torch.zeros_like(t)
    for fold in range(_FOLDS):
        own = labels % _FOLDS == fold
        mean, middle = x[~own].mean(0), t[~own].mean(0)
        centered = x[~own] - mean
        values, vectors = torch.linalg.eigh(centered.T @ centered / len(centered))
        kept = values > values[-1].clamp_min(1e-300) * _FLAT
        axes = vectors[:, kept] / values[kept].sqrt()
        slope = (centered @ axes).T @ (t[~own] - middle) / len(centered)
        found[own] = (x[own] - mean) @ axes @ slope
    size = found.square().mean().sqrt()
    return found / size if size > 0 else found


def _retrieval(f: Tensor, y: Tensor) -> float:
    nearest = knn(f, 1, y).indices.squeeze(1)
    return float((y[nearest] == y).all(1).double().mean())


def _divergence(mapped: Tensor, y: Tensor, texts: Tensor | None) -> float:
    """Of halves: a row's own pair would be its nearest neighbour on the other side."""
    labels = torch.arange(len(y), device=y.device) if texts is None else texts.to(y.device)
    first = torch.isin(labels, labels.unique()[::2])
    return float(knn_kl_divergence(mapped[first], y[~first], _K_DIVERGENCE))
