"""Two models, or two runs of one, layer by layer on the same tokens: a base model beside its fine-tuned one.

overlap          mean share of common k nearest neighbours of A's and B's layer l
cka              linear centred kernel alignment of the two
mi               KSG information between the two, nats, each in its information space (msma/spaces.py)
excess           mi less its mean over permutations among rows of the same token: two models that share nothing but the token
                 have much of the first and none of this
dimension        TwoNN of A's layer and of B's, and the difference B - A
All of RMS-normalised rows; tokens of one text are not neighbours. Standard errors are those of random halves of the texts,
drawn without replacement: SE^2 = B / (U - B) times the variance over draws (Politis, Romano 1994; msma_fast/intervals.py).
A supported boundary of A shifts by what B's nearest supported one is away from it; its interval is the middle 95 % of the same
in halves of the texts, the same half of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import finite_or_none
from msma_fast.activations import Activations
from msma_fast.diagnostics import neighbor_counts
from msma_fast.information import ksg_mi
from msma_fast.msma import drift
from msma_fast.msma.excess import DIMENSIONS, NEIGHBOURS, excess_matrix
from msma_fast.msma.layers import twonn
from msma_fast.msma.scale_signals import activations, halves, rows_of
from msma_fast.msma.scales import Boundary, ScalePartition, find_scales
from msma_fast.msma.spaces import information_space
from msma_fast.neighbors import knn
from msma_fast.similarity import cka, shared_fraction

SCHEMA = "msma_fast.comparison/1"
MEASURES = ("overlap", "cka", "mi", "excess", "dimension_a", "dimension_b", "dimension_difference")
_INFORMED = 2000  # rows of an estimate of information, and of a dimension


def compare(a: Any, b: Any, *, k: int = 15, n_resamples: int = 10, seed: int = 0) -> dict[str, Any]:
    """Results of schema msma_fast.comparison/1 for activations a and b of the same tokens, with equally many layers.

    a, b: Activations, or lists of (n, d_l) arrays; text_ids and token_ids are a's, or b's where a has none. Each of MEASURES
    is {"value": (L,), "standard_error": (L,) or None}, None where it is not known; boundaries: those of each (`find_scales`),
    None where the stacks are too short to tell; shifts: of each supported one of a to b's nearest, {"layers": signed number,
    "interval": (2), None without halves}, None where b has none. n_resamples < 2, or fewer than four texts: no standard
    errors. Cost: n_resamples + 1 times the neighbours of every layer.
    Raises ValueError for different tokens, texts or numbers of layers.
    """
    one, two = activations(a), activations(b)
    _checks.integer("n_resamples", n_resamples, at_least=0)
    _same(one, two)
    ids, tokens = (
        mine if mine is not None else theirs
        for mine, theirs in ((one.text_ids, two.text_ids), (one.token_ids, two.token_ids))
    )
    informed = torch.arange(0, one.n_tokens, -(-one.n_tokens // _INFORMED))
    rows, rate = halves(ids, one.n_tokens, n_resamples, seed)
    samples = [(some, informed[torch.isin(informed, some)]) for some in (torch.arange(one.n_tokens), *rows)]
    whole, *draws = _measured(one, two, ids, tokens, samples, k)
    parts = [find_scales(_with_texts(side, ids), n_resamples=n_resamples, seed=seed, k=k) for side in (one, two)]
    return {
        "schema": SCHEMA,
        "k": k,
        "n": one.n_tokens,
        "texts": None if ids is None else int(ids.unique().numel()),
        "resamples": len(rows),
        "models": [side.metadata.get("model") for side in (one, two)],
        "layers": [list(side.names) for side in (one, two)],
        "measures": {
            name: {
                "value": [finite_or_none(value) for value in whole[name]],
                "standard_error": _errors([draw[name] for draw in draws], rate) if len(draws) > 1 else None,
            }
            for name in MEASURES
        },
        "boundaries": [_told(part) for part in parts],
        "shifts": _shifts(*parts),
    }


def _same(one: Activations, two: Activations) -> None:
    if len(one) != len(two):
        raise ValueError(f"b: expected {len(one)} layers as a, got {len(two)}")
    if one.n_tokens != two.n_tokens:
        raise ValueError(f"b: expected the {one.n_tokens} tokens of a, got {two.n_tokens}")
    for name in ("text_ids", "token_ids", "positions"):
        left, right = getattr(one, name), getattr(two, name)
        if left is not None and right is not None and not torch.equal(left, right):
            raise ValueError(f"b: expected the same {name} as a; collect both from the same texts with the same seed")


def _with_texts(side: Activations, ids: Tensor | None) -> Activations:
    """The same layers, with text_ids that the other side may know."""
    shared = side.select()
    shared.text_ids = ids
    return shared


def _measured(
    one: Activations,
    two: Activations,
    ids: Tensor | None,
    tokens: Tensor | None,
    samples: list[tuple[Tensor, Tensor]],
    k: int,
) -> list[dict[str, list[float]]]:
    """For each sample (rows, rows for information and dimension), by layer: a layer is read once for all samples."""
    found: list[dict[str, list[float]]] = [{name: [] for name in MEASURES} for _ in samples]
    for layer in range(len(one)):
        x, y = (rows_of(side, layer) for side in (one, two))
        for measures, (some, informed) in zip(found, samples, strict=True):
            groups, fewer = (None, None) if ids is None else (ids[some], ids[informed])
            values = _of_all(x[some], y[some], groups, k)
            values |= _of_fewer(x[informed], y[informed], fewer, None if tokens is None else tokens[informed])
            for name, value in values.items():
                measures[name].append(value)
    return found


def _of_all(x: Tensor, y: Tensor, groups: Tensor | None, k: int) -> dict[str, float]:
    near = [knn(rows, k, groups=groups).indices for rows in (x, y)]
    return {"overlap": shared_fraction(*near), "cka": float(cka(x, y))}


def _of_fewer(x: Tensor, y: Tensor, groups: Tensor | None, tokens: Tensor | None) -> dict[str, float]:
    a, b = (twonn(rows, 1)[0] for rows in (x, y))
    mi, excess = _information(x, y, groups, tokens)
    return {"mi": mi, "excess": excess, "dimension_a": a, "dimension_b": b, "dimension_difference": b - a}


def _information(x: Tensor, y: Tensor, ids: Tensor | None, tokens: Tensor | None) -> tuple[float, float]:
    """(information, its excess) between the halves that the projection was not fitted on; nan where rows have too few
    neighbours, or repeat, and an excess where tokens are unknown."""
    fit = torch.arange(x.shape[0]) % 2 == 0 if ids is None else torch.isin(ids, ids.unique()[::2])
    groups = None if ids is None else ids[~fit]
    rows = int((~fit).sum())
    if rows == 0:  # a single text
        return math.nan, math.nan
    enough = rows > NEIGHBOURS if groups is None else int(neighbor_counts(groups, 0, rows).min()) >= NEIGHBOURS
    if not enough or int(fit.sum()) < 2:
        return math.nan, math.nan
    one, two = (information_space(side[~fit], side[fit], min(DIMENSIONS, side.shape[1])) for side in (x, y))
    if min(side.unique(dim=0).shape[0] for side in (one, two)) < 0.9 * rows:  # an embedding: points of a discrete set
        return math.nan, math.nan
    mi = float(ksg_mi(one, two, NEIGHBOURS, metric="euclidean", groups=groups))
    if tokens is None:
        return mi, math.nan
    return mi, float(excess_matrix([one, two], groups, tokens[~fit], seed=0)[0, 1])


def _errors(draws: list[list[float]], rate: float) -> list[float | None]:
    return [finite_or_none(math.sqrt(rate) * value) for value in np.std(np.array(draws), axis=0, ddof=1)]


def _told(part: ScalePartition) -> list[dict[str, Any]] | None:
    if all(last - first < drift.LEAST for first, last in part.stacks):
        return None
    return [
        {"layer": one.layer, "p_value": one.p_value, "supported": one.supported, "interval": one.interval}
        for one in part.boundaries
    ]


def _shifts(one: ScalePartition, two: ScalePartition) -> list[dict[str, Any] | None]:
    mine, there = ([boundary for boundary in side.boundaries if boundary.supported] for side in (one, two))
    return [_shift(boundary, there) for boundary in mine]


def _shift(boundary: Boundary, there: list[Boundary]) -> dict[str, Any] | None:
    if not there:
        return None
    near = min(there, key=lambda other: abs(other.layer - boundary.layer))
    drawn = np.subtract(near.drawn, boundary.drawn)
    interval = [int(each) for each in np.quantile(drawn, [0.025, 0.975], method="nearest")] if len(drawn) else None
    return {"layers": near.layer - boundary.layer, "interval": interval}


def table(results: dict[str, Any]) -> str:
    """The comparison as text: a line for each layer, value +- standard error."""
    head = ("layer", "overlap", "CKA", "MI (nats)", "beyond the token", "dimension of A", "of B", "B - A")
    lines = [head]
    for layer, name in enumerate(results["layers"][0]):
        cells = [_cell(results["measures"][measure], layer) for measure in MEASURES]
        lines.append((name, *cells))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    for side, found in zip("AB", results["boundaries"], strict=True):
        names = results["layers"]["AB".index(side)]
        told = ", ".join(
            f"before {names[one['layer']]} ({'' if one['supported'] else 'not supported, '}p = {one['p_value']:.2g})"
            for one in found or []
        )
        text += f"\nboundaries of {side}: " + (
            told or ("too few layers to tell" if found is None else "none beyond drift")
        )
    shifts = [_moved(shift) for shift in results["shifts"] if shift is not None]
    return text + (f"\nshifts of A's boundaries to B's nearest, in layers: {', '.join(shifts)}" if shifts else "")


def _moved(shift: dict[str, Any]) -> str:
    interval = shift["interval"]
    return f"{shift['layers']:+d}" + ("" if interval is None else f" ({interval[0]:+d} to {interval[1]:+d})")


def _cell(measure: dict[str, Any], layer: int) -> str:
    value, errors = measure["value"][layer], measure["standard_error"]
    if value is None:
        return "-"
    error = None if errors is None else errors[layer]
    return f"{value:.3g}" if error is None else f"{value:.3g} +- {error:.1g}"
