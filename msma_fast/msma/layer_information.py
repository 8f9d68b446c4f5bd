"""Mutual information between layers, against the null that two layers share nothing but the token's identity.

Rows: half of the texts, equally many tokens of each; the projections are fitted on the other half (of fewer than four texts,
on the other half of the rows of each). Null: the mean over
permutations that exchange rows of one layer only among equal token ids. Excess = estimate - null.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import shortfall
from msma_fast._arrays import finite_or_none
from msma_fast.activations import Activations
from msma_fast.diagnostics import WIDER, independent_rows, neighbor_counts, reasons_against
from msma_fast.information import ksg_mi_matrix
from msma_fast.msma.layer_knowledge import knowledge, labels_at
from msma_fast.msma.spaces import information_space, rms_normalized
from msma_fast.msma.stages import Stages
from msma_fast.permutation import permute_within
from msma_fast.results import Evidence, Missing

_FEW_TEXTS = 4

Step = Callable[[], None]


class InformationSettings(NamedTuple):
    """k of the estimators, dimensions of the projection, number of null permutations, seed."""

    k: int
    dimensions: int
    n_nulls: int
    seed: int


class Split(NamedTuple):
    """rows (n,) of the estimate, fit (m,) rows of other texts, moved: share of rows that a random permutation within token
    ids moves on average (a label of c rows keeps one in its place, whatever c)."""

    rows: Tensor
    fit: Tensor
    moved: float


def split(text_ids: Tensor, token_ids: Tensor, n: int, seed: int) -> Split:
    """At most n rows from a random half of the texts, of tokens that occur at least twice among them, since a single one
    cannot be exchanged; the other half fits the projection. Of fewer than four texts half would be one, whose tokens have no
    neighbours in another: a random half of the rows of all is taken instead."""
    generator = torch.Generator().manual_seed(seed)
    texts = text_ids.unique()
    if texts.shape[0] < _FEW_TEXTS:
        mine = torch.zeros_like(text_ids, dtype=torch.bool)
        mine[torch.randperm(text_ids.shape[0], generator=generator)[: text_ids.shape[0] // 2]] = True
    else:
        order = texts[torch.randperm(texts.shape[0], generator=generator)]
        mine = torch.isin(text_ids, order[: texts.shape[0] // 2])
    candidates = mine.nonzero().squeeze(1)
    # The same number from every text: shuffle, then take rows by their rank within the text.
    by_text, rank = ranked_by_text(candidates[torch.randperm(candidates.shape[0], generator=generator)], text_ids)
    rows = _repeated(by_text[rank.argsort(stable=True)], token_ids)[:n]
    rows = _repeated(rows, token_ids).sort().values
    moved = 1 - token_ids[rows].unique().shape[0] / max(1, rows.shape[0])
    return Split(rows, (~mine).nonzero().squeeze(1), moved)


def ranked_by_text(rows: Tensor, text_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (m,) text by text, in their order within each, and the rank (m,) of each within its text."""
    by_text = rows[text_ids[rows].argsort(stable=True)]
    same = text_ids[by_text]
    return by_text, torch.arange(rows.shape[0]) - torch.searchsorted(same, same)


def _repeated(rows: Tensor, token_ids: Tensor) -> Tensor:
    """Those rows whose token id occurs at least twice among them, in their order."""
    _, inverse, counts = token_ids[rows].unique(return_inverse=True, return_counts=True)
    return rows[counts[inverse] > 1]


