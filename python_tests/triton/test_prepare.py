"""Rows prepared for the screen: the torch backend's rows to the bit, and bounds that hold in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from msma_fast.backends.torch import keys as plain
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.triton_prepare import build

pytestmark = pytest.mark.usefixtures("strict")

KINDS = ["sqeuclidean", "cosine", "inner_product"]
DATA = ["normal", "shifted", "huge coordinate", "tiny rows", "tiny numbers", "tiny norms", "large numbers"]


def data(kind: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d)) + 0.5
    if kind == "shifted":
        x += 1e6
    if kind == "huge coordinate":
        x[0, 0] = 1e30
    if kind == "tiny rows":
        x[: n // 2] *= 1e-30
    if kind == "tiny numbers":
        x[:, ::2] *= 1e-35
    if kind == "tiny norms":
        x[: n // 2] = 1e-160  # squares are subnormal
    if kind == "large numbers":
        x *= 1e200
    return x


def rows(kind: str, values: np.ndarray, dtype: Any) -> Rows:
    tensor = torch.from_numpy(values).to(dtype)
    return Rows(tensor, plain.row_norms(tensor) if kind == "cosine" else None)


def usable(kind: str, dtype: Any) -> bool:
    """Whether the data are finite, and no row zero, in a dtype."""
    return dtype == torch.float64 or kind not in ("tiny norms", "large numbers")


CASES = [(kind, dtype) for dtype in (torch.float32, torch.float64) for kind in DATA if usable(kind, dtype)]


@pytest.mark.parametrize("metric", KINDS)
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_the_torch_backend_s_screen(kind: str, dtype: Any, metric: str) -> None:
    """Rounded rows and scale to the bit, sums but for their order; bounds may be larger where squares overflow."""
    for n, m, d in ((9, 70, 70), (3, 40, 1))[: 1 + (kind == "normal")]:
        x, y = rows(metric, data(kind, n, d, 1), dtype), rows(metric, data(kind, m, d, 2), dtype)
        for left in (x, y):
            found, wanted = build(Kernel(metric), left, y), screens.build(Kernel(metric), left, y, 0)
            assert found[2:7] == wanted[2:7]
            assert found.euclidean == wanted.euclidean
            for side, other in ((found.left, wanted.left), (found.right, wanted.right)):
                count = other.b.shape[0]
                assert side.b.dtype == torch.bfloat16
                assert torch.equal(side.b[:count, :d].to(torch.float32), other.b)
                assert not side.b[count:].any()
                assert not side.b[:, d:].any()
                for mine, theirs in zip(side[1:], other[1:], strict=True):
                    finite = theirs.isfinite()
                    torch.testing.assert_close(mine[finite], theirs[finite], rtol=1e-13, atol=1e-150)
            if metric == "inner_product":
                torch.testing.assert_close(found.offset, wanted.offset, rtol=0.0, atol=0.0, equal_nan=True)
            assert (found.left is found.right) == (left is y and metric != "inner_product")


@pytest.mark.parametrize("kind", ["normal", "shifted", "huge coordinate", "tiny numbers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_are_no_less_than_those_of_rational_arithmetic(kind: str, dtype: Any) -> None:
    """X, r and M of the exact rows, shifted by the median that was taken."""
    x = rows("sqeuclidean", data(kind, 7, 70), dtype)
    screen = build(Kernel("sqeuclidean"), x, x)
    values = x.values.to(torch.float64)
    middle, unit = values.median(0).values.tolist(), Fraction(math.sqrt(screen.scale))
    for i, row in enumerate(values.tolist()):
        z = [(Fraction(number) - Fraction(shift)) * unit for number, shift in zip(row, middle, strict=True)]
        b = [Fraction(number) for number in screen.left.b[i, : len(z)].tolist()]
        lost = sum((exact - stored) ** 2 for exact, stored in zip(z, b, strict=True))
        length, stored = sum(exact**2 for exact in z), sum(number**2 for number in b)
        r, size, most = (Fraction(value[i].item()) for value in (screen.left.r, screen.left.x, screen.left.m))
        assert lost <= r**2 <= (lost + length * Fraction(2) ** -90) * (1 + Fraction(1, 1000))
        assert length <= size**2 <= length * (1 + Fraction(1, 1000))
        assert max(length, stored) <= most**2


def test_rows_are_rounded_to_nearest_even() -> None:
    """1 + 2^-8 is half-way between two numbers of bfloat16, 1 + 3 2^-8 too; each side of a tie goes its way."""
    from msma_fast.triton_kernels import prepare

    ties = torch.tensor(
        [[1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 2**-61, 0.0, -3.0]], dtype=torch.float64
    )
    b, sums = prepare.sums(prepare.Shifted(ties, None, torch.zeros(7, dtype=torch.float64)), 1.0, 2.0**-60)
    assert b[0, :7].tolist() == [1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0.0, 0.0, -3.0]
    lost = ties[0] - b[0, :7].to(torch.float64)
    assert sums[0].item() == (lost * lost).sum().item()


def test_a_row_that_is_not_a_number_is_dropped_nowhere() -> None:
    x = torch.ones(3, 9, dtype=torch.float64)
    x[1, 4] = float("nan")
    screen = build(Kernel("sqeuclidean"), Rows(x), Rows(x[:1].clone()))
    assert screen.left.r.isnan().tolist() == [False, True, False]
