"""Collected states against the models' own, and the rules of sampling."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import Activations, collect_activations


@pytest.fixture(autouse=True)
def one_thread(torch_threads: None) -> None:
    """These models are too small for two threads, which only wait for each other on a busy machine."""
    torch.set_num_threads(1)


TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5}


def everything(family: str, given: list[str], **options: Any) -> tuple[Activations, Any, Any]:
    model, tokenizer = tiny_models.model(family), tiny_models.tokenizer(family)
    options = {"tokens_per_text": None, "drop_special": False, "max_length": 48} | options
    return collect_activations(model, tokenizer, given, **options), model, tokenizer


def reference(model: Any, ids: list[int]) -> dict[str, torch.Tensor]:
    """The states of one unpadded text by the model's own output_hidden_states, read without hooks of ours.

    Where the family has a final norm, transformers gives the last state normed; that one is kept under "normed".
    """
    model.eval()
    tokens = torch.tensor([ids])
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            out = model(input_ids=tokens, decoder_input_ids=tokens, output_hidden_states=True)
            stacks = {"encoder": out.encoder_hidden_states, "decoder": out.decoder_hidden_states}
        else:
            stacks = {"layer": model(input_ids=tokens, output_hidden_states=True).hidden_states}
    final_norm = model.config.model_type not in tiny_models.ENCODERS
    found = {}
    for prefix, states in stacks.items():
        for layer, state in enumerate(states):
            last = layer == len(states) - 1 and final_norm
            found[f"{'normed ' if last else ''}{prefix}.{layer}"] = state[0]
    return found


def final_norm(model: Any, name: str) -> Any:
    base = model.base_model
    return {
        "gpt2": lambda: base.ln_f,
        "gpt_neox": lambda: base.final_layer_norm,
        "t5": lambda: (model.encoder if name.startswith("encoder") else model.decoder).final_layer_norm,
    }.get(model.config.model_type, lambda: base.norm)()


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_layers_are_the_states_after_each_block_before_any_final_norm(family: str) -> None:
    given = tiny_models.texts(9)
    acts, model, tokenizer = everything(family, given, batch_size=4)
    blocks = 3 + 1 if family != "t5" else (3 + 1) + (2 + 1)
    assert len(acts) == blocks
    assert acts.text_ids is not None
    checked = 0
    for text, words in enumerate(given):
        here = acts.select(texts=[text])
        expected = reference(model, tokenizer(words)["input_ids"])
        for name in acts.names:
            state = here.layer(name)
            if name in expected:
                torch.testing.assert_close(state, expected[name], **TOLERANCE)
            else:
                normed = final_norm(model, name)(state).detach()
                torch.testing.assert_close(normed, expected[f"normed {name}"], **TOLERANCE)
                assert not torch.allclose(state, normed, rtol=0.01, atol=0.01)
            checked += 1
    assert checked == len(given) * blocks


def test_layer_zero_is_token_plus_position_embedding_in_gpt2() -> None:
    acts, model, _ = everything("gpt2", tiny_models.texts(5))
    assert acts.token_ids is not None
    assert acts.positions is not None
    embedded = model.transformer.wte.weight[acts.token_ids] + model.transformer.wpe.weight[acts.positions]
    torch.testing.assert_close(acts.layer(0), embedded.detach())


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_what_the_probe_says(family: str) -> None:
    acts, _, _ = everything(family, tiny_models.texts(3), layers="all")
    layers = acts.metadata["layers"]
    assert [layer["norm_applied"] for layer in layers] == [family in tiny_models.ENCODERS] * len(layers)
    assert [layer["kind"] == "embedding" for layer in layers] == [name.endswith(".0") for name in acts.names]
    decoder = family in tiny_models.DECODERS
    expected = {"encoder": False, "decoder": True} if family == "t5" else {"layer": decoder}
    assert acts.metadata["causal"] == expected
    assert ("decoder_input" in acts.metadata) == (family == "t5")


@pytest.mark.parametrize("family", ["gpt2", "roberta", "t5"])
def test_batches_and_padding_do_not_show(family: str) -> None:
    given = tiny_models.texts(16, seed=5)
    model, tokenizer = tiny_models.model(family), tiny_models.tokenizer(family)
    runs = [
        collect_activations(model, tokenizer, given, tokens_per_text=4, batch_size=size, max_length=48)
        for size in (1, 7)
    ]
    for name in ("text_ids", "token_ids", "positions", "next_token_ids"):
        assert torch.equal(getattr(runs[0], name), getattr(runs[1], name))
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    encoded = [tokenizer(text)["input_ids"] for text in given]
    for row in range(runs[1].n_tokens):
        text, position = int(runs[1].text_ids[row]), int(runs[1].positions[row])  # type: ignore[index]
        assert encoded[text][position] == int(runs[1].token_ids[row])  # type: ignore[index]
        assert encoded[text][position] not in tokenizer.all_special_ids
    order = torch.stack([runs[1].text_ids, runs[1].positions], dim=1).tolist()  # type: ignore[list-item]
    assert order == sorted(order)


@pytest.mark.parametrize("family", ["gpt2", "bert", "llama"])
def test_equal_counts_without_special_or_first_tokens(family: str) -> None:
    given = [" ".join(tiny_models.WORDS[:length]) for length in (3, 5, 6, 7, 30)]
    acts, _, tokenizer = everything(family, given, tokens_per_text=5, drop_special=True)
    # gpt2 loses its first token; llama's first token is its <s>, and BERT's [CLS] and [SEP] are no words
    used = [2, 3, 4] if family == "gpt2" else [1, 2, 3, 4]
    assert acts.text_ids is not None
    assert acts.text_ids.tolist() == [text for text in used for _ in range(5)]
    assert (acts.metadata["texts_used"], acts.metadata["texts_skipped"]) == (len(used), 5 - len(used))
    assert acts.positions is not None
    assert int(acts.positions.min()) == 1
    assert acts.token_ids is not None
    assert not set(acts.token_ids.tolist()) & set(tokenizer.all_special_ids)
    assert acts.metadata["first_position_dropped"] == (family != "bert")


def test_every_position_is_equally_likely() -> None:
    given = [" ".join(tiny_models.WORDS[:11])] * 400
    acts, _, _ = everything("gpt2", given, tokens_per_text=3, drop_special=True, layers=[0])
    assert acts.positions is not None
    counts = torch.bincount(acts.positions, minlength=11)
    assert counts[0] == 0
    expected = 400 * 3 / 10
    chi_square = float(((counts[1:] - expected) ** 2 / expected).sum())
    assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001


def test_the_seed_decides_and_other_texts_do_not() -> None:
    given = tiny_models.texts(6, shortest=20)

    def positions(texts: list[str], seed: int) -> list[int]:
        acts, _, _ = everything("gpt2", texts, tokens_per_text=4, drop_special=True, seed=seed, layers=[0])
        assert acts.positions is not None
        return acts.positions.tolist()

    assert positions(given, 1) == positions(given, 1)
    assert positions(given, 1) != positions(given, 2)
    assert positions(given[:3], 1) == positions(given, 1)[:12]


def test_all_positions_and_what_follows_them() -> None:
    acts, _, tokenizer = everything("bert", ["w1 w2 w3", "w4 zzz w5"], drop_special=True)
    ids = dict(
        zip(["unk", *"12345"], tokenizer.convert_tokens_to_ids(["<unk>", "w1", "w2", "w3", "w4", "w5"]), strict=True)
    )
    assert acts.token_ids is not None
    assert acts.token_ids.tolist() == [ids["1"], ids["2"], ids["3"], ids["4"], ids["5"]]
    assert acts.next_token_ids is not None
    assert acts.next_token_ids.tolist() == [ids["2"], ids["3"], -1, -1, -1]  # before [SEP] and <unk>: none
    assert acts.positions is not None
    assert acts.positions.tolist() == [1, 2, 3, 1, 3]
    kept, _, _ = everything("bert", ["w1 w2 w3"])
    assert kept.positions is not None
    assert kept.positions.tolist() == [0, 1, 2, 3, 4]


def test_text_around_each_row() -> None:
    text = "w0  w1\nw2 w3 w4 w5 w6   w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23"
    acts, _, _ = everything("llama", [text], drop_special=True)
    assert acts.tokens == [f"w{index}" for index in range(24)]
    assert acts.before is not None
    assert acts.after is not None
    assert acts.before[11] == "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 "
    assert acts.after[11] == " w12 w13 w14 w15 w16 w17 w18 w19 w20 w21"
    assert acts.before[0] == ""
    assert acts.after[23] == ""


def test_text_around_each_row_without_offsets() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer(extra_ids=0)  # bytes, in plain Python: it cannot say which characters a token covers
    model = tiny_models.model("llama", vocab_size=300)
    acts = collect_activations(model, tokenizer, ["abcdefghijklmnop"], tokens_per_text=None, layers=[0])
    assert acts.tokens == list("bcdefghijklmnop")
    assert acts.before is not None
    assert acts.after is not None
    assert (acts.before[11], acts.after[11]) == ("cdefghijkl", "nop")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_dtype_is_the_models(dtype: torch.dtype) -> None:
    model = tiny_models.model("llama", dtype=dtype)
    acts = collect_activations(model, tiny_models.tokenizer("llama"), tiny_models.texts(3), tokens_per_text=2)
    assert {acts.layer(index, dtype=None).dtype for index in range(len(acts))} == {dtype}
    assert acts.metadata["dtype"] == str(dtype).removeprefix("torch.")
    assert not acts.layer(0).is_inference()  # usable under autograd


def test_some_layers_end_the_pass_early() -> None:
    model, tokenizer = tiny_models.model("t5"), tiny_models.tokenizer("t5")
    full = collect_activations(model, tokenizer, tiny_models.texts(4), tokens_per_text=2)
    probing, ran = [0], []
    for block in (*model.encoder.block, *model.decoder.block):
        block.register_forward_hook(lambda module, *_: ran.append(module))

    def count(done: int, total: int) -> None:
        probing[0] = len(ran)

    part = collect_activations(
        model, tokenizer, tiny_models.texts(4), tokens_per_text=2, layers=["encoder.2", 0], progress=count, batch_size=4
    )
    assert part.names == ["encoder.0", "encoder.2"]
    assert [layer["name"] for layer in part.metadata["layers"]] == part.names
    assert torch.equal(part.layer(1), full.layer("encoder.2"))
    assert len(ran) == probing[0] > 0
    assert list(map(id, ran[-2:])) == list(map(id, model.encoder.block[:2]))  # the last pass: two blocks and no more
    last = collect_activations(model, tokenizer, tiny_models.texts(4), tokens_per_text=2, layers=-1)
    assert last.names == ["decoder.2"]
    assert torch.equal(last.layer(0), full.layer("decoder.2"))


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_models.model("gpt2")
    model.transformer.h[1].eval()
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    before = model.config._attn_implementation
    training = [module.training for module in model.modules()]
    collect_activations(
        model, tiny_models.tokenizer("gpt2"), tiny_models.texts(3), tokens_per_text=2, attention_span=True
    )
    assert [module.training for module in model.modules()] == training
    assert model.config._attn_implementation == before != "eager"
    assert hooks == sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_progress_counts_texts() -> None:
    seen: list[tuple[int, int]] = []
    everything("gpt2", tiny_models.texts(10), batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]
