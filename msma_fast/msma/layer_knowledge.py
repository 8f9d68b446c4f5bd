"""What each layer knows about its token, the next token and the position: information between rows and a label, nats.

value   I(X_l; Y), the label estimator (Ross 2014), rows in the information space (msma/spaces.py)
null    the mean over permutations of the labels Y among rows with the same token: what the token's identity alone says
        of Y. value - null is what the occurrence adds. None for the token itself
most    H(Y), plug-in: about the most that a layer can know

Rows count whose label has another row in another text.
Y is the token id; the id of the token after it (rows at the end of a text have none and are left out); and the position in
the text as one of POSITION_BINS runs of equally many rows. Tokens of one text are not neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.diagnostics import neighbor_counts
from msma_fast.information import ross_mi
from msma_fast.permutation import permute_within

LABELS = ("token_id", "next_token", "position")
POSITION_BINS = 8


class Known(NamedTuple):
    """value (L,), null (L,) or None where the label is the token itself, most, and the n rows of the estimate."""

    value: list[float]
    null: list[float] | None
    most: float
    n: int


def knowledge(
    spaces: Sequence[Tensor], labels: dict[str, Tensor], text_ids: Tensor, k: int, n_nulls: int, seed: int
) -> dict[str, Known]:
    """spaces: L of (n, d'); labels: what `labels_of` gives. A value is nan where no label has two rows in different texts."""
    found: dict[str, Known] = {}
    token = labels["token_id"].unique(return_inverse=True)[1]
    for name, label in labels.items():
        rows = _met_again(label, text_ids)
        mine, texts, own = label[rows], text_ids[rows], token[rows]
        null = None
        if name != "token_id":
            generator = torch.Generator().manual_seed(seed)
            shuffled = [mine[permute_within(own, generator)] for _ in range(n_nulls)]
            draws = [[_information(space[rows], other, k, texts) for other in shuffled] for space in spaces]
            null = [float(torch.tensor(draw).mean()) for draw in draws]
        value = [_information(space[rows], mine, k, texts) for space in spaces]
        found[name] = Known(value, null, entropy(mine), rows.shape[0])
    return found


def _met_again(label: Tensor, text_ids: Tensor) -> Tensor:
    """Rows (m,) that have a label which occurs in another text too."""
    pairs = torch.stack([label, text_ids], 1).unique(dim=0)
    texts = pairs[:, 0].unique(return_counts=True)
    again = texts[0][texts[1] > 1]
    return (torch.isin(label, again) & (label >= 0)).nonzero().squeeze(1)


def labels_at(acts: Activations, rows: Tensor) -> dict[str, Tensor]:
    """`labels_of` some rows (m,) of activations that have token_ids."""
    ids = (acts.next_token_ids, acts.positions)
    return labels_of(torch.as_tensor(acts.token_ids)[rows], *(None if each is None else each[rows] for each in ids))


def labels_of(token_ids: Tensor, next_token_ids: Tensor | None, positions: Tensor | None) -> dict[str, Tensor]:
    """Those of LABELS that are known, (n,) each, -1 for a row without."""
    found = {"token_id": token_ids}
    if next_token_ids is not None and bool((next_token_ids >= 0).any()):
        found["next_token"] = next_token_ids
    if positions is not None and positions.unique().shape[0] > 1:
        inner = torch.linspace(0, 1, POSITION_BINS + 1, dtype=torch.float64)[1:-1]
        places = positions.to(torch.float64)
        found["position"] = torch.bucketize(places, places.quantile(inner))
    return found


def entropy(labels: Tensor) -> float:
    """Plug-in entropy of the labels (n,), nats; 0 of none."""
    share = labels.unique(return_counts=True)[1].to(torch.float64) / labels.shape[0]
    return float(-(share * share.log()).sum())


def _information(space: Tensor, label: Tensor, k: int, text_ids: Tensor) -> float:
    """nan where a row has too few neighbours in other texts."""
    if label.shape[0] <= k or int(neighbor_counts(text_ids, 0, label.shape[0]).min()) < k:
        return float("nan")
    try:
        return ross_mi(space, label, k, metric="euclidean", groups=text_ids)
    except ValueError:  # a permuted label may meet itself in its own text alone
        return float("nan")
