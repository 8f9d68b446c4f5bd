"""When not to believe a KSG estimate: the evidence against it, and thresholds that were fitted on tasks with known truth.

saturated    psi(<N_i>) - psi(k) is a ceiling without ties: an estimate near it only says "more than this"
ties         rows that repeat, or whose k-th joint distance is shared: the samples are not continuous
biased low   by an account of shortfall.py the estimate misses more than would matter, or it is negative
too few      no account can tell anything

Standard errors and chance levels count the rows that may be independent: with `groups` the texts, with a `window` w one row
in 2w + 1. That is too few where a text's rows are nearly independent, never too many.

`python -m benchmarks.calibrate_verdict` fits the thresholds and writes docs/verdict.md: how often they are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import shortfall
from msma_fast.backends import registry
from msma_fast.results import Evidence, MIResult, Missing

TIE_SHARE = 0.01
NEGATIVE_NATS = 0.05
FEWEST_ROWS = 50
TOLERANCE_NATS, TOLERANCE_SHARE = 0.1, 0.1  # an error that matters: this much, or this share of the estimate if more
ERRORS = 2.0  # standard errors that an account must be sure by
WIDER = 4  # times as many neighbours for the extrapolation


class Thresholds(NamedTuple):
    """ceiling: share of the ceiling above which an estimate is saturated; the others in tolerances."""

    ceiling: float
    extrapolation: float
    linear: float


CALIBRATED = Thresholds(ceiling=0.45, extrapolation=2.0, linear=0.6)
_ACCOUNTS = {
    "extrapolation": "the trend towards fewer neighbours adds about {:.2f} nats",
    "linear": "linear dependence of the samples, or of their sizes, alone has {:.2f} nats more",
}

Estimate = Callable[[Tensor, Tensor, list[int]], tuple[Tensor, ...]]


def tolerance(mi: float) -> float:
    """The error in nats that would matter for an estimate."""
    return max(TOLERANCE_NATS, TOLERANCE_SHARE * abs(mi))


def reasons_against(evidence: Evidence, thresholds: Thresholds = CALIBRATED) -> tuple[str, ...]:
    """Why an estimate should not be believed; empty when nothing was found, which is no proof that it is right."""
    mi, ceiling = evidence.mi, evidence.ceiling
    reasons = []
    if mi > thresholds.ceiling * ceiling:
        reasons.append(
            f"saturated: {mi:.2f} nats of at most {ceiling:.2f} that k and n allow; read it as 'more than this'"
        )
    if evidence.repeated > TIE_SHARE:
        reasons.append(f"ties: {evidence.repeated:.1%} of rows repeat another, so that samples are not continuous")
    if evidence.tie_fraction > TIE_SHARE:
        reasons.append(
            f"ties: {evidence.tie_fraction:.1%} of rows have a tied k-th distance, so that samples are not continuous"
        )
    if evidence.units < FEWEST_ROWS:
        reasons.append(f"too few: {evidence.units} rows that may be independent are too few to judge by")
    if evidence.repeated <= TIE_SHARE:  # copies of rows push the estimate up, and most at few neighbours
        reasons += _bias(evidence, thresholds)
    return tuple(reasons)


def _bias(evidence: Evidence, thresholds: Thresholds) -> list[str]:
    """The accounts that miss more than would matter."""
    reasons = []
    if evidence.mi < -NEGATIVE_NATS - ERRORS * evidence.error:
        reasons.append(f"biased low: information is not negative, and this is {evidence.mi:.2f} nats")
    for account, text in _ACCOUNTS.items():
        missing: Missing | None = getattr(evidence, account)
        least = getattr(thresholds, account) * tolerance(evidence.mi)
        if missing and missing.nats > least + ERRORS * missing.error:
            reasons.append("biased low: " + text.format(missing.nats))
    return reasons


def independent_rows(groups: Tensor | None, window: int, n: int) -> int:
    """How many rows may be independent of each other at least: exclusions are there for those that are not."""
    texts = n if groups is None else int(groups.unique().numel())
    return min(texts, max(1, n // (2 * window + 1)))


def neighbor_counts(groups: Tensor | None, window: int, n: int) -> Tensor:
    """(n,) int64: the admissible neighbours of each row."""
    device = torch.device("cpu") if groups is None else groups.device
    counts: Tensor = registry.run("neighbor_counts", device, "", n, groups, window)
    return counts


def means(local: Tensor) -> Tensor:
    """Local terms (n, K) -> (K,), each column summed alone, so that its bits do not depend on the others."""
    return torch.stack([column.contiguous().mean() for column in local.unbind(1)])


def diagnose(
    x: Tensor,
    y: Tensor,
    ks: list[int],
    single: bool,
    groups: Tensor | None,
    window: int,
    estimate: Estimate,
    wrap: Callable[[Tensor], Any],
) -> MIResult:
    """The `MIResult` of samples (n, dx), (n, dy). estimate(x, y, ks) gives local terms, n_x, n_y, ties (n, K) and N_i (n,)."""
    n = x.shape[0]
    x, y = x.detach(), y.detach()
    fewest = int(neighbor_counts(groups, window, n).min())
    wider = [min(WIDER * k, fewest) for k in ks]
    every = sorted({*ks, *wider})
    local, n_x, n_y, tied, neighbors = estimate(x, y, every)
    units = independent_rows(groups, window, n)
    finite = registry.all_finite(x) and registry.all_finite(y)  # check_finite=False: no account of NaN
    linear = shortfall.linear_information(x, y, units) if finite else None
    dimension, repeated = shortfall.joint_rows(x, y, groups, window) if finite else (math.nan, 0.0)
    digamma_n = float(torch.special.digamma(neighbors.to(torch.float64)).mean())

    def evidence(t: int) -> Evidence:
        terms, ties = local[:, every.index(ks[t])], tied[:, every.index(ks[t])]
        mi = float(means(terms[:, None]))
        extrapolation = None
        if finite and wider[t] > ks[t]:
            wide = local[:, every.index(wider[t])]
            extrapolation = shortfall.by_extrapolation(terms, wide, wider[t] / ks[t], dimension, units)
        return Evidence(
            mi,
            ceiling=digamma_n - float(torch.special.digamma(torch.tensor(ks[t], dtype=torch.float64))),
            units=units,
            error=float(terms.std()) / math.sqrt(units),
            tie_fraction=float(ties.to(torch.float64).mean()),
            repeated=repeated,
            extrapolation=extrapolation,
            linear=linear and Missing(linear.nats - mi, linear.error),
        )

    found = [evidence(t) for t in range(len(ks))]
    # An ordered set: several k often give the same reason.
    reasons = tuple(dict.fromkeys(reason for each in found for reason in reasons_against(each)))
    verdict = "unreliable" if reasons else "no warning"
    at = [every.index(k) for k in ks]
    local, n_x, n_y = (array[:, at[0]] if single else array[:, at] for array in (local, n_x, n_y))

    def summary(name: str) -> Any:
        values = [getattr(each, name) for each in found]
        return values[0] if single else wrap(torch.tensor(values, dtype=torch.float64, device=x.device))

    return MIResult(
        summary("mi"),
        wrap(local),
        wrap(n_x),
        wrap(n_y),
        summary("ceiling"),
        summary("tie_fraction"),
        verdict,
        reasons,
        tuple(found),
    )
