"""Counts by the space partition where whole nodes lie within a threshold, and where float32 sums cannot tell; the small
cases of every width, kind and rule are in test_native_tree.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_native_tree import DTYPES, KINDS, Case, check, normal, oracle_keys

from msma_fast.backends import native

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_of_more_points_than_one_subtree(kind: str, d: int, dtype: Any) -> None:
    """From radii of a few points to radii that whole subtrees lie within; one threshold, and one a row."""
    x = normal(9001, d, dtype)
    x[::3] = np.round(x[::3], 1)
    rows = np.arange(0, len(x), 401)
    every = oracle_keys(kind, x[rows], x)
    every[np.arange(len(rows)), rows] = np.inf
    for share in (0.0005, 0.02, 0.4, 0.9, 0.9999):
        one = np.quantile(every[np.isfinite(every)], share, method="lower")
        for threshold in (one, np.nextafter(one, 0.0)):
            found = Case(x, kind=kind).counts(np.full(len(x), threshold))
            np.testing.assert_array_equal(found[rows], (every <= threshold).sum(1))
        spread = one * (1.0 + 0.5 * (np.arange(len(x)) % 7))
        found = Case(x, kind=kind).counts(spread)
        np.testing.assert_array_equal(found[rows], (every <= spread[rows, None]).sum(1))


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**-40, 2.0**40, 2.0**60])
def test_counts_near_the_ends_of_float32(scale: float) -> None:
    """Squares that are subnormal or infinite in float32, and thresholds to either side of where float32 is trusted."""
    check(Case((normal(300, 5) * np.float32(scale)).astype(np.float32)))


def test_float32_sums_are_too_coarse_for_these() -> None:
    """Distances that differ by less than a float32 tells: two shells of points around the first."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 6))
    x /= np.linalg.norm(x, axis=1)[:, None]
    x[0] = 0.0
    x = x.astype(np.float32)
    every = Case(x).expected()
    for key in np.sort(every[0])[[10, 500, 1500]]:
        for one in (key, np.nextafter(key, 0.0)):
            np.testing.assert_array_equal(Case(x).counts(np.full(len(x), one)), (every <= one).sum(1))


def test_thresholds_that_are_no_numbers_find_nothing_for_their_rows_alone() -> None:
    x = normal(400, 2)
    thresholds = np.full(400, 50.0)
    thresholds[::5] = np.nan
    thresholds[1::5] = -np.inf
    every = Case(x).expected()
    np.testing.assert_array_equal(Case(x).counts(thresholds), (every <= thresholds[:, None]).sum(1))


def test_labels_within_a_large_radius() -> None:
    x = normal(5000, 2)
    groups = np.random.default_rng(1).integers(0, 40, 5000)
    sizes = np.bincount(groups)
    np.testing.assert_array_equal(Case(x, groups=groups).counts(np.full(5000, 1e6)), 5000 - sizes[groups])
    wide = Case(x, window=3).counts(np.full(5000, 1e6))
    np.testing.assert_array_equal(wide, (np.abs(np.arange(5000)[:, None] - np.arange(5000)) > 3).sum(1))
