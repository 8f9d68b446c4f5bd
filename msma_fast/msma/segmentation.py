"""Optimal cuts of a sequence of layers into runs.

The cost of a run is what its layers miss of being one: for a similarity matrix S, sum_l S_ll - sum_lm S_lm / length (kernel
change points: Arlot, Celisse, Harchaoui, JMLR 20 (2019)); for values v, the squares about the run's mean, which is the same
with S = v v^T. Dynamic programming over all contiguous cuts (Bellman 1961).
"""

from __future__ import annotations

import numpy as np


def costs(similarity: np.ndarray) -> np.ndarray:
    """(L + 1, L + 1): the cost of the run [a, b) at a < b."""
    count = len(similarity)
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = similarity.cumsum(0).cumsum(1)
    own = np.concatenate([[0.0], np.diagonal(similarity).cumsum()])
    ends = np.diagonal(sums)
    block = ends[None, :] - sums - sums.T + ends[:, None]
    length = np.arange(count + 1)[None, :] - np.arange(count + 1)[:, None]
    return np.where(length > 0, own[None, :] - own[:, None] - block / np.maximum(length, 1), np.inf)


def segment(similarity: np.ndarray, runs: int) -> tuple[int, ...]:
    """The first layers of all runs but the first, of the cheapest cut of L layers into `runs` <= L."""
    cost, count = costs(similarity), len(similarity)
    if not 1 <= runs <= count:
        raise ValueError(f"runs: expected 1 to {count}, the number of layers, got {runs}")
    best, cut = cost[0].copy(), np.zeros((runs, count + 1), dtype=int)
    for number in range(1, runs):
        options = best[:, None] + cost  # the last run is [a, b)
        cut[number] = options.argmin(0)
        best = options.min(0)
    places, end = [], count
    for number in range(runs - 1, 0, -1):
        end = int(cut[number, end])
        places.append(end)
    return tuple(sorted(places))


def of_values(values: np.ndarray, runs: int) -> tuple[int, ...]:
    """The same for one value a layer (L,)."""
    centred = values - values.mean()
    return segment(np.outer(centred, centred), runs)
