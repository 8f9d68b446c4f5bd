"""The largest eigenpairs from products alone, beside numpy's of the explicit metric; effective rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fisher_oracles import metrics

from msma_fast import fisher
from msma_fast.fisher import eigh


def problem(n: int, vocabulary: int, d: int, scale: float, dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((vocabulary, d)) * np.linspace(2, 0.3, d)
    return (scale * rng.standard_normal((n, d))).astype(dtype), weight.astype(dtype)


@pytest.mark.parametrize(("n", "vocabulary", "d", "rank"), [(3, 400, 80, 4), (20, 3000, 100, 8), (1, 60, 70, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_explicit_metric(n: int, vocabulary: int, d: int, rank: int, dtype: Any, backend: str) -> None:
    h, weight = problem(n, vocabulary, d, 0.3, dtype)
    values, vectors = fisher.logit_fisher_eigh(h, weight, rank, backend=backend)
    assert values.shape == (n, rank)
    assert vectors.shape == (n, d, rank)
    assert values.dtype == vectors.dtype == dtype
    g = metrics(h, weight)
    wanted = np.linalg.eigvalsh(g)[:, ::-1][:, :rank]
    residual = np.linalg.norm(g @ vectors - vectors * values[:, None], axis=1) / wanted[:, :1]
    loose = 4e-5 if dtype == np.float32 else 2e-11
    assert residual.max() < (3e-4 if dtype == np.float32 else loose)
    assert np.abs(values - wanted).max() < loose * wanted.max()
    assert np.abs(vectors.transpose(0, 2, 1) @ vectors - np.eye(rank)).max() < (1e-5 if dtype == np.float32 else 1e-13)
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1) > 0).all()


@pytest.mark.parametrize("rank", [1, 5])
def test_all_columns_at_once_where_few_are_not_fewer(rank: int, backend: str) -> None:
    h, weight = problem(4, 50, 5, 1.0, np.float64)
    values, vectors = fisher.logit_fisher_eigh(h, weight, rank, backend=backend)
    truth, columns = np.linalg.eigh(metrics(h, weight))
    assert np.abs(values - truth[:, ::-1][:, :rank]).max() < 1e-13
    assert np.abs(np.abs(np.einsum("ndr,ndr->nr", vectors, columns[:, :, ::-1][:, :, :rank])) - 1).max() < 1e-9


def test_with_a_norm(backend: str) -> None:
    h, weight = problem(5, 300, 90, 0.5, np.float64)
    gamma = torch.linspace(0.5, 1.5, 90).double()
    norm = fisher.LayerNorm(gamma, None, 1e-3)
    values, vectors = fisher.logit_fisher_eigh(h, weight, 4, norm=norm, backend=backend)
    for row, value, found in zip(h, values, vectors, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z: norm(z[None])[0], torch.from_numpy(row)).numpy()
        g = jacobian.T @ metrics(norm(torch.from_numpy(row)[None]).numpy(), weight)[0] @ jacobian
        assert np.abs(value - np.linalg.eigvalsh(g)[::-1][:4]).max() < 1e-9 * value[0]
        assert np.abs(g @ found - found * value).max() < 1e-9 * value[0]


def test_rows_that_have_fewer_directions_than_asked_for(backend: str) -> None:
    """Three tokens with any probability leave two eigenvalues; the rest are zero."""
    h, weight = problem(3, 40, 64, 0.3, np.float64)
    bias = np.where(np.arange(40) < 3, 0.0, -1e3)
    values, _vectors = fisher.logit_fisher_eigh(h, weight, 4, bias, backend=backend)
    assert np.abs(values[:, 2:]).max() < 1e-12 * values.max()
    assert np.abs(values - np.linalg.eigvalsh(metrics(h, weight, bias))[:, ::-1][:, :4]).max() < 1e-12 * values.max()
    certain = np.where(np.arange(40) < 1, 0.0, -1e4)
    assert np.abs(fisher.logit_fisher_eigh(h, weight, 4, certain, backend=backend)[0]).max() == 0


def test_rows_settle_on_their_own(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is peaked is done after the start; the others go on without it, and blocks of rows change nothing."""
    h, weight = problem(12, 2000, 96, 0.2, np.float32)
    h[::3] *= 20
    sizes: list[int] = []
    products = eigh.products

    def counted(read: Any, rows: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return products(read, rows, v)

    monkeypatch.setattr(eigh, "products", counted)
    monkeypatch.setattr(eigh, "_TOKENS", 64)
    values, _ = fisher.logit_fisher_eigh(h, weight, 3, backend=backend)
    assert sizes[0] == 12
    assert 0 < min(sizes) < 12
    monkeypatch.setattr(eigh, "_ROWS", 5)
    again, _ = fisher.logit_fisher_eigh(h, weight, 3, backend=backend)
    assert np.abs(values - again).max() < 1e-4 * values.max()


@pytest.mark.parametrize(("d", "rank"), [(49, 8), (64, 11), (100, 20), (128, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eigenvalues_too_much_alike_are_found_by_all_columns(d: int, rank: int, dtype: Any, backend: str) -> None:
    """Every token as likely as any other, and rows of W without a direction of their own."""
    weight = np.random.default_rng(0).standard_normal((997, d)).astype(dtype)
    h = np.zeros((3, d), dtype=dtype)
    h[1:] = 0.3 / d**0.5 * np.random.default_rng(1).standard_normal((2, d))
    values, vectors = fisher.logit_fisher_eigh(h, weight, rank, backend=backend)
    g = metrics(h, weight)
    tolerance = 3e-4 if dtype == np.float32 else 2e-11
    assert np.abs(values - np.linalg.eigvalsh(g)[:, ::-1][:, :rank]).max() < tolerance * values.max()
    residual = np.linalg.norm(g @ vectors - vectors * values[:, None], axis=1)
    assert residual.max() < tolerance * values.max()


@pytest.mark.parametrize(("rank", "error"), [(0, ValueError), (7, ValueError), (2.0, TypeError), (True, TypeError)])
def test_rank_is_checked(rank: Any, error: type[Exception]) -> None:
    h, weight = problem(3, 40, 6, 0.3, np.float32)
    with pytest.raises(error, match="rank: expected"):
        fisher.logit_fisher_eigh(h, weight, rank)


def test_effective_rank() -> None:
    assert abs(fisher.effective_rank(np.eye(7)) - 7) < 1e-12
    assert abs(fisher.effective_rank(np.diag([5.0, 0.0, 0.0])) - 1) < 1e-12
    share = np.array([0.75, 0.25])
    found = fisher.effective_rank(torch.diag_embed(torch.tensor([[3.0, 1.0], [2.0, 2.0]])))
    assert torch.allclose(found, torch.tensor([np.exp(-(share * np.log(share)).sum()), 2.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="metric: expected square"):
        fisher.effective_rank(np.ones((2, 3)))
    with pytest.raises(ValueError, match="metric: expected a positive eigenvalue"):
        fisher.effective_rank(np.zeros((2, 2)))
