"""The Fisher metric of a read-out's tokens: against its definition, against autograd, and where float32 is hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fisher_checks import check, off
from fisher_oracles import metrics, probabilities

from msma_fast import fisher
from msma_fast.backends.torch import logit_fisher as logits

SUMS = ("logit_fisher_mean", "logit_fisher_trace", "logit_fisher_diag")


def problem(n: int, vocabulary: int, d: int, scale: float = 1.0, seed: int = 0, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(seed)
    h, weight = scale * rng.standard_normal((n, d)), rng.standard_normal((vocabulary, d))
    return tuple(z.astype(dtype) for z in (h, weight, rng.standard_normal(vocabulary), rng.standard_normal((n, d))))


@pytest.mark.parametrize(("n", "vocabulary", "d"), [(1, 2, 1), (5, 7, 3), (33, 257, 17), (70, 1100, 40), (3, 5000, 9)])
def test_against_the_definition(n: int, vocabulary: int, d: int, backend: str) -> None:
    for scale in (0.1, 1.0, 10.0):
        h, weight, bias, v = problem(n, vocabulary, d, scale / d**0.5)
        check(h, weight, bias, v, backend, 1e-12)
        check(h, weight, None, v, backend, 1e-12)
        h, weight, bias, v = problem(n, vocabulary, d, scale / d**0.5, dtype=np.float32)
        check(h, weight, bias, v, backend, 2e-5)


def test_half_precision_weights_and_strided_rows(backend: str) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(20, 300, 24, 0.3, dtype=np.float32))
    for dtype in (torch.bfloat16, torch.float16):
        half = weight.to(dtype)
        found = fisher.logit_fisher_vp(h.T.contiguous().T, half, v.to(dtype), bias, backend=backend)
        assert found.dtype == torch.float32
        wide, step = half.float().numpy(), v.to(dtype).float().numpy()
        wanted = np.einsum("nij,nj->ni", metrics(h.numpy(), wide, bias.numpy()), step)
        assert off(found, wanted) < 1e-5
    assert fisher.logit_fisher_trace(h, weight.double(), backend=backend).dtype == torch.float64


def test_a_common_row_and_a_common_bias_change_nothing(backend: str) -> None:
    """F 1 = 0."""
    h, weight, bias, v = problem(15, 200, 12, 0.4, dtype=np.float32)
    for shift, tolerance in ((10.0, 2e-5), (1000.0, 2e-3)):
        moved = weight.astype(np.float64) + shift * np.linspace(-1, 1, 12)
        check(h, moved.astype(np.float32), bias + np.float32(shift), v, backend, tolerance)
    ones = np.full((200, 1), 3.0)  # every token moves alike: no distribution changes
    assert fisher.logit_fisher_trace(h[:, :1], ones, backend=backend).max() == 0
    assert np.abs(fisher.logit_fisher_vp(h[:, :1], ones, v[:, :1], backend=backend)).max() == 0


def test_peaked_distributions_keep_their_digits(backend: str) -> None:
    """p_top = 1 - 1e-7: the metric is of the size of what is left, and float32 has to find it."""
    h, weight, _, v = problem(12, 60, 8, 1.0, dtype=np.float32)
    weight[5] = 0.0
    for strength in (8.0, 16.0, 30.0):
        bias = np.zeros(60, dtype=np.float32)
        bias[5] = strength + 10.0
        assert probabilities(h, weight, bias)[:, 5].max() > 0.9
        check(h, weight, bias, v, backend, 2e-5)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_huge_logits(size: float, backend: str) -> None:
    """One token, or two that are equal, have everything."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    h = np.array([[size, 0.0], [-size, 0.0], [0.0, size]], dtype=np.float32)
    v = np.ones_like(h)
    g = metrics(h, weight)  # below 1e-43: the weights are of the size of one, and so is what float32 has to cancel
    assert np.abs(fisher.logit_fisher_vp(h, weight, v, backend=backend) - np.einsum("nij,nj->ni", g, v)).max() < 1e-7
    assert np.abs(fisher.logit_fisher_mean(h, weight, backend=backend) - g.mean(0)).max() < 1e-7
    for name in ("trace", "diag"):
        found = getattr(fisher, f"logit_fisher_{name}")(h, weight, backend=backend)
        assert found.min() >= 0
        assert found.max() < 1e-7


