"""pullback_vp: explicit Jacobians, second derivatives of the divergence, models, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import Tensor

from msma_fast.fisher import pullback_vp

Map = Callable[[Tensor], Tensor]


def network(d: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = torch.nn.Linear(d, 9), torch.nn.LayerNorm(9), torch.nn.GELU(), torch.nn.Linear(9, size)
    return torch.nn.Sequential(*layers).to(dtype)


def remaining_blocks(first: int, dtype: torch.dtype = torch.float64) -> tuple[Any, Map]:
    """A tiny GPT-2 and its map from the hidden states (n, d) of one text before block `first` to logits (n, V)."""
    model = tiny_models.model("gpt2", dtype=dtype).eval()

    def fn(h: Tensor) -> Tensor:
        states = h[None]
        for block in model.transformer.h[first:]:
            states = block(states)
            states = states[0] if isinstance(states, tuple) else states
        return model.lm_head(model.transformer.ln_f(states))[0]

    return model, fn


def explicit(fn: Map, h: Tensor, v: Tensor) -> np.ndarray:
    """J^T (diag p - p p^T) J v with the whole Jacobian, the arithmetic in numpy."""
    jacobian = torch.autograd.functional.jacobian(fn, h).detach().numpy().reshape(-1, fn(h).shape[-1], h.numel())
    logits = fn(h).detach().numpy().reshape(jacobian.shape[:2])
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    total = np.zeros(h.numel())
    for row, slope in zip(p, jacobian, strict=True):
        total += slope.T @ ((np.diag(row) - np.outer(row, row)) @ (slope @ v.numpy().ravel()))
    return total.reshape(h.shape)


@pytest.mark.parametrize(("n", "d", "size"), [(1, 1, 2), (1, 5, 1), (4, 3, 7), (3, 6, 41)])
def test_it_is_the_explicit_jacobian(n: int, d: int, size: int) -> None:
    fn = network(d, size)
    h, v = torch.randn(2, n, d, dtype=torch.float64)
    found = pullback_vp(fn, h, v)
    np.testing.assert_allclose(found, explicit(fn, h, v), rtol=1e-11, atol=1e-15)
    for i in range(n):
        np.testing.assert_allclose(pullback_vp(fn, h[i], v[i]), found[i], rtol=1e-11, atol=1e-15)


def test_it_is_the_hessian_of_the_divergence() -> None:
    fn = network(4, 11)
    h, v = torch.randn(2, 4, dtype=torch.float64)

    def divergence(moved: Tensor) -> Tensor:
        here, there = (fn(point).log_softmax(-1) for point in (h, moved))
        return (here.exp() * (here - there)).sum()

    hessian = torch.autograd.functional.hessian(divergence, h)
    np.testing.assert_allclose(pullback_vp(fn, h, v), hessian @ v, rtol=1e-10)
    step = 1e-4 * v
    assert float(divergence(h + step).detach()) == pytest.approx(0.5 * float(step @ pullback_vp(fn, h, step)), rel=1e-3)


def test_a_linear_map_is_its_weight(rng: np.random.Generator) -> None:
    weight, bias = rng.standard_normal((13, 5)), rng.standard_normal(13)
    h, v = rng.standard_normal((2, 6, 5))
    read_out = torch.from_numpy(weight), torch.from_numpy(bias)
    found = pullback_vp(lambda rows: rows @ read_out[0].T + read_out[1], h, v)
    assert isinstance(found, np.ndarray)
    for i in range(6):
        p = np.exp(weight @ h[i] + bias)
        p /= p.sum()
        np.testing.assert_allclose(found[i], weight.T @ (np.diag(p) - np.outer(p, p)) @ weight @ v[i], rtol=1e-12)


@pytest.mark.parametrize("first", [1, 3])
def test_the_remaining_blocks_of_a_model(first: int) -> None:
    model, fn = remaining_blocks(first)
    h, v = torch.randn(2, 5, 32, dtype=torch.float64)
    found = pullback_vp(fn, h, v)
    np.testing.assert_allclose(found, explicit(fn, h, v), rtol=1e-9, atol=1e-13)
    assert all(parameter.grad is None for parameter in model.parameters())
    alone = torch.zeros_like(v)
    alone[2] = v[2]
    moved = pullback_vp(fn, h, alone)
    seen = (moved.abs().sum(1) > 0).tolist()
    assert seen == ([True] * 5 if first == 1 else [False, False, True, False, False])


def test_it_is_symmetric_and_positive() -> None:
    _, fn = remaining_blocks(1)
    h, v, w = torch.randn(3, 6, 32, dtype=torch.float64)
    one, two = pullback_vp(fn, h, v), pullback_vp(fn, h, w)
    assert float((one * w).sum()) == pytest.approx(float((two * v).sum()), rel=1e-10)
    assert float((one * v).sum()) > 0


def test_fn_runs_once() -> None:
    calls = []
    inner = network(3, 5)

    def fn(h: Tensor) -> Tensor:
        calls.append(h.shape)
        return inner(h)

    pullback_vp(fn, *torch.randn(2, 4, 3, dtype=torch.float64))
    assert calls == [(4, 3)]


def test_gradients_and_graphs_are_left_alone() -> None:
    fn = network(3, 5)
    source = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    h, v = source * 2, torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    kept = h.detach().clone(), v.detach().clone()
    plain = pullback_vp(fn, *kept)
    with torch.no_grad():
        assert torch.equal(pullback_vp(fn, h, v), plain)
        assert not torch.is_grad_enabled()
    found: Any = pullback_vp(fn, h, v)
    assert not found.requires_grad
    assert (source.grad, v.grad) == (None, None)
    assert all(parameter.grad is None for parameter in fn.parameters())
    assert torch.equal(h, kept[0])
    h.sum().backward()  # its graph is still there
    assert source.grad is not None
    assert v.requires_grad
    assert torch.equal(pullback_vp(lambda rows: fn(rows.mul_(1.0)), *kept), plain)
    assert torch.equal(pullback_vp(lambda rows: fn(rows.zero_() + kept[0]), *kept), torch.zeros_like(plain))
    assert kept[0].equal(h.detach())


def test_dropout_is_drawn_once() -> None:
    torch.manual_seed(3)
    read_out = torch.nn.Linear(50, 9).double()
    fn = torch.nn.Sequential(torch.nn.Dropout(0.5), read_out).train()
    h, v = torch.randn(2, 1, 50, dtype=torch.float64).unbind()
    torch.manual_seed(5)
    found = pullback_vp(fn, h, v)
    torch.manual_seed(5)
    mask = torch.nn.functional.dropout(torch.ones_like(h), 0.5)
    np.testing.assert_allclose(found, explicit(lambda rows: read_out(rows * mask), h, v), rtol=1e-11, atol=1e-15)


def relative(found: Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(found.double().numpy() - wanted).max() / np.abs(wanted).max())


def plain_autograd(fn: Map, h: Tensor, v: Tensor) -> Tensor:
    """F u with p u - p (p u), between a forward and a backward derivative."""
    derivative: Any = torch.func.jvp(fn, (h,), (v,))
    logits, u = derivative
    p = logits.softmax(-1)
    return torch.func.vjp(fn, h)[1](p * u - p * (p * u).sum(-1, keepdim=True))[0]


@pytest.mark.parametrize("peak", [0.0, 10.0, 16.0])
def test_float32_keeps_a_peaked_distribution(peak: float) -> None:
    """A probability of 1 - e^-peak V, and an offset common to all tokens, which changes nothing."""
    torch.manual_seed(1)
    weight, bias = torch.randn(40, 6) + 30 * torch.randn(6), torch.zeros(40)
    bias[7] = peak
    h, v = 0.1 * torch.randn(3, 6), torch.randn(3, 6)
    wanted = explicit(lambda rows: rows @ weight.double().T + bias.double(), h.double(), v.double())
    read_out: Map = lambda rows: rows @ weight.T + bias  # noqa: E731
    ours = relative(pullback_vp(read_out, h, v), wanted)
    plain = relative(plain_autograd(read_out, h, v), wanted)
    assert ours < 1e-3
    assert ours <= 1.5 * plain


def test_float32_of_a_model_is_close() -> None:
    _, wide = remaining_blocks(1)
    _, fn = remaining_blocks(1, torch.float32)
    h, v = torch.randn(2, 7, 32)
    wanted = pullback_vp(wide, h.double(), v.double()).numpy()
    found = pullback_vp(fn, h, v)
    assert found.dtype == torch.float32
    assert relative(found, wanted) < 1e-5
    assert relative(found, wanted) <= 3 * relative(plain_autograd_of_a_model(fn, h, v), wanted)


def plain_autograd_of_a_model(fn: Map, h: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        return plain_autograd(fn, h, v).detach()


def test_bfloat16_models_and_masked_tokens() -> None:
    fn = network(6, 17, dtype=torch.bfloat16)
    h, v = torch.randn(2, 3, 6, dtype=torch.bfloat16)
    found = pullback_vp(fn, h, v)
    assert found.dtype == torch.bfloat16
    wanted = explicit(network(6, 17, dtype=torch.bfloat16).double(), h.double(), v.double())
    assert relative(found, wanted) < 0.05
    inner, banned = network(3, 5), torch.tensor([True, False, False, True, False])
    h, v = torch.randn(2, 4, 3, dtype=torch.float64)
    masked = pullback_vp(lambda rows: inner(rows).masked_fill(banned, -torch.inf), h, v)
    np.testing.assert_allclose(masked, explicit(lambda rows: inner(rows)[:, ~banned], h, v), rtol=1e-11)


def test_half_logits_are_widened() -> None:
    """The read-out is the identity: what is left is one rounding to bfloat16."""
    h, v = torch.randn(2, 3, 500, dtype=torch.bfloat16)
    wanted = pullback_vp(lambda rows: rows, h.double(), v.double())
    found = pullback_vp(lambda rows: rows, h, v)
    assert torch.equal(found, wanted.float().bfloat16())


def test_huge_logits() -> None:
    weight = 1e4 * torch.randn(9, 3, dtype=torch.float64)
    h, v = torch.randn(2, 5, 3, dtype=torch.float64)
    found = pullback_vp(lambda rows: rows @ weight.T, h, v)
    np.testing.assert_allclose(found, explicit(lambda rows: rows @ weight.T, h, v), rtol=1e-9, atol=1e-300)


class Opaque(torch.autograd.Function):
    """Without a forward derivative."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0]


