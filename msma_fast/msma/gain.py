"""What a partition saves, beside what one of a stack that only drifts, or of an untrained model, would.

gain          1 - the runs' costs / the uncut stacks' costs (segmentation.py), of the mean similarity, in [0, 1]
under drift   similarity depends on how far apart two layers are, and distance along the stack on steps that follow a trend:
                  S_lm = exp(-A c_lm^p),   c_lm = sum of t_b between l and m,   log t_b = trend_b + s e_b,   e_b normal
              with trend and s of the robust fit (drift.py) of the mean log turnover, and A, p by least squares of
              log(-log S) on log c. The best cut of each draw into as many runs is taken, so that the p-value is too large,
              if anything, for runs that were found otherwise.
Drift gains too: any stack does when it is cut. A gain with a small p-value is one of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from msma_fast.msma import drift, segmentation

_DRAWS = 199

Stacks = Sequence[tuple[int, int]]


def gain(similarity: np.ndarray, stacks: Stacks, places: Sequence[int]) -> float:
    """Of boundaries before the layers `places`; 0 where layers do not differ."""
    saved = whole = 0.0
    for part, cuts in _parts(similarity, stacks, places):
        cost = segmentation.costs(part)
        whole += cost[0, -1]
        saved += cost[0, -1] - sum(cost[run] for run in pairwise((0, *cuts, len(part))))
    return float(saved / whole) if whole > 0 else 0.0


def best_gain(similarity: np.ndarray, stacks: Stacks, places: Sequence[int]) -> float:
    """Of the best cut of every stack into as many runs as `places` makes."""
    best = [
        first + cut
        for (first, _), (part, cuts) in zip(stacks, _parts(similarity, stacks, places), strict=True)
        for cut in segmentation.segment(part, 1 + len(cuts))
    ]
    return gain(similarity, stacks, best)


def p_value(similarity: np.ndarray, stacks: Stacks, places: Sequence[int], seed: int) -> float | None:
    """(1 + drifts that gain as much) / (1 + drifts); None without boundaries, and where a stack is too short for a trend or
    has layers that are the same."""
    fits = [_fit(part) for part, _ in _parts(similarity, stacks, places)]
    known = [fit for fit in fits if fit is not None]
    if not places or len(known) < len(fits):
        return None
    rng, own = np.random.default_rng(seed), gain(similarity, stacks, places)
    as_large = 0
    for _ in range(_DRAWS):
        drawn = np.zeros_like(similarity)
        for (first, last), fit in zip(stacks, known, strict=True):
            drawn[first : last + 1, first : last + 1] = _drawn(*fit, rng)
        as_large += best_gain(drawn, stacks, places) >= own
    return (1 + as_large) / (1 + _DRAWS)


def _parts(similarity: np.ndarray, stacks: Stacks, places: Sequence[int]) -> list[tuple[np.ndarray, list[int]]]:
    return [
        (similarity[first : last + 1, first : last + 1], [place - first for place in places if first < place <= last])
        for first, last in stacks
    ]


def _fit(similarity: np.ndarray) -> tuple[np.ndarray, float, float, float] | None:
    """(trend (L - 1,), s, log A, p) of one stack."""
    turned = drift.turnovers(np.diagonal(similarity, 1))
    if len(turned) < drift.LEAST or not np.isfinite(turned).all():
        return None
    trend, size = drift.fit(turned, np.arange(1.0, len(turned) + 1))
    apart, pairs = _apart(np.exp(turned)), np.triu_indices(len(similarity), 1)
    logs = drift.turnovers(similarity[pairs])
    kept = np.isfinite(logs)
    slope, level = np.polyfit(np.log(apart[pairs][kept]), logs[kept], 1)
    return trend, size, float(level), max(float(slope), 0.0)  # layers that are as unlike next door as anywhere


def _drawn(trend: np.ndarray, size: float, level: float, slope: float, rng: np.random.Generator) -> np.ndarray:
    apart = _apart(np.exp(trend + size * rng.standard_normal(len(trend))))
    found: np.ndarray = np.exp(-np.exp(level) * apart**slope)
    np.fill_diagonal(found, 1.0)  # 0**0
    return found


def _apart(steps: np.ndarray) -> np.ndarray:
    depth = np.concatenate([[0.0], steps.cumsum()])
    found: np.ndarray = np.abs(depth[:, None] - depth[None, :])
    return found
