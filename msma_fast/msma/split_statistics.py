"""What repeated splits of the same texts into fitting and held-out ones say. A closed-form map has no seed: its variance is
that of the texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msma_fast.activations.optional import require


class Repeated(NamedTuple):
    """mean and standard error over J splits; p_value: two-sided, of a mean of zero; None of a single split."""

    mean: float
    standard_error: float | None
    p_value: float | None


def repeated(values: Sequence[float], n_fit: int, n_held: int) -> Repeated:
    """Of J values, one a split with n_fit fitting and n_held held-out texts.

    Splits share texts, so the variance of their mean is (1 / J + n_held / n_fit) S^2, not S^2 / J (Nadeau, Bengio, Machine
    Learning 52, 2003); the p-value is that of Student's t with J - 1 degrees of freedom. All values alike: a standard error
    of 0, and a p-value of 0, or of 1 where they are 0.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Repeated(mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    error = math.sqrt((1 / count + n_held / n_fit) * variance)
    if error == 0.0:
        return Repeated(mean, 0.0, float(mean == 0.0))
    t = require("scipy.stats", "the statistics of repeated splits").t
    return Repeated(mean, error, 2.0 * float(t.sf(abs(mean) / error, count - 1)))
