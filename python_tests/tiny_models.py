"""Small random transformers models of several families, with word tokenizers that fit them. No network, no files."""

from __future__ import annotations

import random
from typing import Any

import torch

WORDS = [f"w{index}" for index in range(50)]
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "gpt_neox")
ENCODERS = ("bert", "roberta")
FAMILIES = (*DECODERS, *ENCODERS, "t5")
# The ids of the special tokens follow each family's habit: RoBERTa pads with 1, and BERT, RoBERTa, Llama and T5 add some.
_SPECIALS: dict[str, dict[str, Any]] = {
    "bert": {"pad": 0, "before": "[CLS]", "after": "[SEP]"},
    "roberta": {"pad": 1, "before": "<s>", "after": "</s>"},
    "llama": {"pad": None, "before": "<s>", "after": None},
    "t5": {"pad": 0, "before": None, "after": "</s>"},
}


def texts(count: int, shortest: int = 3, longest: int = 40, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(shortest, longest))) for _ in range(count)]


def tokenizer(family: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    habit: dict[str, Any] = _SPECIALS.get(family, {"pad": None, "before": None, "after": None})
    specials = ["<unk>"]
    if habit["pad"] is not None:
        specials.insert(habit["pad"], "<pad>")
    ends = [token for token in (habit["before"], habit["after"]) if token]
    vocabulary = {token: index for index, token in enumerate([*specials, *ends, *WORDS])}
    word_level = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        template = " ".join(filter(None, (habit["before"], "$A", habit["after"])))
        word_level.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, vocabulary[token]) for token in ends]
        )
    roles = {"pad_token": "<pad>"} if habit["pad"] is not None else {}
    roles |= {"bos_token": habit["before"]} if habit["before"] else {}
    roles |= {"eos_token": habit["after"]} if habit["after"] else {}
    return PreTrainedTokenizerFast(tokenizer_object=word_level, unk_token="<unk>", **roles)


def model(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """With its read-out where the family has one, in training mode, dropout included, as a fresh model is.

    `changes` go to the configurations that are not GPT-2's or T5's.
    """
    import transformers as hf

    torch.manual_seed(seed)
    wide = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        **changes,
    }
    grouped = {"num_key_value_heads": 2}
    none = {"bos_token_id": None, "eos_token_id": None}
    build = {
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=3, n_head=4, initializer_range=0.3, **none)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**wide, **grouped, **none)),
        "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**wide, **grouped, **none)),
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**wide, **grouped, **none)),
        "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**wide, **none)),
        "bert": lambda: hf.BertModel(hf.BertConfig(**wide)),
        "roberta": lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**wide | {"max_position_embeddings": 66})),
        "t5": lambda: hf.T5ForConditionalGeneration(
            hf.T5Config(
                vocab_size=64,
                d_model=32,
                d_kv=8,
                d_ff=48,
                num_layers=3,
                num_decoder_layers=2,
                num_heads=4,
                decoder_start_token_id=0,
                initializer_factor=1.0,
            )
        ),
    }
    built = build[family]()
    with torch.no_grad():  # norms that are exactly one would hide a norm that was applied twice
        for name, weight in built.named_parameters():
            if "norm" in name.lower() or ".ln_" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return built.to(dtype).train()
