"""What a map between scales can change, on rows that it was not fitted to. Rows are centred and of one size (alignment.py).

r2                     1 - sum |f(x) - y|^2 / sum |y|^2: y is centred by the fitting rows
retrieval              share of rows whose f(x_i) has y_i, or a row equal to it, as its nearest neighbour among all y
knn_kl                 nats, D(f(x) || y) between disjoint halves of the texts (Wang, Kulkarni, Verdu 2009), in the target's
                       information space
distortion             Kruskal's stress-1 of distances within f(x), relative to those within y
mi                     nats, KSG1 of (w, t): t the target in its information space, w the image there of the source in its own.
                       w is a function of the source z, so the truth is at most I(z; t), which is `before`
distance_correlation, cka, overlap   which a rotation does not change: of (f(x), y)

A map cannot create information. But the estimator compares distances, which a map also changes: so z and w are whitened,
and an invertible linear map, whose image has all that the source has, then has exactly the source's estimate. An estimate that
rises nevertheless is one that sees more of the same.
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


def measures(mapped: Tensor, image: Tensor, held: Held) -> dict[str, float]:
    """Every metric of f(x) (n, e); image (n, d'): w."""
    rows = held.some()
    f, y = mapped[rows], held.y[rows]
    return {
        **pair_measures(mapped, held),
        "distortion": float(stress(y, f, normalized=True)),
        "mi": information(image, held),
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


def information(image: Tensor, held: Held) -> float:
    """I(w; t), w whitened."""
    rows = held.some()
    target = held.space.project(held.y[rows])
    white = whitened(image[rows])
    return float(ksg_mi(white, target, _K_INFORMATION, metric="euclidean", groups=held.texts_of(rows)))


def whitened(x: Tensor) -> Tensor:
    """(n, d) -> (n, r): centred, uncorrelated, of variance one, in the r directions in which x varies."""
    centered = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centered.T @ centered / x.shape[0])
    kept = values > values[-1].clamp_min(1e-300) * _FLAT
    if not bool(kept.any()):
        return centered[:, :1]
    return centered @ vectors[:, kept] / values[kept].sqrt()


def _retrieval(f: Tensor, y: Tensor) -> float:
    nearest = knn(f, 1, y).indices.squeeze(1)
    return float((y[nearest] == y).all(1).double().mean())


def _divergence(mapped: Tensor, y: Tensor, texts: Tensor | None) -> float:
    """Of halves: a row's own pair would be its nearest neighbour on the other side."""
    labels = torch.arange(len(y), device=y.device) if texts is None else texts.to(y.device)
    first = torch.isin(labels, labels.unique()[::2])
    return float(knn_kl_divergence(mapped[first], y[~first], _K_DIVERGENCE))
