"""mf.fisher.empirical: norms over the whole batch by their formula, and modules that only look like norms one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fisher_empirical_checks import Output, check, loop, odd_batch
from torch import Tensor, nn

from msma_fast.fisher import empirical


def llama_norm(d: int) -> Any:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    return LlamaRMSNorm(d)


def gemma_norm(d: int) -> Any:
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    return GemmaRMSNorm(d)


def t5_norm(d: int) -> Any:
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    return T5LayerNorm(d)


class _Scale(nn.Module):
    """x times a function of a weight (d,), which is one at first, plus a bias."""

    def __init__(self, d: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return x * self.function(self.weight) + self.bias


class _Slope(nn.Module):
    """x where it is positive, else x times a weight (d,), which is one at first."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.weight * x)


class _Temperature(nn.Module):
    """x times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class _Normed(nn.Module):
    """Logits of ids (n, t) through one norm, used twice where `twice`."""

    def __init__(self, norm: nn.Module, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm, self.read, self.twice = nn.Embedding(9, 6), norm, nn.Linear(6, 9), twice
        self.double()

    def forward(self, input_ids: Tensor) -> Output:
        h = self.norm(self.embed(input_ids))
        return Output(self.read(self.norm(torch.tanh(h)) if self.twice else h))


NORMS: dict[str, Callable[[], nn.Module]] = {
    "LayerNorm": lambda: nn.LayerNorm(6),
    "LayerNorm without bias": lambda: nn.LayerNorm(6, bias=False),
    "LayerNorm over positions": lambda: nn.LayerNorm((3, 6)),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "Llama": lambda: llama_norm(6),
    "Gemma": lambda: gemma_norm(6),
    "T5": lambda: t5_norm(6),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "slope": lambda: _Slope(6),
    "square": lambda: _Scale(6, torch.square),
    "other order": lambda: _Scale(6, lambda w: w.flip(0)),
    "mean": lambda: _Scale(6, lambda w: w.mean()),
    "number": _Temperature,
}


def forwards(model: _Normed, n: int) -> int:
    """How often the norm is run for n sequences, the model's own use included."""
    count: list[int] = []
    handle = model.norm.register_forward_hook(lambda *_: count.append(1))
    empirical(model, [odd_batch(n, 3)])
    handle.remove()
    return len(count)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("kind", [*NORMS, *OTHERS])
@pytest.mark.parametrize("start", ["as made", "drawn"])
def test_scales_and_biases_have_the_gradients_of_every_sequence(kind: str, start: str, twice: bool) -> None:
    model = _Normed((NORMS | OTHERS)[kind](), twice)
    if start == "drawn":
        for weight in model.norm.parameters():
            nn.init.normal_(weight)
    batches = [odd_batch(4, 3), odd_batch(7, 3)]
    check(empirical(model, batches).by_name, loop(model, batches))
    check(empirical(model, batches, structure="block").by_name, loop(model, batches, block=True))


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_not_run_for_each_sequence(kind: str, dtype: torch.dtype) -> None:
    model = _Normed(NORMS[kind]()).to(dtype)
    assert forwards(model, 4) == forwards(model, 9)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_norm_is_run_for_each_sequence(kind: str) -> None:
    model = _Normed(OTHERS[kind]())
    weights = len(list(model.norm.parameters()))
    assert forwards(model, 9) - forwards(model, 4) == 5 * weights


def test_a_frozen_scale_leaves_the_bias_its_gradient() -> None:
    model = _Normed(nn.LayerNorm(6))
    model.norm.weight.requires_grad_(False)
    check(empirical(model, [odd_batch(4, 3)]).by_name, loop(model, [odd_batch(4, 3)]))


def test_a_norm_of_some_rows_may_see_none_of_a_sequence() -> None:
    class Routed(_Normed):
        def forward(self, input_ids: Tensor) -> Output:
            even, h = input_ids % 2 == 0, self.embed(input_ids)
            return Output(self.read(h.masked_scatter(even[..., None], self.norm(h[even]))))

    model, batch = Routed(nn.LayerNorm(6)), odd_batch(4, 3)
    batch["input_ids"][1] = torch.tensor([1, 3, 5])
    check(empirical(model, [batch]).by_name, loop(model, [batch]))


def test_a_large_matrix_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that the embedding and the read-out share, whose gradients are added part by part."""
    for tied in (False, True):
        model, batch = _Normed(nn.LayerNorm(6)), odd_batch(4, 3)
        if tied:
            model.read.weight = model.embed.weight
        for part in (1, 50, 120):
            monkeypatch.setattr("msma_fast.fisher._sums.PART", part)
            check(empirical(model, [batch]).by_name, loop(model, [batch]))
