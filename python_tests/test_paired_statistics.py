"""Statistics of paired differences against definitions written out in loops, and their error rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from msma_fast.msma.paired_statistics import benjamini_hochberg, interaction_test, rank_biserial, sign_flip_p


def simple_difference(differences: list[float]) -> float:
    """Kerby's formula from pairwise comparisons: a rank is 1 + smaller ones + half of the other equal ones."""
    kept = [one for one in differences if one != 0]
    favourable = unfavourable = 0.0
    for index, one in enumerate(kept):
        rank = 1.0
        for other_index, other in enumerate(kept):
            if other_index != index:
                rank += 1.0 if abs(other) < abs(one) else 0.5 if abs(other) == abs(one) else 0.0
        if one > 0:
            favourable += rank
        else:
            unfavourable += rank
    total = favourable + unfavourable
    return (favourable - unfavourable) / total if total else 0.0


@pytest.mark.parametrize(
    "differences",
    [
        [1.0],
        [-2.0, 1.0],
        [3.0, -1.0, 2.0],
        [1.0, 1.0, -1.0, 2.0, 0.0, -2.0, 0.0],
        [0.0, 0.0],
        [1e6 + 1, 1e6, -1e6],
        list(np.random.default_rng(3).standard_normal(41).round(1)),
    ],
)
def test_the_rank_biserial_correlation_is_that_of_the_definition(differences: list[float]) -> None:
    assert rank_biserial(differences) == pytest.approx(simple_difference(differences), abs=1e-12)


def test_the_rank_biserial_correlation_agrees_with_wilcoxon() -> None:
    stats = pytest.importorskip("scipy.stats")
    d = np.random.default_rng(0).standard_normal(30) + 0.3
    smaller = stats.wilcoxon(d).statistic
    total = 30 * 31 / 2
    assert abs(rank_biserial(d)) == pytest.approx((total - 2 * smaller) / total)


@pytest.mark.parametrize("differences", [[1.0, 2.0, -0.5], [0.0, 0.1, 0.2, 0.3, -0.6], [5.0], [1.0] * 10])
def test_few_differences_are_flipped_in_every_way(differences: list[float]) -> None:
    found = abs(math.fsum(differences))
    sums = [
        abs(math.fsum(sign * one for sign, one in zip(signs, differences, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(differences))
    ]
    expected = sum(one >= found - 1e-12 for one in sums) / len(sums)
    assert sign_flip_p(differences) == pytest.approx(expected)


def test_many_differences_are_flipped_at_random_and_the_same_way_again() -> None:
    d = np.random.default_rng(5).standard_normal(40) + 0.35
    t = abs(d.mean()) / (d.std() / math.sqrt(40))
    normal = math.erfc(t / math.sqrt(2))
    assert sign_flip_p(d) == pytest.approx(normal, abs=0.02)
    assert sign_flip_p(d) == sign_flip_p(d)
    assert sign_flip_p(np.abs(d)) == 1 / 4097


def test_no_change_at_all_has_a_p_value_of_one() -> None:
    assert sign_flip_p([0.0] * 20) == 1.0
    assert interaction_test(np.zeros((5, 3, 4))) == (0.0, 1.0)


def test_sign_flips_keep_their_level() -> None:
    source = np.random.default_rng(1)
    rejected = sum(sign_flip_p(source.standard_t(3, 16), flips=500, seed=run) <= 0.05 for run in range(400))
    assert rejected <= 33  # the 99 % point of a binomial of 400 at 0.05 is 31, and 33 is beyond 0.995


def test_q_values_are_those_of_the_step_up_procedure() -> None:
    p = [0.01, 0.04, 0.03, 0.5, 0.2, 0.03]
    # Level a rejects the k smallest for the largest k with p_(k) <= a k / m: q is the least such a.
    levels = np.linspace(0, 1, 20001)
    ranked = sorted(p)
    expected = []
    for one in p:
        for level in levels:
            passing = [k for k in range(1, 7) if ranked[k - 1] <= level * k / 6 + 1e-12]
            if passing and one <= ranked[max(passing) - 1]:
                expected.append(level)
                break
    assert benjamini_hochberg(p) == pytest.approx(expected, abs=1e-4)
    assert benjamini_hochberg([0.9]) == [0.9]
    assert benjamini_hochberg([]) == []


def table_statistic(values: np.ndarray) -> float:
    """The interaction sum of squares, with loops over everything."""
    prompts, scales, measures = values.shape
    z = np.empty_like(values)
    for m in range(measures):
        z[:, :, m] = (values[:, :, m] - np.mean(values[:, :, m])) / np.std(values[:, :, m])
    total = 0.0
    for s in range(scales):
        for m in range(measures):
            cell = [z[i, s, m] - z[i, :, m].mean() - z[i, s, :].mean() + z[i].mean() for i in range(prompts)]
            total += np.mean(cell) ** 2
    return total


def test_the_interaction_statistic_is_that_of_the_definition() -> None:
    values = np.random.default_rng(2).standard_normal((7, 3, 5)) * [1, 10, 100, 1e6, 1e-6] + 3
    statistic, p_value = interaction_test(values)
    assert statistic == pytest.approx(table_statistic(values), rel=1e-9)
    assert 0 < p_value <= 1


def test_the_interaction_test_keeps_its_level() -> None:
    source = np.random.default_rng(4)
    rejected = 0
    for run in range(200):
        # prompts differ, measures hang together, and heavy tails: exchangeable over scales all the same
        values = source.standard_t(3, (12, 3, 5)) + source.standard_normal((12, 1, 5)) * 2
        values[:, :, 1] += values[:, :, 0]
        rejected += interaction_test(values, permutations=199, seed=run)[1] <= 0.05
    assert rejected <= 18  # the 99 % point of a binomial of 200 at 0.05


def test_a_planted_interaction_is_found_and_a_common_effect_is_none() -> None:
    source = np.random.default_rng(6)
    noise = source.standard_normal((16, 3, 4))
    planted = noise.copy()
    planted[:, 0, 1] += 2
    planted[:, 2, 3] -= 2
    assert interaction_test(planted)[1] <= 0.001
    common = noise + np.array([5.0, -3.0, 2.0, 0.0])
    assert interaction_test(common)[1] == interaction_test(noise)[1]


def test_errors() -> None:
    with pytest.raises(ValueError, match="differences: expected finite numbers, got NaN or inf"):
        rank_biserial([1.0, math.nan])
    with pytest.raises(ValueError, match="differences: expected finite numbers"):
        sign_flip_p([math.inf])
    with pytest.raises(ValueError, match=r"differences: expected shape \(prompts, scales, measures\).*got \(3, 1, 4\)"):
        interaction_test(np.zeros((3, 1, 4)))
    with pytest.raises(ValueError, match="differences: expected finite"):
        interaction_test(np.full((3, 2, 4), np.nan))
