"""Mean attention spans against the models' own attention weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import Activations, collect_activations


@pytest.fixture(autouse=True)
def one_thread(torch_threads: None) -> None:
    """These models are too small for two threads, which only wait for each other on a busy machine."""
    torch.set_num_threads(1)


def expected_spans(family: str, acts: Activations, given: list[str], tokenizer: Any) -> dict[str, torch.Tensor]:
    """One text at a time, from output_attentions, in a plain loop over the kept rows."""
    model = tiny_models.model(family).eval()
    model.set_attn_implementation("eager")
    totals: dict[str, torch.Tensor] = {}
    for text, words in enumerate(given):
        tokens = torch.tensor([tokenizer(words)["input_ids"]])
        with torch.no_grad():
            if family == "t5":
                out = model(input_ids=tokens, decoder_input_ids=tokens, output_attentions=True)
                stacks = {"encoder": out.encoder_attentions, "decoder": out.decoder_attentions}
            else:
                stacks = {"layer": model(input_ids=tokens, output_attentions=True).attentions}
        rows = acts.select(texts=[text])
        assert rows.positions is not None
        for prefix, attentions in stacks.items():
            for layer, weights in enumerate(attentions, start=1):
                name = f"{prefix}.{layer}"
                totals.setdefault(name, torch.zeros(weights.shape[1], dtype=torch.float64))
                for query in rows.positions.tolist():
                    for key in range(tokens.shape[1]):
                        totals[name] += weights[0, :, query, key].double() * abs(query - key)
    return {name: total / acts.n_tokens for name, total in totals.items()}


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "bert", "roberta", "t5"])
def test_spans(family: str, tmp_path: Path) -> None:
    given = tiny_models.texts(6, shortest=8, longest=14)
    tokenizer = tiny_models.tokenizer(family)
    acts = collect_activations(
        tiny_models.model(family), tokenizer, given, tokens_per_text=5, batch_size=4, attention_span=True
    )
    assert acts.metadata["attention"] == "eager"
    spans = dict(zip(acts.names, acts.metadata["attention_span"], strict=True))
    expected = expected_spans(family, acts, given, tokenizer)
    assert {name for name, heads in spans.items() if heads is None} == set(acts.names) - set(expected)
    for name, heads in expected.items():
        torch.testing.assert_close(torch.tensor(spans[name], dtype=torch.float64), heads, rtol=1e-4, atol=1e-5)
    on_disk = collect_activations(
        tiny_models.model(family), tokenizer, given, tokens_per_text=5, batch_size=4, attention_span=True, path=tmp_path
    )
    assert on_disk.metadata["attention_span"] == acts.metadata["attention_span"]


def test_spans_of_known_weights() -> None:
    from msma_fast.activations.attention import spans

    weights = torch.zeros(2, 2, 4, 4)
    weights[:, 0] = torch.eye(4)  # a head that looks at itself: span 0
    weights[:, 1, :, 0] = 1  # a head that looks at the first token: span i
    assert spans(weights, torch.tensor([0, 1, 1]), torch.tensor([3, 1, 2])).tolist() == [0, 3 + 1 + 2]


def test_some_layers() -> None:
    model, tokenizer = tiny_models.model("gpt2"), tiny_models.tokenizer("gpt2")
    options: dict[str, Any] = {"tokens_per_text": 2, "attention_span": True}
    full = collect_activations(model, tokenizer, tiny_models.texts(3), **options)
    part = collect_activations(model, tokenizer, tiny_models.texts(3), layers=[0, 2], **options)
    assert part.metadata["attention_span"] == [None, full.metadata["attention_span"][2]]


def test_a_model_that_shows_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gpt2 import modeling_gpt2

    original = modeling_gpt2.GPT2Attention.forward
    monkeypatch.setattr(
        modeling_gpt2.GPT2Attention,
        "forward",
        lambda self, *args, **options: (original(self, *args, **options)[0], None),
    )
    model, tokenizer = tiny_models.model("gpt2"), tiny_models.tokenizer("gpt2")
    with pytest.raises(NotImplementedError, match=r"attention_span: expected attention weights .* got none at"):
        collect_activations(model, tokenizer, tiny_models.texts(3), tokens_per_text=2, attention_span=True)
    assert model.config._attn_implementation != "eager"
