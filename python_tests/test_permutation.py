"""mi_permutation_test: its null is exactly the lawful permutations, its p-value uniform where it should be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import information_oracles
import numpy as np
import oracles
import pytest
import torch
from scipy.stats import kstest

import msma_fast as mf


def run(backend: str, *args: Any, **options: Any) -> Any:
    with mf.use_backend(backend):
        return mf.mi_permutation_test(*args, **options)


def small(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return x, x[:, :1] + 0.5 * rng.standard_normal((n, 1))


def null_values(x: np.ndarray, y: np.ndarray, orders: Iterable[Any], k: int, **options: Any) -> np.ndarray:
    return np.array([information_oracles.ksg_mi(x, y[list(order)], k, **options).mi for order in orders])


def same_set(found: np.ndarray, lawful: np.ndarray) -> None:
    """Every null value is lawful, and every lawful value was drawn."""
    gap = np.abs(np.asarray(found)[:, None] - lawful[None, :])
    assert gap.min(axis=1).max() < 1e-12, "a value that no lawful permutation gives"
    assert gap.min(axis=0).max() < 1e-12, "a lawful permutation that is never drawn"


@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
def test_the_free_null_draws_all_permutations_and_no_others(metric: str, method: str, backend: str) -> None:
    x, y = small(5)
    found = run(backend, x, y, 2, 1500, metric=metric, method=method)
    same_set(found.null, null_values(x, y, itertools.permutations(range(5)), 2, metric=metric, method=method))
    assert float(found.mi) == pytest.approx(information_oracles.ksg_mi(x, y, 2, method, metric).mi, abs=1e-12)


def test_within_exchanges_rows_of_equal_labels_only(backend: str) -> None:
    x, y = small(7)
    labels = np.array([4, -1, 4, -1, 4, -1, 9])
    lawful = []
    for a in itertools.permutations((0, 2, 4)):
        for b in itertools.permutations((1, 3, 5)):
            lawful.append([a[0], b[0], a[1], b[1], a[2], b[2], 6])
    same_set(run(backend, x, y, 2, 900, within=labels).null, null_values(x, y, lawful, 2))


def test_exchange_moves_whole_texts(backend: str) -> None:
    x, y = small(8)
    texts = np.array([3, 3, 1, 1, 7, 7, 2, 2])
    blocks = [(0, 1), (2, 3), (4, 5), (6, 7)]
    lawful = [[i for block in order for i in block] for order in itertools.permutations(blocks)]
    same_set(run(backend, x, y, 2, 600, exchange=texts).null, null_values(x, y, lawful, 2))


def test_groups_stay_with_the_rows(backend: str) -> None:
    x, y = small(5, 1)
    groups = np.array([0, 0, 1, 2, 3])
    found = run(backend, x, y, 2, 1500, groups=groups)
    keys_x, keys_y = oracles.canonical_keys(x, x, "chebyshev"), oracles.canonical_keys(y, y, "chebyshev")
    lawful = []
    for order in itertools.permutations(range(5)):
        moved = list(order)  # a pair is excluded by its x's text and by its y's text
        allowed = oracles.admissible(5, groups=groups) & oracles.admissible(5, groups=groups[moved])
        allowed &= ~np.eye(5, dtype=bool)
        lawful.append(information_oracles.ksg_from_keys(keys_x, keys_y[np.ix_(moved, moved)], 2, "ksg1", allowed).mi)
    same_set(found.null, np.array(lawful))
    assert float(found.mi) == pytest.approx(information_oracles.ksg_mi(x, y, 2, groups=groups).mi, abs=1e-12)


def test_the_figures_follow_from_the_null(backend: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal(80)
    y = 0.3 * x + rng.standard_normal(80)
    found = run(backend, x, y, 3, 99, seed=4)
    null = np.asarray(found.null)
    assert null.shape == (99,)
    assert float(found.p_value) == pytest.approx((1 + (null >= float(found.mi)).sum()) / 100, abs=1e-15)
    assert float(found.excess) == pytest.approx(float(found.mi) - null.mean(), abs=1e-12)
    z = (float(found.mi) - null.mean()) / null.std(ddof=1)
    assert float(found.z) == pytest.approx(z, abs=1e-9)
    again, other = run(backend, x, y, 3, 99, seed=4), run(backend, x, y, 3, 99, seed=5)
    assert np.array_equal(null, np.asarray(again.null))
    assert not np.array_equal(null, np.asarray(other.null))


def test_p_values_are_uniform_under_independence(backend: str) -> None:
    def p_value(seed: int) -> float:
        z = np.random.default_rng(seed).standard_normal((40, 2))
        return float(run(backend, z[:, 0], z[:, 1], 3, 39, seed=seed).p_value)

    values = np.array([p_value(seed) for seed in range(80)])
    assert values.min() >= 1 / 40
    assert kstest(values - np.random.default_rng(0).random(80) / 40, "uniform").pvalue > 0.01


def test_dependence_is_found(backend: str) -> None:
    x, y = small(100, 3)
    found = run(backend, x, y, 3, 99)
    assert float(found.p_value) == pytest.approx(0.01)
    assert float(found.z) > 5
    assert float(found.excess) == pytest.approx(float(found.mi), abs=0.1)


def test_dependence_through_the_label_alone_leaves_no_excess(backend: str) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 8, 400)
    x, y = (3 * rng.standard_normal((8, 2))[labels] + 0.3 * rng.standard_normal((400, 2)) for _ in range(2))
    through_label = run(backend, x, y, 3, 49, within=labels)
    assert float(through_label.mi) > 1
    assert abs(float(through_label.excess)) < 0.05
    assert float(through_label.p_value) > 0.02
    assert float(run(backend, x, y, 3, 49).excess) > 1  # the unrestricted null sees the label
    beyond = run(backend, x, y + x - x.round(), 3, 49, within=labels)
    assert float(beyond.excess) > 0.05
    assert float(beyond.p_value) == pytest.approx(1 / 50)


def test_exchanging_texts_respects_their_inner_dependence(backend: str) -> None:
    """Ten texts, each with its own level of x and of y, drawn independently: only whole texts are exchangeable."""
    texts = np.repeat(np.arange(10), 12)

    def p_values(seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        x, y = (2 * rng.standard_normal(10)[texts] + 0.3 * rng.standard_normal(120) for _ in range(2))
        with_texts = run(backend, x, y, 3, 39, exchange=texts, groups=texts, seed=seed)
        return float(with_texts.p_value), float(run(backend, x, y, 3, 39, seed=seed).p_value)

    by_text, by_row = np.array([p_values(seed) for seed in range(20)]).T
    assert np.mean(by_row <= 0.05) > 0.9  # rows are not exchangeable, and the naive test is fooled
    assert np.mean(by_text <= 0.05) < 0.25
    assert by_text.mean() == pytest.approx(0.5, abs=3 * math.sqrt(1 / 12 / 20))


def test_torch_in(backend: str) -> None:
    x, y = small(30)
    found = run(backend, torch.from_numpy(x), torch.from_numpy(y), 3, 19)
    assert np.array_equal(np.asarray(found.null), np.asarray(run(backend, x, y, 3, 19).null))


def test_a_null_that_exchanges_nothing_is_refused() -> None:
    x = np.random.default_rng(0).standard_normal((40, 2))
    with pytest.raises(ValueError, match=r"exchange: expected at least 2 different labels, got 1"):
        mf.mi_permutation_test(x[:, 0], x[:, 1], exchange=np.zeros(40, dtype=int))
    with pytest.raises(ValueError, match=r"within: expected labels that some rows share, got all different"):
        mf.mi_permutation_test(x[:, 0], x[:, 1], within=np.arange(40))


def test_equal_up_to_the_order_of_a_sum_is_equal() -> None:
    """Constant samples: every permutation is the same sample."""
    found = mf.mi_permutation_test(np.ones(40), np.ones(40), n_permutations=30)
    assert found.p_value == 1
    assert np.isnan(found.z)
