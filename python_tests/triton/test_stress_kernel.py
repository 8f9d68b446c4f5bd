"""Raw stress and its gradients by a Triton kernel, in the strict interpreter, against the direct float64 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from hardened_interpreter import hardened
from strategies import KINDS, cloud

import msma_fast as mf

pytestmark = pytest.mark.usefixtures("strict")


def leaves(x: np.ndarray, y: np.ndarray, dtype: Any = torch.float64) -> list[torch.Tensor]:
    return [torch.from_numpy(z.copy()).to(dtype).requires_grad_() for z in (x, y)]


def check(x: torch.Tensor, y: torch.Tensor) -> None:
    value = mf.stress(x, y, backend="triton")
    a, b = (z.detach().double().numpy() for z in (x, y))
    assert float(value.detach()) == pytest.approx(oracles.stress(a, b), rel=1e-12, abs=1e-300)
    found = torch.autograd.grad(value, (x, y))
    unit = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
    for grad, wanted in zip(found, (oracles.stress_gradient(a, b), oracles.stress_gradient(b, a)), strict=True):
        near = unit[grad.dtype]
        np.testing.assert_allclose(grad.double().numpy(), wanted, rtol=near, atol=0.01 * near * np.abs(wanted).max())


@pytest.mark.parametrize(("n", "dx", "dy"), [(2, 1, 1), (16, 8, 32), (17, 33, 7), (70, 3, 19)])
def test_odd_shapes(n: int, dx: int, dy: int) -> None:
    check(*leaves(cloud("normal", n, dx, 0), cloud("normal", n, dy, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_hard_points(kind: str) -> None:
    check(*leaves(cloud(kind, 40, 6, 2), cloud("normal", 40, 4, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_and_layouts(dtype: Any) -> None:
    x, y = leaves(cloud("normal", 21, 6, 2), cloud("normal", 21, 8, 3), dtype)
    check(x, y)
    wide = torch.from_numpy(cloud("normal", 21, 42, 4)).to(dtype)
    check(wide[:, ::3].detach().requires_grad_(), wide.T[:21].detach().requires_grad_())


def test_one_side_has_a_gradient() -> None:
    x, y = leaves(cloud("normal", 20, 3, 6), cloud("normal", 20, 5, 7))
    (to_y,) = torch.autograd.grad(mf.stress(x.detach(), y, backend="triton"), y)
    np.testing.assert_allclose(
        to_y.numpy(), oracles.stress_gradient(y.detach().numpy(), x.detach().numpy()), rtol=1e-10
    )
    (to_x,) = torch.autograd.grad(mf.stress(x, y.detach(), backend="triton"), x)
    np.testing.assert_allclose(
        to_x.numpy(), oracles.stress_gradient(x.detach().numpy(), y.detach().numpy()), rtol=1e-10
    )


def test_an_isometry_has_no_stress_and_no_gradient() -> None:
    x = torch.from_numpy(cloud("normal", 20, 9, 1)).requires_grad_()
    value = mf.stress(x, x.detach().clone(), backend="triton")
    assert value == 0
    assert not torch.autograd.grad(value, x)[0].any()
    assert mf.stress(x.detach(), x.detach().flip(1) + 3, backend="triton") < 1e-24


def test_gradcheck() -> None:
    x, y = leaves(cloud("normal", 5, 3, 7), cloud("normal", 5, 2, 6))
    for normalized in (False, True):
        assert torch.autograd.gradcheck(
            lambda a, b, how=normalized: mf.stress(a, b, normalized=how, backend="triton"), (x, y)
        )


def test_the_order_of_programs_changes_no_bit() -> None:
    x, y = (torch.from_numpy(cloud("normal", 50, d, d)).requires_grad_() for d in (4, 5))

    def run(seed: int) -> list[torch.Tensor]:
        with hardened(seed):
            value = mf.stress(x, y, backend="triton")
            return [value.detach(), *torch.autograd.grad(value, (x, y))]

    for first, second in zip(run(1), run(2), strict=True):
        assert torch.equal(first, second)
