"""Means over repeated splits: the formula, and how often it is wrong where nothing is there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msma_fast.msma.split_statistics import repeated


def test_the_corrected_standard_error_by_hand() -> None:
    from scipy import stats

    values = [0.3, 0.1, 0.25, 0.4, 0.15]
    found = repeated(values, 70, 30)
    error = math.sqrt((1 / 5 + 30 / 70) * np.var(values, ddof=1))
    assert found.mean == pytest.approx(0.24)
    assert found.standard_error == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.24 / error, 4))


def test_one_split_and_equal_ones_have_no_error() -> None:
    for values in ([0.2], [0.2, 0.2], [0.0, 0.0, 0.0], [0.2, 0.2 + 1e-15]):
        found = repeated(values, 7, 3)
        assert found == (pytest.approx(values[0]), None, None)
    # what is left of a difference of two large numbers
    assert repeated([1e-17, 2e-17, 3e-17], 7, 3, size=0.08).p_value is None
    assert repeated([1e-17, 2e-17, 3e-17], 7, 3).p_value is not None


def test_splits_of_the_same_texts_reject_a_true_null_at_about_its_level() -> None:
    """The mean of the held-out texts, 5 splits of 100 texts: S^2 / J without the correction is wrong far more often."""
    rng = np.random.default_rng(0)
    wrong = plain = 0
    for _ in range(1000):
        texts = rng.standard_normal(100)
        means = [texts[rng.permutation(100)[70:]].mean() for _ in range(5)]
        wrong += repeated(means, 70, 30).p_value <= 0.05  # type: ignore[operator]
        plain += abs(np.mean(means)) > 2.776 * np.std(means, ddof=1) / math.sqrt(5)
    assert wrong / 1000 <= 0.06
    assert plain / 1000 > 0.15
    assert wrong < plain / 2
