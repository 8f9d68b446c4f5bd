"""The screen's certificate under attack: any error within the declared bound must change nothing, several times the
bound must.

The attack replaces every screened value g by g + e, |e| up to the declared error 2 kappa M_i M_j of an accumulated
product, worst sign included. Small integers leave no rounding residual that could hide it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.backends.torch import screen

K = 5
Sign = Callable[[torch.Tensor], torch.Tensor]


def attack(monkeypatch: pytest.MonkeyPatch, size: float, sign: Sign) -> None:
    honest = screen.products

    def attacked(s: screen.Screen, rows: torch.Tensor) -> torch.Tensor:
        g = honest(s, rows)
        error = size * 2.0 * s.kappa * s.left.m[rows, None] * s.right.m[None, :]
        return (g.to(torch.float64) + sign(g) * error).to(g.dtype)

    monkeypatch.setattr(screen, "products", attacked)


def swapped(g: torch.Tensor) -> torch.Tensor:
    """Pushes the near ones away and pulls the far ones in."""
    return torch.where(g < g.median(1, keepdim=True).values, 1.0, -1.0)


def random_signs(g: torch.Tensor) -> torch.Tensor:
    return torch.randint(0, 2, g.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0


POINTS = {
    "integers": np.random.default_rng(0).integers(-8, 9, (500, 16)).astype(np.float32),
    "gaussian": np.random.default_rng(1).standard_normal((500, 40)).astype(np.float32),
    "long": (np.random.default_rng(2).standard_normal((500, 12)) * 10.0 ** np.linspace(0, 4, 500)[:, None]).astype(
        "f4"
    ),
}


@pytest.mark.parametrize("sign", [torch.ones_like, random_signs, swapped])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("cloud", POINTS)
def test_errors_within_the_bound_change_nothing(
    cloud: str, metric: str, sign: Sign, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = POINTS[cloud]
    expected = mf.knn(x, K, metric=metric, backend=backend)
    radius = float(np.median(expected.distances[:, -1]))
    counts = mf.radius_count(x, radius, metric=metric, backend=backend)
    attack(monkeypatch, 0.95, sign)
    found = mf.knn(x, K, metric=metric, backend=backend)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(mf.radius_count(x, radius, metric=metric, backend=backend), counts)


def test_four_times_the_bound_breaks_a_planted_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers on a line: the k-th and the next neighbour are equally far, and the accumulation term is the whole bound.
    An error beyond it drops the k-th, whose index comes first."""
    x = np.zeros((400, 8), np.float32)
    x[:, 0] = np.random.default_rng(0).permutation(400) - 200
    expected = mf.knn(x, K, backend="torch")
    last = torch.from_numpy(expected.indices[:, -1:])

    def kth_away(g: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(g).scatter_(1, last, 1.0)

    attack(monkeypatch, 0.95, kth_away)
    np.testing.assert_array_equal(mf.knn(x, K, backend="torch").indices, expected.indices)
    monkeypatch.undo()
    attack(monkeypatch, 4.0, kth_away)
    assert (mf.knn(x, K, backend="torch").indices != expected.indices).any()
