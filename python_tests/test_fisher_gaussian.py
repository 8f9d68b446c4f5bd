"""gaussian_fisher_rao: closed forms, geodesics that are shot at their end, invariance, accuracy near zero."""

from __future__ import annotations

from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import torch

from msma_fast.fisher import gaussian_fisher_rao

Normal = tuple[np.ndarray, np.ndarray]


def normal(rng: np.random.Generator, d: int, spread: float = 0.7) -> Normal:
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    covariance = turn @ np.diag(np.exp(spread * rng.standard_normal(d))) @ turn.T
    return rng.standard_normal(d), (covariance + covariance.T) / 2


def half_plane(mean1: float, var1: float, mean2: float, var2: float) -> Any:
    """By the inverse hyperbolic tangent, in 60 digits."""
    with mpmath.workdps(60):
        a, b = (
            mpmath.mpc(mpmath.mpf(float(m)) / mpmath.sqrt(2), mpmath.sqrt(mpmath.mpf(float(v))))
            for m, v in ((mean1, var1), (mean2, var2))
        )
        return 2 * mpmath.sqrt(2) * mpmath.atanh(abs(a - b) / abs(a - mpmath.conj(b)))


def speed(covariance: np.ndarray, mean_change: np.ndarray, change: np.ndarray) -> float:
    inverse = np.linalg.inv(covariance)
    relative = inverse @ change
    return float(np.sqrt(mean_change @ inverse @ mean_change + np.trace(relative @ relative) / 2))


def shot_length(one: Normal, two: Normal, stages: int = 3) -> float:
    """The length of the geodesic from `one` that ends in `two`, by shooting, the end moved there in stages.

    mu'' = S' S^-1 mu', S'' = S' S^-1 S' - mu' mu'^T; the length is the speed at the start."""
    d = len(one[0])
    upper = np.triu_indices(d)

    def matrix(entries: np.ndarray) -> np.ndarray:
        full = np.zeros((d, d))
        full[upper] = entries
        return full + np.triu(full, 1).T

    def flow(_: float, state: np.ndarray) -> np.ndarray:
        half = len(state) // 2
        covariance, velocity, change = matrix(state[d:half]), state[half : half + d], matrix(state[half + d :])
        relative = change @ np.linalg.inv(covariance)
        turned = relative @ change - np.outer(velocity, velocity)
        return np.concatenate([state[half:], relative @ velocity, turned[upper]])

    begin = np.concatenate([one[0], one[1][upper]])
    whole = np.concatenate([two[0], two[1][upper]]) - begin
    tangent = whole / stages
    for stage in range(1, stages + 1):

        def miss(start: np.ndarray, wanted: np.ndarray) -> np.ndarray:
            solved = scipy.integrate.solve_ivp(
                flow, (0, 1), np.concatenate([begin, start]), "DOP853", rtol=1e-9, atol=1e-11
            )
            return solved.y[: len(begin), -1] - wanted

        found = scipy.optimize.root(miss, tangent, args=(begin + whole * stage / stages,), tol=1e-9)
        assert found.success
        tangent = found.x * (stage + 1) / stage
    return speed(one[1], found.x[:d], matrix(found.x[d:]))


def test_the_reference_value() -> None:
    found = gaussian_fisher_rao(np.zeros(1), 1.0, np.zeros(1), 4.0)
    assert float(found.distance) == pytest.approx(0.980258, abs=5e-7)
    assert float(found.distance) == pytest.approx(2**0.5 * np.log(2), rel=1e-14)


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1e-3, 1.0, 1e3, 1e9])
def test_univariate_normals_are_the_half_plane(scale: float, rng: np.random.Generator) -> None:
    for form in ("variances", "matrices"):
        for _ in range(5):
            m1, m2 = rng.standard_normal(2)
            v1 = float(np.exp(rng.standard_normal()))
            m2, v2 = m1 + scale * m2, v1 * (1 + min(scale, 1.0) * rng.random())
            shape = (1,) if form == "variances" else (1, 1)
            ends = (np.array([m1]), np.full(shape, v1), np.array([m2]), np.full(shape, v2))
            assert float(gaussian_fisher_rao(*ends).distance) == pytest.approx(
                float(half_plane(m1, v1, m2, v2)), rel=1e-12
            )


