"""Whether a stack of layers has boundaries, or only drifts.

Between neighbouring layers b - 1 and b of a stack, a similarity S in (0, 1] of the two gives a turnover t_b = -log S. Under
the drift null the states move on from layer to layer with no place set apart: log t_b is a smooth trend in depth (a level,
log b and b; residual streams grow, so that early blocks turn over more) plus independent normal noise of one unknown size.
A boundary is a turnover above that trend,

    z_b = (r_b - median r) / (1.4826 median |r - median r|)     r the residuals of a robust fit of the trend,

judged against the largest z of as many layers of pure noise, fitted and scaled alike: the size of the noise and the trend
drop out. Of several similarities each has to say so, next door at the farthest: their smallest z is judged. And it is a peak:
the turnovers on either side are smaller (the first has one side only and is never a boundary), or else a trend that is
steeper than the three numbers allow for, as the first blocks of an untrained model have it, would be a boundary. Boundaries
are taken one at a time, the largest sum of z first, and left out of the fit of the next. Noise with heavier tails than a
normal's is cut more often than it should be: of Student's t with 3 degrees of freedom a third of 25-layer stacks.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

_DRAWS = 4000  # of the null
_ROUNDS = 20  # of the robust fit
LEAST = 6  # turnovers that a trend of three numbers and a scale can be fitted to
_TINY = 1e-12


class Found(NamedTuple):
    """place b: the boundary lies between layers b - 1 and b; z, and p_value of the largest z of a drift being as large."""

    place: int
    z: float
    p_value: float


def turnovers(neighbours: np.ndarray) -> np.ndarray:
    """(L - 1,) log(-log S_{b-1,b}) of the similarities of neighbouring layers (L - 1,); -inf where two are the same."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(-np.log(np.clip(neighbours, _TINY, 1.0)))
    return found


def scores(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """z (..., m) of turnovers (..., m) at the places b >= 1 (m,), each by a fit to all of its own."""
    off, size = _noise(values, places)
    found: np.ndarray = off / size
    return found


def fit(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, float]:
    """(the trend (m,) through turnovers (m,) at the places b >= 1, the size of the noise about it)."""
    off, size = _noise(values, places)
    return values - off, float(size[0])


def _noise(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(what is left of the trend (..., m), its size (..., 1))."""
    residuals = _residuals(values, places)
    off = residuals - np.median(residuals, -1, keepdims=True)
    return off, 1.4826 * np.median(np.abs(off), -1, keepdims=True) + _TINY


def _residuals(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    basis = np.stack([np.ones(len(places)), np.log(places), places / places.max()], 1)
    weights, residuals = np.ones_like(values), values
    for _ in range(_ROUNDS):
        weighted = weights[..., None] * basis
        moments, sums = basis.T @ weighted, (weighted * values[..., None]).sum(-2)
        residuals = values - (basis @ np.linalg.solve(moments, sums[..., None]))[..., 0]
        scale = 1.4826 * np.median(np.abs(residuals), -1, keepdims=True) + _TINY
        weights = 1.0 / np.maximum(1.0, np.abs(residuals) / (2.0 * scale))
    return residuals


@cache
def _null(places: tuple[int, ...], seed: int) -> np.ndarray:
    """The largest z of noise alone at these places, ascending (_DRAWS,)."""
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(places)))
    return np.sort(scores(noise, np.array(places, dtype=float)).max(1))


def p_value(z: float, places: np.ndarray, seed: int = 0) -> float:
    """(1 + draws whose largest z is at least this) / (1 + draws)."""
    null = _null(tuple(int(b) for b in places), seed)
    return float((1 + len(null) - np.searchsorted(null, z, side="left")) / (1 + len(null)))


def candidates(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z (s, m), the columns that are peaks) of turnovers (s, m): those no smaller than their neighbours, every similarity by
    the size of its noise; never the first, which a steep beginning makes the largest."""
    off, size = _noise(values, places)
    sums = (values / size).sum(0)
    beside = np.pad(sums, 1, constant_values=(np.inf, -np.inf))
    return off / size, np.flatnonzero((sums >= beside[:-2]) & (sums >= beside[2:]))


def boundaries(values: np.ndarray, most: int | None = None, level: float = 0.05, seed: int = 0) -> list[Found]:
    """The places of turnovers (s, L - 1), of s similarities, that a drift does not explain, the largest z first: until one is
    not significant at `level`, or, where `most` is given, the `most` largest whatever their p-value; no p-value is less
    than one before it (a step-down test). None where there are too few layers."""
    places = np.flatnonzero(np.isfinite(values).all(0)) + 1
    found: list[Found] = []
    while len(places) >= LEAST and (most is None or len(found) < most):
        z, high = candidates(values[:, places - 1], places.astype(float))
        if not len(high):
            break
        top = int(high[z.sum(0)[high].argmax()])
        near = np.abs(places - places[top]) <= (1 if len(z) > 1 else 0)
        least = float(z[:, near].max(1).min())
        one = Found(int(places[top]), least, max([p_value(least, places, seed), *(other.p_value for other in found)]))
        if most is None and one.p_value > level:
            break
        found.append(one)
        places = np.delete(places, top)
    return found
