"""What the engine returns: small named tuples of arrays, of the kind (torch or numpy) that came in."""

from __future__ import annotations

from typing import Any, NamedTuple

# Arrays come back as the kind the caller passed in: torch.Tensor, numpy.ndarray or another DLPack array.
Array = Any


class Neighbors(NamedTuple):
    """The k nearest neighbours of n queries, ascending by (canonical key, index).

    distances (n, k) float32 or float64; indices (n, k) int64; valid (n, k) bool. A query with fewer than k admissible
    neighbours has valid False, index -1 and distance inf in the rest of its row. With batched input every field has a
    leading batch axis.
    """

    distances: Array
    indices: Array
    valid: Array


class KnnStats(NamedTuple):
    """What the certified screen did, so that nobody can call a brute force a screen.

    candidates (n,) int64: exact keys computed for the row (in few dimensions: points in the leaves it visited); widened
    (n,) int64: the screen that certified it: 0 in low precision, 1 a finer one (float64, or
    integers of sixteen bits), 2 none (every key of the row was computed).
    """

    candidates: Array
    widened: Array


class Missing(NamedTuple):
    """Nats that an estimate lacks by one account, and the standard error of that account."""

    nats: float
    error: float


class Evidence(NamedTuple):
    """An estimate of information (nats) and what speaks against it: the ceiling psi(N) - psi(k); the standard error; units,
    the rows that may be independent of each other (texts where `groups` tells them); the shares of rows with a tied k-th
    distance and of rows that repeat another; what it lacks by the accounts of docs/verdict.md (None: cannot tell)."""

    mi: float
    ceiling: float
    units: int
    error: float = 0.0
    tie_fraction: float = 0.0
    repeated: float = 0.0
    extrapolation: Missing | None = None
    linear: Missing | None = None


class MIResult(NamedTuple):
    """A mutual-information estimate with what is needed to judge it; all information in nats, float64.

    mi: the estimate (a float, or (K,) for K values of k); local (n,) or (n, K): its terms, with mean mi; n_x, n_y: the
    marginal counts; ceiling: psi(N) - psi(k), the largest value the estimator can take without ties; tie_fraction: share
    of rows whose k-th joint distance is shared by another neighbour; verdict: "no warning" or "unreliable"; reasons: why;
    evidence: one for each k, what the verdict rests on.
    """

    mi: Array
    local: Array
    n_x: Array
    n_y: Array
    ceiling: Array
    tie_fraction: Array
    verdict: str
    reasons: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class PermutationResult(NamedTuple):
    """mi: the estimate (nats); null (P,): the same estimator on permuted pairs; p_value = (1 + #{null >= mi}) / (1 + P);
    z = (mi - mean null) / sd null; excess = mi - mean null (nats)."""

    mi: float
    null: Array
    p_value: float
    z: float
    excess: float


class MIInterval(NamedTuple):
    """A KSG estimate and how far estimates from other samples of this size would lie (nats, float64).

    mi: the estimate from all rows; low, high: the interval around it; standard_error; resamples (R, ...): the estimates
    it was made of, each from fewer rows. Its bias is not covered: see `mi_interval`.
    """

    mi: Array
    low: Array
    high: Array
    standard_error: Array
    resamples: Array


class DimensionResult(NamedTuple):
    """An intrinsic dimension. estimate and standard_error at the finest scale; scales: the sample sizes looked at
    (n, then n / decimation); estimates: the estimate at each scale."""

    estimate: float
    standard_error: float
    scales: tuple[int, ...]
    estimates: tuple[float, ...]
