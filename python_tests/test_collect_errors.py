"""What collect_activations refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import collect_activations


@pytest.fixture(autouse=True)
def one_thread(torch_threads: None) -> None:
    """These models are too small for two threads, which only wait for each other on a busy machine."""
    torch.set_num_threads(1)


TEXTS = ["w1 w2 w3 w4 w5", "w6 w7 w8"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"texts": "w1 w2"}, TypeError, "texts: expected a sequence of strings, got str"),
        ({"texts": []}, ValueError, "texts: expected at least one text, got none"),
        ({"texts": ["a", 3]}, TypeError, r"texts\[1\]: expected a string, got int"),
        ({"texts": ["w1", ""]}, ValueError, "texts: expected at least one text of two tokens or more, got at most 1"),
        ({"tokens_per_text": 0}, ValueError, "tokens_per_text: expected an integer >= 1, got 0"),
        ({"tokens_per_text": 2.0}, TypeError, "tokens_per_text: expected an integer >= 1, got 2.0"),
        (
            {"tokens_per_text": 5},
            ValueError,
            "texts: expected at least one text with 5 tokens to keep, got none: the longest of 2 has 5 tokens",
        ),
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"max_length": 1}, ValueError, "max_length: expected an integer >= 2, got 1"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer >= 1, got 0"),
        ({"layers": []}, ValueError, "layers: expected 'all' or at least one layer, got none"),
        (
            {"layers": "most"},
            ValueError,
            "layers: expected 'all', indices, or names from layer.0 to layer.3, got 'most'",
        ),
        ({"layers": [4]}, IndexError, "layers: expected an integer from -4 to 3, got 4"),
        ({"layers": [1.0]}, TypeError, "layers: expected an integer or a name, got 1.0"),
        ({"tokenizer": None}, TypeError, "tokenizer: expected the tokenizer of the model .* got NoneType"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "model: expected a transformers model, .* got Linear"),
        ({"model": 3}, TypeError, "model: expected a transformers model, .* got int"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "model": tiny_models.model("gpt2"),
        "tokenizer": tiny_models.tokenizer("gpt2"),
        "texts": TEXTS,
        "tokens_per_text": 2,
    }
    with pytest.raises(error, match=message):
        collect_activations(**arguments | options)


@pytest.mark.parametrize(("family", "limit"), [("gpt2", 64), ("bert", 64), ("roberta", 64)])
def test_more_tokens_than_positions(family: str, limit: int) -> None:
    model, tokenizer = tiny_models.model(family), tiny_models.tokenizer(family)
    long = [" ".join(tiny_models.WORDS * 3)]
    with pytest.raises(ValueError, match=rf"max_length: expected at most {limit}, .* got a text of 100 tokens"):
        collect_activations(model, tokenizer, long, max_length=100)
    acts = collect_activations(model, tokenizer, long, max_length=limit, tokens_per_text=None)
    assert acts.positions is not None
    assert int(acts.positions.max()) == (limit - 1 if family == "gpt2" else limit - 2)
    collect_activations(model, tokenizer, ["w1 w2 w3"], max_length=1000, tokens_per_text=1)  # short enough as it is


def test_a_tokenizer_of_another_model() -> None:
    model = tiny_models.model("llama", vocab_size=30)
    with pytest.raises(ValueError, match="tokenizer: expected ids below 30, the rows of the model's embedding, got 50"):
        collect_activations(model, tiny_models.tokenizer("gpt2"), ["w1 w49 w3"], tokens_per_text=1)


def test_a_model_without_a_list_of_blocks() -> None:
    import transformers as hf

    config = hf.AlbertConfig(
        vocab_size=64,
        embedding_size=8,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=16,
        num_hidden_layers=3,
    )
    with pytest.raises(NotImplementedError, match=r"model: expected a list of \[3\] blocks inside AlbertModel"):
        collect_activations(hf.AlbertModel(config), tiny_models.tokenizer("bert"), TEXTS, tokens_per_text=1)
