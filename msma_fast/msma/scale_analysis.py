"""The scales of a model as a report shows them, how much of them is a matter of choice, and what training has to do with it.

boundaries       those of `count` scales a stack whatever the test says: three, more where more are supported
ranges           the layers between supported boundaries; told: whether the stacks are long enough for any to be
turnover         -log similarity of a layer and the one before it (L,), None where a stack begins
spaces           turnover of the overlap, and the boundaries, of rows as they are, of z-scores of every coordinate, and of rows
                 divided by their root mean square, in which everything else is told; robust: whether the boundaries are the
                 same everywhere, within a layer
projections      excess information (layer_information.py) of a layer and the one before it in d' leading components
untrained        the same model with random weights on the same tokens: CKA with the trained layer, dimension, and what either
                 knows of the labels of layer_knowledge.py, less what the token alone says
All of the first texts alone, as many as hold about `rows` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msma_fast._arrays import finite_or_none
from msma_fast.activations import Activations
from msma_fast.fisher import Readout
from msma_fast.msma import drift, scales
from msma_fast.msma.excess import DIMENSIONS, NEIGHBOURS, NULLS, excess_matrix, repeats
from msma_fast.msma.layer_information import Split, split
from msma_fast.msma.layer_knowledge import Known, knowledge, labels_at
from msma_fast.msma.layers import twonn
from msma_fast.msma.scale_signals import SIMILARITIES, halves
from msma_fast.msma.scales import ScalePartition, find_scales
from msma_fast.msma.spaces import information_space, rms_normalized, z_scores
from msma_fast.similarity import cka

PROJECTIONS = (2, 4, 8, 16)
RMS = "divided by their root mean square"
_LEAST = 50 * NEIGHBOURS

Step = Callable[[], None]
Rows = list[Tensor]
Stacks = Sequence[tuple[int, int]]


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
    acts: Activations,
    untrained: Activations | None,
    readout: Readout | None,
    k: int,
    resamples: int,
    seed: int,
    step: Step,
) -> dict[str, Any]:
    """The `scales` section of the results; acts and untrained: the same tokens, few. step() is called STEPS times.

    Raises TooFewRowsError where rows or texts are too few for k.
    """
    scales.enough(acts, halves(acts.text_ids, acts.n_tokens, resamples, seed)[0], k)
    stacks = scales.stacks_of(acts.names)
    spaces: dict[str, Any] = {}
    for name, space in SPACES.items():
        spaces[name] = _in_space([space(acts.layer(index)) for index in range(len(acts))], acts, stacks, k, seed)
        step()
    shortest = min(last - first + 1 for first, last in stacks)
    most = max(1 + sum(first < place <= last for place in spaces[RMS]["boundaries"]) for first, last in stacks)
    count = min(max(3, most), shortest)
    parts = _parts(acts, seed)
    signals = [*SIMILARITIES, "dimension"]
    if parts is not None:
        signals += ["information", *labels_at(acts, parts.rows)]
    if acts.metadata.get("attention_span") is not None:
        signals.append("attention_span")
    if readout is not None:
        signals.append("fisher_trace")
    found = find_scales(
        acts,
        signals=signals,
        n_scales=count,
        n_resamples=resamples,
        seed=seed,
        k=k,
        untrained=untrained,
        readout=readout,
    )
    step()
    projections = None if parts is None else _projections(acts, parts, seed)
    step()
    other = None if untrained is None else _untrained(acts, untrained, parts, seed)
    step()
    return {
        "n": acts.n_tokens,
        "k": k,
        "resamples": resamples,
        "stacks": [list(stack) for stack in stacks],
        "count": count,
        "told": shortest > drift.LEAST,
        "ranges": [list(each) for each in _supported(found)],
        "boundaries": [
            one._asdict() | {"interval": one.interval and list(one.interval), "drawn": list(one.drawn)}
            for one in found.boundaries
        ],
        "gain": {"value": found.gain, "p_value": found.gain_p_value, "untrained": found.gain_untrained},
        "spaces": spaces,
        "robust": _robust([one["boundaries"] for one in spaces.values()]),
        "projections": projections,
        "untrained": other,
    }


def _in_space(rows: Rows, acts: Activations, stacks: Stacks, k: int, seed: int) -> dict[str, Any]:
    beside = {name: similarity(rows, k, acts.text_ids, False) for name, similarity in SIMILARITIES.items()}
    told: dict[str, Any] = {name: _turnover(signal, stacks) for name, signal in beside.items()}
    return told | {"boundaries": [one.place for one in scales.boundaries_of(beside, stacks, None, seed)]}


def _robust(each: Sequence[Sequence[int]]) -> bool:
    """Whether every boundary of one space has one of every other within a layer."""
    return all(any(abs(a - b) <= 1 for b in there) for here in each for a in here for there in each)


def _turnover(beside: np.ndarray, stacks: Stacks) -> list[float | None]:
    starts = {first for first, _ in stacks}
    values = -np.log(np.clip(beside, 1e-12, 1.0))
    return [None, *(None if layer in starts else finite_or_none(value) for layer, value in enumerate(values, 1))]


def _parts(acts: Activations, seed: int) -> Split | None:
    """Rows for information, None where labels are missing or rows are few."""
    if acts.text_ids is None or acts.token_ids is None:
        return None
    parts = split(acts.text_ids, acts.token_ids, acts.n_tokens, seed)
    return parts if parts.rows.shape[0] >= _LEAST and parts.fit.shape[0] >= max(PROJECTIONS) else None


def _projections(acts: Activations, parts: Split, seed: int) -> dict[str, list[float | None]]:
    text_ids, token_ids = (torch.as_tensor(ids)[parts.rows] for ids in (acts.text_ids, acts.token_ids))
    rows = [rms_normalized(acts.layer(index)) for index in range(len(acts))]
    found: dict[str, list[float | None]] = {}
    for width in PROJECTIONS:
        spaces = [information_space(x[parts.rows], x[parts.fit], min(width, x.shape[1])) for x in rows]
        values: list[float | None] = [None]
        discrete = [repeats(space) for space in spaces]
        for pair, without in zip(pairwise(spaces), pairwise(discrete), strict=True):
            known = not any(without)
            values.append(
                finite_or_none(float(excess_matrix(pair, text_ids, token_ids, seed)[0, 1])) if known else None
            )
        found[str(width)] = values
    return found


def _untrained(acts: Activations, other: Activations, parts: Split | None, seed: int) -> dict[str, Any]:
    sides = [[rms_normalized(one.layer(index)) for index in range(len(one))] for one in (acts, other)]
    told: dict[str, Any] = {
        "model": other.metadata.get("model"),
        "cka": [finite_or_none(float(cka(a, b))) for a, b in zip(*sides, strict=True)],
        "dimension": [[finite_or_none(twonn(rows, 1)[0]) for rows in side] for side in sides],
        "knowledge": {},
    }
    if parts is not None:
        text_ids, labels, width = (
            torch.as_tensor(acts.text_ids)[parts.rows],
            labels_at(acts, parts.rows),
            min(DIMENSIONS, *acts.dims),
        )
        known = [
            knowledge(
                [information_space(x[parts.rows], x[parts.fit], width) for x in side],
                labels,
                text_ids,
                NEIGHBOURS,
                NULLS,
                seed,
            )
            for side in sides
        ]
        told["knowledge"] = {name: [_beyond_the_token(one[name]) for one in known] for name in labels}
    return told


def _beyond_the_token(known: Known) -> list[float | None]:
    null = [0.0] * len(known.value) if known.null is None else known.null
    return [finite_or_none(value - less) for value, less in zip(known.value, null, strict=True)]


def _supported(found: ScalePartition) -> list[tuple[int, int]]:
    starts = {first for first, _ in found.stacks} | {one.layer for one in found.boundaries if one.supported}
    ends = [*sorted(starts)[1:], len(found.names)]
    return [(first, end - 1) for first, end in zip(sorted(starts), ends, strict=True)]
