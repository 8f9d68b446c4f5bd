"""Information between layers beyond the token: KSG information less its mean over permutations of rows among equal tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msma_fast.information import ksg_mi_matrix
from msma_fast.permutation import permute_within

DIMENSIONS, NEIGHBOURS, NULLS = 16, 3, 3  # of a layer's information space, of the estimator, permutations of the null


def repeats(space: Tensor) -> bool:
    """Whether rows (n, d') repeat exactly, as an embedding's do: they have no density to estimate."""
    return space.unique(dim=0).shape[0] < space.shape[0]


def excess_matrix(spaces: Sequence[Tensor], text_ids: Tensor | None, token_ids: Tensor, seed: int) -> Tensor:
    """(L, L) nats, float64, of L spaces (n, d'); text_ids and token_ids (n,)."""
    same, generator = token_ids.unique(return_inverse=True)[1], torch.Generator().manual_seed(seed)
    draws = [None, *(permute_within(same, generator) for _ in range(NULLS))]
    found = [
        torch.as_tensor(
            ksg_mi_matrix(list(spaces), NEIGHBOURS, metric="euclidean", groups=text_ids, permutation=permutation)
        )
        for permutation in draws
    ]
    return found[0] - torch.stack(found[1:]).mean(0)
