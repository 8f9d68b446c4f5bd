"""mf.fisher.empirical against one backward pass per sequence in float64, the definition, and against curvlinops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fisher_empirical_checks import (
    FAMILIES,
    Output,
    Regression,
    batch_of,
    calling,
    check,
    kronecker_factors,
    loop,
    model_of,
)
from torch import Tensor, nn

from msma_fast.fisher import _predicted, empirical


@pytest.mark.parametrize("family", FAMILIES)
def test_diagonal_is_the_mean_of_squared_sequence_gradients(family: str) -> None:
    model = model_of(family)
    batches = [batch_of(family), batch_of(family, n=2, t=11, seed=1), batch_of(family, n=1, t=4, seed=2)]
    found = empirical(model, batches)
    check(found.by_name, loop(model, batches))
    assert found.n_examples == 8
    assert (found.labels, found.structure) == ("data", "diag")


def test_batching_changes_nothing() -> None:
    model, batch = model_of("gpt2"), batch_of("gpt2", n=6)
    whole = empirical(model, [batch])
    parts = empirical(model, ({key: value[i : i + 2] for key, value in batch.items()} for i in (0, 2, 4)))
    assert (whole.n_examples, whole.n_tokens) == (parts.n_examples, parts.n_tokens)
    check(parts.by_name, dict(whole.by_name))  # type: ignore[arg-type]


def test_labels_of_a_causal_model_are_shifted_and_may_leave_tokens_out() -> None:
    model, batch = model_of("llama"), batch_of("llama")
    labels = batch["input_ids"].clone()
    labels[:, 3] = -100
    labels[2, 4] = 9
    batch |= {"labels": labels}
    found = empirical(model, [batch])
    check(found.by_name, loop(model, [batch | {"causal": torch.ones(5)}]))
    assert (
        found.n_tokens == 5 * 6 - 5 - 2 - 2 + 0
    )  # two padded tokens of one sequence, position 0 and 1 hidden in another


def test_without_a_mask_every_token_counts() -> None:
    model, batch = model_of("gpt2"), {"input_ids": batch_of("gpt2")["input_ids"]}
    found = empirical(model, [batch])
    assert found.n_tokens == 5 * 6
    check(found.by_name, loop(model, [batch]))


def test_sequences_that_predict_nothing_do_not_count() -> None:
    model, batch = model_of("bert"), batch_of("bert")
    empty = {key: value.clone() for key, value in batch.items()}
    empty["labels"][1:4] = -100
    rest = {key: value[[0, 4]] for key, value in batch.items()}
    found = empirical(model, [empty])
    assert found.n_examples == 2
    check(found.by_name, loop(model, [rest]))


def test_block_is_the_mean_outer_product() -> None:
    model, batch = model_of("t5"), batch_of("t5", n=3)
    for weight in model.parameters():
        weight.requires_grad_(weight.numel() <= 512)
    found = empirical(model, [batch], structure="block")
    wanted = loop(model, [batch], block=True)
    check(found.by_name, wanted)
    assert found.trace() == pytest.approx(sum(float(value.trace()) for value in wanted.values()), rel=1e-9)


def test_sampled_labels_converge_to_the_exact_fisher_of_a_softmax_regression() -> None:
    model = Regression()
    source = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, 3, generator=source, dtype=torch.float64) * 2
    logits = x[:, 0] @ model.read.weight.detach().T + model.read.bias.detach()
    p = torch.softmax(logits, -1)
    metric = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = torch.einsum("nop,ni,nj->oipj", metric, x[:, 0], x[:, 0]).reshape(12, 12) / 4
    draws = 2000
    batch = {"x": x.repeat(draws, 1, 1), "labels": torch.zeros(4 * draws, 1, dtype=torch.int64)}
    found = empirical(model, [batch], structure="block", labels="sampled", seed=3).by_name["read.weight"]
    assert isinstance(found, Tensor)
    assert float((found - exact).abs().max()) < 0.06 * float(exact.abs().max())
    observed = empirical(model, [batch], structure="block").by_name["read.weight"]
    assert isinstance(observed, Tensor)
    assert float((observed - exact).abs().max()) > 0.2 * float(exact.abs().max())


def test_sampled_sequence_scores_average_to_the_sum_over_tokens() -> None:
    """The products of different tokens' scores vanish in the mean, so that tr F = sum_t sum_y p(y) |grad log p(y)|^2."""
    model = model_of("gpt2").eval()
    ids = torch.tensor([[3, 9, 4, 11]])
    logits = model(input_ids=ids).logits[0, :-1]
    weights = list(model.parameters())
    exact = 0.0
    for row in torch.log_softmax(logits, -1):
        for value in row:
            found = torch.autograd.grad(value, weights, retain_graph=True)
            exact += float(value.detach().exp()) * sum(float(g.square().sum()) for g in found)
    batch = {"input_ids": ids.repeat(300, 1)}
    assert empirical(model, [batch], labels="sampled", seed=0).trace() == pytest.approx(exact, rel=0.12)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_sampled_scores_are_those_of_the_labels_drawn(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a parameter takes a second pass, which must not draw again; the decoder still reads the data."""
    model, batch = model_of(family), batch_of(family)
    kept: list[Tensor] = []
    draw = _predicted.sampled

    def sampled(*args: Any) -> Tensor:
        kept.append(draw(*args))
        return kept[-1]

    monkeypatch.setattr(_predicted, "sampled", sampled)
    found = empirical(model, [batch], labels="sampled", seed=5)
    if family == "gpt2":
        drawn = torch.cat([torch.full((5, 1), -100), torch.cat(kept)[:, :-1]], 1)
        assert not torch.equal(drawn[drawn != -100], batch["input_ids"][drawn != -100])
        check(found.by_name, loop(model, [batch | {"labels": drawn, "causal": torch.ones(5)}]))
    else:
        drawn = torch.cat(kept)
        before = calling(model, batch)["decoder_input_ids"]
        assert not torch.equal(drawn, batch["labels"])
        check(found.by_name, loop(_Reading(model, before), [batch | {"labels": drawn}]))


class _Reading(nn.Module):
    """A T5 whose decoder reads given tokens, row by row in the order of the calls."""

    def __init__(self, model: Any, before: Tensor) -> None:
        super().__init__()
        self.model, self.before, self.row = model, before, 0

        self.config = model.config

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        return self.model.named_parameters()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Any:
        self.row += 1
        rows = self.before[self.row - 1 : self.row]
        return self.model(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=rows)


def test_the_seed_decides_the_draws() -> None:
    model, batch = model_of("gpt2"), batch_of("gpt2")
    state = torch.random.get_rng_state()
    first, again, other = (empirical(model, [batch], labels="sampled", seed=seed).trace() for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_kfac_is_exact_for_one_position() -> None:
    model = Regression()
    batch = {"x": torch.randn(1, 1, 3, dtype=torch.float64), "labels": torch.tensor([[2]])}
    factors = empirical(model, [batch], structure="kfac").by_name["read.weight"]
    assert not isinstance(factors, Tensor)
    assert factors.has_bias
    exact = loop(model, [batch], block=True)
    assert torch.allclose(torch.kron(factors.b, factors.a[:3, :3]), exact["read.weight"], rtol=1e-12)
    assert torch.allclose(factors.b * factors.a[3, 3], exact["read.bias"], rtol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
def test_kfac_factors_are_means_over_positions_with_a_gradient(family: str) -> None:
    model, batch = model_of(family), batch_of(family)
    found = empirical(model, [batch], structure="kfac").by_name
    wanted = kronecker_factors(model, batch)
    diagonal = loop(model, [batch])
    for name, (a, b) in wanted.items():
        factors = found.pop(name)
        diagonal.pop(name)
        diagonal.pop(name.removesuffix("weight") + "bias", None)
        assert not isinstance(factors, Tensor)
        assert torch.allclose(factors.a, a, rtol=1e-9, atol=1e-12 * float(a.max())), name
        assert torch.allclose(factors.b, b, rtol=1e-9, atol=1e-12 * float(b.abs().max()) + 1e-25), name
    assert any("norm" in name.lower() or "ln_" in name for name in diagonal)
    check(found, diagonal)


def test_a_wide_side_of_kfac_is_its_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of("llama"), batch_of("llama")
    full = empirical(model, [batch], structure="kfac")
    monkeypatch.setattr("msma_fast.fisher._sums.SIDE_LIMIT", 63)
    cut = empirical(model, [batch], structure="kfac")
    (a, b, _), (_, whole, _) = cut.by_name["lm_head.weight"], full.by_name["lm_head.weight"]
    assert (a.shape, b.shape) == ((32, 32), (64,))
    assert torch.allclose(b, whole.diagonal())
    assert cut.trace() == pytest.approx(full.trace(), rel=1e-12)


def test_kfac_agrees_with_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    source = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1, 3, generator=source, dtype=torch.float64)
    y = torch.randint(4, (6, 1), generator=source)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Output:
            return Output(self.net(x))

    found = empirical(Wrapped(), [{"x": x, "labels": y}], structure="kfac")
    loss, weights, data = nn.CrossEntropyLoss(reduction="mean"), list(net.parameters()), [(x[:, 0], y[:, 0])]
    other = curvlinops.KFACLinearOperator(
        net, loss, weights, data, fisher_type="empirical", separate_weight_and_bias=False
    )
    dense = other @ torch.eye(44, dtype=torch.float64)
    traces = []
    for layer, (weight, bias) in {"net.0": (slice(15), slice(15, 20)), "net.2": (slice(20, 40), slice(40, 44))}.items():
        a, b, _ = found.by_name[layer + ".weight"]
        assert torch.allclose(torch.kron(b, a[:-1, :-1].contiguous()), dense[weight, weight], rtol=1e-9)
        assert torch.allclose(torch.kron(b, a[:-1, -1:].contiguous()), dense[weight, bias], rtol=1e-9)
        traces.append(a.trace() * b.trace())
    assert found.trace() == pytest.approx(float(sum(traces)), rel=1e-12)
    matrix = curvlinops.EFLinearOperator(net, loss, weights, data) @ torch.eye(44, dtype=torch.float64)
    squares = empirical(Wrapped(), [{"x": x, "labels": y}]).by_name.values()
    diagonal = torch.cat([value.flatten() for value in squares if isinstance(value, Tensor)])
    assert torch.allclose(diagonal, matrix.diagonal(), rtol=1e-9)
