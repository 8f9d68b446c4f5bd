"""What stands for a scale when maps are fitted to it: rows of one width, centred and of one size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.msma.sound_metrics import Space

REPRESENTATIVES = ("medoid", "last", "mean")
_MEDOID_ROWS = 500


class Side(NamedTuple):
    """How a scale is represented: layers, their mean (d,), the root mean square of what is left, and its leading axes."""

    layers: tuple[int, ...]
    mean: Tensor
    size: float
    space: Space

    @classmethod
    def of(cls, acts: Activations, layers: tuple[int, ...]) -> Side:
        """Of fitting rows. Raises ValueError for layers of different width, NaN and inf, and rows that are all the same."""
        told = f"layers {layers[0]} to {layers[-1]}"
        widths = [acts.dims[layer] for layer in layers]
        if len(set(widths)) > 1:
            raise ValueError(f"acts: expected {told} of one width, got {widths}")
        rows = _rows(acts, layers)
        if not bool(rows.isfinite().all()):
            raise ValueError(f"acts: expected finite values, got NaN or inf in {told}")
        mean = rows.mean(0)
        centered = rows - mean
        size = float(centered.square().mean().sqrt())
        if size == 0.0:
            raise ValueError(f"acts: expected rows that differ, got one row repeated in {told}")
        return cls(layers, mean, size, Space.of(centered / size))

    def rows(self, acts: Activations) -> Tensor:
        """(n, d) float64."""
        return _rows(acts, self.layers)

    def standard(self, rows: Tensor) -> Tensor:
        return (rows.to(torch.float64) - self.mean.to(rows.device)) / self.size

    def restored(self, rows: Tensor) -> Tensor:
        return rows * self.size + self.mean.to(rows.device)


def representative(acts: Activations, span: tuple[int, int], how: str) -> tuple[int, ...]:
    """The layers that stand for those from first to last: the one most like the others (linear CKA, which is the cosine of
    the centred rows' inner products), the last one, or all, for their mean."""
    layers = tuple(range(span[0], span[1] + 1))
    if how == "last":
        return layers[-1:]
    if how == "mean" or len(layers) == 1:
        return layers
    step = -(-acts.n_tokens // _MEDOID_ROWS)
    products = []
    for layer in layers:
        rows = acts.layer(layer)[::step]
        rows = rows - rows.mean(0)
        products.append(torch.nn.functional.normalize((rows @ rows.T).flatten(), dim=0))
    alike = torch.stack(products)
    return (layers[int((alike @ alike.T).sum(1).argmax())],)


def _rows(acts: Activations, layers: tuple[int, ...]) -> Tensor:
    first, *others = (acts.layer(layer, dtype=torch.float64) for layer in layers)
    return sum(others, first) / len(layers)
