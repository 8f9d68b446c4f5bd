"""Fisher-Rao distances of token distributions, near and far, their neighbours and paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fisher_checks import off
from fisher_oracles import fisher_rao, metrics, probabilities
from scipy.special import log_softmax, logsumexp

import msma_fast as mf
from msma_fast import fisher
from msma_fast.backends.torch import fisher_rao as plain


def problem(
    n: int, vocabulary: int, d: int, scale: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((n, d)), rng.standard_normal((vocabulary, d)), rng.standard_normal(vocabulary)


@pytest.mark.parametrize(("n", "vocabulary", "d"), [(1, 2, 1), (6, 3, 2), (40, 257, 9), (75, 1500, 20)])
def test_against_the_definition(n: int, vocabulary: int, d: int, backend: str) -> None:
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        h, weight, bias = (z.astype(dtype) for z in problem(n, vocabulary, d))
        other = problem(max(1, n // 2), vocabulary, d, seed=4)[0].astype(dtype)
        for b in (bias, None):
            p, q = probabilities(h, weight, b), probabilities(other, weight, b)
            own = fisher.fisher_rao_distances(h, weight, bias=b, backend=backend)
            assert own.dtype == dtype
            assert np.array_equal(own, own.T)
            assert (np.diag(own) == 0).all()
            assert np.abs(own - fisher_rao(p, p)).max() <= tolerance
            cross = fisher.fisher_rao_distances(h, weight, other, b, backend=backend)
            assert np.abs(cross - fisher_rao(p, q)).max() <= tolerance


def test_reference_value(backend: str) -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    found = fisher.fisher_rao_distances(logits, np.eye(3), backend=backend)
    assert abs(found[0, 1] - 0.739291) < 1e-6


@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-7])
def test_close_distributions_keep_their_digits(step: float, backend: str) -> None:
    """d^2 / v^T G v -> 1, in float32 too, where a product of square roots would say 0 or 5e-4."""
    h, weight, bias = problem(30, 400, 12, 0.5)
    h32 = h.astype(np.float32)
    moved = (h + step * np.random.default_rng(1).standard_normal(h.shape)).astype(np.float32)
    v = moved.astype(np.float64) - h32
    wanted = np.sqrt(np.einsum("nij,ni,nj->n", metrics(h32, weight, bias), v, v))
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    found = np.diag(fisher.fisher_rao_distances(h32, weight, moved, bias, backend=backend))
    some = wanted > 0
    assert some.any()
    assert np.abs(found[some] / wanted[some] - 1).max() < 2e-5 + 3 * step
    assert (found[~some] == 0).all()
    steps = fisher.path_lengths([h32, moved], weight, bias, backend=backend)
    assert steps.shape == (1, 30)
    assert np.abs(steps[0][some] / wanted[some] - 1).max() < 2e-5 + 3 * step


@pytest.mark.parametrize("entries", [500, 10_000])
@pytest.mark.parametrize("cross", [False, True])
def test_many_close_pairs(entries: int, cross: bool, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of 1e-7 to 0.3 among rows that are all close: float64 decides all but the closest."""
    rng = np.random.default_rng(2)
    h, weight, bias = problem(60, 200, 12, 0.3)
    h = h[0] + np.geomspace(1e-7, 0.05, 60)[:, None] * rng.standard_normal((60, 12))
    h[7] = h[8] = h[50]
    h, weight, bias = (z.astype(np.float32) for z in (h, weight, bias))
    other = h[::2] if cross else None
    one_by_one: list[int] = []
    close = plain._close

    def counted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        one_by_one.append(len(x))
        return close(x, *rest)

    monkeypatch.setattr(plain, "_close", counted)
    monkeypatch.setattr(plain, "_ENTRIES", entries)
    monkeypatch.setattr(plain, "_PAIRS", 64)
    found = fisher.fisher_rao_distances(h, weight, other, bias, backend=backend)
    log_p = log_softmax(h.astype(np.float64) @ weight.T.astype(np.float64) + bias, axis=1)
    delta = (log_p[:, None] - log_p[None, :: 2 if cross else 1]) / 2
    half = np.sqrt((np.exp(log_p[None, :: 2 if cross else 1]) * np.expm1(delta) ** 2).sum(2)) / 2
    wanted = 4 * np.arcsin(half)
    np.testing.assert_allclose(found, wanted, rtol=3e-5, atol=1e-12)
    assert (found[7, :] == found[8, :]).all()
    assert 0 < sum(one_by_one) < found.size / 3


