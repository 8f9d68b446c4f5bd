"""A model asked for words: its logits, teacher-forced, whatever its kind.

    decoder           logits of the next token, read from its read-out
    encoder           logits of the token in each place, from a masked-language-model head or from `head`
    encoder-decoder   logits of the decoder's next token; the encoder reads the prompt

Prompts of one batch are equally long, so that nothing is ever padded.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.activations.blocks import Stack, check_model, find_stacks, is_encoder_decoder, position_limit
from msma_fast.activations.embedded import load_model, model_kind
from msma_fast.activations.optional import require
from msma_fast.msma import common_random
from msma_fast.msma.hooks import Touch

Head = Callable[[Tensor], Tensor]
MASKED = 0.3  # of an encoder's positions, special tokens apart


class Group(NamedTuple):
    """Prompts of one length: ids (b, t) int64, and numbers, the place of each among all prompts."""

    ids: Tensor
    numbers: list[int]


class Language:
    """model: a transformers model; head: (b, t, d) -> (b, t, V), for one without a read-out.

    Raises TypeError for what is no model and ValueError for a model without a read-out (at the first pass) or, of an
    encoder, a tokenizer without a mask token.
    """

    def __init__(self, model: Any, tokenizer: Any, head: Head | None = None) -> None:
        check_model(model)
        self.model, self.tokenizer, self.head = model, tokenizer, head
        self.kind = "encoder-decoder" if is_encoder_decoder(model) else model_kind(model.config)
        self.stacks: list[Stack] = find_stacks(model)
        self.device = model.get_input_embeddings().weight.device
        self.limit = position_limit(model)
        self._takes = set(inspect.signature(model.forward).parameters)
        if self.kind == "encoder" and getattr(tokenizer, "mask_token_id", None) is None:
            raise ValueError("tokenizer: expected one with a mask token for an encoder, got none")
        added = getattr(tokenizer, "added_tokens_decoder", {})
        ends = {*tokenizer.all_special_ids, *(one for one, token in added.items() if token.special)}
        settings = getattr(model, "generation_config", None)
        for one in (getattr(settings, "eos_token_id", None), model.config.eos_token_id):
            ends |= set(one) if isinstance(one, (list, tuple)) else set() if one is None else {one}
        self.specials = ends
        sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>") if self.kind == "encoder-decoder" else None
        self.sentinel = None if sentinel == tokenizer.unk_token_id else sentinel

    def encode(self, prompts: Any) -> list[list[int]]:
        """The ids of prompts that are strings or ids already. Raises TypeError and ValueError for others, and for prompts of
        fewer than two tokens or more than the model has positions."""
        if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Sequence):
            raise TypeError(f"prompts: expected a sequence of strings or of token ids, got {type(prompts).__name__}")
        if not prompts:
            raise ValueError("prompts: expected at least one, got none")
        found = []
        for number, prompt in enumerate(prompts):
            ids = [int(one) for one in (self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt)]
            top = self.model.get_input_embeddings().weight.shape[0]
            if len(ids) < 2 or (self.limit is not None and len(ids) > self.limit):
                most = "" if self.limit is None else f" and at most {self.limit}"
                raise ValueError(f"prompts[{number}]: expected at least 2 tokens{most}, got {len(ids)}")
            if not 0 <= min(ids) <= max(ids) < top:
                raise ValueError(f"prompts[{number}]: expected ids from 0 to {top - 1}, got {min(ids)} to {max(ids)}")
            found.append(ids)
        return found

    def groups(self, prompts: Sequence[Sequence[int]]) -> list[Group]:
        """The prompts by length, the shortest first."""
        lengths: dict[int, list[int]] = {}
        for number, ids in enumerate(prompts):
            lengths.setdefault(len(ids), []).append(number)
        return [
            Group(torch.tensor([list(prompts[one]) for one in numbers], device=self.device), numbers)
            for _, numbers in sorted(lengths.items())
        ]

    def run(self, given: Mapping[str, Any], keep: int | None = None) -> Any:
        """The model's output, with logits (b, t, V); keep: only the last so many positions need them."""
        inputs = dict(given)
        if keep is not None and "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = keep
        if self.kind != "decoder" and "attention_mask" not in inputs:
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "use_cache" in self._takes:
            inputs.setdefault("use_cache", False)
        output = self.model(**inputs)
        logits: Any = getattr(output, "logits", None)
        if (logits is None) == (self.head is None):
            got = "no logits" if logits is None else "logits and a head"
            raise ValueError(
                f"head: expected a function from states to logits for a model without a read-out, and None for one with; "
                f"got {got} of {type(self.model).__name__}"
            )
        if self.head is not None:
            output["logits"] = logits = self.head(output.last_hidden_state)
        words = len(self.tokenizer)
        if logits.ndim != 3 or logits.shape[-1] < words:
            raise ValueError(f"head: expected logits (b, t, V) with V >= {words} tokens, got {tuple(logits.shape)}")
        return output

    def logits(self, group: Group, seed: int, touch: Touch | None = None) -> Tensor:
        """(b, t, V) logits of the group's prompts, teacher-forced: `question` says where they count."""
        if touch is not None:
            touch.place(group.numbers, 0)
        found: Tensor = self.run(self.question(group, seed)[0]).logits
        return found

    def question(self, group: Group, seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """(inputs, (b, t) bool where the logits are asked about): all positions but the first of a decoder, the masked ones
        of an encoder."""
        ids = group.ids
        if self.kind == "encoder":
            masked = self.masks(group, seed)
            return {"input_ids": torch.where(masked, self.tokenizer.mask_token_id, ids)}, masked
        inputs = {"input_ids": ids}
        if self.kind == "encoder-decoder":
            inputs["decoder_input_ids"] = ids
        asked = torch.ones_like(ids, dtype=torch.bool)
        asked[:, 0] = False
        return inputs, asked

    def masks(self, group: Group, seed: int) -> Tensor:
        """(b, t) bool: a random 30 % of each prompt's positions, at least one, special tokens apart."""
        masked = torch.zeros_like(group.ids, dtype=torch.bool)
        for row, (ids, number) in enumerate(zip(group.ids.tolist(), group.numbers, strict=True)):
            free = [place for place, token in enumerate(ids) if token not in self.specials]
            if not free:
                raise ValueError(f"prompts[{number}]: expected tokens that are not special, got none")
            count = max(1, round(MASKED * len(free)))
            masked[row, common_random.stream(seed, common_random.MASKS, number).permutation(free)[:count]] = True
        return masked

    def encoder_ids(self, ids: Tensor) -> Tensor:
        """What an encoder-decoder's encoder reads: ids (b, t) with the first sentinel before a special token at the end."""
        if self.sentinel is None:
            return ids
        ends = bool((ids[:, -1] == self.tokenizer.eos_token_id).all()) and self.tokenizer.eos_token_id is not None
        place = ids.shape[1] - 1 if ends else ids.shape[1]
        mark = torch.full_like(ids[:, :1], self.sentinel)
        return torch.cat([ids[:, :place], mark, ids[:, place:]], 1)

    def decoder_start(self, batch: int) -> Tensor:
        """(b, 1 or 2): the decoder's start token, and the sentinel whose span is asked for."""
        start = self.model.config.decoder_start_token_id
        if start is None:
            raise ValueError("model: expected a decoder_start_token_id in the configuration, got None")
        ids = [start] if self.sentinel is None else [start, self.sentinel]
        return torch.tensor([ids] * batch, device=self.device)


def load_language_model(name_or_path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """(model, tokenizer) of what `load_model` takes, in float32, under whose rounding small divergences are still seen; an
    encoder with its masked-language-model head where its folder has one."""
    model, tokenizer, info = load_model(name_or_path, dtype=torch.float32)
    built = model.config.architectures or ()
    if info["kind"] == "encoder" and any(name.endswith("ForMaskedLM") for name in built):
        transformers = require("transformers", "loading a model")
        model = transformers.AutoModelForMaskedLM.from_pretrained(name_or_path, dtype=torch.float32).eval()
        model.config.msma_fast_source = info
    return model, tokenizer


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model without dropout and gradients, and afterwards as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
