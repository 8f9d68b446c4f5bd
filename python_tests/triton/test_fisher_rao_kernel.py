"""Fisher-Rao distances by Triton kernels: the definition, far and near, with roots of a part of the vocabulary at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fisher_oracles import fisher_rao, metrics, probabilities
from hardened_interpreter import hardened

from msma_fast import fisher
from msma_fast.backends.torch import fisher_rao as plain
from msma_fast.triton_kernels import fisher_rao as kernels
from msma_fast.triton_kernels import logit_fisher
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles of pairs, and several launches over the vocabulary, in small problems."""
    tiles = (Configuration({"ROWS": 16, "BLOCK": 32, "BLOCK_D": 16}, 4),)
    monkeypatch.setattr(logit_fisher, "NORMALIZER", tiles)
    monkeypatch.setattr(kernels, "ROOTS", tiles)
    monkeypatch.setattr(kernels, "AFFINITY", (Configuration({"BLOCK_N": 16, "BLOCK_M": 32, "BLOCK_T": 16}, 4),))
    monkeypatch.setattr(kernels, "FEW", 1)


def problem(n: int, vocabulary: int, d: int, scale: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """h, weight, bias in float32."""
    rng = np.random.default_rng(seed)
    arrays = scale * rng.standard_normal((n, d)), rng.standard_normal((vocabulary, d)), rng.standard_normal(vocabulary)
    return tuple(z.astype(np.float32) for z in arrays)


def check(h: np.ndarray, weight: Any, bias: np.ndarray | None, other: np.ndarray) -> None:
    run: dict[str, Any] = {"bias": bias, "backend": "triton"}
    p, q = (probabilities(z, np.asarray(weight, dtype=np.float32), bias) for z in (h, other))
    own = fisher.fisher_rao_distances(h, weight, **run)
    assert own.dtype == np.float32
    assert np.array_equal(own, own.T)
    assert (np.diag(own) == 0).all()
    assert np.abs(own - fisher_rao(p, p)).max() <= 1e-5
    cross = fisher.fisher_rao_distances(h, weight, other, **run)
    assert np.abs(cross - fisher_rao(p, q)).max() <= 1e-5


@pytest.mark.parametrize(("n", "vocabulary", "d"), [(1, 2, 1), (6, 3, 2), (18, 100, 17), (35, 65, 16)])
@pytest.mark.usefixtures("small")
def test_against_the_definition(n: int, vocabulary: int, d: int) -> None:
    h, weight, bias = problem(n, vocabulary, d)
    check(h, weight, bias, problem(max(1, n // 2), vocabulary, d, seed=4)[0])
    check(h, weight, None, problem(n + 16, vocabulary, d, seed=4)[0])


def test_tiles_as_they_are_launched() -> None:
    h, weight, bias = problem(70, 100, 20, 0.5)
    check(h, weight, bias, h[::2] + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("small")
def test_half_precision_weights_and_strided_rows(dtype: torch.dtype) -> None:
    h, weight, bias = (torch.from_numpy(z) for z in problem(12, 50, 8))
    half = weight.to(dtype)
    found = fisher.fisher_rao_distances(h.T.contiguous().T, half, bias=bias, backend="triton")
    p = probabilities(h.numpy(), half.double().numpy(), bias.numpy())
    assert np.abs(found.numpy() - fisher_rao(p, p)).max() <= 1e-5


@pytest.mark.parametrize("step", [1e-2, 1e-5])
@pytest.mark.usefixtures("small")
def test_close_distributions_keep_their_digits(step: float) -> None:
    h, weight, bias = problem(18, 70, 12, 0.5)
    moved = (h + step * np.random.default_rng(1).standard_normal(h.shape)).astype(np.float32)
    v = moved.astype(np.float64) - h
    wanted = np.sqrt(np.einsum("nij,ni,nj->n", metrics(h, weight, bias), v, v))
    found = np.diag(fisher.fisher_rao_distances(h, weight, moved, bias, backend="triton"))
    assert np.abs(found / wanted - 1).max() < 2e-5 + 3 * step


@pytest.mark.usefixtures("small")
def test_huge_logits_and_disjoint_distributions() -> None:
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    h = np.array([[1e4, 0.0], [-1e4, 0.0], [0.0, 1e4], [1e4, 0.0]], dtype=np.float32)
    found = fisher.fisher_rao_distances(h, weight, backend="triton")
    assert np.abs(found[:3, :3] - np.pi * (1 - np.eye(3))).max() < 1e-6
    assert found[0, 3] == 0


@pytest.mark.usefixtures("small")
def test_affinities_are_sums_of_roots() -> None:
    """B itself, to float32's last digits: a distance near pi / 2 would forgive more."""
    h, weight, bias = (torch.from_numpy(z) for z in problem(40, 90, 9, 0.5))
    read = logit_fisher.Readout(weight, weight.mean(0), bias)
    other = torch.from_numpy(problem(20, 90, 9, 0.5, 3)[0])
    sides = [logit_fisher.rows_of(read, each) for each in (h, other)]
    p, q = (np.sqrt(probabilities(z.numpy(), weight.numpy(), bias.numpy())) for z in (h, other))
    assert np.abs(kernels.affinities(read, sides[0], sides[1]).numpy() - p @ q.T).max() < 1e-6
    own = kernels.affinities(read, sides[0], None).numpy()
    assert np.abs(np.triu(own) - np.triu(p @ p.T)).max() < 1e-6


@pytest.mark.usefixtures("small")
def test_the_roots_of_a_part_of_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launch has more of the vocabulary than its share."""
    sizes, kernel = [], kernels.roots_kernel

    class Watched:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*arguments: Any, **named: Any) -> None:
                sizes.append(arguments[5].shape)
                kernel[grid](*arguments, **named)

            return launch

    monkeypatch.setattr(kernels, "roots_kernel", Watched())
    h, weight, bias = problem(17, 200, 3)
    check(h, weight, bias, h + 1)
    assert set(sizes) == {(32, 32)}
    assert len(sizes) == 7 + 14


def test_double_rows_are_the_torch_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "affinities")
    h, weight, bias = problem(6, 40, 5)
    found = fisher.fisher_rao_distances(h.astype(np.float64), weight, bias=bias, backend="triton")
    wanted = plain.fisher_rao_distances(
        torch.from_numpy(h).double(), torch.from_numpy(weight), torch.from_numpy(bias).double(), None
    )
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-12)


@pytest.mark.usefixtures("small")
def test_any_order_of_programs_gives_the_same_bits() -> None:
    h, weight, bias = problem(40, 70, 5)
    found = []
    for seed in (1, 2):
        with hardened(seed):
            found.append(fisher.fisher_rao_distances(h, weight, bias=bias, backend="triton"))
    assert np.array_equal(*found)
