"""Squared distances by products: within d 2^-46 of float64 differences, whatever the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strategies import KINDS, cloud

from msma_fast.backends.torch import gaussian_kernel_sums, similarity, squares, stress
from msma_fast.backends.torch.squares import by_products


def rows(kind: str, n: int, d: int, seed: int) -> torch.Tensor:
    if kind == "clusters":  # far from each other and from the mean: every pair within one cancels
        x = np.random.default_rng(seed).standard_normal((n, d))
        x[::2] += 1e6
        return torch.from_numpy(x)
    return torch.from_numpy(np.asarray(cloud(kind, n, d, seed), dtype=np.float64))


@pytest.mark.parametrize("few", [0.0, 1.0])  # close pairs one by one, or whole blocks by differences
@pytest.mark.parametrize("kind", [*KINDS, "clusters"])
def test_products_are_as_good_as_differences(kind: str, few: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squares, "_FEW", few)
    monkeypatch.setattr(squares, "_ENTRIES", 100)
    x, y = rows(kind, 60, 70, 0), rows(kind, 41, 70, 1)
    y[3] = x[5]
    for points in (y, x):
        of = by_products(x, points)
        for some in torch.arange(60).split(17):
            wanted = (x[some, None].numpy() - points[None].numpy()) ** 2
            np.testing.assert_allclose(of(some).numpy(), wanted.sum(2), rtol=70 * 2.0**-46)
    assert by_products(x, y)(torch.tensor([5]))[0, 3] == 0


def test_nan_and_overflow_are_those_of_differences() -> None:
    x, y = rows("normal", 9, 70, 0), rows("normal", 8, 70, 1)
    x[2, 4], x[3, 1] = torch.nan, 1e200
    found = by_products(x, y)(torch.arange(9))
    assert found[2].isnan().all()
    assert found[3].isinf().all()
    assert torch.allclose(found[4:], squares.direct(x, y)(torch.arange(4, 9)), rtol=1e-12)


def test_sums_over_them() -> None:
    """What the Triton backend asks in many coordinates."""
    x, y = rows("normal", 90, 70, 0), rows("duplicates", 90, 80, 1)
    for mine, wanted in zip(
        stress.stress(x, y, (True, True), by_products), stress.stress(x, y, (True, True)), strict=True
    ):
        torch.testing.assert_close(mine, wanted, rtol=1e-11, atol=1e-9)
    scales, weights = torch.tensor([0.01, 0.003], dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    for points in (None, y[:, :70].contiguous()):
        sums = [gaussian_kernel_sums.gaussian_sums(x, points, scales, *way) for way in ((), (by_products,))]
        torch.testing.assert_close(*sums, rtol=1e-12, atol=0)
        to_x = [
            gaussian_kernel_sums.gaussian_gradients(x, points, scales, weights, *w)[0] for w in ((), (by_products,))
        ]
        torch.testing.assert_close(*to_x, rtol=1e-10, atol=1e-13)
    for form in ("distance", "gaussian"):
        a, b = (similarity.Form(z, form, 0.01) for z in (x, y))
        for one, two in zip(
            similarity.centered_products(a, b, by_products), similarity.centered_products(a, b), strict=True
        ):
            torch.testing.assert_close(one, two, rtol=1e-11, atol=0)
