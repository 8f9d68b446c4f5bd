"""What the scales of a model are told from: similarities between its layers, and numbers of each layer.

overlap          mean share of common k nearest neighbours, of other texts where texts are known (L, L)
cka              linear centred kernel alignment, biased (Kornblith et al., ICML 2019) (L, L)
dimension        TwoNN of at most 2,000 rows, the distinct ones of them (L,); nan where many repeat
attention_span   the mean over heads of what collecting kept (L,); nan at an embedding

Everything is of rows divided by their root mean square, so that the growth of the residual stream is no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.msma.layers import overlap_matrix, twonn
from msma_fast.msma.spaces import rms_normalized
from msma_fast.neighbors import knn
from msma_fast.similarity import cka_matrix, shared_fraction

_FAR = 50.0  # times the median size of a layer's entries that are not zero: a massive coordinate
_ROWS = 2000
_UNITS = 4  # texts, or rows, below which nothing is resampled

Signal = np.ndarray


def activations(acts: Any) -> Activations:
    """As they are, or from a list of (n, d_l) arrays."""
    return acts if isinstance(acts, Activations) else Activations.from_arrays(acts)


def rows_of(acts: Activations, index: int, without_massive: bool = False) -> Tensor:
    """(n, d) RMS-normalised rows of a layer; massive coordinates taken out before, on request (a zero column)."""
    raw = acts.layer(index)
    if without_massive:
        sizes = raw.abs()
        massive = sizes.amax(0) > _FAR * sizes[sizes > 0].median() if bool((sizes > 0).any()) else sizes.amax(0) > 0
        raw = raw.masked_fill(massive, 0.0)
    return rms_normalized(raw)


def overlap(layers: list[Tensor], k: int, text_ids: Tensor | None, whole: bool) -> Signal:
    """(L, L), or (L - 1,) of neighbouring layers alone."""
    found = [knn(rows, k, groups=text_ids).indices for rows in layers]
    return np.array(overlap_matrix(found) if whole else [shared_fraction(a, b) for a, b in pairwise(found)])


def cka(layers: list[Tensor], k: int, text_ids: Tensor | None, whole: bool) -> Signal:
    """(L, L), or (L - 1,) of neighbouring layers alone."""
    if whole:
        return np.asarray(cka_matrix(layers).cpu().numpy())
    return np.array([float(cka_matrix([a, b])[0, 1]) for a, b in pairwise(layers)])


SIMILARITIES: dict[str, Callable[[list[Tensor], int, Tensor | None, bool], Signal]] = {"overlap": overlap, "cka": cka}


def dimension(acts: Activations, layers: list[Tensor]) -> Signal:
    step = -(-layers[0].shape[0] // _ROWS)
    return np.array([twonn(rows[::step], 1)[0] for rows in layers])


def attention_span(acts: Activations, layers: list[Tensor]) -> Signal:
    spans = acts.metadata.get("attention_span")
    if spans is None:
        raise ValueError("signals: expected activations collected with attention_span=True for 'attention_span'")
    return np.array([np.nan if each is None else float(np.mean(each)) for each in spans])


VALUES: dict[str, Callable[[Activations, list[Tensor]], Signal]] = {
    "dimension": dimension,
    "attention_span": attention_span,
}


def halves(text_ids: Tensor | None, n: int, count: int, seed: int) -> tuple[list[Tensor], float]:
    """(`count` times the rows (m,) of a random half of the texts, drawn without replacement, or of half of the rows where
    texts are unknown; B / (U - B) of B units drawn of U: the variance over draws times that is an estimate's own,
    msma_fast/intervals.py). None where there are fewer than four units, whose halves say nothing."""
    units = torch.arange(n) if text_ids is None else text_ids.unique()
    drawn = units.shape[0] // 2
    if units.shape[0] < _UNITS:
        return [], 1.0
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        kept = units[torch.randperm(units.shape[0], generator=generator)[:drawn]]
        found.append(kept.sort().values if text_ids is None else torch.isin(text_ids, kept).nonzero().squeeze(1))
    return found, drawn / (units.shape[0] - drawn)
