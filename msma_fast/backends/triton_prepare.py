"""The screen at level 0 with its rows prepared by kernels: what backends.torch.screen.build computes, without float64 copies.

The formulas of the bounds are that file's. A kernel finds the largest number after the shift, for the scale, which the host
waits for, and another one rounds the rows and sums up what that loses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.torch.screen import Screen, Sums


def build(kernel: Kernel, x: Rows, y: Rows) -> Screen:
    """The screen of x (n, d) against y (m, d); b of both sides is padded bfloat16. The two may be the same object."""
    if kernel.kind == "mahalanobis":
        raise RuntimeError(
            "kernel: expected one of the rows themselves, got mahalanobis, whose root these kernels do not know"
        )
    return (_inner_product if kernel.kind == "inner_product" else _squared)(kernel, x, y)


def _squared(kernel: Kernel, x: Rows, y: Rows) -> Screen:
    from msma_fast.triton_kernels import prepare

    d, middle = x.values.shape[1], _middle(y)
    right = prepare.Shifted(*y, middle)
    left = right if x is y else prepare.Shifted(*x, middle)
    most = prepare.largest(right).amax()
    if x is not y:
        most = torch.maximum(most, prepare.largest(left).amax())
    scale = screens.power_of_two_below(screens.TOP, float(most))
    lost, loss = screens.lost_in_keys(d, scale, scale), screens.rounding_of(d)
    cosine = kernel.kind == "cosine"

    def side(rows: Rows, shifted: Any) -> screens.Side:
        sums = _sums(shifted, scale)
        slack = screens.slack_of(rows, loss * scale * scale if cosine else loss * sums.x2, lost)
        return screens.side_of(sums, slack, squares=True)

    points = side(y, right)
    queries = points if x is y else side(x, left)
    factor = 2.0 if cosine else 1.0
    return Screen(queries, points, *screens.constants(d, 0), factor, scale * scale, None, euclidean=True)


def _inner_product(kernel: Kernel, x: Rows, y: Rows) -> Screen:
    """No shift of the queries leaves products as they are: only the points are moved."""
    from msma_fast.triton_kernels import prepare

    d, middle = x.values.shape[1], _middle(y)
    origin = torch.zeros_like(middle)
    left, right = prepare.Shifted(x.values, None, origin), prepare.Shifted(y.values, None, middle)
    largest_x, largest_y = prepare.largest(left), prepare.largest(right._replace(middle=origin))
    scale_x = screens.power_of_two_below(screens.TOP, float(largest_x.amax()))
    scale_y = screens.power_of_two_below(screens.TOP, float(prepare.largest(right).amax()))
    lost = 2.0 * screens.lost_in_keys(d, scale_x, scale_y)
    queries, points = (
        screens.side_of(_sums(side, scale), screens.slack_of(rows, 0.0, lost), squares=False)
        for rows, side, scale in ((x, left, scale_x), (y, right, scale_y))
    )
    points = points._replace(r=points.r + screens.lost_in_inner_products(d, largest_y, middle, scale_y))
    offset = 2.0 * (x.values.to(torch.float64) @ middle)
    return Screen(queries, points, *screens.constants(d, 0), 2.0, scale_x * scale_y, offset, euclidean=False)


def _middle(rows: Rows) -> Tensor:
    """(d,) float64: the median that the torch backend takes."""
    step = screens.sample_step(rows.values.shape[0])
    sample = rows.values[::step].to(torch.float64)
    if rows.norms is not None:
        sample = sample / rows.norms[::step, None]
    return sample.median(0).values


def _sums(shifted: Any, scale: float) -> Sums:
    from msma_fast.triton_kernels import prepare

    b, (residual, x2, b2) = prepare.sums(shifted, scale, screens.TINY)
    return Sums(b, residual.sqrt(), x2, b2)
