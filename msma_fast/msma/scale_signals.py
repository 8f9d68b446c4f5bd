"""What the scales of a model are told from: similarities between its layers, and numbers of each layer.

overlap          mean share of common k nearest neighbours, of other texts where texts are known (L, L)
cka              linear centred kernel alignment, biased (Kornblith et al., ICML 2019) (L, L)
information      KSG information less its mean over permutations within token ids (L, L), nan where rows repeat exactly
dimension        TwoNN of at most 2,000 rows, the distinct ones of them (L,); nan where many repeat
attention_span   the mean over heads of what collecting kept (L,); nan at an embedding
token_id, next_token, position   what the layer knows of them, nats (L,): layer_knowledge.py; of the last two, less their null
fisher_trace     log of the median trace of the token metric that the read-out gives (L,): the logit lens before the last;
                 nan in a stack that is not read

The first two place boundaries, the others say whether they agree. Everything is of rows divided by their root mean square, so
that the growth of the residual stream is no difference, but what the read-out makes of the rows, which is of the rows as they
are. Information and knowledge are of at most 2,000 rows of half of the texts, in the information space (msma/spaces.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.fisher import Readout, logit_fisher_trace
from msma_fast.msma.excess import DIMENSIONS, NEIGHBOURS, NULLS, excess_matrix, repeats
from msma_fast.msma.fisher_geometry import stages_of
from msma_fast.msma.layer_information import Split, split
from msma_fast.msma.layer_knowledge import LABELS, Known, knowledge, labels_at
from msma_fast.msma.layers import overlap_matrix, twonn
from msma_fast.msma.spaces import information_space, rms_normalized
from msma_fast.neighbors import knn
from msma_fast.similarity import cka_matrix, shared_fraction

_FAR = 50.0  # times the median size of a layer's entries that are not zero: a massive coordinate
_ROWS = 2000
_READ = 64  # rows that a read-out reads
_LEAST = 50 * NEIGHBOURS  # rows of an estimate of information
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


class Source:
    """What the other signals are made of: activations, their RMS-normalised rows, a read-out or None, a seed."""

    def __init__(self, acts: Activations, layers: list[Tensor], readout: Readout | None, seed: int) -> None:
        self.acts, self.layers, self.readout, self.seed = acts, layers, readout, seed

    @cached_property
    def parts(self) -> Split:
        """Rows whose token occurs again, of half of the texts, and the rows of the others."""
        if self.acts.text_ids is None or self.acts.token_ids is None:
            raise ValueError(
                "signals: expected activations with text_ids and token_ids for information, got some without"
            )
        parts = split(self.acts.text_ids, self.acts.token_ids, _ROWS, self.seed)
        if parts.rows.shape[0] < _LEAST or parts.fit.shape[0] < DIMENSIONS:
            raise ValueError(
                f"signals: expected at least {_LEAST} rows of tokens that occur twice in half of the texts for information, "
                f"got {parts.rows.shape[0]}"
            )
        return parts

    @cached_property
    def spaces(self) -> list[Tensor]:
        parts, least = self.parts, min(DIMENSIONS, *self.acts.dims)
        return [information_space(rows[parts.rows], rows[parts.fit], least) for rows in self.layers]

    @cached_property
    def known(self) -> dict[str, Known]:
        """Raises ValueError where labels that were asked for are not known."""
        return knowledge(
            self.spaces, labels_at(self.acts, self.parts.rows), self.text_ids, NEIGHBOURS, NULLS, self.seed
        )

    @property
    def text_ids(self) -> Tensor:
        return torch.as_tensor(self.acts.text_ids)[self.parts.rows]

    @property
    def token_ids(self) -> Tensor:
        return torch.as_tensor(self.acts.token_ids)[self.parts.rows]


def information(source: Source) -> Signal:
    spaces = source.spaces
    kept = [index for index, space in enumerate(spaces) if not repeats(space)]
    found = np.full((len(spaces), len(spaces)), np.nan)
    if len(kept) > 1:
        some = [spaces[index] for index in kept]
        excess = excess_matrix(some, source.text_ids, source.token_ids, source.seed)
        found[np.ix_(kept, kept)] = excess.cpu().numpy()
    return found


def dimension(source: Source) -> Signal:
    step = -(-source.layers[0].shape[0] // _ROWS)
    return np.array([twonn(rows[::step], 1)[0] for rows in source.layers])


def attention_span(source: Source) -> Signal:
    spans = source.acts.metadata.get("attention_span")
    if spans is None:
        raise ValueError("signals: expected activations collected with attention_span=True for 'attention_span'")
    return np.array([np.nan if each is None else float(np.mean(each)) for each in spans])


def fisher_trace(source: Source) -> Signal:
    if source.readout is None:
        raise ValueError("readout: expected fisher.readout(model) for the signal 'fisher_trace', got None")
    weight, bias, norm = source.readout
    found, step = np.full(len(source.acts), np.nan), -(-source.acts.n_tokens // _READ)
    read = [index for group in stages_of(source.acts)[0] for index in group]
    together = torch.cat([source.acts.layer(index)[::step].to(torch.float32) for index in read])
    traces = torch.as_tensor(logit_fisher_trace(together, weight, bias, norm=norm)).view(len(read), -1)
    found[read] = traces.median(1).values.log().cpu().numpy()
    return found


def known_of(name: str) -> Callable[[Source], Signal]:
    def found(source: Source) -> Signal:
        if name not in source.known:
            raise ValueError(
                f"signals: expected activations that know {LABEL_SOURCES[name]} for {name!r}, got some without"
            )
        one = source.known[name]
        return np.array(one.value) - (0.0 if one.null is None else np.array(one.null))

    return found


LABEL_SOURCES = {"token_id": "token_ids", "next_token": "next_token_ids", "position": "positions"}
PAIRS: dict[str, Callable[[Source], Signal]] = {"information": information}
VALUES: dict[str, Callable[[Source], Signal]] = {
    "dimension": dimension,
    "attention_span": attention_span,
    "fisher_trace": fisher_trace,
    **{name: known_of(name) for name in LABELS},
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
