"""A first look, seconds after the model is loaded: the neighbour overlap of a few hundred tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msma_fast.activations import collect_activations
from msma_fast.msma.layers import overlap_matrix
from msma_fast.msma.naming import layer_names
from msma_fast.msma.spaces import rms_normalized
from msma_fast.neighbors import knn

_TEXTS, _TOKENS = 24, 24


def preview(model: Any, tokenizer: Any, texts: Sequence[str], k: int, *, max_length: int, seed: int) -> dict[str, Any]:
    """`layers` and `overlap` as in the results, from up to 24 tokens of each of 24 texts."""
    acts = collect_activations(
        model, tokenizer, list(texts)[:_TEXTS], tokens_per_text=_TOKENS, max_length=min(max_length, 64), seed=seed
    )
    found = [knn(rms_normalized(layer), min(k, acts.n_tokens // 4), groups=acts.text_ids).indices for layer in acts]
    return {"layers": layer_names(acts), "overlap": {"k": int(found[0].shape[1]), "matrix": overlap_matrix(found)}}