def test_duplicates_are_at_distance_zero(backend: str) -> None:
    h, weight, bias = (z.astype(np.float32) for z in problem(20, 300, 7))
    h[5] = h[6] = h[7]
    found = fisher.fisher_rao_distances(h, weight, bias=bias, backend=backend)
    assert (found[5:8, 5:8] == 0).all()
    assert (found[5] == found[6]).all()


def test_close_pairs_with_tokens_that_only_one_of_them_has(backend: str) -> None:
    """A logit that rises by 200 on a token of no weight: exp overflows and its product with 0 is no number."""
    weight = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    h, other = np.array([[205.0, 0.0]], dtype=np.float32), np.array([[5.0, 0.001]], dtype=np.float32)
    for a, b in ((h, other), (other, h)):
        wanted = fisher_rao(probabilities(a, weight), probabilities(b, weight))
        assert abs(fisher.fisher_rao_distances(a, weight, b, backend=backend)[0, 0] - wanted[0, 0]) < 2e-5


def test_huge_logits_are_far_apart(backend: str) -> None:
    h = np.array([[1e4, 0.0], [-1e4, 0.0], [0.0, 1e4], [1e4, 1.0]], dtype=np.float32)
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    found = fisher.fisher_rao_distances(h, weight, backend=backend)
    far = np.pi * (1 - np.eye(3))
    assert np.abs(found[:3, :3] - far).max() < 1e-6
    assert found[0, 3] == 0


def test_small_distances_are_a_metric(backend: str) -> None:
    h, weight, bias = problem(25, 90, 5, 1e-3)
    d = fisher.fisher_rao_distances(h, weight, bias=bias, backend=backend)
    assert (d[:, :, None] <= d[:, None, :] + d.T[None] + 1e-14).all()


@pytest.mark.parametrize("cross", [False, True])
def test_gradients(cross: bool, backend: str) -> None:
    h, weight, bias = (torch.from_numpy(z) for z in problem(4, 30, 5))
    other = torch.from_numpy(problem(3, 30, 5, seed=3)[0]) if cross else None
    norm = fisher.RMSNorm(torch.linspace(0.5, 2, 5).double(), 0.1)
    leaves = [z.requires_grad_() for z in (h, other) if z is not None]

    def distances(h: torch.Tensor, other: torch.Tensor | None = None) -> Any:
        found = fisher.fisher_rao_distances(h, weight, other, bias, norm=norm, backend=backend)
        return found if other is not None else found[torch.triu_indices(4, 4, 1).unbind()]

    assert torch.autograd.gradcheck(distances, leaves)


def test_the_gradient_at_distance_zero_is_zero(backend: str) -> None:
    h, weight, _ = (torch.from_numpy(z) for z in problem(2, 30, 5))
    h[1] = h[0]
    h.requires_grad_()
    found = fisher.fisher_rao_distances(h, weight, backend=backend)
    assert torch.equal(torch.autograd.grad(found.sum(), h)[0], torch.zeros_like(h))


