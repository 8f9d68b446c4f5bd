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
from msma_fast.triton_kernels import logit_fisher as kernels
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of tokens and of rows in small problems, and two shares of the tokens."""
    for name in ("NORMALIZER", "QUADRATIC"):
        monkeypatch.setattr(kernels, name, (Configuration({"ROWS": 16, "BLOCK": 32, "BLOCK_D": 16}, 4),))
    monkeypatch.setattr(kernels, "PROGRAMS", 3)


def problem(n: int, vocabulary: int, d: int, scale: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """h, weight, bias, v in float32."""
    rng = np.random.default_rng(seed)
    h, weight = scale * rng.standard_normal((n, d)), rng.standard_normal((vocabulary, d))
    return tuple(
        z.astype(np.float32) for z in (h, weight, rng.standard_normal(vocabulary), rng.standard_normal((n, d)))
    )


def forms(h: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, v: np.ndarray) -> np.ndarray:
    return np.einsum("nij,ni,nj->n", metrics(h, weight, bias), v, v)


def check(h: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, v: np.ndarray, tolerance: float) -> None:
    found = fisher.logit_fisher_quadratic(h, weight, v, bias, backend="triton")
    assert off(found, forms(h, weight, bias, v)) <= tolerance


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
    found = fisher.logit_fisher_quadratic(*rows, bias.repeat(2, 1).T[:, 0], backend="triton")
    assert off(found.detach(), np.einsum("nij,ni,nj->n", g, v, v)) < 1e-5


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


@pytest.mark.usefixtures("small")
def test_what_is_left_to_the_others_keeps_its_digits() -> None:
    """p_top = 1 - 1e-11, every row: a rounding of u_top^2 would be more than what is left."""
    h, weight, _, v = problem(16, 60, 70, 0.003)
    bias = np.zeros(60, dtype=np.float32)
    bias[45] = 29.0
    found = fisher.logit_fisher_quadratic(h, weight, v, bias, backend="triton")
    others, u = probabilities(h, weight, bias), v.astype(np.float64) @ weight.astype(np.float64).T
    others[:, 45] = 0.0
    assert 1e-12 < others.sum(1).max() < 1e-10
    wanted = (others * (u - u[:, 45:46]) ** 2).sum(1)  # less the square of the mean, 1e-11 times as much
    np.testing.assert_allclose(found, wanted, rtol=5e-5)


@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.usefixtures("small")
def test_huge_logits(size: float) -> None:
    """One token, or two that are equal, have everything."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    h = np.array([[size, 0.0], [-size, 0.0], [0.0, size]], dtype=np.float32)
    v = np.ones_like(h)
    found = fisher.logit_fisher_quadratic(h, weight, v, backend="triton")
    assert np.abs(found - forms(h, weight, None, v)).max() < 1e-7


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("small")
def test_logits_that_overflow_are_an_error() -> None:
    h, weight, _, v = problem(3, 40, 4)
    with pytest.raises(ValueError, match="h: expected logits"):
        fisher.logit_fisher_quadratic(h * 1e30, weight * np.float32(1e30), v, backend="triton")


def test_float32_is_as_good_as_the_plain_formula() -> None:
    """Errors against float64 beside torch's plain formula in float32; sums are truncated as on tensor cores."""
    h, weight, bias, v = problem(64, 256, 80, 0.3)
    wanted = forms(h, weight, bias, v)
    a, w, b, u = (torch.from_numpy(z) for z in (h, weight, bias, v))
    p, u = (a @ w.T + b).softmax(1), u @ w.T
    beside = (p * u * u).sum(1) - (p * u).sum(1) ** 2
    found = fisher.logit_fisher_quadratic(h, weight, v, bias, backend="triton")
    mine, plain = (np.abs(np.asarray(z, np.float64) / wanted - 1).mean() for z in (found, beside))
    assert mine <= 1.1 * plain  # every four terms truncated, the worst of a tensor core


def test_double_rows_and_strided_weights_are_the_torch_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "rows_of")
    h, weight, bias, v = problem(6, 40, 5)
    for x, w in ((h.astype(np.float64), weight), (h, np.asfortranarray(weight))):
        check(x, w, bias, v, 2e-5)


def test_metrics_of_many_numbers_are_the_torch_backends() -> None:
    h, weight, bias, v = problem(6, 40, 5)
    fisher_checks.check(h, weight, bias, v, "triton", 2e-5)


@pytest.mark.usefixtures("small")
def test_normalisers_and_top_tokens() -> None:
    """Equal logits in different blocks and shares: any of them, but one that is the largest."""
    h, weight, _, _ = (torch.from_numpy(z) for z in problem(21, 100, 6))
    weight[70] = weight[3] = 5 * weight[3]
    found = kernels.rows_of(kernels.Readout(weight, weight.mean(0), None), h)
    logits = h.double() @ (weight - weight.mean(0)).double().T
    assert torch.allclose(found.log_normalizer.double(), logits.logsumexp(1), rtol=1e-6)
    assert torch.allclose(logits.gather(1, found.top.long()[:, None])[:, 0], logits.max(1).values, rtol=1e-6)


def test_shares_cover_the_tokens() -> None:
    read = kernels.Readout(torch.empty(49152, 576, device="meta"), torch.empty(576, device="meta"), None)
    for rows in (1, 7, 64, 1000):
        programs, each = kernels.shares(read, rows, 64)
        assert (programs - 1) * each * 64 < 49152 <= programs * each * 64
        assert programs * rows <= 2 * kernels.PROGRAMS or programs == 1


@pytest.mark.usefixtures("small")
def test_any_order_of_programs_gives_the_same_bits() -> None:
    h, weight, bias, v = problem(35, 100, 9)
    found = []
    for seed in (1, 2):
        with hardened(seed):
            found.append(fisher.logit_fisher_quadratic(h, weight, v, bias, backend="triton"))
    assert np.array_equal(*found)
