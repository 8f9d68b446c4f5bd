"""The metrics of the engine: their names, what they ask of the data, and what is promised of their answers.

`identical` metrics have a canonical float64 key computed in one fixed order (msma_fast/backends/torch/kernel.py): their
neighbours are the same on every backend, bit for bit. `band` metrics use pow, log or exp of the maths library and agree
within a few units in the last place.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """One row of the table."""

    name: str
    promise: str  # "identical" | "band"
    symmetric: bool = True
    zero_diagonal: bool = True
    probabilities: bool = False  # rows must be nonnegative and sum to one
    nonzero_rows: bool = False  # a zero row has no direction


METRICS = {
    metric.name: metric
    for metric in (
        Metric("euclidean", "identical"),
        Metric("sqeuclidean", "identical"),
        Metric("manhattan", "identical"),
        Metric("chebyshev", "identical"),
        Metric("minkowski", "identical"),  # integer p <= 16; other p: band
        Metric("cosine", "identical", nonzero_rows=True),
        Metric("correlation", "identical", nonzero_rows=True),
        Metric("inner_product", "identical", zero_diagonal=False),
        Metric("mahalanobis", "identical"),
        Metric("hellinger", "identical", probabilities=True),
        Metric("fisher_rao", "identical", probabilities=True),
        Metric("jensen_shannon", "band", probabilities=True),
        Metric("kl", "band", symmetric=False, probabilities=True),
    )
}

# The integer powers with a canonical key; larger ones overflow before they are useful.
MAX_INTEGER_P = 16


def promise(name: str, p: float = 2.0) -> str:
    """ "identical" or "band" for a metric and, under minkowski, its power."""
    if name == "minkowski" and not (p == float("inf") or (p == int(p) and p <= MAX_INTEGER_P)):
        return "band"
    return METRICS[name].promise
