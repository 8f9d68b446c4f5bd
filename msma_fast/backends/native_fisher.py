"""The Fisher metric of a token head by the compiled module, on CPU tensors; see csrc/include/msma/fisher.hpp.

With l = W h + b, p = softmax(l): G(h) = W^T (diag p - p p^T) W. h (n, d), weight (V, d), bias (V,) or None. Each function
stands for the one of its name in backends/torch/, which also serves what is not compiled: float64, and shapes with nothing
in them. Results do not depend on the number of threads (torch.get_num_threads()).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.native import compiled
from msma_fast.backends.torch import fisher_rao, logit_fisher
from msma_fast.backends.torch.vocabulary import vocabulary

_FORMATS = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}


def _served(h: Tensor, weight: Tensor) -> bool:
    return h.dtype == torch.float32 and weight.dtype in _FORMATS and min(*h.shape, *weight.shape) > 0


def _rows(tensor: Tensor) -> Any:
    """numpy memory with contiguous rows, shared where it already has them."""
    values = tensor.detach()
    if (values.shape[1] > 1 and values.stride(1) != 1) or values.stride(0) < values.shape[1]:
        values = values.contiguous()
    return values.numpy()


def _head(weight: Tensor, bias: Tensor | None) -> tuple[Any, str, Any]:
    bits = weight.detach() if weight.dtype == torch.float32 else weight.detach().view(torch.uint16)
    return _rows(bits), _FORMATS[weight.dtype], None if bias is None else bias.detach().contiguous().numpy()


def _run(op: str, h: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    found = getattr(compiled(), op)(_rows(h), *_head(weight, bias), *rest, torch.get_num_threads())
    return torch.from_numpy(found)


def logit_fisher_vp(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n, r, d): G(h_i) v_ir for v (n, r, d)."""
    if not _served(h, weight) or v.shape[1] == 0:
        return logit_fisher.logit_fisher_vp(h, weight, bias, v)
    return _run("logit_fisher_vp", h, weight, bias, v.detach().contiguous().numpy())


def logit_fisher_quadratic(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n,): v_i^T G(h_i) v_i for v (n, d)."""
    if not _served(h, weight):
        return logit_fisher.logit_fisher_quadratic(h, weight, bias, v)
    return _run("logit_fisher_quadratic", h, weight, bias, v.detach().contiguous().numpy())


def logit_fisher_mean(h: Tensor, weight: Tensor, bias: Tensor | None, shares: Tensor | None) -> Tensor:
    """(d, d): sum_i s_i G(h_i) for shares (n,); 1 / n each where None."""
    if not _served(h, weight):
        return logit_fisher.logit_fisher_mean(h, weight, bias, shares)
    each = None if shares is None else shares.detach().contiguous().numpy()
    return _run("logit_fisher_mean", h, weight, bias, each)


def logit_fisher_trace(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n,): the trace of each G(h_i)."""
    if not _served(h, weight):
        return logit_fisher.logit_fisher_trace(h, weight, bias)
    found = _run("logit_fisher_trace", h, weight, bias)
    return found.clamp_min_(0.0)  # rounding, where a common offset of the likely tokens cancels


def logit_fisher_diag(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n, d): the diagonal of each G(h_i)."""
    if not _served(h, weight):
        return logit_fisher.logit_fisher_diag(h, weight, bias)
    return _run("logit_fisher_diag", h, weight, bias).clamp_min_(0.0)


def fisher_rao_distances(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
    """(n, m): 2 arccos(sum_t sqrt(p_t q_t)) for other (m, d), or among the rows of h where None."""
    if not _served(h, weight) or (other is not None and other.shape[0] == 0):
        return fisher_rao.fisher_rao_distances(h, weight, bias, other)
    y, other_rows = (h, None) if other is None else (other, _rows(other))
    found = _run("fisher_rao_distances", h, weight, bias, other_rows, fisher_rao.few(h.shape[0], *y.shape))
    left = found < 0  # close pairs, which were too many
    if bool(left.any()):
        i, j = (left if other is not None else left.triu(1)).nonzero(as_tuple=True)
        fisher_rao.renew(found, i, j, h, y, vocabulary(weight, bias, h.dtype))
        if other is None:
            found[j, i] = found[i, j]
    return found


OPS = (
    logit_fisher_vp,
    logit_fisher_quadratic,
    logit_fisher_mean,
    logit_fisher_trace,
    logit_fisher_diag,
    fisher_rao_distances,
)
