"""pullback_vp: the Fisher metric of the token distribution, pulled back through any differentiable map, times a vector.

  l = fn(h), p = softmax(l), J = dl / dh:  G v = J^T (diag p - p p^T) J v     (Amari, Natural Gradient, 1998; and Kunstner et
  al., NeurIPS 2019, sec. 2: for a softmax it is the generalised Gauss-Newton matrix of the cross entropy)
  h, v any shape; l (..., V); one row of l is one token distribution, G is the sum over rows.

One evaluation of fn carries the tangent J v forward beside the logits and keeps the graph; one pullback follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from msma_fast._arrays import distance_dtype, float_tensor, wrapper_like
from msma_fast.results import Array


def pullback_vp(fn: Callable[[Tensor], Tensor], h: Array, v: Array) -> Array:
    """G v, of the shape and dtype of h, for the Fisher metric of softmax(fn(h)) pulled back to h.

    fn: a differentiable function of one tensor like h (of its shape, dtype and device) to logits (..., V), such as the
    blocks of a model after a layer with its final norm and read-out. h, v: arrays of the same shape. G = J^T F J with J the
    Jacobian of the logits and F = diag p - p p^T in every row of logits: v . G v is the squared length of the step v, in
    nats twice the KL divergence of the distributions at h and h + v to second order, summed over rows.

    Where fn treats rows separately, so does G, and row i of the result is G(h_i) v_i. Where it mixes them (attention over
    the tokens of a text), G is the metric of the product of all rows' distributions as a function of all of h: v moves
    every token's h at once, and row i of G v collects what that does to every later token. For one token's own metric let
    v be zero in the other rows and read that row.

    One evaluation of fn with a tangent and a graph, and one backward: about five plain evaluations in time for the blocks
    of a GPT-2; memory that of a backward with the tangents beside it, and a few arrays of the size of the logits. Scaled
    dot product attention runs in its plain form, as the fast ones have no forward derivative: a text's attention matrices
    are stored. p and F are float32 at least (float64 for float64 logits), centred so that a probability near one keeps its
    digits; fn itself runs in the dtype of h. Neither h, v nor parameters that fn uses get a gradient, and the result has no
    graph; a random fn (dropout) is drawn once.

    Raises ValueError / TypeError for shapes that differ, NaN or inf in h, v, or the probabilities, a result of fn that is no
    float tensor (..., V) or does not depend on h, and NotImplementedError where an operation in fn has no forward
    derivative. When not to use it: for the read-out alone, l = W h + b, where `logit_fisher_vp` needs no n x V array.
    """
    point, direction = _finite("h", h), _finite("v", v)
    if point.shape != direction.shape:
        raise ValueError(f"v: expected shape {tuple(point.shape)} as h, got shape {tuple(direction.shape)}")
    if point.device != direction.device:
        raise ValueError(f"v: expected device {point.device} as h, got {direction.device}")
    if point.numel() == 0:
        raise ValueError(f"h: expected at least one value, got an empty array {tuple(point.shape)}")
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaf = point.detach().requires_grad_()
        # Outside the level the kept values have no tangents, which the backward would carry on. fn may write into the copy.
        with forward_ad.dual_level():
            logits, change = _evaluated(fn, forward_ad.make_dual(leaf.clone(), direction.detach().to(point.dtype)))
        (result,) = torch.autograd.grad(logits, leaf, _softmax_fisher(logits.detach(), change), allow_unused=True)
    if result is None:
        raise ValueError("fn: expected logits that depend on h differentiably, got a result detached from it")
    return wrapper_like(h)(result)


def _finite(name: str, value: Any) -> Tensor:
    tensor = float_tensor(name, value)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")
    return tensor


def _evaluated(fn: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Tensor]:
    """The logits with their graph, and their tangent without one, whose values are freed with it."""
    try:
        out = fn(point)
    except NotImplementedError as error:
        if not any(words in str(error) for words in ("forward AD", "forward mode AD")):
            raise  # fn's own
        raise NotImplementedError(
            f"fn: expected operations with forward derivatives, got one without: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(out, Tensor):
        raise TypeError(f"fn: expected a function that returns a tensor of logits, got {type(out).__name__}")
    if not out.is_floating_point():
        raise TypeError(f"fn: expected float logits, got {out.dtype}")
    if out.ndim < 1 or out.shape[-1] < 1:
        raise ValueError(f"fn: expected logits (..., V), got shape {tuple(out.shape)}")
    logits, change = forward_ad.unpack_dual(out)
    if change is None or not logits.requires_grad:
        raise ValueError("fn: expected logits that depend on h differentiably, got a result detached from it")
    return logits, change.detach()


def _softmax_fisher(logits: Tensor, change: Tensor) -> Tensor:
    """(diag p - p p^T) u = p (u - sum p u) in every row, u against that of the likeliest token.

    There u - sum p u is a small difference of large numbers when p is near one; without the offset it is not."""
    wide = distance_dtype(logits)
    p = torch.softmax(logits.to(wide), -1)
    if not bool(torch.isfinite(p).all()):
        raise ValueError("fn: expected logits with finite probabilities, got NaN or inf")
    u = change.to(wide)
    u = u - u.gather(-1, p.argmax(-1, keepdim=True))
    return (p * (u - (p * u).sum(-1, keepdim=True))).to(logits.dtype)