def test_closed_form_of_two_tokens(backend: str) -> None:
    """p (1 - p) of a logistic regression; the trace of the softmax itself, 1 - sum p^2."""
    h = np.linspace(-5, 5, 11)[:, None]
    p = 1 / (1 + np.exp(-h[:, 0]))
    assert off(fisher.logit_fisher_trace(h, np.array([[1.0], [0.0]]), backend=backend), p * (1 - p)) < 1e-13
    rng = np.random.default_rng(0)
    h = rng.standard_normal((9, 30))
    q = probabilities(h, np.eye(30))
    assert off(fisher.logit_fisher_trace(h, np.eye(30), backend=backend), 1 - (q * q).sum(1)) < 1e-13


def test_kl_of_a_small_step(backend: str) -> None:
    h, weight, bias, v = problem(10, 80, 6)
    s = 1e-4
    p, q = probabilities(h, weight, bias), probabilities(h + s * v, weight, bias)
    kl = (p * np.log(p / q)).sum(1)
    ratio = kl / (s * s / 2 * fisher.logit_fisher_quadratic(h, weight, v, bias, backend=backend))
    assert np.abs(ratio - 1).max() < 1e-2


def test_hessian_of_kl_by_autograd(backend: str) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(1, 25, 5))
    p = (h @ weight.T + bias).log_softmax(1).detach()

    def kl(at: torch.Tensor) -> torch.Tensor:
        return (p.exp() * (p - (at @ weight.T + bias).log_softmax(1))).sum()

    hessian = torch.autograd.functional.hessian(kl, h)[0, :, 0]
    assert torch.allclose(fisher.logit_fisher_vp(h, weight, v, bias, backend=backend)[0], hessian @ v[0], atol=1e-13)


def normed(norm: Any, h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> np.ndarray:
    """J^T G J from the Jacobian by autograd."""
    g, x = [], norm(h)
    for row, inner in zip(h, metrics(x.detach().numpy(), weight.numpy(), bias.numpy()), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z: norm(z[None])[0], row).numpy()
        g.append(jacobian.T @ inner @ jacobian)
    return np.stack(g)


@pytest.mark.parametrize("kind", ["layer", "layer without bias", "torch", "rms", "any"])
def test_the_norm_s_jacobian(kind: str, backend: str) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(9, 70, 11))
    gamma, beta = torch.linspace(0.5, 2, 11).double(), torch.linspace(-1, 1, 11).double()
    own = torch.nn.LayerNorm(11, eps=0.1, dtype=torch.float64)
    with torch.no_grad():
        own.weight.copy_(gamma), own.bias.copy_(beta)
    norm: Any = {
        "layer": fisher.LayerNorm(gamma, beta, 0.1),
        "layer without bias": fisher.LayerNorm(gamma, None, 0.1),
        "torch": own,
        "rms": fisher.RMSNorm(gamma, 0.1),
        "any": lambda z: (z * gamma).tanh() + z.square().mean(1, keepdim=True),
    }[kind]
    g = normed(norm, h, weight, bias)
    run: dict[str, Any] = {"bias": bias, "norm": norm, "backend": backend}
    assert off(fisher.logit_fisher_vp(h, weight, v, **run), np.einsum("nij,nj->ni", g, v)) < 1e-12
    assert off(fisher.logit_fisher_quadratic(h, weight, v, **run).detach(), np.einsum("nij,ni,nj->n", g, v, v)) < 1e-12
    if kind == "any":
        for name in SUMS:
            with pytest.raises(NotImplementedError, match="closed form"):
                getattr(fisher, name)(h, weight, **run)
        return
    diagonal = np.einsum("nii->ni", g)
    for name, wanted in zip(SUMS, (g.mean(0), diagonal.sum(1), diagonal), strict=True):
        assert off(getattr(fisher, name)(h, weight, **run), wanted) < 1e-12


def test_the_quadratic_form_is_a_loss(backend: str) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(4, 30, 5))
    norm = fisher.LayerNorm(torch.linspace(0.5, 2, 5).double(), None, 0.1)
    h.requires_grad_(), v.requires_grad_()
    for how in ({}, {"norm": norm}):

        def form(h: torch.Tensor, v: torch.Tensor, how: dict[str, Any] = how) -> Any:
            return fisher.logit_fisher_quadratic(h, weight, v, bias, backend=backend, **how)

        assert torch.autograd.gradcheck(form, (h, v))


