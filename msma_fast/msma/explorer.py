"""The neighbour explorer's data: some tokens, their exact neighbours at every layer, and the text around each."""

from __future__ import annotations

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
    wordy = torch.tensor([len(token.strip()) >= 3 and token.strip().isalpha() for token in acts.tokens])
    ranked = torch.cat([order[wordy[order]], order[~wordy[order]]])
    if acts.text_ids is not None:  # one token of a text before a second one
        seen: dict[int, int] = {}
        turn = []
        for text in acts.text_ids[ranked].tolist():
            turn.append(seen.get(text, 0))
            seen[text] = turn[-1] + 1
        words = int(wordy.sum())
        turns = torch.tensor(turn)
        turns[words:] += n  # fragments stay behind words
        ranked = ranked[turns.argsort(stable=True)]
    return ranked[:count].sort().values


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
    texts = acts.text_ids.tolist() if acts.text_ids is not None else [0] * acts.n_tokens
    ids = acts.token_ids.tolist() if acts.token_ids is not None else [None] * acts.n_tokens
    before, tokens, after = acts.before, acts.tokens, acts.after
    return {
        "k": k,
        "tokens": [int(row) for row in chosen],
        "rows": {str(row): [before[row], tokens[row], after[row], texts[row], ids[row]] for row in sorted(rows)},
        "neighbors": neighbors,
    }
