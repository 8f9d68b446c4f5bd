"""The neighbour explorer's data: some tokens, their exact neighbours at every layer, and the text around each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from msma_fast.activations import Activations


def choose_tokens(acts: Activations, count: int, seed: int) -> Tensor:
    """Rows (count,) spread over texts, words rather than fragments: tokens with at least three letters come first."""
    generator = torch.Generator().manual_seed(seed)
    n = acts.n_tokens
    order = torch.randperm(n, generator=generator)
    if acts.tokens is None:
        return order[:count].sort().values
    words_first = torch.tensor([wordy(token) for token in acts.tokens])
    ranked = torch.cat([order[words_first[order]], order[~words_first[order]]])
    if acts.text_ids is not None:  # one token of a text before a second one
        seen: dict[int, int] = {}
        turn = []
        for text in acts.text_ids[ranked].tolist():
            turn.append(seen.get(text, 0))
            seen[text] = turn[-1] + 1
        words = int(words_first.sum())
        turns = torch.tensor(turn)
        turns[words:] += n  # fragments stay behind words
        ranked = ranked[turns.argsort(stable=True)]
    return ranked[:count].sort().values


def wordy(token: str) -> bool:
    """Whether a token is a word rather than a fragment: at least three letters and nothing else."""
    return len(token.strip()) >= 3 and token.strip().isalpha()


def row_texts(acts: Activations, rows: Iterable[int]) -> dict[str, list[Any]]:
    """{row: [before, token, after, text id, token id]} of activations that have the tokens' text."""
    before, tokens, after = acts.before, acts.tokens, acts.after
    if tokens is None or before is None or after is None:
        raise ValueError("acts: expected activations with the text around each token, got some without")
    texts, ids = acts.text_ids, acts.token_ids
    return {
        str(row): [
            before[row],
            tokens[row],
            after[row],
            0 if texts is None else int(texts[row]),
            None if ids is None else int(ids[row]),
        ]
        for row in sorted(rows)
    }


def explorer(acts: Activations, chosen: Tensor, layers: list[tuple[Tensor, Tensor]], k: int) -> dict[str, Any] | None:
    """layers: (indices, distances) of the chosen rows at each layer, (count, >= k). None without the tokens' text."""
    if acts.tokens is None or acts.before is None or acts.after is None:
        return None
    neighbors = [
        [
            [[int(j), float(length)] for j, length in zip(near[:k], far[:k], strict=True) if j >= 0]
            for near, far in zip(indices.tolist(), distances.tolist(), strict=True)
        ]
        for indices, distances in layers
    ]
    rows = {int(row) for row in chosen} | {int(j) for layer in neighbors for token in layer for j, _ in token}
    return {
        "k": k,
        "tokens": [int(row) for row in chosen],
        "rows": row_texts(acts, rows),
        "neighbors": neighbors,
    }