def layer_information(
    acts: Activations, stages: Stages, parts: Split, blocks: list[int], settings: InformationSettings, step: Step
) -> dict[str, Any]:
    """The `information` section of the results.

    blocks: the layers whose rows are continuous; an embedding repeats rows exactly and gets label estimators only.
    step() is called after each of 2 + n_nulls pieces of work.
    """
    k, dimensions, n_nulls, seed = settings
    if acts.text_ids is None or acts.token_ids is None:
        raise ValueError("acts: expected activations with text_ids and token_ids, got some without")
    text_ids, token_ids = acts.text_ids[parts.rows], acts.token_ids[parts.rows]

    def project() -> dict[str, Tensor]:
        spaces = []
        for index in range(len(acts)):
            rows = rms_normalized(acts.layer(index))
            spaces.append(information_space(rows[parts.rows], rows[parts.fit], dimensions))
        return {str(index): space for index, space in enumerate(spaces)}

    projected = stages.run("spaces", project)
    spaces = [projected[str(index)] for index in range(len(acts))]

    labels = labels_at(acts, parts.rows)

    def known() -> dict[str, Tensor]:
        found = knowledge(spaces, labels, text_ids, k, n_nulls, seed)
        return {
            f"{name}.{field}": torch.tensor(value, dtype=torch.float64)
            for name, one in found.items()
            for field, value in one._asdict().items()
            if value is not None
        }

    knows = stages.run("knowledge", known)
    step()
    continuous = [spaces[index] for index in blocks]

    def matrix(permutation: Tensor | None, k: int = k) -> dict[str, Tensor]:
        mi = ksg_mi_matrix(continuous, k, metric="euclidean", groups=text_ids, permutation=permutation)
        return {"mi": torch.as_tensor(mi)}

    mi = stages.run("mi", partial(matrix, None))["mi"]
    wide = min(WIDER * k, int(neighbor_counts(text_ids, 0, parts.rows.shape[0]).min()))
    mi_wide = stages.run("mi-wide", partial(matrix, None, wide))["mi"]
    step()
    generator = torch.Generator().manual_seed(seed)
    same = token_ids.unique(return_inverse=True)[1]
    nulls = []
    for t in range(n_nulls):
        permutation = permute_within(same, generator)
        nulls.append(stages.run(f"null-{t}", partial(matrix, permutation))["mi"])
        step()
    null = torch.stack(nulls).mean(0)
    n = parts.rows.shape[0]
    # I(X; X) of a layer without ties is psi(<N_i>) - psi(k), the estimator's ceiling.
    ceiling = float(mi.diagonal().median())
    units = independent_rows(text_ids, 0, n)
    views = [shortfall.views(space, units) for space in continuous]
    own = [shortfall.dimension_of(space, text_ids, 0)[0] for space in continuous]
    reasons: list[list[str | None]] = [[None] * len(acts) for _ in acts.names]
    for a, left in enumerate(blocks):
        for b, right in enumerate(blocks[:a]):
            value = float(mi[a, b])
            linear = shortfall.linear_information_of(views[a], views[b], units)
            missing = linear and Missing(linear.nats - value, linear.error)
            trend = None
            if wide > k:
                # Two layers together have at least the dimension of either, which gives the least that is missing.
                scale = shortfall.per_slope(wide / k, max(own[a], own[b]))
                trend = Missing(scale * (value - float(mi_wide[a, b])), 0.0)
            found = reasons_against(Evidence(value, ceiling, units, extrapolation=trend, linear=missing))
            reasons[left][right] = reasons[right][left] = "; ".join(found) or None
    return {
        "k": k,
        "dimensions": dimensions,
        "n": n,
        "n_nulls": n_nulls,
        "ceiling": ceiling,
        "moved": parts.moved,
        "mi": _table(mi, blocks, len(acts)),
        "null": _table(null, blocks, len(acts)),
        "excess": _table(mi - null, blocks, len(acts)),
        "unreliable": [[cell is not None for cell in row] for row in reasons],
        "reasons": reasons,
        "knowledge": {name: _known(knows, name) for name in labels},
    }


def _known(stored: dict[str, Tensor], name: str) -> dict[str, Any]:
    """{value, null (None for the token itself), most, n} of one label, None where an estimate is not known."""
    null = stored.get(f"{name}.null")
    return {
        "value": [finite_or_none(value) for value in stored[f"{name}.value"].tolist()],
        "null": None if null is None else [finite_or_none(value) for value in null.tolist()],
        "most": float(stored[f"{name}.most"]),
        "n": int(stored[f"{name}.n"]),
    }


def _table(matrix: Tensor, blocks: list[int], count: int) -> list[list[float | None]]:
    """The blocks' matrix in a (count, count) table, None for the other layers and on the diagonal."""
    table: list[list[float | None]] = [[None] * count for _ in range(count)]
    for a, left in enumerate(blocks):
        for b, right in enumerate(blocks):
            if a != b:
                table[left][right] = float(matrix[a, b])
    return table
