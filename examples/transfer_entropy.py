"""Transfer entropy between two series by conditional mutual information, against a planted truth and surrogates.

    x_t = 0.6 x_{t-1} + e_t        y_t = 0.4 y_{t-1} + 0.5 x_{t-1} + f_t        e, f independent, standard normal

TE(x -> y) = I(y_t; x_{t-1} | y_{t-1}): what the past of x tells about y beyond y's own past. In the other direction nothing
flows. The surrogates rotate the source against the target: both keep their own past, only the link between them is cut.

    python examples/transfer_entropy.py
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

import msma_fast as mf

K = 5
WINDOW = 10  # rows this near in time are no neighbours: they resemble each other because no time has passed
OWN_X, OWN_Y, LINK = 0.6, 0.4, 0.5


class Flow(NamedTuple):
    """Transfer entropy in one direction, in nats; null holds the surrogates' estimates."""

    truth: float
    estimate: float
    null: np.ndarray


def series(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, y), each (steps,), after the start is forgotten."""
    rng = np.random.default_rng(seed)
    e, f = rng.standard_normal((2, steps + 200))
    x, y = np.zeros(steps + 200), np.zeros(steps + 200)
    for t in range(1, steps + 200):
        x[t] = OWN_X * x[t - 1] + e[t]
        y[t] = OWN_Y * y[t - 1] + LINK * x[t - 1] + f[t]
    return x[200:], y[200:]


def truth() -> float:
    """TE(x -> y) = 1/2 log(1 + LINK^2 Var(x_{t-1} | y_{t-1})), from the stationary covariance."""
    var_x = 1 / (1 - OWN_X**2)
    cov = OWN_X * LINK * var_x / (1 - OWN_X * OWN_Y)
    var_y = (LINK**2 * var_x + 2 * OWN_Y * LINK * cov + 1) / (1 - OWN_Y**2)
    return 0.5 * math.log(1 + LINK**2 * (var_x - cov**2 / var_y))


def transfer_entropy(source: np.ndarray, target: np.ndarray) -> float:
    return mf.ksg_cmi(target[1:], source[:-1], target[:-1], K, window=WINDOW)


def flow(source: np.ndarray, target: np.ndarray, true: float, surrogates: int, seed: int) -> Flow:
    """The estimate, and those with the source rotated by random steps."""
    steps = len(source)
    shifts = np.random.default_rng(seed).integers(steps // 10, steps - steps // 10, surrogates)
    null = np.array([transfer_entropy(np.roll(source, shift), target) for shift in shifts])
    return Flow(true, transfer_entropy(source, target), null)


def main(steps: int = 3000, surrogates: int = 99, seed: int = 0) -> dict[str, Flow]:
    x, y = series(steps, seed)
    found = {"x -> y": flow(x, y, truth(), surrogates, seed), "y -> x": flow(y, x, 0.0, surrogates, seed)}
    print(f"{'':8}{'truth':>8}{'estimate':>10}{'null mean':>11}{'null max':>10}   (nats, {surrogates} surrogates)")
    for name, one in found.items():
        print(f"{name:8}{one.truth:8.3f}{one.estimate:10.3f}{one.null.mean():11.3f}{one.null.max():10.3f}")
    return found


if __name__ == "__main__":
    main()
