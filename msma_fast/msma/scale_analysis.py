"""The scales of a model as a report shows them, how much of them is a matter of choice, and what training has to do with it.

found            `find_scales`
forced           the boundaries of three scales a stack whatever the test says; None where a stack has fewer than three layers
turnover         -log similarity of a layer and the one before it (L,), None where a stack begins
spaces           turnover of the overlap, and the boundaries, of rows as they are, of z-scores of every coordinate, and of rows
                 divided by their root mean square, in which everything else is told
projections      excess information (layer_information.py) of a layer and the one before it in d' leading components
untrained        the same model with random weights on the same tokens: CKA with the trained layer, dimension, and what either
                 knows of the labels of layer_knowledge.py
All of the first texts alone, as many as hold about `rows` tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.information import ksg_mi_matrix
from msma_fast.msma import scales
from msma_fast.msma.layer_information import Split, split
from msma_fast.msma.layer_knowledge import knowledge, labels_of
from msma_fast.msma.layers import twonn
from msma_fast.msma.scale_signals import SIMILARITIES
from msma_fast.msma.scales import ScalePartition, find_scales
from msma_fast.msma.spaces import information_space, rms_normalized
from msma_fast.permutation import permute_within
from msma_fast.similarity import cka

PROJECTIONS = (8, 16, 32)
RMS = "divided by their root mean square"
_KSG_K, _NULLS = 3, 3
_LEAST = 50 * _KSG_K

Step = Callable[[], None]
Rows = list[Tensor]


def z_scores(x: Tensor) -> Tensor:
    """(n, d) float32: every coordinate centred and divided by its standard deviation; a constant one is 0."""
    x = x.to(torch.float32)
    spread = x.std(0, correction=0)
    return (x - x.mean(0)) / torch.where(spread > 0, spread, 1.0)


SPACES: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda x: x.to(torch.float32),
    "z-scores": z_scores,
    RMS: rms_normalized,
}
STEPS = len(SPACES) + 3  # of progress


def first_texts(acts: Activations, rows: int) -> Activations:
    """The first texts, at least `rows` tokens of them if there are so many; the first rows where texts are unknown."""
    if acts.text_ids is None:
        return acts.select(rows=torch.arange(min(rows, acts.n_tokens)))
    ids, counts = acts.text_ids.unique(return_counts=True)
    enough = int(torch.searchsorted(counts.cumsum(0), rows)) + 1
    return acts.select(texts=ids[:enough].tolist())


def scale_analysis(
    acts: Activations, untrained: Activations | None, k: int, resamples: int, seed: int, step: Step
) -> dict[str, Any]:
    """The `scales` section of the results; acts and untrained: the same tokens, few. step() is called STEPS times."""
    found = find_scales(acts, n_resamples=resamples, seed=seed, k=k, untrained=untrained)
    step()
    spaces: dict[str, Any] = {}
    for name, space in SPACES.items():
        spaces[name] = _in_space([space(acts.layer(index)) for index in range(len(acts))], acts, found, k, seed)
        step()
    parts = _parts(acts, seed)
    projections = None if parts is None else _projections(acts, parts, seed)
    step()
    other = None if untrained is None else _untrained(acts, untrained, parts, seed)
    step()
    return {
        "n": acts.n_tokens,
        "k": k,
        "resamples": resamples,
        "stacks": [list(stack) for stack in found.stacks],
        "found": _partition(found),
        "forced": _forced(found, seed),
        "spaces": spaces,
        "projections": projections,
        "untrained": other,
    }


def _in_space(rows: Rows, acts: Activations, found: ScalePartition, k: int, seed: int) -> dict[str, Any]:
    beside = {name: similarity(rows, k, acts.text_ids, False) for name, similarity in SIMILARITIES.items()}
    told: dict[str, Any] = {name: _turnover(signal, found) for name, signal in beside.items()}
    return told | {"boundaries": [one.place for one in scales.boundaries_of(beside, found.stacks, None, seed)]}


def _turnover(beside: np.ndarray, found: ScalePartition) -> list[float | None]:
    starts = {first for first, _ in found.stacks}
    values = -np.log(np.clip(beside, 1e-12, 1.0))
    return [None, *(None if layer in starts else _plain(value) for layer, value in enumerate(values, 1))]


def _parts(acts: Activations, seed: int) -> Split | None:
    """Rows for information, None where labels are missing or rows are few."""
    if acts.text_ids is None or acts.token_ids is None:
        return None
    parts = split(acts.text_ids, acts.token_ids, acts.n_tokens, seed)
    return parts if parts.rows.shape[0] >= _LEAST and parts.fit.shape[0] >= max(PROJECTIONS) else None


def _projections(acts: Activations, parts: Split, seed: int) -> dict[str, list[float | None]]:
    text_ids, token_ids = (torch.as_tensor(ids)[parts.rows] for ids in (acts.text_ids, acts.token_ids))
    same, generator = token_ids.unique(return_inverse=True)[1], torch.Generator().manual_seed(seed)
    draws = [None, *(permute_within(same, generator) for _ in range(_NULLS))]
    rows = [rms_normalized(acts.layer(index)) for index in range(len(acts))]
    found: dict[str, list[float | None]] = {}
    for width in PROJECTIONS:
        spaces = [information_space(x[parts.rows], x[parts.fit], min(width, x.shape[1])) for x in rows]
        values: list[float | None] = [None]
        for pair in pairwise(spaces):
            if any(space.unique(dim=0).shape[0] < space.shape[0] for space in pair):
                values.append(None)  # rows that repeat, of an embedding: no density to estimate
                continue
            each = [
                float(ksg_mi_matrix(list(pair), _KSG_K, metric="euclidean", groups=text_ids, permutation=draw)[0, 1])
                for draw in draws
            ]
            values.append(_plain(each[0] - float(np.mean(each[1:]))))
        found[str(width)] = values
    return found


def _untrained(acts: Activations, other: Activations, parts: Split | None, seed: int) -> dict[str, Any]:
    sides = [[rms_normalized(one.layer(index)) for index in range(len(one))] for one in (acts, other)]
    told: dict[str, Any] = {
        "model": other.metadata.get("model"),
        "cka": [_plain(float(cka(a, b))) for a, b in zip(*sides, strict=True)],
        "dimension": [[_plain(twonn(rows, 1)[0]) for rows in side] for side in sides],
        "knowledge": {},
    }
    if parts is not None:
        ids = (None if each is None else each[parts.rows] for each in (acts.next_token_ids, acts.positions))
        text_ids, token_ids = (torch.as_tensor(each)[parts.rows] for each in (acts.text_ids, acts.token_ids))
        labels, width = labels_of(token_ids, *ids), min(16, *acts.dims)
        known = [
            knowledge(
                [information_space(x[parts.rows], x[parts.fit], width) for x in side], labels, text_ids, _KSG_K, 1, seed
            )
            for side in sides
        ]
        told["knowledge"] = {name: [[_plain(value) for value in one[name].value] for one in known] for name in labels}
    return told


def _forced(found: ScalePartition, seed: int) -> list[dict[str, Any]] | None:
    signals = found.signals or {}
    if min(last - first + 1 for first, last in found.stacks) < 3:
        return None
    pairs = {name: signals[name] for name in SIMILARITIES}
    beside = {name: np.diagonal(signal, 1) for name, signal in pairs.items()}
    forced = scales.boundaries_of(beside, found.stacks, 3, seed, np.mean(list(pairs.values()), 0))
    return [{"layer": one.place, "p_value": one.p_value} for one in forced]


def _partition(found: ScalePartition) -> dict[str, Any]:
    return {
        "ranges": [list(each) for each in found.ranges],
        "names": found.scale_names(),
        "boundaries": [one._asdict() | {"interval": one.interval and list(one.interval)} for one in found.boundaries],
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
