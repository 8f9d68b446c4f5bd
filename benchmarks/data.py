"""The data of the suite: layers of SmolLM2, collected once and kept in the user's cache, and random points.

Every description says what the points are. The model's weights come from a 4-bit file, and the names say so.
"""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import torch

from msma_fast import Activations, collect_activations
from msma_fast.activations import load_model, read_texts, smollm2_path
from msma_fast.activations.embedded import default_cache
from msma_fast.activations.request import file_digest
from msma_fast.commands import choose_texts
from msma_fast.fisher import readout

QUICK = os.environ.get("MSMA_BENCH_QUICK") == "1"
_MAX_LENGTH = 128
MODEL = "SmolLM2-135M (4-bit)"


def rows(n: int) -> int:
    """n, or a few rows (another number for another n) where the suite itself is tested."""
    return min(n, 400 + n // 500) if QUICK else n


def width(d: int) -> int:
    """d, or a few coordinates where the suite itself is tested."""
    return min(d, 96) if QUICK else d


def random_points(n: int, d: int, seed: int = 0) -> np.ndarray:
    """(n, d) float32, independent standard normal."""
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def smollm2_layer(layer: int, n: int = 8192) -> np.ndarray:
    """(n, 576) float32: the state after block `layer` (0: the embedding) at n random positions of House of Commons
    speeches, 32 of each, never the first."""
    return _first_rows(_collected("commons", n, 32, "all"), layer, n)


def smollm2_layer_15(n: int = 50_000) -> np.ndarray:
    """(n, 576) float32: as `smollm2_layer`, of layer 15 alone, 50 positions of each passage of the King James Bible."""
    return _first_rows(_collected("kjv", n, 50, (15,)), 0, n)


def smollm2_states(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(states (n, 576), weight (49152, 576)) float32: what the model's output embedding reads, and its rows."""
    model, _, _ = load_model("smollm2")
    head = readout(model)
    states = smollm2_layer(30, max(n, 8192))[:n]
    kept = slice(0, width(states.shape[1]))
    x, weight = head.norm(torch.from_numpy(states)).numpy(), head.weight.float().numpy()
    return np.ascontiguousarray(x[:, kept]), np.ascontiguousarray(weight[:, kept])


def _first_rows(acts: Activations, layer: int, n: int) -> np.ndarray:
    if acts.n_tokens < n:
        raise ValueError(f"the texts: expected {n} tokens, got {acts.n_tokens}")
    return np.ascontiguousarray(acts.layer(layer).numpy()[:n])


@cache
def _collected(texts: str, n: int, per_text: int, layers: str | tuple[int, ...]) -> Activations:
    """Loaded where an earlier run has finished it, else collected (resumed); bfloat16 on disk."""
    kept = "all" if isinstance(layers, str) else "-".join(map(str, layers))
    name = f"smollm2-{file_digest(smollm2_path())[:16]}-{texts}-{n}-by-{per_text}-layers-{kept}"
    folder = default_cache() / "benchmarks" / name
    try:
        return Activations.load(folder)
    except (FileNotFoundError, ValueError):  # not there, or not finished
        print(f"collecting {n} tokens of {texts} into {folder}, once")
    model, tokenizer, _ = load_model("smollm2")
    chosen, _ = choose_texts(read_texts(texts), tokenizer, tokens=n, per_text=per_text, max_length=_MAX_LENGTH, seed=0)
    return collect_activations(
        model, tokenizer, chosen, path=folder, layers=layers, tokens_per_text=per_text, max_length=_MAX_LENGTH
    )
