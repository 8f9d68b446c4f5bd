"""A read-out for an encoder that comes without one, fitted here: which token a masked place held.

    logits = s (h W + c) E^T + u log p

W by ridge regression from states h at masked places onto the embeddings of what stood there, E the input embeddings, p the
tokens' frequencies; s and u have the least loss on masked places of other texts, and what is told of the head is of others
still. No substitute for the head that a model was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from msma_fast.activations.blocks import position_limit
from msma_fast.activations.forward import pad

LEAST = 50  # texts
_SHARE, _BATCH, _LENGTH = 0.15, 32, 128
_RIDGE = 1e-3
_SIZES, _WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class MaskedHead:
    """States (..., d) to logits (..., V). `about`: how many masked places it was fitted to, how many were held out, accuracy
    and loss (nats) there, and the loss of the tokens' frequencies alone."""

    weight: Tensor
    shift: Tensor
    embedding: Tensor
    prior: Tensor
    about: dict[str, float]

    def __call__(self, h: Tensor) -> Tensor:
        weight, shift, embedding, prior = (
            each.to(h.device) for each in (self.weight, self.shift, self.embedding, self.prior)
        )
        return ((h.to(weight.dtype) @ weight + shift) @ embedding.T + prior).to(h.dtype)


def fit_masked_head(model: Any, tokenizer: Any, texts: Sequence[str], seed: int = 0) -> MaskedHead:
    """From one in seven tokens of every text, cut to 128 tokens or what the model has positions for; of every five texts one
    is held out and one chooses s and u. Raises ValueError for a tokenizer without a mask token, and fewer than 50 texts."""
    if tokenizer.mask_token_id is None:
        raise ValueError("tokenizer: expected one with a mask token, got none")
    if len(texts) < LEAST:
        raise ValueError(f"texts: expected at least {LEAST}, got {len(texts)}")
    states, tokens, owners = _masked(model, tokenizer, texts, seed)
    held, tuned = owners % 5 == 0, owners % 5 == 1  # the rest is fitted to
    fitted = ~held & ~tuned
    embedding = model.get_input_embeddings().weight.detach().float().cpu()
    counts = torch.bincount(tokens[fitted], minlength=embedding.shape[0]).float() + 0.1
    prior = (counts / counts.sum()).log()
    mean, wanted = states[fitted].mean(0), embedding[tokens[fitted]]
    middle = wanted.mean(0)
    x = (states[fitted] - mean).double()
    gram = x.T @ x
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, x.T @ (wanted - middle).double()).float()

    def raw(rows: Tensor) -> Tensor:
        return (states[rows] - mean) @ weight @ embedding.T  # what all rows share is left to the frequencies

    def loss(rows: Tensor, found: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(found, tokens[rows]))

    own = raw(tuned)
    size, part = min(product(_SIZES, _WEIGHTS), key=lambda option: loss(tuned, option[0] * own + option[1] * prior))
    told = size * raw(held) + part * prior
    about = {
        "fitted": float(fitted.sum()),
        "held_out": float(held.sum()),
        "accuracy": float((told.argmax(1) == tokens[held]).float().mean()),
        "loss": loss(held, told),
        "loss_of_frequencies": float(-prior[tokens[held]].mean()),
    }
    return MaskedHead(size * weight, -size * mean @ weight, embedding, part * prior, about)


def _masked(model: Any, tokenizer: Any, texts: Sequence[str], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, d) float32 states at masked places, (N,) what stood there, (N,) the number of the text."""
    generator = torch.Generator().manual_seed(seed)
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    length = min(_LENGTH, position_limit(model) or _LENGTH)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(texts), _BATCH):
        some = list(texts[start : start + _BATCH])
        sequences = tokenizer(some, truncation=True, max_length=length)["input_ids"]
        ids, attention = pad(sequences, int(tokenizer.pad_token_id), torch.device("cpu"))
        chosen = (torch.rand(ids.shape, generator=generator) < _SHARE) & ~torch.isin(ids, special) & attention.bool()
        given = torch.where(chosen, tokenizer.mask_token_id, ids).to(model.device)
        with torch.inference_mode():
            hidden = model(input_ids=given, attention_mask=attention.to(model.device)).last_hidden_state
        owners = torch.arange(start, start + len(some))[:, None].expand_as(ids)
        found.append((hidden[chosen.to(model.device)].float().cpu(), ids[chosen], owners[chosen]))
    states, tokens, texts_of = (torch.cat(parts) for parts in zip(*found, strict=True))
    return states.clone(), tokens, texts_of
