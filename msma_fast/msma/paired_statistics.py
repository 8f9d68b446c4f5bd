"""Statistics of paired differences, one for each prompt.

rank_biserial       (R+ - R-) / (R+ + R-), the rank sums of positive and negative differences: Kerby, "The simple
                    difference formula", Comprehensive Psychology 3 (2014); zeros left out, ties share their mean rank
sign_flip_p         of |mean|, two-sided, among all signs or a random sample of them: Fisher, The Design of Experiments
                    (1935), section 21; (1 + count) / (1 + flips) of a sample: Phipson and Smyth (2010)
benjamini_hochberg  q_(i) = min over j >= i of m p_(j) / j: Benjamini and Hochberg, JRSS B 57 (1995)
interaction_test    whether scales differ in what they change: a permutation of scale labels within each prompt
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Values: TypeAlias = Sequence[float] | np.ndarray
FLIPS = 4096
_EXACT = 12  # differences other than 0 of which all 2 ** 12 = 4096 signs are tried
_SLACK = 1e-12  # of the largest statistic there could be, so that a sum in another order is a tie


def rank_biserial(differences: Values) -> float:
    """(n,) -> in [-1, 1], 1 where all differences are positive; 0 where all are zero."""
    d = _finite(differences)
    d = d[d != 0]
    if not d.size:
        return 0.0
    size = np.abs(d)
    ranks = (size[:, None] > size).sum(1) + ((size[:, None] == size).sum(1) + 1) / 2
    return float((ranks * np.sign(d)).sum() / ranks.sum())


def sign_flip_p(differences: Values, *, flips: int = FLIPS, seed: int = 0) -> float:
    """(n,) -> the share of sign flips whose |mean| is at least the one found; 1 where all differences are zero.

    All flips of up to 12 differences other than zero, else `flips` random ones beside the identity. The test is of symmetry
    about zero, exact under it.
    """
    d = _finite(differences)
    d = d[d != 0]
    n = d.size
    if n == 0:
        return 1.0
    found = abs(d.sum()) - _SLACK * np.abs(d).sum()
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ d) >= found).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, n))
    return float((1 + (np.abs(signs @ d) >= found).sum()) / (1 + flips))


def benjamini_hochberg(p_values: Values) -> list[float]:
    """(m,) p-values of one family -> (m,) q-values in the same order; the family is all that is given."""
    p = _finite(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    q = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    result = np.empty_like(q)
    result[order] = q
    return [float(one) for one in result]


def interaction_test(differences: np.ndarray, *, permutations: int = 2000, seed: int = 0) -> tuple[float, float]:
    """(prompts, scales, measures) -> (statistic, p-value): does what changes depend on the scale?

    Each measure is standardised over all prompts and scales. What is left of a prompt's (scales, measures) table after its
    row and column means are taken off is the interaction; the statistic is the sum of squares of its mean over prompts. Under
    the null a prompt's scales are exchangeable, so their labels are permuted within each prompt: p = (1 + as large) /
    (1 + permutations). A scale that changes every measure more than another, by as much, is no interaction.

    Raises ValueError for fewer than 2 scales or measures, and for values that are not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 3 or values.shape[0] < 1 or min(values.shape[1:]) < 2:
        raise ValueError(
            "differences: expected shape (prompts, scales, measures) with at least 2 scales and measures, got "
            f"{values.shape}"
        )
    values = _finite(values)
    values = values - values.mean((0, 1))
    scale = values.std((0, 1))
    values = values / np.where(scale > 0, scale, 1)
    values = values - values.mean(1, keepdims=True) - values.mean(2, keepdims=True) + values.mean((1, 2), keepdims=True)
    statistic = float((values.mean(0) ** 2).sum())
    source = np.random.default_rng(seed)
    least = statistic - _SLACK * float((values**2).sum())
    count = 0
    for _ in range(permutations):
        order = source.random(values.shape[:2]).argsort(1)
        shuffled = np.take_along_axis(values, order[:, :, None], 1)
        count += bool((shuffled.mean(0) ** 2).sum() >= least)
    return statistic, (1 + count) / (1 + permutations)


def _finite(values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("differences: expected finite numbers, got NaN or inf")
    return array