@pytest.mark.parametrize("d", [1, 2, 7])
def test_variances_are_a_product_of_half_planes(d: int, rng: np.random.Generator) -> None:
    m1, m2 = rng.standard_normal((2, d)) * 5
    v1, v2 = np.exp(rng.standard_normal((2, d)))
    wanted = mpmath.sqrt(sum(half_plane(*one) ** 2 for one in zip(m1, v1, m2, v2, strict=True)))
    assert float(gaussian_fisher_rao(m1, v1, m2, v2).distance) == pytest.approx(float(wanted), rel=1e-13)
    number = float(v2[0])
    wide = gaussian_fisher_rao(m1, v1, m2, np.full(d, number)).distance
    assert gaussian_fisher_rao(m1, v1, m2, number).distance == wide
    assert gaussian_fisher_rao(m1, v1, m2, np.array(number)).distance == wide


@pytest.mark.parametrize("d", [2, 3, 17])
def test_equal_means_are_the_affine_invariant_distance(d: int, rng: np.random.Generator) -> None:
    (mean, one), (_, two) = normal(rng, d), normal(rng, d)
    for other in (two, 1e3 * two, 1e-4 * two):
        wanted = np.sqrt((np.log(scipy.linalg.eigh(other, one)[0]) ** 2).sum() / 2)
        assert float(gaussian_fisher_rao(mean, one, mean, other).distance) == pytest.approx(wanted, rel=1e-12)


def test_equal_covariances_are_one_half_plane_of_their_mahalanobis_distance(rng: np.random.Generator) -> None:
    for factor in (1.0, 4.0):
        (one, covariance), (two, _) = normal(rng, 5), normal(rng, 5)
        shift = float(np.sqrt((two - one) @ np.linalg.solve(covariance, two - one)))
        axes = np.array([shift, *np.zeros(4)])
        wanted = mpmath.sqrt(sum(half_plane(0, 1, axis, factor) ** 2 for axis in axes))
        found = gaussian_fisher_rao(one, covariance, two, factor * covariance).distance
        assert float(found) == pytest.approx(float(wanted), rel=1e-12)


def test_closed_pairs_of_matrices_are_the_shot_geodesics(rng: np.random.Generator) -> None:
    turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    one = rng.standard_normal(2), turn @ np.diag([1.0, 0.4]) @ turn.T
    for lengths, shift in (((2.0, 0.7), 1.5), ((0.3, 1.2), -0.8)):
        two = one[0] + shift * turn[:, 0], turn @ np.diag(lengths) @ turn.T
        found = float(gaussian_fisher_rao(*one, *two).distance)
        assert found == pytest.approx(shot_length(one, two), rel=1e-7)
        product = half_plane(0, 1.0, shift, lengths[0]) ** 2 + half_plane(0, 0.4, 0, lengths[1]) ** 2
        assert found == pytest.approx(float(mpmath.sqrt(product)), rel=1e-12)


