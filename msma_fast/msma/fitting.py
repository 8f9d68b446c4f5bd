"""Fitting maps between scales, and their nulls, to the same rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.msma.maps import CLOSED, Linear, moments
from msma_fast.msma.mlp_map import PAPER, Learned, Weights, train
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.sides import Side, representative

MAPS = (*CLOSED, "mlp")
_HELD = 5  # one text of so many chooses constants and the epoch

Map = Linear | Learned
Pair = tuple[int, int]  # the numbers of the source and of the target


class Recipe(NamedTuple):
    """What is fitted; weights, information_loss and seed are the learned map's."""

    map: str
    weights: Weights = PAPER
    information_loss: str = "infonce"
    seed: int = 0


class Fitted(NamedTuple):
    """A map between two scales and its nulls: the same kind of map fitted to shuffled pairs (None where not asked), and the
    unpaired transport of moments (None between scales of different width)."""

    forward: Map
    shuffled: Map | None
    moments: Linear | None


class Checkpoint(NamedTuple):
    """Where training is kept, and the digest of its rows, of which are held out and of their shuffle."""

    folder: Path
    rows: str


def representatives(acts: Activations, scales: Scales, how: str) -> list[tuple[int, ...]]:
    """The layers that stand for each scale (sides.py)."""
    return [representative(acts, span, how) for span in scales.ranges]


class Frame:
    """What all maps between the scales of `acts` share, layers[i] standing for scale i: its standard rows (n, d) float64, the
    rows held out to choose constants, the shuffle of pairs, and the transports of moments."""

    def __init__(self, acts: Activations, layers: Sequence[tuple[int, ...]], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        held = held_out(acts, generator)
        self.sides = [Side.of(acts, chosen) for chosen in layers]
        self.rows = [side.standard(side.rows(acts)) for side in self.sides]
        self._held = held.to(self.rows[0].device)
        self._shuffle = torch.randperm(acts.n_tokens, generator=generator).to(self.rows[0].device)
        self._moments: dict[Pair, Linear] = {}

    def fit(self, pair: Pair, recipe: Recipe, *, nulls: bool, checkpoint: Path | None = None) -> Fitted:
        """The map from one scale to another, and its nulls."""
        x, y = (self.rows[one] for one in pair)
        kept = None if checkpoint is None else Checkpoint(checkpoint, _digest([x, y, self._held, self._shuffle]))
        name = f"{pair[0]}-{pair[1]}"
        return Fitted(
            _fit(x, y, self._held, recipe, kept, name),
            _fit(x, y[self._shuffle], self._held, recipe, kept, f"{name}-shuffled") if nulls else None,
            self.moments(pair),
        )

    def moments(self, pair: Pair) -> Linear | None:
        """Fitted once; None between scales of different width."""
        x, y = (self.rows[one] for one in pair)
        if pair not in self._moments and x.shape[1] == y.shape[1]:
            self._moments[pair] = moments(x, y, self._held)
        return self._moments.get(pair)


def held_out(acts: Activations, generator: torch.Generator) -> Tensor:
    """(n,) bool: the rows of every fifth text, or every fifth row, in random order."""
    ids = torch.arange(acts.n_tokens) if acts.text_ids is None else acts.text_ids.cpu()
    texts = ids.unique()
    if len(texts) < _HELD:
        ids, texts = torch.arange(acts.n_tokens), torch.arange(acts.n_tokens)
    chosen = texts[torch.randperm(len(texts), generator=generator)[: len(texts) // _HELD]]
    return torch.isin(ids, chosen)


def _fit(x: Tensor, y: Tensor, held: Tensor, recipe: Recipe, checkpoint: Checkpoint | None, name: str) -> Map:
    if recipe.map != "mlp":
        return CLOSED[recipe.map](x, y, held)
    path, resume = None, None
    asked: dict[str, Any] = {}
    if checkpoint is not None:
        path = checkpoint.folder / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = {"weights": list(recipe.weights), "information": recipe.information_loss, "seed": recipe.seed}
        asked |= {"rows": checkpoint.rows}
        if path.exists():
            kept = torch.load(path, weights_only=True, map_location="cpu")
            if kept["asked"] != asked:
                raise ValueError(f"checkpoint: expected {asked} in {path}, got {kept['asked']}: other rows or settings")
            resume = kept["state"]

    def keep(state: dict[str, Any]) -> None:
        if path is not None:
            half = path.with_suffix(".part")
            torch.save({"asked": asked, "state": state}, half)
            os.replace(half, path)

    return train(
        x, y, held, recipe.weights,
        information=recipe.information_loss, seed=recipe.seed, resume=resume, after_epoch=keep,
    )  # fmt: skip


def _digest(rows: Sequence[Tensor]) -> str:
    """Of the numbers themselves."""
    found = hashlib.sha256()
    for each in rows:
        found.update(each.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