def by_hand(d: np.ndarray, k: int, barred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d = np.where(barred, np.inf, d)
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(d, order, 1)
    return found, np.where(np.isfinite(found), order, -1)


@pytest.mark.parametrize("whole", [True, False])
def test_neighbours(whole: bool, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr("msma_fast.fisher.rao._ENTRIES", 200)
    h, weight, bias = problem(30, 120, 6)
    h[3] = h[4]
    p, index, groups = probabilities(h, weight, bias), np.arange(30), np.arange(30) // 12
    near = np.abs(index[:, None] - index) <= 2
    for rule, barred in (
        ({}, np.eye(30, dtype=bool)),
        ({"window": 2}, near),
        ({"groups": groups}, groups[:, None] == groups),
    ):
        found = fisher.knn(h, weight, 20, bias=bias, backend=backend, **rule)
        distances, indices = by_hand(fisher_rao(p, p), 20, barred)
        assert np.array_equal(found.indices, indices)
        assert np.array_equal(found.valid, np.isfinite(distances))
        assert np.abs(found.distances[found.valid] - distances[found.valid]).max() < 1e-12
        assert np.isinf(found.distances[~found.valid]).all()
    points = problem(17, 120, 6, seed=5)[0]
    found = fisher.knn(h, weight, 5, points, bias, groups=groups, point_groups=np.arange(17) % 3, backend=backend)
    barred = groups[:, None] == np.arange(17) % 3
    _, indices = by_hand(fisher_rao(p, probabilities(points, weight, bias)), 5, barred)
    assert isinstance(found, mf.Neighbors)
    assert np.array_equal(found.indices, indices)


def test_paths(backend: str) -> None:
    rng = np.random.default_rng(0)
    layers, weight = rng.standard_normal((4, 9, 6)), rng.standard_normal((50, 6))
    norm = fisher.LayerNorm(torch.ones(6).double(), None, 1e-5)
    steps = fisher.path_lengths(layers, weight, norm=norm, backend=backend)
    off = layers - layers.mean(2, keepdims=True)
    x = off / np.sqrt((off * off).mean(2, keepdims=True) + 1e-5)
    logits = x @ weight.T
    p = np.exp(logits - logsumexp(logits, axis=2, keepdims=True))
    wanted = [np.diag(fisher_rao(p[step], p[step + 1])) for step in range(3)]
    assert np.abs(steps - wanted).max() < 1e-12
    assert (fisher.path_lengths(layers[[0, 0]], weight, backend=backend) == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, w: fisher.fisher_rao_distances(h, w, h[:, :2]), "other: expected d = 3 as in h, got d = 2"),
        (lambda h, w: fisher.knn(h, w, 5), "k: expected at most n - 1 = 4"),
        (lambda h, w: fisher.knn(h, w, 2, h, groups=np.arange(5)), "point_groups: expected labels for both sides"),
        (lambda h, w: fisher.knn(h, w, 2, point_groups=np.arange(5)), "point_groups: expected None"),
        (lambda h, w: fisher.knn(h, w, 2, h, window=1), "window: expected 0 with separate points"),
        (lambda h, w: fisher.path_lengths([h], w), "layers: expected at least two layers, got 1"),
        (lambda h, w: fisher.path_lengths([h, h[:2]], w), r"layers\[1\]: expected shape \(5, 3\)"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        call(rng.standard_normal((5, 3)), rng.standard_normal((7, 3)))


@pytest.mark.parametrize("step", [0.1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("cross", [False, True])
def test_float32_gradients_keep_their_digits(step: float, cross: bool, backend: str) -> None:
    """Between close distributions too, where differences of square roots would leave 5 % at 1e-5."""
    h, weight, bias = problem(6, 300, 8, 0.5)
    h[3:] = h[:3] + step * np.random.default_rng(4).standard_normal((3, 8))
    h = h.astype(np.float32)
    grads = []
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(h).to(dtype).requires_grad_()
        y = torch.from_numpy(h[2:] if cross else h).to(dtype).requires_grad_()
        head = (
            torch.from_numpy(weight.astype(np.float32)).to(dtype),
            torch.from_numpy(bias.astype(np.float32)).to(dtype),
        )
        found = fisher.fisher_rao_distances(x, head[0], y if cross else None, head[1], backend=backend)
        pairs = found[[0, 1, 2], [1, 2, 3]].sum() if cross else found[[0, 1, 2], [3, 4, 5]].sum()
        grads.append(torch.autograd.grad(pairs, (x, y) if cross else (x,)))
    for mine, wanted in zip(*grads, strict=True):
        assert off(mine.double().numpy(), wanted.numpy()) < 2e-5
