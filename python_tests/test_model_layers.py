"""Neighbours on a real model's own layers, 0 to 30, against the canonical oracle: layer 0 repeats a row for every
repeated token, later layers have a few massive coordinates."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from compare import check_knn

import msma_fast as mf
from msma_fast.activations import Activations, collect_activations, load_smollm2
from msma_fast.activations.texts import commons_speeches

K = 15
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def acts() -> Activations:
    model, tokenizer, _ = load_smollm2()
    texts = [text for text in commons_speeches().texts if len(text) > 400][:64]
    return collect_activations(model, tokenizer, texts, tokens_per_text=24, max_length=48)


def test_every_layer(acts: Activations, backend: str) -> None:
    groups = acts.text_ids
    assert groups is not None
    assert len(acts) == 31
    queries = np.arange(0, acts.n_tokens, 23)
    allowed = groups[queries, None].numpy() != groups[None, :].numpy()
    for index, layer in enumerate(acts):
        found, stats = mf.knn(layer, K, groups=groups, return_stats=True, backend=backend)
        values = layer.numpy()
        keys = oracles.canonical_keys(values[queries], values, "euclidean")
        check_knn(
            tuple(part[queries] for part in found),
            keys,
            allowed,
            K,
            to_distance=lambda key: oracles.to_distance(key, "euclidean"),
            dtype=np.float32,
        )
        if index:  # the screen, not brute force, found them
            assert float((stats.widened == 0).to(torch.float64).mean()) > 0.9, f"layer {index}"
            assert float(stats.candidates.to(torch.float64).median()) < 4 * K, f"layer {index}"


def test_the_embedding_repeats_its_rows(acts: Activations) -> None:
    """The case the test above rests on: without it the duplicates would not have been tried."""
    rows = acts.layer(0)
    assert rows.unique(dim=0).shape[0] < 0.6 * rows.shape[0]
    assert acts.token_ids is not None
    assert rows.unique(dim=0).shape[0] == acts.token_ids.unique().shape[0]
