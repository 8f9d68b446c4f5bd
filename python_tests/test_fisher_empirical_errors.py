"""mf.fisher.empirical: its errors, values at the edge of what floats hold, and what it leaves as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fisher_empirical_checks import Odd, Regression, batch_of, check, loop, model_of, odd_batch
from torch import Tensor, nn

from msma_fast.fisher import empirical


@pytest.mark.parametrize("habit", ["weight outside its module", "called by name"])
def test_kfac_of_a_weight_outside_its_module_is_an_error(habit: str) -> None:
    with pytest.raises(NotImplementedError, match=r"model: expected (embed|first).weight to be used by calls of its"):
        empirical(Odd(habit), [odd_batch(4, 3)], structure="kfac")


def test_the_model_is_left_as_it_was() -> None:
    model = model_of("gpt2")
    model.transformer.h[1].eval()
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    before = _state(model)
    empirical(model, [batch_of("gpt2")], structure="kfac", labels="sampled")
    assert _state(model) == before

    def broken() -> Any:
        yield batch_of("gpt2")
        raise RuntimeError("no more texts")

    with pytest.raises(RuntimeError, match="no more texts"):
        empirical(model, broken())
    assert _state(model) == before
    with pytest.raises(ValueError, match="expected -100 or 0 to 63"):
        empirical(model, [{"input_ids": torch.ones(2, 4, dtype=torch.int64), "labels": torch.full((2, 4), 64)}])
    assert _state(model) == before


def _state(model: Any) -> list[Any]:
    weights = [
        (float(w.sum()), w.requires_grad, None if w.grad is None else float(w.grad.sum())) for w in model.parameters()
    ]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    return [weights, hooks, [m.training for m in model.modules()]]


def test_a_caller_without_gradients_and_inputs_with_them_change_nothing() -> None:
    model = Regression()
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1], [2, -100], [3, 3]])
    with torch.no_grad():
        found = empirical(model, [{"x": x, "labels": labels}])
    check(found.by_name, loop(model, [{"x": x, "labels": labels}]))
    assert x.grad is None


def test_a_huge_logit_does_not_overflow() -> None:
    model = Regression(d=2)
    with torch.no_grad():
        model.read.bias[1] = 1e6
    batch = {"x": torch.ones(3, 2, 2, dtype=torch.float64), "labels": torch.tensor([[0, 1], [1, 1], [2, 2]])}
    # labels 1 are certain and have no gradient; each other label contributes (e_y - e_1) outer x
    found = empirical(model, [batch]).by_name["read.bias"]
    assert isinstance(found, Tensor)
    assert torch.allclose(found, torch.tensor([1.0, 1.0 + 4.0, 4.0, 0.0], dtype=torch.float64) / 3)


def test_errors_name_the_argument() -> None:
    model, batch = (
        Regression(),
        {"x": torch.ones(2, 2, 3, dtype=torch.float64), "labels": torch.tensor([[0, 1], [1, 1]])},
    )
    with pytest.raises(TypeError, match="model: expected a torch module, got str"):
        empirical("gpt2", [batch])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="batches: expected an iterable of dicts of tensors, got dict"):
        empirical(model, batch)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"batches\[1\]: expected a dict of tensors, got Tensor"):
        empirical(model, [batch, batch["x"]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="batches: expected at least one sequence with a predicted token, got none"):
        empirical(model, [])
    with pytest.raises(ValueError, match="batches: expected at least one sequence with a predicted token, got none"):
        empirical(model, [batch | {"labels": torch.full((2, 2), -100)}])
    with pytest.raises(ValueError, match=r"batches\[0\]\['labels'\]: expected an integer tensor .* got NoneType"):
        empirical(model, [{"x": batch["x"]}])
    with pytest.raises(ValueError, match=r"expected a label per position .* logits, \(2,\), got \(3,\)$"):
        empirical(model, [batch | {"labels": torch.zeros(2, 3, dtype=torch.int64)}])
    with pytest.raises(ValueError, match="expected -100 or 0 to 3, got values from -1 to"):
        empirical(model, [batch | {"labels": torch.tensor([[0, -1], [1, 1]])}])
    with pytest.raises(ValueError, match=r"batches\[0\]: expected finite log-probabilities, got nan"):
        empirical(model, [batch | {"x": batch["x"] * float("nan")}])
    with pytest.raises(ValueError, match=r"expected finite log-probabilities"):
        empirical(model, [batch | {"x": batch["x"] * float("inf")}])
    with pytest.raises(ValueError, match="structure: expected one of 'diag', 'block', 'kfac', got 'full'"):
        empirical(model, [batch], structure="full")
    with pytest.raises(ValueError, match="labels: expected one of 'data', 'sampled', got 'model'"):
        empirical(model, [batch], labels="model")
    with pytest.raises(ValueError, match="seed: expected an integer >= 0, got -1"):
        empirical(model, [batch], labels="sampled", seed=-1)
    with pytest.raises(
        ValueError, match=r"structure: expected parameters of at most 4096 entries .* read.weight with 4098"
    ):
        empirical(Regression(d=3, v=1366), [batch], structure="block")
    with pytest.raises(NotImplementedError, match="by_layer: expected the Fisher of a transformers model"):
        empirical(model, [batch]).by_layer()
    with pytest.raises(TypeError, match=r"model: expected one whose result has \.logits, got Linear"):
        empirical(nn.Linear(3, 4).double(), [{"input": batch["x"], "labels": batch["labels"]}])
    with pytest.raises(ValueError, match="model: expected parameters with requires_grad, got none"):
        empirical(model.requires_grad_(False), [batch])
    causal, ids = model_of("gpt2"), torch.ones(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\['attention_mask'\]: expected shape \(2, 4\) as the tokens, got \(2, 5\)"):
        empirical(causal, [{"input_ids": ids, "attention_mask": torch.ones(2, 5)}])


def test_gradients_that_overflow_are_an_error() -> None:
    model = Regression().float()
    batch = {"x": torch.full((1, 1, 3), 1e25), "labels": torch.tensor([[0]])}
    with torch.no_grad():
        model.read.weight.zero_()
    with pytest.raises(ValueError, match=r"model: expected finite gradients, got NaN or inf in those of read\.weight"):
        empirical(model, [batch])
