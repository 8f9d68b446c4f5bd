"""The Fisher metric of a read-out by Triton kernels: its definition, shapes that fill no tile, and numbers that are hard."""

from __future__ import annotations

import fisher_checks
import numpy as np
import pytest
import torch
from fisher_checks import off
from fisher_oracles import metrics, probabilities
from hardened_interpreter import hardened

from msma_fast import fisher
from msma_fast.backends import registry, triton_fisher
from msma_fast.backends.torch import logit_fisher as plain
from msma_fast.backends.torch.vocabulary import Vocabulary
from msma_fast.triton_kernels import logit_fisher as kernels
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of tokens and of rows in small problems, and two shares of the tokens."""
    for name in ("NORMALIZER", "QUADRATIC"):
        monkeypatch.setattr(kernels, name, (Configuration({"ROWS": 16, "BLOCK": 32, "BLOCK_D": 16}, 4),))
    monkeypatch.setattr(kernels, "SUMS", (Configuration({"ROWS": 16, "BLOCK": 32, "BLOCK_D": 16, "WIDE": 32}, 4),))
    monkeypatch.setattr(kernels, "PROGRAMS", 3)


def problem(n: int, vocabulary: int, d: int, scale: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """h, weight, bias, v in float32."""
    rng = np.random.default_rng(seed)
    h, weight = scale * rng.standard_normal((n, d)), rng.standard_normal((vocabulary, d))
    return tuple(
        z.astype(np.float32) for z in (h, weight, rng.standard_normal(vocabulary), rng.standard_normal((n, d)))
    )


def check(h: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, v: np.ndarray, tolerance: float) -> None:
    fisher_checks.check(h, weight, bias, v, "triton", tolerance)


@pytest.mark.parametrize(("n", "vocabulary", "d"), [(1, 2, 1), (5, 7, 3), (18, 101, 17), (17, 65, 32)])
@pytest.mark.usefixtures("small")
def test_against_the_definition(n: int, vocabulary: int, d: int) -> None:
    h, weight, bias, v = problem(n, vocabulary, d, 1 / d**0.5)
    check(h, weight, bias, v, 2e-5)
    if d < 10:
        check(3 * h, weight, None, v, 2e-5)


def test_tiles_as_they_are_launched() -> None:
    h, weight, bias, v = problem(66, 130, 20, 0.3)
    check(h, weight, bias, v, 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("small")
def test_half_precision_weights_and_strided_rows(dtype: torch.dtype) -> None:
    h, weight, bias, v = (torch.from_numpy(z) for z in problem(18, 70, 24, 0.3))
    half = weight.to(dtype)
    g = metrics(h.numpy(), half.double().numpy(), bias.numpy())
    rows = h.T.contiguous().T, half, v.repeat_interleave(2, 1)[:, ::2]
    found = fisher.logit_fisher_vp(*rows, bias, backend="triton")
    assert off(found, np.einsum("nij,nj->ni", g, v)) < 1e-5
    found = fisher.logit_fisher_quadratic(*rows, bias.repeat(2, 1).T[:, 0], backend="triton")
    assert off(found.detach(), np.einsum("nij,ni,nj->n", g, v, v)) < 1e-5
    assert off(fisher.logit_fisher_diag(*rows[:2], bias, backend="triton"), np.einsum("nii->ni", g)) < 1e-5


@pytest.mark.parametrize("n", [3, 19])
@pytest.mark.usefixtures("small")
def test_several_vectors_of_a_row(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are repeated, many are not."""
    monkeypatch.setattr(triton_fisher, "_FEW_ROWS", 8)
    h, weight, bias, _ = problem(n, 75, 9, 0.5)
    v = np.random.default_rng(1).standard_normal((n, 3, 9)).astype(np.float32)
    found = triton_fisher.logit_fisher_vp(*(torch.from_numpy(z) for z in (h, weight, bias, v)))
    assert off(found, np.einsum("nij,nrj->nri", metrics(h, weight, bias), v)) < 1e-5


@pytest.mark.usefixtures("small")
def test_shares_of_the_mean() -> None:
    h, weight, bias, _ = problem(35, 75, 9, 0.5)
    shares = np.linspace(0, 1, 35).astype(np.float32)
    found = triton_fisher.logit_fisher_mean(*(torch.from_numpy(z) for z in (h, weight, bias, shares)))
    assert off(found, np.einsum("n,nij->ij", shares, metrics(h, weight, bias))) < 1e-5
    assert torch.equal(found, found.T)


@pytest.mark.usefixtures("small")
def test_a_common_row_and_a_common_bias_change_nothing() -> None:
    h, weight, bias, v = problem(15, 80, 12, 0.4)
    for shift, tolerance in ((10.0, 2e-5), (1000.0, 2e-3)):
        moved = weight.astype(np.float64) + shift * np.linspace(-1, 1, 12)
        check(h, moved.astype(np.float32), bias + np.float32(shift), v, tolerance)


@pytest.mark.usefixtures("small")
def test_peaked_distributions_keep_their_digits() -> None:
    """p_top = 1 - 1e-7 and beyond: the metric is of the size of what is left."""
    h, weight, _, v = problem(12, 60, 8)
    weight[45] = 0.0
    for strength in (8.0, 30.0):
        bias = np.zeros(60, dtype=np.float32)
        bias[45] = strength + 10.0
        assert probabilities(h, weight, bias)[:, 45].max() > 0.9
        check(h, weight, bias, v, 2e-5)