def test_mean_is_symmetric_and_semidefinite(backend: str) -> None:
    h, weight, bias, _ = problem(40, 900, 20, 0.5, dtype=np.float32)
    mean = fisher.logit_fisher_mean(h, weight, bias, backend=backend)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, mean.T)
    assert np.linalg.eigvalsh(mean.astype(np.float64)).min() > -1e-6 * np.abs(mean).max()


def test_float32_is_as_good_as_plain_float32(backend: str) -> None:
    """Errors against float64, beside torch's plain formula in float32."""
    h, weight, bias, v = problem(64, 2000, 48, 0.6, dtype=np.float32)
    g = metrics(h, weight, bias)
    a, w, b, u = (torch.from_numpy(z) for z in (h, weight, bias, v))
    p = (a @ w.T + b).softmax(1)
    plain = {
        "vp": (p * (u @ w.T - (p * (u @ w.T)).sum(1, keepdim=True))) @ w,
        "mean": (w.T * p.mean(0)) @ w - (p @ w).T @ (p @ w) / len(a),
        "trace": p @ w.square().sum(1) - (p @ w).square().sum(1),
        "diag": p @ w.square() - (p @ w).square(),
    }
    diagonal = np.einsum("nii->ni", g)
    truth = {"vp": np.einsum("nij,nj->ni", g, v), "mean": g.mean(0), "trace": diagonal.sum(1), "diag": diagonal}
    for name, wanted in truth.items():
        rest = (v,) if name == "vp" else ()
        found = getattr(fisher, f"logit_fisher_{name}")(h, weight, *rest, bias, backend=backend)
        errors = [np.sqrt(np.mean((np.asarray(z, dtype=np.float64) - wanted) ** 2)) for z in (found, plain[name])]
        assert errors[0] <= 1.1 * errors[1], (name, errors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": np.zeros((3, 5))}, r"weight: expected shape \(V, 5\)"),
        ({"h": np.full((3, 4), np.nan)}, "h: expected finite values, got NaN"),
        ({"h": np.zeros((0, 4))}, "h: expected at least one row"),
        ({"h": np.zeros(4)}, r"h: expected an array of shape \(n, d\)"),
        ({"weight": np.zeros((1, 4))}, "weight: expected at least two tokens"),
        ({"weight": np.full((9, 4), np.inf)}, "weight: expected finite values, got inf"),
        ({"bias": np.zeros(8)}, r"bias: expected shape \(9,\), got \(8,\)"),
        ({"bias": np.full(9, np.nan)}, "bias: expected finite values"),
        ({"v": np.zeros((2, 4))}, r"v: expected shape \(3, 4\) as h, got \(2, 4\)"),
        (
            {"h": np.full((3, 4), 1e30, dtype=np.float32), "weight": np.eye(9, 4, dtype=np.float32) * 1e30},
            "h: expected logits",
        ),
        ({"norm": fisher.LayerNorm(torch.ones(3))}, "norm: expected a weight of shape"),
    ],
)
def test_errors(change: dict[str, Any], message: str, backend: str) -> None:
    good = {"h": np.ones((3, 4)), "weight": np.eye(9, 4), "v": np.ones((3, 4)), "bias": None} | change
    if "weight" in change and change["weight"].dtype == np.float32:
        good["v"] = np.ones((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        fisher.logit_fisher_vp(**good, backend=backend)
    with pytest.raises(ValueError, match=message):
        fisher.logit_fisher_quadratic(**good, backend=backend)


def test_types_are_checked() -> None:
    with pytest.raises(TypeError, match="weight: expected float16"):
        fisher.logit_fisher_trace(np.ones((2, 3)), np.ones((4, 3), dtype=np.int64))
    with pytest.raises(TypeError, match="norm: expected a LayerNorm"):
        fisher.logit_fisher_trace(np.ones((2, 3)), np.ones((4, 3)), norm=3)


@pytest.mark.parametrize("name", ["logit_fisher_quadratic", "fisher_rao_distances"])
def test_opcheck(name: str, backend: str) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(4, 30, 5))
    last = v if name == "logit_fisher_quadratic" else h.flip(0).requires_grad_()
    for each in (last, None) if name == "fisher_rao_distances" else (last,):
        arguments = h.clone().requires_grad_(), weight, bias, each, backend
        torch.library.opcheck(getattr(torch.ops.msma_fast, name).default, arguments)


@pytest.mark.parametrize("offset", [30.0, 1000.0])
def test_a_common_offset_of_the_likely_tokens_costs_no_digits(offset: float, backend: str) -> None:
    """Tokens that have all the probability lie together, far from the others: plain squares lose offset^2 / spread^2."""
    rng = np.random.default_rng(3)
    h, weight, v = (0.3 * rng.standard_normal((9, 10))), rng.standard_normal((400, 10)), rng.standard_normal((9, 10))
    weight[50:80] += offset * np.linspace(-1, 1, 10)
    h -= np.outer(h @ np.linspace(-1, 1, 10), np.linspace(-1, 1, 10)) / (np.linspace(-1, 1, 10) ** 2).sum()
    bias = np.zeros(400)
    bias[50:80] = 30.0
    single = [z.astype(np.float32) for z in (h, weight, bias, v)]
    check(single[0], single[1], single[2], single[3], backend, 2e-7 * (20 + offset))


def test_an_ordinary_row_does_not_care_for_its_neighbours(backend: str) -> None:
    """Rows whose likely tokens lie far from the others are summed about those tokens, other rows as if they were alone."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((600, 12))
    weight[:20] += 300.0 * rng.standard_normal(12)
    direction = weight[:20].mean(0) / np.linalg.norm(weight[:20].mean(0))
    plain, far = 0.3 * rng.standard_normal((2, 70, 12))
    far -= np.outer(far @ direction - 0.2, direction)
    plain -= np.outer(plain @ direction + 0.2, direction)
    h, v, w = (z.astype(np.float32) for z in (np.concatenate([far, plain]), rng.standard_normal((140, 12)), weight))
    g = metrics(h, w)
    assert (probabilities(h, w)[:, :20].sum(1) > 0.99).tolist() == [True] * 70 + [False] * 70
    checks = {
        "trace": ((), np.einsum("nii->n", g)),
        "diag": ((), np.einsum("nii->ni", g)),
        "quadratic": ((v,), np.einsum("nij,ni,nj->n", g, v, v)),
        "vp": ((v,), np.einsum("nij,nj->ni", g, v)),
    }
    for name, (rest, wanted) in checks.items():
        found = getattr(fisher, f"logit_fisher_{name}")(h, w, *rest, backend=backend)
        error = np.abs(found - wanted).reshape(140, -1).max(1) / np.abs(wanted).reshape(140, -1).max(1)
        assert error[70:].max() < 3e-4, name  # the mean row lies 30 times the spread of most rows away
        assert error[:70].max() < 2e-3, name  # logits of the size of 60 times 300


@pytest.mark.parametrize("setting", ["legacy", "new"])
def test_reduced_products_of_the_caller_are_not_ours(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lets models take bfloat16 products; the setting stays as it was, whoever reads it."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    if setting == "new" and not hasattr(matmul, "fp32_precision"):
        pytest.skip("torch before 2.9")
    before = torch.get_float32_matmul_precision()
    try:
        if setting == "legacy":
            torch.set_float32_matmul_precision("medium")
        else:
            matmul.fp32_precision = "bf16"
        h, weight, v = (torch.randn(size, 40, generator=torch.Generator().manual_seed(size)) for size in (60, 300, 60))
        seen: list[torch.dtype] = []
        parts = logits.parts

        def noted(x: torch.Tensor, words: Any) -> Any:
            seen.append(x.dtype)
            return parts(x, words)

        monkeypatch.setattr(logits, "parts", noted)
        found = fisher.logit_fisher_vp(h, weight, v[:60], backend="torch")
        assert seen == [torch.float64]
        assert found.dtype == torch.float32
        assert off(found.numpy(), np.einsum("nij,nj->ni", metrics(h.numpy(), weight.numpy()), v[:60].numpy())) < 1e-6
        if setting == "new":
            assert matmul.fp32_precision == "bf16"
    finally:
        if setting == "new":
            matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision(before)
