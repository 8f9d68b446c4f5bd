"""The Fisher metric of a read-out's token distribution in hidden space: products, quadratic form, mean, trace, diagonal.

    G(h) = J^T W^T (diag p - p p^T) W J     p = softmax(W norm(h) + b)     J the Jacobian of the norm, I without one
It is the metric in which a small step v changes the distribution by KL = v^T G v / 2 (Amari, Nagaoka, Methods of Information
Geometry, 2000). On a model's last layer it is the Fisher metric of its own tokens. On an inner layer the read-out is one that
the model does not apply there: call it the logit-lens Fisher. `pullback_vp` is the true one, through the remaining blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import fisher_ops
from msma_fast.backends import registry
from msma_fast.fisher._arguments import Checked, readout_of, within
from msma_fast.fisher.norms import Frame, Linearized
from msma_fast.results import Array


def products(read: Checked, h: Tensor, v: Tensor) -> Tensor:
    """(n, r, d): G(h_i) v_ir for v (n, r, d); no gradients."""
    with torch.no_grad():
        frame = read.at(h)
        if frame is None:
            return run("logit_fisher_vp", read, h, v)
        return frame.pull(run("logit_fisher_vp", read, frame.x, frame.push(v)))


def run(op: str, read: Checked, x: Tensor, *rest: Any) -> Tensor:
    found: Tensor = registry.run(op, x.device, read.backend, x.detach(), read.weight, read.bias, *rest)
    return found


def logit_fisher_vp(
    h: Array, weight: Array, v: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """G(h_i) v_i, the Fisher metric of the token distribution at h_i applied to v_i: (n, d).

    h and v (n, d); weight (V, d) in float16, bfloat16, float32 or float64, tied to the embedding or not; bias (V,); norm: what
    the read-out applies to h first, `LayerNorm`, `RMSNorm`, torch.nn.LayerNorm or any differentiable map of rows, whose
    Jacobian is applied. Returns the dtype float64 where h or weight is float64, else float32.

    Cost: three products n V d compiled, five by torch; memory a few n x V / 100, never n x V. Not differentiable. Raises
    ValueError / TypeError for NaN or inf, empty input, mismatched shapes or devices, V < 2, and logits that overflow. When not
    to use it: for the metric of an inner layer as the model itself maps it on; that is `pullback_vp`.
    """
    read = readout_of(h, weight, bias, norm, backend)
    steps = read.rows("v", v)
    return read.wrap(within(products(read, read.h.detach(), steps.detach()[:, None])[:, 0], read))


def logit_fisher_quadratic(
    h: Array, weight: Array, v: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """v_i^T G(h_i) v_i, twice the KL divergence of a small step v_i, and never negative: (n,), nats.

    Arguments, dtypes and errors as in `logit_fisher_vp`. Computed as the variance of the logits' change under p, by centred
    sums. Differentiable once in h and v (weight, bias and norm are constants), so that it serves as a loss: the gradient by h
    is the third cumulant, sum_t p_t ((u_t - ubar)^2 - v^T G v) w_t with u = W J v. Cost: two products n V d.
    """
    read = readout_of(h, weight, bias, norm, backend)
    steps = read.rows("v", v)
    frame = read.at(read.h)
    x, pushed = (read.h, steps) if frame is None else (frame.x, frame.push(steps[:, None])[:, 0])
    found: Tensor = fisher_ops.logit_fisher_quadratic(x, read.weight, read.bias, pushed, read.backend)
    return read.wrap(within(found, read))


def logit_fisher_mean(
    h: Array, weight: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """The mean of G(h_i) over rows: (d, d), exactly symmetric.

    Arguments, dtypes and errors as in `logit_fisher_vp`; norm has to be a LayerNorm or an RMSNorm (NotImplementedError: any
    other map would need a d x d matrix a row). Cost: two products n V d and one V d d, three and one by torch; with a norm
    three or five more; no n x V.
    """
    read = readout_of(h, weight, bias, norm, backend)
    rows = read.h.detach()
    frame = _closed_form(read, rows)
    if frame is None:
        return read.wrap(within(run("logit_fisher_mean", read, rows, None), read))
    shares = frame.inverse[:, 0].square() / rows.shape[0]
    inner = frame.gamma[:, None] * run("logit_fisher_mean", read, frame.x, shares) * frame.gamma
    across = frame.across
    along = _along(read, frame)
    weighted = shares[:, None, None] * across
    cross = torch.einsum("nqi,nqj->ij", weighted, along)
    corners = along @ across.mT
    inner = inner - cross - cross.T + torch.einsum("nqi,nqr,nrj->ij", weighted, corners, across)
    return read.wrap(within((inner + inner.T) / 2, read))


def logit_fisher_trace(
    h: Array, weight: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """The trace of G(h_i): the variance of the token's row of W J under p, (n,).

    Arguments, dtypes and errors as in `logit_fisher_mean`. Cost: two products n V d, three by torch; with a norm four or five
    more.
    """
    read = readout_of(h, weight, bias, norm, backend)
    rows = read.h.detach()
    frame = _closed_form(read, rows)
    found = run("logit_fisher_trace", read, rows) if frame is None else _diagonal(read, frame).sum(1)
    return read.wrap(within(found, read))


def logit_fisher_diag(
    h: Array, weight: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """The diagonal of G(h_i): (n, d), never negative.

    Arguments, dtypes and errors as in `logit_fisher_mean`. Cost: three products n V d, four by torch; with a norm three or
    four more.
    """
    read = readout_of(h, weight, bias, norm, backend)
    rows = read.h.detach()
    frame = _closed_form(read, rows)
    found = run("logit_fisher_diag", read, rows) if frame is None else _diagonal(read, frame)
    return read.wrap(within(found, read))


def _closed_form(read: Checked, rows: Tensor) -> Frame | None:
    with torch.no_grad():
        frame = read.at(rows)
    if isinstance(frame, Linearized):
        raise NotImplementedError(
            "norm: expected a LayerNorm or an RMSNorm (mf.fisher.LayerNorm, mf.fisher.RMSNorm, torch.nn.LayerNorm), got "
            f"{type(read.norm).__name__}: sums of this kind need the Jacobian's closed form; logit_fisher_vp, _quadratic "
            "and _eigh take any map"
        )
    return frame


def _along(read: Checked, frame: Frame) -> Tensor:
    """diag(gamma) G(x) diag(gamma) U: (n, q, d)."""
    return frame.gamma * run("logit_fisher_vp", read, frame.x, frame.gamma * frame.across)


def _diagonal(read: Checked, frame: Frame) -> Tensor:
    """The diagonal of K diag(gamma) G diag(gamma) K / sigma^2, K = I - U U^T."""
    inner = frame.gamma.square() * run("logit_fisher_diag", read, frame.x)
    along, across = _along(read, frame), frame.across
    corners = along @ across.mT
    inner = inner - 2.0 * (across * along).sum(1) + (across * (corners @ across)).sum(1)
    return (inner * frame.inverse.square()).clamp_min_(0.0)
