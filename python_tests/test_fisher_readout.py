"""Weight, bias and norm of small models of several families: their own logits, and the metric at collected states."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch
from fisher_oracles import metrics

from msma_fast import fisher

pytest.importorskip("transformers")
FAMILIES = (*tiny_models.DECODERS, "bert", "roberta", "t5")


def model_of(family: str, dtype: torch.dtype = torch.float32) -> Any:
    if family != "bert":
        return tiny_models.model(family, dtype=dtype)
    import transformers as hf

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    return (
        hf.BertForMaskedLM(hf.BertConfig(**sizes, max_position_embeddings=64, initializer_range=0.3)).to(dtype).train()
    )


def last_states(model: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the output of the last block, the logits), rows (n, ...)."""
    kept: list[torch.Tensor] = []
    base = model.get_decoder() if model.config.is_encoder_decoder else model
    blocks = next(m for m in base.modules() if isinstance(m, torch.nn.ModuleList))

    def keep(_: Any, __: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, (tuple, list)) else output)

    hook = blocks[-1].register_forward_hook(keep)
    more = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits = model(input_ids=tokens, **more).logits
    hook.remove()
    return kept[-1].reshape(-1, kept[-1].shape[-1]), logits.reshape(-1, logits.shape[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_s_own_logits(family: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = model_of(family, dtype)
        found = fisher.readout(model)
        assert all(module.training for module in model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        model.eval()
        h, logits = last_states(model, torch.tensor([[5, 9, 11, 2, 40, 7]]))
        x = found.norm(h.float())
        mine = x @ found.weight.float().T + (0 if found.bias is None else found.bias.float())
        assert found.weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
        limit = 1e-4 if dtype == torch.float32 else 0.05
        assert (mine - logits.float()).abs().max() < limit * logits.float().abs().max()


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "roberta", "t5"])
def test_the_metric_at_a_state(family: str) -> None:
    model = model_of(family).double().eval()
    found = fisher.readout(model)
    h, _ = last_states(model, torch.tensor([[5, 9, 11]]))
    v = torch.randn(h.shape, generator=torch.Generator().manual_seed(0)).double()
    mine = fisher.logit_fisher_vp(h, found.weight, v, found.bias, norm=found.norm)
    for row, step, got in zip(h, v, mine, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z: found.norm(z[None])[0], row).detach().numpy()
        x = found.norm(row[None]).detach().numpy()
        bias = None if found.bias is None else found.bias.numpy()
        inner = metrics(x, found.weight.numpy(), bias)[0]
        wanted = torch.from_numpy(jacobian.T @ inner @ jacobian) @ step
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-12 * float(wanted.abs().max()))


def test_the_norm_is_an_rmsnorm_where_half_precision_could_take_it_for_a_layernorm() -> None:
    """Rows whose mean is small beside their length: the two norms differ by less than bfloat16 is allowed to."""
    model = tiny_models.model("llama", dtype=torch.bfloat16, hidden_size=256, initializer_range=0.05)
    found = fisher.readout(model).norm
    assert isinstance(found, fisher.RMSNorm)
    h = torch.randn(4, 256, generator=torch.Generator().manual_seed(0)) + 3.0
    assert (found(h) - model.model.norm.float()(h)).abs().max() < 1e-2


def test_what_is_no_read_out() -> None:
    with pytest.raises(TypeError, match="language-model head"):
        fisher.readout(tiny_models.model("bert"))
    with pytest.raises(TypeError, match="language-model head"):
        fisher.readout(torch.nn.Linear(2, 2))


def test_capped_logits_are_refused() -> None:
    model = tiny_models.model("llama")

    class Capped(torch.nn.Module):
        """A model whose logits are no longer the output embedding's."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = model, model.config

        def get_output_embeddings(self) -> Any:
            return self.inner.get_output_embeddings()

        def forward(self, input_ids: torch.Tensor) -> Any:
            found = self.inner(input_ids=input_ids)
            found.logits = 3.0 * torch.tanh(found.logits / 3.0)
            return found

    with pytest.raises(NotImplementedError, match="expected logits that are W x"):
        fisher.readout(Capped())


def test_a_norm_of_another_form_is_refused() -> None:
    model = tiny_models.model("llama")
    norm = model.model.norm
    forward = norm.forward
    norm.forward = lambda h: forward(h).clamp(-0.5, 0.5)
    with pytest.raises(NotImplementedError, match="LlamaRMSNorm, which is neither"):
        fisher.readout(model)


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize(
    "name", ["OPT before", "OPT after", "OpenAIGPT", "Bart", "Olmo", "DistilBert", "Electra", "Gemma2"]
)
def test_other_families_are_right_or_refused(name: str) -> None:
    import transformers as hf

    torch.manual_seed(0)
    opt = {
        "vocab_size": 64,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    opt |= {"ffn_dim": 48, "max_position_embeddings": 64}
    bart = {"vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
    bart |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64}
    gemma = SMALL | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    distil = {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64}
    model: Any = {
        "OPT before": lambda: hf.OPTForCausalLM(hf.OPTConfig(**opt, do_layer_norm_before=True)),
        "OPT after": lambda: hf.OPTForCausalLM(hf.OPTConfig(**opt, do_layer_norm_before=False)),
        "OpenAIGPT": lambda: hf.OpenAIGPTLMHeadModel(
            hf.OpenAIGPTConfig(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=4)
        ),
        "Bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**bart)),
        "Olmo": lambda: hf.OlmoForCausalLM(hf.OlmoConfig(**SMALL, eos_token_id=1)),
        "DistilBert": lambda: hf.DistilBertForMaskedLM(hf.DistilBertConfig(**distil)),
        "Electra": lambda: hf.ElectraForMaskedLM(hf.ElectraConfig(**SMALL, embedding_size=32)),
        "Gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**gemma)),
    }[name]()
    if name in ("Olmo", "DistilBert", "Electra", "Gemma2"):
        with pytest.raises(NotImplementedError, match="model: expected"):
            fisher.readout(model)
        return
    found = fisher.readout(model)
    model.eval()
    h, logits = last_states(model, torch.tensor([[5, 9, 11, 2, 40, 7]]))
    x = h if found.norm is None else found.norm(h)
    bias = 0 if found.bias is None else found.bias
    assert (x @ found.weight.T + bias - logits).abs().max() < 1e-5 * logits.abs().max()


def test_a_head_does_not_run_its_output_embedding() -> None:
    model = model_of("bert")
    found = fisher.readout(model)
    calls: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    fisher.logit_fisher_vp(torch.randn(3, 32), found.weight, torch.randn(3, 32), found.bias, norm=found.norm)
    hook.remove()
    assert not calls
