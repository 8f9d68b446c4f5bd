"""Sampling with common random numbers, at temperature 1 and for a fixed number of tokens.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al., "A* sampling", 2014): argmax_v logits_v + g_v, with g_v
a function of (seed, prompt, step). The same seed gives the same text, and two models with nearly the same logits give nearly
the same text. Special tokens, the end of the text among them, are never drawn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.msma.common_random import gumbels
from msma_fast.msma.hooks import Touch
from msma_fast.msma.language import Group, Language


def decode(language: Language, group: Group, new_tokens: int, seed: int, touch: Touch | None = None) -> Tensor:
    """New ids (b, new_tokens) int64 after the prompts; of an encoder (b, t), the prompts with their masked places filled.

    A decoder continues the prompt. An encoder-decoder's encoder reads the prompt with the tokenizer's first sentinel behind
    it where there is one, and its decoder writes that span. An encoder fills 30 % of the places in one pass, each by itself;
    new_tokens is not used. touch: the open context that changes states. Cost: a pass over the prompt, and one over each
    token. Raises ValueError for prompts too long for the model's positions.
    """
    if language.kind == "encoder":
        inputs, masked = language.question(group, seed)
        _place(touch, group, 0)
        logits = language.run(inputs).logits
        return torch.where(masked, _fill(language, group, logits, seed), group.ids)
    if language.limit is not None and group.ids.shape[1] + new_tokens > language.limit:
        raise ValueError(
            f"new_tokens: expected prompt and new tokens within the {language.limit} positions of the model, got "
            f"{group.ids.shape[1]} + {new_tokens}"
        )
    given: dict[str, Any] = {}
    name, ids = "input_ids", group.ids
    if language.kind == "encoder-decoder":
        _place(touch, group, 0)
        read = language.encoder_ids(group.ids)
        mask = torch.ones_like(read)
        given = {"encoder_outputs": language.model.get_encoder()(input_ids=read, attention_mask=mask)}
        given["attention_mask"] = mask
        name, ids = "decoder_input_ids", language.decoder_start(len(group.numbers))
    drawn: list[Tensor] = []
    start = 0
    for step in range(new_tokens):
        _place(touch, group, start)
        output = language.run({name: ids, **given, "use_cache": True}, keep=1)
        given["past_key_values"] = output.past_key_values
        start += ids.shape[1]
        token = _draw(language, output.logits[:, -1], gumbels(seed, group.numbers, step, output.logits.shape[-1]))
        drawn.append(token)
        ids = token[:, None]
    return torch.stack(drawn, 1)


def text(language: Language, ids: Tensor) -> list[str]:
    """The strings of new ids (b, n), special tokens left out."""
    return [str(language.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in ids.tolist()]


def surprise(language: Language, group: Group, new: Tensor, seed: int) -> Tensor:
    """(b,) float64: the mean -log p of `decode`'s new ids under the untouched model, in nats per token; its exponential is
    the perplexity. Of an encoder: of the filled tokens, each given the places that were not masked."""
    if language.kind == "encoder":
        inputs, asked = language.question(group, seed)
        losses = _losses(language.run(inputs).logits, new)
        return (losses * asked).sum(1) / asked.sum(1)
    count = new.shape[1]
    if language.kind == "decoder":
        inputs = {"input_ids": torch.cat([group.ids, new[:, :-1]], 1)}
    else:
        inputs = {
            "input_ids": language.encoder_ids(group.ids),
            "decoder_input_ids": torch.cat([language.decoder_start(len(group.numbers)), new[:, :-1]], 1),
        }
    return _losses(language.run(inputs, keep=count).logits[:, -count:], new).mean(1)


def _place(touch: Touch | None, group: Group, start: int) -> None:
    if touch is not None:
        touch.place(group.numbers, start)


def _draw(language: Language, logits: Tensor, noise: Tensor) -> Tensor:
    """(b, V) -> (b,) ids."""
    scores = logits.double() + noise.to(logits.device)
    scores[:, sorted(language.specials)] = -torch.inf
    scores[:, len(language.tokenizer) :] = -torch.inf  # rows of the table that stand for no token
    return scores.argmax(-1)


def _fill(language: Language, group: Group, logits: Tensor, seed: int) -> Tensor:
    """(b, t, V) -> (b, t) ids, the place being the step."""
    steps = range(logits.shape[1])
    return torch.stack(
        [_draw(language, logits[:, step], gumbels(seed, group.numbers, step, logits.shape[-1])) for step in steps],
        1,
    )


def _losses(logits: Tensor, ids: Tensor) -> Tensor:
    """(b, n, V), (b, n) -> (b, n) float64, a prompt at a time so that float64 logits are never held at once."""
    rows = [one.double().log_softmax(-1).gather(-1, own[:, None])[:, 0] for one, own in zip(logits, ids, strict=True)]
    return -torch.stack(rows)
