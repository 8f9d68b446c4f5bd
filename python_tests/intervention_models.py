"""Tiny random models that write: with a read-out each, and tokenizers with the tokens that writing needs."""

from __future__ import annotations

from typing import Any

import tiny_models
import torch

FAMILIES = ("gpt2", "llama", "bert", "t5")


def model(family: str, seed: int = 0) -> Any:
    """In training mode with dropout, as fresh models are."""
    if family != "bert":
        return tiny_models.model(family, seed=seed)
    import transformers as hf

    torch.manual_seed(seed)
    config = hf.BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return hf.BertForMaskedLM(config).train()


def tokenizer(family: str) -> Any:
    """BERT's has a mask token and T5's a sentinel."""
    found = tiny_models.tokenizer(family)
    if family == "bert":
        found.add_special_tokens({"mask_token": "[MASK]"})
    if family == "t5":
        found.add_special_tokens({"extra_special_tokens": ["<extra_id_0>"]})
    return found


def prompts(family: str, count: int, lengths: tuple[int, ...] = (8, 11)) -> list[list[int]]:
    """Ids of random words, of alternating lengths before special tokens."""
    found = tokenizer(family)
    texts = [
        tiny_models.texts(1, length, length, seed=number)[0]
        for number, length in zip(range(count), lengths * count, strict=False)
    ]
    return [found(text)["input_ids"] for text in texts]
