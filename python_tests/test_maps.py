"""Closed-form maps against plain numpy, and what a rotation must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.msma.maps import CLOSED, low_rank, moments, procrustes, ridge


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    found: np.ndarray = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return found


def rows(n: int, d: int, e: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.linspace(0.2, 2.0, d)
    y = x @ rng.standard_normal((d, e)) + noise * rng.standard_normal((n, e))
    held = torch.arange(n) % 5 == 0
    return torch.from_numpy(x - x.mean(0)), torch.from_numpy(y - y.mean(0)), held


@pytest.mark.parametrize(("d", "e"), [(7, 7), (1, 1), (5, 11), (11, 5)])
def test_procrustes_is_the_best_orthogonal_map(d: int, e: int) -> None:
    x, y, held = rows(97, d, e, 0.5)
    weight = procrustes(x, y, held).weight
    wide = weight if d >= e else weight.T
    assert torch.allclose(wide.T @ wide, torch.eye(min(d, e), dtype=torch.float64), atol=1e-12)
    rng = np.random.default_rng(1)
    own = float((x @ weight - y).square().sum())
    for _ in range(20):
        u, _, vt = np.linalg.svd(weight.numpy() + 0.1 * rng.standard_normal((d, e)), full_matrices=False)
        other = torch.from_numpy(u @ vt)
        if d == e:
            assert own <= float((x @ other - y).square().sum()) + 1e-9
        # of d != e the trace is what is maximised
        assert float((x.T @ y * weight).sum()) >= float((x.T @ y * other).sum()) - 1e-9


@pytest.mark.parametrize("noise", [0.1, 3.0, 100.0])
def test_ridge_is_the_textbook_formula_at_the_best_of_its_constants(noise: float) -> None:
    x, y, held = rows(120, 9, 6, noise)
    found = ridge(x, y, held)
    a, b = x.numpy(), y.numpy()
    mask = held.numpy()

    def weight(l2: float, keep: np.ndarray) -> np.ndarray:
        xs, ys = a[keep], b[keep]
        solved: np.ndarray = np.linalg.solve(xs.T @ xs / len(xs) + l2 * np.eye(9), xs.T @ ys / len(xs))
        return solved

    errors = {l2: ((a[mask] @ weight(l2, ~mask) - b[mask]) ** 2).sum() for l2 in 10.0 ** np.arange(-12, 2)}
    best = min(errors, key=lambda l2: errors[l2])
    assert found.chosen["ridge"] == pytest.approx(best)
    np.testing.assert_allclose(found.weight.numpy(), weight(best, np.ones(120, bool)), rtol=1e-9, atol=1e-12)


def test_low_rank_finds_a_planted_rank() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((600, 20))
    truth = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 15))
    y = x @ truth + 0.3 * rng.standard_normal((600, 15))
    found = low_rank(torch.from_numpy(x), torch.from_numpy(y), torch.arange(600) % 5 == 0)
    assert found.chosen["rank"] == 2.0
    assert np.linalg.matrix_rank(found.weight.numpy(), tol=1e-8) == 2
    assert np.abs(found.weight.numpy() - truth).max() < 0.1
    full = ridge(torch.from_numpy(x), torch.from_numpy(y), torch.arange(600) % 5 == 0).weight.numpy()
    assert np.linalg.norm(found.weight.numpy() - truth) < np.linalg.norm(full - truth)


def test_moments_matches_covariances_and_sees_no_pairs() -> None:
    x, y, held = rows(300, 6, 6, 1.0)
    weight = moments(x, y, held).weight
    mapped = (x @ weight).numpy()
    np.testing.assert_allclose(mapped.T @ mapped, (y.T @ y).numpy(), rtol=1e-8, atol=1e-8)
    assert torch.allclose(weight, weight.T, atol=1e-9)  # the optimal transport between normals is symmetric
    assert bool((torch.linalg.eigvalsh(weight) > 0).all())
    shuffled = moments(x, y[torch.randperm(300)], held).weight
    assert torch.allclose(weight, shuffled, atol=1e-9)


def test_moments_maps_directions_without_variance_to_zero() -> None:
    x, y, held = rows(80, 5, 5, 1.0)
    x[:, 2] = 0.0
    assert float(moments(x, y, held).weight[2].abs().max()) < 1e-6


@pytest.mark.parametrize("name", CLOSED)
def test_a_known_rotation_is_found_again(name: str) -> None:
    rng = np.random.default_rng(5)
    x = torch.from_numpy(rng.standard_normal((400, 12)))
    turn = torch.from_numpy(rotation(12, rng))
    weight = CLOSED[name](x, x @ turn, torch.arange(400) % 5 == 0).weight
    assert float((weight - turn).abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rotation_changes_no_invariant(dtype: Any) -> None:
    """Euclidean KSG, distance correlation, linear CKA and neighbour overlap: no Procrustes map can gain anything in them."""
    rng = np.random.default_rng(7)
    shared = rng.standard_normal((500, 4))
    x = np.hstack([shared, rng.standard_normal((500, 6))])
    y = shared @ rng.standard_normal((4, 10)) + 0.5 * rng.standard_normal((500, 10))
    fit = procrustes(torch.from_numpy(x), torch.from_numpy(y), torch.zeros(500, dtype=torch.bool))
    turned = fit(torch.from_numpy(x)).numpy()
    a, b, c = (each.astype(dtype) for each in (x, turned, y))
    close = 1e-6 if dtype is np.float32 else 1e-12
    assert mf.distance_correlation(a, c) == pytest.approx(mf.distance_correlation(b, c), abs=close)
    assert mf.cka(a, c) == pytest.approx(mf.cka(b, c), abs=close)
    assert mf.neighborhood_overlap(a, c, 10) == pytest.approx(mf.neighborhood_overlap(b, c, 10), abs=1e-3)
    ours, theirs = (mf.ksg_mi(each, c, 3, metric="euclidean") for each in (a, b))
    assert ours == pytest.approx(theirs, abs=1e-3 if dtype is np.float32 else 1e-12)
    assert ours > 0.3  # there is something to change


def test_curvature_of_linear_maps() -> None:
    x, y, held = rows(90, 6, 6, 0.1)
    assert procrustes(x, y, held).isometry_deviation(x, 0) < 1e-12
    bent = ridge(x, 3.0 * x, held)
    assert bent.isometry_deviation(x, 0) == pytest.approx(8.0, rel=1e-5)  # |9 I - I|_F / sqrt(6)
    assert bent.hessian_norm(x, 0) == 0.0
