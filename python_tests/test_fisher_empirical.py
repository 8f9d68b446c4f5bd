"""mf.fisher.empirical against one backward pass per sequence in float64, the definition written out."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import tiny_models
import torch
from torch import Tensor, nn

from msma_fast.fisher import _predicted, empirical

Batch = dict[str, Tensor]
CAUSAL = ("gpt2", "llama", "mistral", "qwen2", "gpt_neox")
FAMILIES = (*CAUSAL, "bert", "roberta", "t5")


def model_of(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    if family != "bert":
        return tiny_models.model(family, dtype=dtype, **changes)
    import transformers as hf

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return hf.BertForMaskedLM(hf.BertConfig(vocab_size=64, initializer_range=0.3, **sizes)).to(dtype).train()


def batch_of(family: str, n: int = 5, t: int = 7, seed: int = 0) -> Batch:
    """Padded on the right and, one sequence, on the left; some labels left out where the family has labels."""
    source = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 64, (n, t), generator=source)
    mask = torch.ones_like(ids)
    if t > 2 and n > 1:
        mask[0, t - 2 :] = 0
        mask[-1, :2] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if family not in CAUSAL:
        labels = torch.randint(3, 64, (n, t - 1 if family == "t5" else t), generator=source)
        labels[torch.rand(labels.shape, generator=source) < 0.4] = -100
        labels[:, min(2, t - 2)] = 5
        batch["labels"] = labels
    return batch


def targets(batch: Batch, logits: Tensor) -> list[tuple[int, int]]:
    """(position, token) pairs that one sequence predicts; a causal model's tokens come one position later."""
    labels, mask = batch.get("labels"), batch.get("attention_mask")
    if batch.get("causal") is not None or labels is None:
        y = (batch["input_ids"] if labels is None else labels)[0].tolist()
        seen = [1] * len(y) if mask is None else mask[0].tolist()
        return [(t, y[t + 1]) for t in range(len(y) - 1) if y[t + 1] != -100 and seen[t] and seen[t + 1]]
    decoder = "decoder_input_ids" in batch
    seen = [1] * labels.shape[1] if decoder or mask is None else mask[0].tolist()
    return [(t, int(y)) for t, y in enumerate(labels[0]) if y != -100 and seen[t]]


def calling(model: Any, batch: Batch) -> Batch:
    inputs = {key: value for key, value in batch.items() if key not in ("labels", "causal")}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        before = torch.roll(batch["labels"], 1, 1).masked_fill(torch.roll(batch["labels"], 1, 1) == -100, 0)
        before[:, 0] = 0
        inputs["decoder_input_ids"] = before
    return inputs


def score(model: Any, one: Batch) -> Tensor:
    inputs = calling(model, one)
    logits = model(**inputs).logits[0].double()
    pairs = targets({**inputs, **{key: one[key] for key in ("labels", "causal") if key in one}}, logits)
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return sum((shares[t, y].log() for t, y in pairs), logits.sum() * 0)


def single(batch: Batch, i: int) -> Batch:
    n = next(iter(batch.values())).shape[0]
    return {key: value[i : i + 1] if value.shape[0] == n else value for key, value in batch.items()}


def loop(model: Any, batches: list[Batch], block: bool = False) -> dict[str, Tensor]:
    """Squares, or outer products, of the gradient of every sequence alone, averaged."""
    training = [module.training for module in model.modules()]
    model.eval()
    names = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    total = {name: torch.zeros(()) for name in names}
    sequences = 0
    for batch in batches:
        for i in range(next(iter(batch.values())).shape[0]):
            value = score(model, single(batch, i))
            found = torch.autograd.grad(value, list(names.values()), allow_unused=True)
            sequences += 1
            for (name, weight), gradient in zip(names.items(), found, strict=True):
                g = (torch.zeros_like(weight) if gradient is None else gradient).double()
                total[name] = total[name] + (torch.outer(g.flatten(), g.flatten()) if block else g**2)
    for module, flag in zip(model.modules(), training, strict=True):
        module.training = flag
    return {name: value / sequences for name, value in total.items()}


