"""Architectures small enough to be trained on a CPU in minutes, with a tokenizer of their own.

Both have six blocks a stack, so that a stack has seven layers with its embedding, and 128 coordinates a layer. Neither has
dropout: a run of minutes sees most of its texts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from msma_fast.activations.objectives import span_sizes
from msma_fast.activations.optional import require

ARCHITECTURES = {"gpt2": "GPT-2", "t5": "T5"}
CONTEXT = 128  # tokens of a window, and positions of GPT-2's table
BLOCKS = 6
WIDTH = 128
_HEADS = 4
_VOCABULARY = 2048  # at most: few texts give fewer merges
_END = {"gpt2": "<|endoftext|>", "t5": "</s>"}


def train_tokenizer(architecture: str, texts: Sequence[str]) -> Any:
    """A byte-level BPE of at most 2048 tokens, which can spell every text. T5's ends each text with </s>, as T5 does."""
    bpe = require("tokenizers", "training a tokenizer")
    transformers = require("transformers", "training a tokenizer")
    end = _END[architecture]
    specials = [end] if architecture == "gpt2" else ["<pad>", end, "<unk>", *sentinels()]
    tokenizer = bpe.Tokenizer(bpe.models.BPE())
    tokenizer.pre_tokenizer = bpe.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = bpe.decoders.ByteLevel()
    trainer = bpe.trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=specials,
        initial_alphabet=sorted(bpe.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    if architecture == "gpt2":
        roles = {"bos_token": end, "eos_token": end, "unk_token": end}
    else:
        tokenizer.post_processor = bpe.processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
        )
        roles = {"pad_token": "<pad>", "eos_token": end, "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **roles)


def sentinels() -> list[str]:
    """T5's names of the spans that were taken out of a window, in order."""
    return [f"<extra_id_{span}>" for span in range(span_sizes(CONTEXT)[1])]


def fresh_model(architecture: str, tokenizer: Any, seed: int) -> Any:
    """The model with random weights in float32, as transformers initialises it. Torch's random state stays as it was."""
    transformers = require("transformers", "building a model")
    config: Any
    if architecture == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=WIDTH,
            n_layer=BLOCKS,
            n_head=_HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        built = transformers.GPT2LMHeadModel
    else:
        config = transformers.T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=WIDTH // _HEADS,
            d_ff=4 * WIDTH,
            num_layers=BLOCKS,
            num_heads=_HEADS,
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
        built = transformers.T5ForConditionalGeneration
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        return built(config)
