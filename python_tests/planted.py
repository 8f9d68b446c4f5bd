"""Activations with known structure: what two layers share is planted."""

from __future__ import annotations

import numpy as np
import torch

from msma_fast.activations import Activations
from msma_fast.activations.row_text import RowText

TEXTS, PER_TEXT, D = 60, 16, 24


def planted(*, private: float, seed: int = 0) -> Activations:
    """Four layers of (960, 24): layer 0 is a table look-up of the token id; layers 1 and 2 add the same occurrence-wise
    signal of size `private`, each in its own rotation; layer 3 adds another one."""
    rng = np.random.default_rng(seed)
    n = TEXTS * PER_TEXT
    token_ids = rng.integers(0, 12, n)
    table = rng.standard_normal((12, D))
    shared, other = rng.standard_normal((n, D)), rng.standard_normal((n, D))
    layers = [table[token_ids]]
    for signal in (shared, shared, other):
        rotation = np.linalg.qr(rng.standard_normal((D, D)))[0]
        noise = rng.standard_normal((n, D))
        layers.append((table[token_ids] + private * signal + 0.5 * noise) @ rotation)
    words = [f" w{i}" for i in token_ids]
    row_text = RowText.from_rows([{"token": w, "before": "so", "after": " it is"} for w in words])
    plain = Activations.from_arrays([layer.astype(np.float32) for layer in layers])
    described = [about | {"kind": "block" if i else "embedding"} for i, about in enumerate(plain.metadata["layers"])]
    return Activations(
        plain._layers,
        [f"layer.{i}" for i in range(4)],
        ids={
            "text_ids": torch.arange(TEXTS).repeat_interleave(PER_TEXT),
            "token_ids": torch.from_numpy(token_ids),
        },
        row_text=row_text,
        metadata={"model": "planted", "layers": described},
    )