def check(found: Any, wanted: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    """Relative to each parameter's largest entry; what is below 1e-20 of the model's largest is zero up to rounding."""
    assert list(found) == list(wanted)
    largest = max(float(value.max()) for value in wanted.values())
    assert largest > 0
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        error = float((found[name].double() - value).abs().max())
        assert error <= tolerance * float(value.abs().max()) + 1e-20 * largest, name


@pytest.mark.parametrize("family", FAMILIES)
def test_diagonal_is_the_mean_of_squared_sequence_gradients(family: str) -> None:
    model = model_of(family)
    batches = [batch_of(family), batch_of(family, n=2, t=11, seed=1), batch_of(family, n=1, t=4, seed=2)]
    found = empirical(model, batches)
    check(found.by_name, loop(model, batches))
    assert found.n_examples == 8
    assert (found.labels, found.structure) == ("data", "diag")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_tied_weights_add_their_uses_before_squaring(family: str) -> None:
    model = model_of(family, tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    check(empirical(model, [batch_of(family)]).by_name, loop(model, [batch_of(family)]))


@pytest.mark.parametrize(("n", "t"), [(7, 7), (6, 7), (4, 4), (3, 2), (2, 3)])
def test_as_many_sequences_as_tokens_are_told_apart(n: int, t: int) -> None:
    model, batch = model_of("t5"), batch_of("t5", n, t)
    check(empirical(model, [batch]).by_name, loop(model, [batch]))


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


def test_frozen_parameters_are_left_out() -> None:
    model, batch = model_of("llama"), batch_of("llama")
    for name, weight in model.named_parameters():
        weight.requires_grad_("layers.1.self_attn" in name)
    assert len(loop(model, [batch])) == 4
    check(empirical(model, [batch]).by_name, loop(model, [batch]))
    check(empirical(model, [batch], structure="block").by_name, loop(model, [batch], block=True))


class _Output(NamedTuple):
    logits: Tensor


class _Regression(nn.Module):
    """logits (n, t, V) of features x (n, t, d)."""

    def __init__(self, d: int = 3, v: int = 4, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = nn.Linear(d, v, bias=bias, dtype=torch.float64)

    def forward(self, x: Tensor) -> _Output:
        return _Output(self.read(x))


def test_sampled_labels_converge_to_the_exact_fisher_of_a_softmax_regression() -> None:
    model = _Regression()
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
    model = _Regression()
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
    wanted = _factors(model, batch)
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


def _factors(model: Any, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """a and b of every layer of its own, sequence by sequence, with the graph of each cut at the layers' outputs."""
    model.eval()
    owners = [id(w) for m in model.modules() if not list(m.children()) for w in m.parameters(recurse=False)]
    kinds = ("Linear", "Conv1D", "Embedding")
    layers = {
        name + ".weight": module
        for name, module in model.named_modules()
        if type(module).__name__ in kinds and owners.count(id(module.weight)) == 1
    }
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    gradients: dict[str, list[Tensor]] = {name: [] for name in layers}
    for i in range(batch["input_ids"].shape[0]):
        calls: list[tuple[str, Tensor, Tensor]] = []

        def keep_call(name: str, calls: list[Any] = calls) -> Any:
            return lambda _, args, result: calls.append((name, args[0], result))

        hooks = [module.register_forward_hook(keep_call(name)) for name, module in layers.items()]
        value = score(model, single(batch, i))
        for hook in hooks:
            hook.remove()
        found = torch.autograd.grad(value, [out for _, _, out in calls], allow_unused=True)
        for (name, x, _), g in zip(calls, found, strict=True):
            if g is not None:
                g = g.reshape(-1, g.shape[-1])
                keep = g.abs().sum(-1) > 0
                module = layers[name]
                x = x.detach()
                if type(module).__name__ == "Embedding":
                    if module.padding_idx is not None:
                        keep &= x.flatten() != module.padding_idx
                    x = nn.functional.one_hot(x.flatten(), module.num_embeddings).double()
                elif module.bias is not None:
                    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
                inputs[name].append(x.reshape(-1, x.shape[-1])[keep])
                gradients[name].append(g[keep])
    sequences = batch["input_ids"].shape[0]
    result = {}
    for name, module in layers.items():
        if not inputs[name]:
            continue
        x, g = torch.cat(inputs[name]), torch.cat(gradients[name])
        a = x.T @ x / x.shape[0]
        result[name] = (a.diagonal() if type(module).__name__ == "Embedding" else a, g.T @ g / sequences)
    return result


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

        def forward(self, x: Tensor) -> _Output:
            return _Output(self.net(x))

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


class _Odd(nn.Module):
    """A small network of (n, t) ids with one unusual use of a weight, chosen by name."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.habit = habit
        self.embed = nn.Embedding(9, 6, padding_idx=0)
        self.table = nn.Embedding(12, 6)
        self.first = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.read = nn.Linear(6, 9)
        self.loose = nn.Parameter(torch.randn(6))
        self.unused = nn.Linear(6, 6)
        self.double()

    def forward(self, input_ids: Tensor) -> _Output:
        n, t = input_ids.shape
        places = torch.arange(t)
        h = self.embed(input_ids)
        if self.habit == "flat table":
            h = h + self.table(places)
        elif self.habit == "one row for all":
            h = h + self.table(places[None])[0]
        elif self.habit == "loose parameter first":
            h = self.loose + torch.zeros_like(h)
        elif self.habit == "output overwritten":
            h += self.table(places[None])
        else:
            h = h + self.table(places[None])
        if self.habit == "input overwritten":
            inner = (h * 1).transpose(0, 1).contiguous().transpose(0, 1)  # its layer works on a copy
            h = torch.tanh(self.first(inner))
            if n > 1 and t > 1:
                inner.mul_(2)
        elif self.habit == "called twice":
            h = torch.tanh(self.first(torch.tanh(self.first(h))))
        elif self.habit == "called by name":
            h = torch.tanh(self.first(input=h))
        elif self.habit == "rows without a batch":
            h = torch.tanh(self.first(h.reshape(n * t, 6))).reshape(n, t, 6)
        elif self.habit == "routed rows":
            even = input_ids % 2 == 0
            h = h.masked_scatter(even[..., None], torch.tanh(self.first(h[even])))
        elif self.habit == "positions first":
            h = torch.tanh(self.first(h.transpose(0, 1))).transpose(0, 1)
        else:
            h = torch.tanh(self.first(h))
        if self.habit == "loose parameter":
            h = h * self.loose
        h = self.norm(h)
        if self.habit == "weight outside its module":
            return _Output(self.read(h) + h @ self.embed.weight.T)
        if self.habit == "no graph":
            with torch.no_grad():
                h = h + self.unused(h)
        return _Output(self.read(h))


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


def odd_batch(n: int, t: int) -> Batch:
    source = torch.Generator().manual_seed(n)
    ids = torch.randint(0, 9, (n, t), generator=source)
    return {"input_ids": ids, "labels": torch.randint(0, 9, (n, t), generator=source)}


@pytest.mark.parametrize("habit", HABITS)
def test_unusual_uses_of_weights_are_not_missed(habit: str) -> None:
    model = _Odd(habit)
    batches = [odd_batch(4, 3), odd_batch(3, 3), odd_batch(1, 5), odd_batch(3, 1)]
    found = empirical(model, batches)
    wanted = loop(model, batches)
    check(found.by_name, wanted)
    assert not bool(wanted["unused.weight"].any())
    check(empirical(model, batches, structure="block").by_name, loop(model, batches, block=True))


def test_as_many_routed_rows_as_sequences_are_no_batch() -> None:
    """Four rows of four sequences, but two of the first and none of the second."""
    model, labels = _Odd("routed rows"), odd_batch(4, 3)["labels"]
    batch = {"input_ids": torch.tensor([[2, 1, 4], [1, 3, 5], [6, 7, 5], [3, 8, 1]]), "labels": labels}
    check(empirical(model, [batch]).by_name, loop(model, [batch]))


@pytest.mark.parametrize(("family", "passes"), [("gpt2", 1), ("llama", 1), ("bert", 1), ("t5", 6)])
def test_single_sequences_are_run_only_for_what_a_batch_hides(family: str, passes: int) -> None:
    model, count = model_of(family), []
    model.register_forward_hook(lambda *_: count.append(1))
    empirical(model, [batch_of(family)])
    assert len(count) == passes


@pytest.mark.parametrize("habit", ["weight outside its module", "called by name"])
def test_kfac_of_a_weight_outside_its_module_is_an_error(habit: str) -> None:
    with pytest.raises(NotImplementedError, match=r"model: expected (embed|first).weight to be used by calls of its"):
        empirical(_Odd(habit), [odd_batch(4, 3)], structure="kfac")


def test_kfac_of_a_layer_called_twice_counts_both_calls() -> None:
    model, batch = _Odd("called twice"), odd_batch(4, 3)
    (a, b, _), wanted = (
        empirical(model, [batch], structure="kfac").by_name["first.weight"],
        _factors(model, batch)["first.weight"],
    )
    assert torch.allclose(a, wanted[0], rtol=1e-9)
    assert torch.allclose(b, wanted[1], rtol=1e-9)


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
    model = _Regression()
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1], [2, -100], [3, 3]])
    with torch.no_grad():
        found = empirical(model, [{"x": x, "labels": labels}])
    check(found.by_name, loop(model, [{"x": x, "labels": labels}]))
    assert x.grad is None


def test_gradients_reach_layers_behind_hidden_inputs_that_need_them() -> None:
    """A tensor that is no parameter and needs a gradient, handed over where it cannot be seen."""
    hidden = [torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)]

    class Model(_Regression):
        def forward(self, x: Tensor, more: Any = None) -> _Output:
            return _Output(self.read(x + more[0][: x.shape[0]]))

    model, labels = Model(), torch.tensor([[0, 1], [2, 1], [3, 3]])
    x = torch.zeros(3, 2, 3, dtype=torch.float64)
    first = {key: value[:1] for key, value in {"x": x, "labels": labels}.items()}
    found = empirical(model, [{**first, "more": hidden}])
    assert found.trace() > 0
    check(found.by_name, loop(_Regression(), [{"x": hidden[0][:1].detach(), "labels": labels[:1]}]))


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


def test_a_huge_logit_does_not_overflow() -> None:
    model = _Regression(d=2)
    with torch.no_grad():
        model.read.bias[1] = 1e6
    batch = {"x": torch.ones(3, 2, 2, dtype=torch.float64), "labels": torch.tensor([[0, 1], [1, 1], [2, 2]])}
    # labels 1 are certain and have no gradient; each other label contributes (e_y - e_1) outer x
    found = empirical(model, [batch]).by_name["read.bias"]
    assert isinstance(found, Tensor)
    assert torch.allclose(found, torch.tensor([1.0, 1.0 + 4.0, 4.0, 0.0], dtype=torch.float64) / 3)


def test_errors_name_the_argument() -> None:
    model, batch = (
        _Regression(),
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
        empirical(_Regression(d=3, v=1366), [batch], structure="block")
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
    model = _Regression().float()
    batch = {"x": torch.full((1, 1, 3), 1e25), "labels": torch.tensor([[0]])}
    with torch.no_grad():
        model.read.weight.zero_()
    with pytest.raises(ValueError, match=r"model: expected finite gradients, got NaN or inf in those of read\.weight"):
        empirical(model, [batch])