@pytest.mark.parametrize(("seed", "d"), [(0, 2), (1, 2), (2, 2), (3, 2), (4, 3)])
def test_bounds_bracket_the_shot_geodesic(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = normal(rng, d), normal(rng, d)
    found, length = gaussian_fisher_rao(*one, *two), shot_length(one, two)
    assert found.lower < length < found.upper
    assert found.upper < 1.01 * length
    assert found.lower > 0.9 * length
    with pytest.raises(ValueError, match="distance: expected pairs of normals with a closed form"):
        _ = found.distance


def test_diagonal_matrices_may_turn_their_axes(rng: np.random.Generator) -> None:
    """Among all normals the shortest path between two diagonal ones leaves the diagonal ones, and is shorter."""
    one, two = (np.zeros(2), np.ones(2)), (np.array([2.0, 3.0]), np.array([1.0, 0.5]))
    within = float(gaussian_fisher_rao(*one, *two).distance)
    matrices = [(mean, np.diag(variances)) for mean, variances in (one, two)]
    found = gaussian_fisher_rao(*matrices[0], *matrices[1])
    length = shot_length(matrices[0], matrices[1])
    assert found.lower < length < found.upper < within


@pytest.mark.parametrize("d", [1, 2, 5, 11])
@pytest.mark.parametrize("apart", [1e-7, 1e-2, 1.0, 30.0, 1e6, 1e12])
def test_lower_is_at_most_upper(d: int, apart: float, rng: np.random.Generator) -> None:
    for _ in range(10):
        (m1, s1), (m2, s2) = normal(rng, d, 1.5), normal(rng, d, 1.5)
        found = gaussian_fisher_rao(m1, s1, m1 + apart * m2, s2)
        assert 0 < found.lower <= found.upper < 4 * found.lower
        back = gaussian_fisher_rao(m1 + apart * m2, s2, m1, s1)
        np.testing.assert_allclose(back, found, rtol=1e-6)


def test_affine_maps_change_nothing(rng: np.random.Generator) -> None:
    (m1, s1), (m2, s2) = normal(rng, 4), normal(rng, 4)
    turn, shift = rng.standard_normal((4, 4)) + 2 * np.eye(4), 1e3 * rng.standard_normal(4)
    ends = [(turn @ m + shift, turn @ s @ turn.T) for m, s in ((m1, s1), (m2, s2))]
    ends = [(m, (s + s.T) / 2) for m, s in ends]
    for two in (s2, 3 * s1):
        plain = gaussian_fisher_rao(m1, s1, m2, two)
        mapped = turn @ two @ turn.T
        moved = gaussian_fisher_rao(*ends[0], ends[1][0], (mapped + mapped.T) / 2)
        np.testing.assert_allclose(moved, plain, rtol=1e-9)


def test_triangles_close(rng: np.random.Generator) -> None:
    for kind in ("variances", "means equal", "bounds"):
        for _ in range(20):
            ends = [normal(rng, 3) for _ in range(3)]
            if kind == "variances":
                ends = [(mean, np.diag(matrix).copy()) for mean, matrix in ends]
            elif kind == "means equal":
                ends = [(ends[0][0], matrix) for _, matrix in ends]
            a, b, c = (gaussian_fisher_rao(*ends[i], *ends[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
            assert c.lower <= (a.upper + b.upper) * (1 + 1e-12)


@pytest.mark.parametrize("step", [1e-4, 1e-8, 1e-12])
def test_near_zero_it_is_the_fisher_metric(step: float, rng: np.random.Generator) -> None:
    mean, covariance = normal(rng, 4)
    direction, change = rng.standard_normal(4), rng.standard_normal((4, 4))
    for shift, spread in ((1, 1), (0, 1), (1, 0)):
        two = mean + shift * step * direction, covariance + spread * step * (change + change.T)
        wanted = speed(covariance, two[0] - mean, two[1] - covariance)
        found = gaussian_fisher_rao(mean, covariance, *two)
        np.testing.assert_allclose(found, wanted, rtol=30 * step + 1e-11)
        variances = np.diag(covariance), np.diag(two[1])
        wanted = speed(np.diag(variances[0]), two[0] - mean, np.diag(variances[1] - variances[0]))
        found = gaussian_fisher_rao(mean, variances[0], two[0], variances[1])
        np.testing.assert_allclose(found, wanted, rtol=30 * step + 1e-11)


def test_equal_normals_are_at_zero(rng: np.random.Generator) -> None:
    mean, covariance = normal(rng, 5)
    for cov in (covariance, np.diag(covariance).copy(), 2.5):
        assert gaussian_fisher_rao(mean + 1e6, cov, mean + 1e6, cov).distance == 0.0
    ends = [torch.from_numpy(value).requires_grad_() for value in (mean, covariance, mean, covariance)]
    gaussian_fisher_rao(*ends).distance.backward()
    assert all(end.grad is not None and bool((end.grad == 0).all()) for end in ends)


@pytest.mark.parametrize("kind", ["variances", "equal means", "proportional", "bounds", "near"])
def test_gradients(kind: str, rng: np.random.Generator) -> None:
    (m1, s1), (m2, s2) = normal(rng, 3), normal(rng, 3)
    near = s1 + 1e-2 * s2
    ends = {
        "variances": (m1, np.diag(s1).copy(), m2, np.diag(s2).copy()),
        "equal means": (m1, s1, m1, s2),
        "proportional": (m1, s1, m2, 1.7 * s1),
        "bounds": (m1, s1, m2, s2),
        "near": (m1, s1, m1 + 1e-2 * m2, near),
    }[kind]
    leaves = [torch.from_numpy(end.copy()).requires_grad_() for end in ends]

    def bounds(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        even = [part if part.ndim == 1 else (part + part.T) / 2 for part in parts]
        found = gaussian_fisher_rao(*even)
        return found.lower, found.upper

    if kind in ("bounds", "near", "variances"):
        assert torch.autograd.gradcheck(bounds, leaves)
    else:  # a step leaves the closed pairs, where only the upper bound goes on smoothly
        assert torch.autograd.gradcheck(lambda *parts: bounds(*parts)[1], leaves)


def test_batches_broadcast(rng: np.random.Generator) -> None:
    pairs = [normal(rng, 3) for _ in range(5)]
    means, matrices = (np.stack(parts) for parts in zip(*pairs, strict=True))
    one = normal(rng, 3)
    found = gaussian_fisher_rao(*one, means, matrices)
    mixed = gaussian_fisher_rao(one[0], 2.0, means, matrices)
    grid = gaussian_fisher_rao(means[:, None], matrices[:, None], means, matrices)
    assert grid.lower.shape == (5, 5)
    assert (np.diag(grid.upper) == 0).all()
    for i, pair in enumerate(pairs):
        np.testing.assert_allclose((found.lower[i], found.upper[i]), gaussian_fisher_rao(*one, *pair), rtol=1e-12)
        single = gaussian_fisher_rao(one[0], 2.0 * np.eye(3), *pair)
        np.testing.assert_allclose((mixed.lower[i], mixed.upper[i]), single, rtol=1e-12)
        single = gaussian_fisher_rao(*pairs[1], *pair)
        np.testing.assert_allclose((grid.lower[1, i], grid.upper[1, i]), single, rtol=1e-7, atol=1e-12)
    variances = np.exp(rng.standard_normal((5, 3)))
    assert gaussian_fisher_rao(means, variances, one[0], 1.0).distance.shape == (5,)


def test_kinds_and_dtypes(rng: np.random.Generator) -> None:
    (m1, s1), (m2, s2) = normal(rng, 3), normal(rng, 3)
    wide = gaussian_fisher_rao(m1, s1, m2, s2)
    narrow = gaussian_fisher_rao(*(part.astype(np.float32) for part in (m1, s1, m2, s2)))
    assert (wide.upper.dtype, narrow.upper.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)
    tensors = gaussian_fisher_rao(*(torch.from_numpy(part) for part in (m1, s1, m2, s2)))
    assert isinstance(tensors.lower, torch.Tensor)
    np.testing.assert_array_equal(tensors.upper, wide.upper)
    half = gaussian_fisher_rao(torch.zeros(2, dtype=torch.bfloat16), 1.0, torch.ones(2, dtype=torch.bfloat16), 2)
    assert half.distance.dtype == torch.float32
    assert (
        gaussian_fisher_rao(np.zeros(2, np.float32), np.ones(2), np.ones(2, np.float32), 1.0).upper.dtype == np.float64
    )


def test_float32_covariances_keep_their_closed_forms(rng: np.random.Generator) -> None:
    mean, covariance = (part.astype(np.float32) for part in normal(rng, 6))
    found = gaussian_fisher_rao(mean, covariance, mean + 1, np.float32(1.1) * covariance)
    assert found.distance.dtype == np.float32


BAD: list[tuple[tuple[Any, Any, Any, Any], type[Exception], str]] = [
    ((np.zeros(2), 1.0, np.zeros(3), 1.0), ValueError, "mean2: expected d = 2 as in mean1, got d = 3"),
    ((np.zeros(()), 1.0, np.zeros(1), 1.0), ValueError, "mean1: expected shape"),
    ((np.zeros((0, 2)), 1.0, np.zeros(2), 1.0), ValueError, "mean1: expected shape"),
    (([0.0], 1.0, np.zeros(1), 1.0), TypeError, "mean1: expected a torch tensor"),
    ((np.zeros(2, int), 1.0, np.zeros(2), 1.0), TypeError, "mean1: expected float16"),
    ((np.array([np.nan]), 1.0, np.zeros(1), 1.0), ValueError, "mean1: expected finite"),
    ((np.zeros(1), np.inf, np.zeros(1), 1.0), ValueError, "cov1: expected finite"),
    ((np.zeros(1), 1.0, np.zeros(1), 0.0), ValueError, "cov2: expected positive variances, got 0"),
    ((np.zeros(2), np.array([1.0, -1.0]), np.zeros(2), 1.0), ValueError, "cov1: expected positive variances"),
    ((np.zeros(1), True, np.zeros(1), 1.0), TypeError, "cov1: expected a number"),
    ((np.zeros(1), None, np.zeros(1), 1.0), TypeError, "cov1: expected a torch tensor"),
    ((np.zeros(2), np.ones(3), np.zeros(2), 1.0), ValueError, r"cov1: expected a variance, variances \(2,\)"),
    ((np.zeros((4, 2)), np.ones(2), np.zeros(2), 1.0), ValueError, r"variances \(\.\.\., 2\) or matrices"),
    ((np.zeros((4, 2)), np.ones((3, 2)), np.zeros(2), 1.0), ValueError, "cov1: expected leading axes"),
    ((np.zeros((4, 2)), 1.0, np.zeros((3, 2)), 1.0), ValueError, r"mean2 with cov2: expected leading axes"),
    (
        (np.zeros((1, 2)), np.ones((4, 2)), np.zeros((3, 2)), 1.0),
        ValueError,
        r"broadcast with \(4,\) of mean1 with cov1",
    ),
    ((np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.zeros(2), 1.0), ValueError, "cov1: expected symmetric"),
    ((np.zeros(2), np.ones((2, 2)) - 2 * np.eye(2), np.zeros(2), 1.0), ValueError, "cov1: expected positive definite"),
    ((np.zeros(2), 1.0, np.zeros(2), np.zeros((2, 2))), ValueError, "cov2: expected positive definite"),
]


@pytest.mark.parametrize(("ends", "error", "message"), BAD)
def test_errors(ends: tuple[Any, Any, Any, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gaussian_fisher_rao(*ends)


def test_one_matrix_is_not_read_as_variances(rng: np.random.Generator) -> None:
    """Means (d, d) and a matrix (d, d): variances have as many axes as the mean, and a covariance is taken for none."""
    means, matrix = rng.standard_normal((2, 3, 3)), np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 1.5]])
    with pytest.raises(ValueError, match=r"cov1: expected variances .* one matrix for all means is cov1\[None\]"):
        gaussian_fisher_rao(means[0], matrix, means[1], matrix[None])
    found = gaussian_fisher_rao(means[0], matrix[None], means[1], matrix[None])
    assert found.lower.shape == (3,)
    one = np.array([[1.0]])
    assert gaussian_fisher_rao(0 * one, one, one, 2 * one).distance.shape == (1,)
    same = np.full((3, 3), 2.0)  # symmetric, and no covariance
    assert gaussian_fisher_rao(means[0], same, means[1], same).distance.shape == (3,)
