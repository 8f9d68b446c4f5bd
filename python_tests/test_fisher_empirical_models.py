"""mf.fisher.empirical over kinds of models and layers: which uses of weights it tells apart, and its sums by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fisher_empirical_checks import (
    Odd,
    Output,
    Regression,
    batch_of,
    check,
    kronecker_factors,
    loop,
    model_of,
    odd_batch,
)
from torch import Tensor

from msma_fast.fisher import empirical


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_tied_weights_add_their_uses_before_squaring(family: str) -> None:
    model = model_of(family, tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    check(empirical(model, [batch_of(family)]).by_name, loop(model, [batch_of(family)]))


@pytest.mark.parametrize(("n", "t"), [(7, 7), (6, 7), (4, 4), (3, 2), (2, 3)])
def test_as_many_sequences_as_tokens_are_told_apart(n: int, t: int) -> None:
    model, batch = model_of("t5"), batch_of("t5", n, t)
    check(empirical(model, [batch]).by_name, loop(model, [batch]))


def test_frozen_parameters_are_left_out() -> None:
    model, batch = model_of("llama"), batch_of("llama")
    for name, weight in model.named_parameters():
        weight.requires_grad_("layers.1.self_attn" in name)
    assert len(loop(model, [batch])) == 4
    check(empirical(model, [batch]).by_name, loop(model, [batch]))
    check(empirical(model, [batch], structure="block").by_name, loop(model, [batch], block=True))


HABITS = (
    "none",
    "flat table",
    "one row for all",
    "loose parameter first",
    "loose parameter",
    "output overwritten",
    "input overwritten",
    "called twice",
    "called by name",
    "rows without a batch",
    "positions first",
    "weight outside its module",
    "no graph",
)


@pytest.mark.parametrize("habit", HABITS)
def test_unusual_uses_of_weights_are_not_missed(habit: str) -> None:
    model = Odd(habit)
    batches = [odd_batch(4, 3), odd_batch(3, 3), odd_batch(1, 5), odd_batch(3, 1)]
    found = empirical(model, batches)
    wanted = loop(model, batches)
    check(found.by_name, wanted)
    assert not bool(wanted["unused.weight"].any())
    check(empirical(model, batches, structure="block").by_name, loop(model, batches, block=True))


def test_as_many_routed_rows_as_sequences_are_no_batch() -> None:
    """Four rows of four sequences, but two of the first and none of the second."""
    model, labels = Odd("routed rows"), odd_batch(4, 3)["labels"]
    batch = {"input_ids": torch.tensor([[2, 1, 4], [1, 3, 5], [6, 7, 5], [3, 8, 1]]), "labels": labels}
    check(empirical(model, [batch]).by_name, loop(model, [batch]))


@pytest.mark.parametrize(("family", "passes"), [("gpt2", 1), ("llama", 1), ("bert", 1), ("t5", 6)])
def test_single_sequences_are_run_only_for_what_a_batch_hides(family: str, passes: int) -> None:
    model, count = model_of(family), []
    model.register_forward_hook(lambda *_: count.append(1))
    empirical(model, [batch_of(family)])
    assert len(count) == passes


def test_kfac_of_a_layer_called_twice_counts_both_calls() -> None:
    model, batch = Odd("called twice"), odd_batch(4, 3)
    (a, b, _), wanted = (
        empirical(model, [batch], structure="kfac").by_name["first.weight"],
        kronecker_factors(model, batch)["first.weight"],
    )
    assert torch.allclose(a, wanted[0], rtol=1e-9)
    assert torch.allclose(b, wanted[1], rtol=1e-9)


def test_gradients_reach_layers_behind_hidden_inputs_that_need_them() -> None:
    """A tensor that is no parameter and needs a gradient, handed over where it cannot be seen."""
    hidden = [torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)]

    class Model(Regression):
        def forward(self, x: Tensor, more: Any = None) -> Output:
            return Output(self.read(x + more[0][: x.shape[0]]))

    model, labels = Model(), torch.tensor([[0, 1], [2, 1], [3, 3]])
    x = torch.zeros(3, 2, 3, dtype=torch.float64)
    first = {key: value[:1] for key, value in {"x": x, "labels": labels}.items()}
    found = empirical(model, [{**first, "more": hidden}])
    assert found.trace() > 0
    check(found.by_name, loop(Regression(), [{"x": hidden[0][:1].detach(), "labels": labels[:1]}]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_and_single_precision_give_float32(dtype: torch.dtype) -> None:
    model = model_of("llama", dtype=dtype)
    found = empirical(model, [batch_of("llama")])
    wanted = loop(model.double(), [batch_of("llama")])
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    for name, value in found.by_name.items():
        assert isinstance(value, Tensor)
        assert value.dtype == torch.float32
        assert float(value.sum()) == pytest.approx(float(wanted[name].sum()), rel=tolerance)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
@pytest.mark.parametrize("structure", ["diag", "kfac"])
def test_layers_add_up_to_the_trace(family: str, structure: str) -> None:
    model, batch = model_of(family), batch_of(family)
    found = empirical(model, [batch], structure=structure)
    layers = found.by_layer()
    blocks = {
        "gpt2": ["layer.1", "layer.2", "layer.3"],
        "bert": ["layer.1", "layer.2"],
        "t5": ["encoder.1", "encoder.2", "encoder.3", "decoder.1", "decoder.2"],
    }[family]
    assert sorted(layers) == sorted(["embedding", *blocks, "final"])
    assert sum(layers.values()) == pytest.approx(found.trace(), rel=1e-12)
    if family == "gpt2" and structure == "diag":
        wanted = loop(model, [batch])
        second = sum(float(value.sum()) for name, value in wanted.items() if ".h.1." in name)
        assert layers["layer.2"] == pytest.approx(second, rel=1e-9)
        assert layers["final"] == pytest.approx(sum(float(v.sum()) for n, v in wanted.items() if "ln_f" in n), rel=1e-9)
