"""`--dry-run`: what an analysis would take, from the model's configuration and a second of measuring this machine.

Estimates: forward pass 2 operations per weight and token read; a layer's neighbours and dimension 2 n^2 d, three and a half
times over (exclusion, selection, keys, subsets); CKA 2 n d^2 a pair; information 9 ns per pair of tokens and pair of layers;
Fisher geometry of m tokens 2 m V d a pass over the vocabulary, 38 passes a layer, and 2 V d^2 once.
The three factors are those of the default analysis on two threads of an AMD Zen 4.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from msma_fast.activations import Activations
from msma_fast.activations.embedded import model_kind
from msma_fast.msma.analysis import Settings

_NEIGHBOUR_PASSES = 3.5
_VOCABULARY_PASSES = 38
_PAIR_SECONDS = 9e-9  # one joint key: maximum, selection and two counts, on one thread
_SCALE_SECONDS = 2.4  # on one core, of a layer with 2,000 tokens: boundaries, halves of the texts, other spaces


class Shape(NamedTuple):
    """n tokens, L layers of d coordinates, weights of the model in the blocks, layers that are read out and V tokens of the
    read-out, 0 without one."""

    tokens: int
    layers: int
    d: int
    weights: int
    read: int
    vocabulary: int


def _rate(dtype: torch.dtype) -> float:
    """Multiply-add operations per second of a product like those to come."""
    a, b = torch.ones(512, 576, dtype=dtype), torch.ones(576, 2048, dtype=dtype)
    a @ b
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < 0.3:
        a @ b
        runs += 1
    return runs * 2.0 * 512 * 576 * 2048 / (time.perf_counter() - started)


def _configuration(model: str) -> Any:
    """The model's configuration, without its weights where that is possible."""
    from msma_fast.activations import load_model
    from msma_fast.activations.optional import require

    if model in ("smollm2", "minilm", "minilm-roberta"):
        return load_model(model)[0].config
    return require("transformers", "reading a configuration").AutoConfig.from_pretrained(model)


def _shape(model: str, tokens: int) -> Shape:
    config = _configuration(model)
    layers = int(getattr(config, "num_hidden_layers", 0) or config.num_layers)
    stacks = 2 if getattr(config, "is_encoder_decoder", False) else 1
    d = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", 0) or 4 * d)
    gated = 3 if "silu" in str(getattr(config, "hidden_act", "")) else 2
    weights = stacks * layers * (4 * d * d + gated * d * inner)
    vocabulary = 0 if model_kind(config) == "encoder" else int(config.vocab_size)
    return Shape(tokens, stacks * (layers + 1), d, weights, layers + 1, vocabulary)


def plan(model: str, *, tokens: int, per_text: int, max_length: int, activations: str | None, mi_tokens: int) -> str:
    """A few lines of text: time, memory and disk. Raises as loading the model's configuration does."""
    if activations:
        acts = Activations.from_safetensors(Path(activations))
        shape = Shape(acts.n_tokens, len(acts), max(acts.dims), 0, 0, 0)
    else:
        shape = _shape(model, tokens)
    fast, plain = _rate(torch.bfloat16), _rate(torch.float32)
    read = -(-shape.tokens // per_text) * max_length
    n, d, pairs = shape.tokens, shape.d, shape.layers * (shape.layers - 1) / 2
    forward = 2.0 * shape.weights * read / fast
    neighbours = shape.layers * _NEIGHBOUR_PASSES * (2.0 * n * n * d) / plain
    similarity = pairs * 2.0 * n * d * d / plain
    few = min(mi_tokens, n)
    information = 4 * pairs * few * few * _PAIR_SECONDS / torch.get_num_threads()
    words, sampled = shape.vocabulary, min(Settings().fisher_tokens, n)
    fisher = shape.read * 2.0 * words * d * (_VOCABULARY_PASSES * sampled + d) / plain
    few = min(Settings().scale_tokens, n)
    scales = shape.layers * _SCALE_SECONDS * few / Settings().scale_tokens / torch.get_num_threads()
    untrained = forward * few / n
    disk = 2.0 * (n + few) * d * shape.layers if not activations else 0.0
    memory = 4.0 * n * d * shape.layers + 4.0 * shape.weights + 5e8
    total = forward + neighbours + similarity + information + fisher + scales + untrained
    lines = [
        f"{shape.layers} layers x {n} tokens x {d} coordinates",
        f"time    about {total:.0f} s: model {forward:.0f}, neighbours "
        f"{neighbours:.0f}, overlap and CKA {similarity:.0f}, information {information:.0f}, Fisher geometry "
        f"{fisher:.0f}, the untrained model {untrained:.0f}, scales {scales:.0f}",
        f"memory  about {memory / 2**30:.1f} GiB",
        f"disk    about {disk / 2**20:.0f} MiB of activations, and a few MiB of report",
    ]
    return "\n".join(lines)
