"""What repeated splits of the same texts into fitting and held-out ones say. A closed-form map has no seed: its variance is
that of the texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msma_fast.activations.optional import require

_ROUNDING = 1e-9


class Repeated(NamedTuple):
    """mean and standard error over J splits; p_value: two-sided, of a mean of zero; None where there is none."""

    mean: float
    standard_error: float | None
    p_value: float | None


def repeated(values: Sequence[float], n_fit: int, n_held: int, size: float = 0.0) -> Repeated:
    """Of J values, one a split with n_fit fitting and n_held held-out texts.

    Splits share texts, so the variance of their mean is (1 / J + n_held / n_fit) S^2, not S^2 / J (Nadeau, Bengio, Machine
    Learning 52, 2003); the p-value is that of Student's t with J - 1 degrees of freedom. None of a single split, and where all
    values are the same to 1e-9 of `size`, the size of what was subtracted to get them: rounding is no evidence.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2 or max(values) - min(values) <= _ROUNDING * max(size, *map(abs, values)):
        return Repeated(mean, None, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    error = math.sqrt((1 / count + n_held / n_fit) * variance)
    t = require("scipy.stats", "the statistics of repeated splits").t
    return Repeated(mean, error, 2.0 * float(t.sf(abs(mean) / error, count - 1)))