@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.usefixtures("small")
def test_huge_logits(size: float) -> None:
    """One token, or two that are equal, have everything."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    h = np.array([[size, 0.0], [-size, 0.0], [0.0, size]], dtype=np.float32)
    v = np.ones_like(h)
    g = metrics(h, weight)
    found = fisher.logit_fisher_vp(h, weight, v, backend="triton")
    assert np.abs(found - np.einsum("nij,nj->ni", g, v)).max() < 1e-7
    found = fisher.logit_fisher_diag(h, weight, backend="triton")
    assert 0 <= found.min() <= found.max() < 1e-7


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("small")
def test_logits_that_overflow_are_an_error() -> None:
    h, weight, _, v = problem(3, 40, 4)
    with pytest.raises(ValueError, match="h: expected logits"):
        fisher.logit_fisher_vp(h * 1e30, weight * np.float32(1e30), v, backend="triton")


def test_float32_is_as_good_as_the_plain_formula() -> None:
    """Errors against float64, row by row, beside torch's plain formula in float32; sums are truncated as on tensor cores."""
    h, weight, bias, v = problem(64, 256, 80, 0.3)
    g = metrics(h, weight, bias)
    a, w, b, u = (torch.from_numpy(z) for z in (h, weight, bias, v))
    p = (a @ w.T + b).softmax(1)
    diagonal = np.einsum("nii->ni", g)
    cases = {
        "vp": ((v,), np.einsum("nij,nj->ni", g, v), (p * (u @ w.T - (p * (u @ w.T)).sum(1, keepdim=True))) @ w),
        "diag": ((), diagonal, p @ w.square() - (p @ w).square()),
    }
    for name, (rest, wanted, beside) in cases.items():
        found = getattr(fisher, f"logit_fisher_{name}")(h, weight, *rest, bias, backend="triton")
        size = np.linalg.norm(wanted, axis=1)
        errors = [(np.linalg.norm(np.asarray(z, np.float64) - wanted, axis=1) / size).mean() for z in (found, beside)]
        assert errors[0] <= 1.1 * errors[1], (name, errors)  # every four terms truncated, the worst of a tensor core


def test_double_rows_and_strided_weights_are_the_torch_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in (
        "logit_fisher_vp",
        "logit_fisher_quadratic",
        "logit_fisher_mean",
        "logit_fisher_trace",
        "logit_fisher_diag",
    ):
        registry.choose(op, torch.device("cpu"), "triton")  # a GPU is checked with the kernel in place
    monkeypatch.delattr(kernels, "rows_of")
    h, weight, bias, v = problem(6, 40, 5)
    for x, w in ((h.astype(np.float64), weight), (h, np.asfortranarray(weight))):
        check(x, w, bias, v, 2e-5)


@pytest.mark.usefixtures("small")
def test_normalisers_and_top_tokens() -> None:
    """Equal logits in different blocks and shares: any of them, but one that is the largest."""
    h, weight, _, _ = (torch.from_numpy(z) for z in problem(21, 100, 6))
    weight[70] = weight[3] = 5 * weight[3]
    found = kernels.rows_of(kernels.Readout(weight, weight.mean(0), None), h)
    logits = h.double() @ (weight - weight.mean(0)).double().T
    assert torch.allclose(found.log_normalizer.double(), logits.logsumexp(1), rtol=1e-6)
    assert torch.allclose(logits.gather(1, found.top.long()[:, None])[:, 0], logits.max(1).values, rtol=1e-6)


def test_shares_stay_within_memory() -> None:
    read = kernels.Readout(torch.empty(49152, 576, device="meta"), torch.empty(576, device="meta"), None)
    for n in (2048, 4096, 16384):
        rows = -(-n // 64)
        programs, each = kernels.shares(read, rows, 64, 2 * n * 576, kernels.room_of(n, read))
        assert programs * each * 64 >= 49152
        assert programs * 2 * n * 576 <= max(kernels.FEW, 0.05 * n * 49152)
    assert kernels.shares(read, 1, 64, 576, kernels.room_of(1, read))[0] > 300


def test_the_torch_backend_has_the_same_sums() -> None:
    """product_of with sums by hand is the formula of the module."""
    h, weight, _, v = (torch.from_numpy(z).double() for z in problem(4, 30, 5))
    words = Vocabulary(weight, None, torch.zeros(5, dtype=torch.float64))
    p = (h @ weight.T).softmax(1)
    top = p.argmax(1)
    q = p.scatter(1, top[:, None], 0.0)
    r = words.take(top)
    u = v @ weight.T - (v * r).sum(1, keepdim=True)
    found = plain.product_of(r, q.sum(1), q @ weight, (q * u).sum(1)[:, None, None], ((q * u) @ weight)[:, None])
    assert off(found[:, 0], np.einsum("nij,nj->ni", metrics(h.numpy(), weight.numpy()), v)) < 1e-12


@pytest.mark.usefixtures("small")
def test_any_order_of_programs_gives_the_same_bits() -> None:
    h, weight, bias, v = problem(35, 100, 9)
    found = []
    for seed in (1, 2):
        with hardened(seed):
            found.append(fisher.logit_fisher_vp(h, weight, v, bias, backend="triton"))
    assert np.array_equal(*found)