ROWS = np.zeros((2, 3))
WEIGHT = torch.ones(3, dtype=torch.float64, requires_grad=True)
BAD: list[tuple[Any, Any, Any, type[Exception], str]] = [
    (lambda h: h, ROWS, np.zeros((2, 4)), ValueError, r"v: expected shape \(2, 3\) as h, got shape \(2, 4\)"),
    (lambda h: h, [1.0], ROWS, TypeError, "h: expected a torch tensor"),
    (lambda h: h, ROWS, ROWS.astype(int), TypeError, "v: expected float16"),
    (lambda h: h, ROWS + np.inf, ROWS, ValueError, "h: expected finite"),
    (lambda h: h, ROWS, ROWS + np.nan, ValueError, "v: expected finite"),
    (lambda h: h, ROWS[:0], ROWS[:0], ValueError, "h: expected at least one value"),
    (lambda h: (h,), ROWS, ROWS, TypeError, "fn: expected a function that returns a tensor of logits, got tuple"),
    (lambda h: h.long(), ROWS, ROWS, TypeError, "fn: expected float logits"),
    (lambda h: h.sum(), ROWS, ROWS, ValueError, r"fn: expected logits \(\.\.\., V\), got shape \(\)"),
    (lambda h: h[:, :0], ROWS, ROWS, ValueError, r"fn: expected logits \(\.\.\., V\)"),
    (lambda h: h.detach(), ROWS, ROWS, ValueError, "fn: expected logits that depend on h differentiably"),
    (lambda h: WEIGHT * h.detach(), ROWS, ROWS, ValueError, "fn: expected logits that depend on h differentiably"),
    (lambda h: torch.ones(3), ROWS, ROWS, ValueError, "fn: expected logits that depend on h differentiably"),
    (lambda h: h * torch.nan, ROWS, ROWS, ValueError, "fn: expected logits with finite probabilities"),
    (Opaque.apply, ROWS, ROWS, NotImplementedError, "fn: expected operations with forward derivatives"),
]


@pytest.mark.parametrize(("fn", "h", "v", "error", "message"), BAD)
def test_errors(fn: Any, h: Any, v: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pullback_vp(fn, h, v)


def test_errors_of_fn_are_its_own() -> None:
    def fn(h: Tensor) -> Tensor:
        raise NotImplementedError("not today")

    with pytest.raises(NotImplementedError, match="not today"):
        pullback_vp(fn, ROWS, ROWS)
