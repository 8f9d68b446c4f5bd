"""The Fisher metric of a read-out by Triton kernels, on CUDA tensors (or in the interpreter).

Each op stands for the one of its name in backends/torch/: the same sums, from kernels that write no block of logits, and the
same formulas over them. float64 rows, and a weight whose rows do not lie one after the other, are the torch backend's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from msma_fast.backends.torch import fisher_rao
from msma_fast.backends.torch import logit_fisher as plain
from msma_fast.backends.torch.vocabulary import Vocabulary, vocabulary

if TYPE_CHECKING:
    from msma_fast.triton_kernels.logit_fisher import Readout, Rows

_FEW_ROWS = 64  # a tile of the kernels; fewer rows are repeated where they have several vectors


def _served(h: Tensor, weight: Tensor) -> bool:
    return h.dtype == torch.float32 and weight.is_contiguous()


def _ready(h: Tensor, words: Vocabulary) -> tuple[Readout, Rows, Tensor]:
    """(the read-out, rows with their normalisers, centred rows of the most probable tokens (n, d))."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    read = _readout(words)
    of = kernels.rows_of(read, h.contiguous())
    return read, of, words.take(of.top.long())


def _readout(words: Vocabulary) -> Readout:
    from msma_fast.triton_kernels.logit_fisher import Readout

    return Readout(words.weight, words.center, None if words.bias is None else words.bias.contiguous())


def logit_fisher_vp(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n, r, d): G(h_i) v_ir."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_vp(h, weight, bias, v)
    read, of, r = _ready(h, vocabulary(weight, bias, h.dtype))
    vectors = v.shape[1]
    if vectors > 1 and h.shape[0] < _FEW_ROWS:
        of, r = kernels.Rows(*(each.repeat_interleave(vectors, 0) for each in of)), r.repeat_interleave(vectors, 0)
    each = v.reshape(r.shape[0], -1, r.shape[1])
    origin = (each * r[:, None]).sum(2)
    found = kernels.sums("product", read, of, each.transpose(0, 1).contiguous(), origin.T.contiguous())
    mean, along = found.scalar[1:].T[:, :, None], found.arrays[1:].transpose(0, 1)
    return plain.product_of(r, found.s0, found.arrays[0], mean, along).reshape(v.shape)


def logit_fisher_quadratic(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n,): v_i^T G(h_i) v_i; v (n, d)."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_quadratic(h, weight, bias, v)
    read, of, r = _ready(h, vocabulary(weight, bias, h.dtype))
    mean, square = kernels.quadratic(read, of, v.contiguous(), (v * r).sum(1))
    return (square - mean * mean).clamp_min_(0.0)


def logit_fisher_mean(h: Tensor, weight: Tensor, bias: Tensor | None, shares: Tensor | None) -> Tensor:
    """(d, d): sum_i shares_i G(h_i), exactly symmetric; shares (n,), 1 / n each where None."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_mean(h, weight, bias, shares)
    if shares is None:
        shares = torch.full_like(h[:, 0], 1.0 / h.shape[0])
    words = vocabulary(weight, bias, h.dtype)
    read, of, r = _ready(h, words)
    found = kernels.sums("mean", read, of, None, shares.contiguous())
    total = h.new_zeros(h.shape[1], h.shape[1])
    for block in words.blocks(h.shape[0]):
        total.addmm_(block.rows.T * found.column[block.start : block.start + block.rows.shape[0]], block.rows)
    total = plain.mean_of(r, found.s0, found.arrays[0], total, shares)
    return (total + total.T) / 2


def logit_fisher_trace(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n,): the trace of G(h_i)."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_trace(h, weight, bias)
    words = vocabulary(weight, bias, h.dtype)
    read, of, r = _ready(h, words)
    norms = torch.cat([block.rows.square().sum(1) for block in words.blocks(h.shape[0])])
    found = kernels.sums("trace", read, of, None, norms)
    return plain.trace_of(r, found.s0, found.arrays[0], found.scalar[0])


def logit_fisher_diag(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n, d): the diagonal of G(h_i)."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_diag(h, weight, bias)
    read, of, r = _ready(h, vocabulary(weight, bias, h.dtype))
    found = kernels.sums("diagonal", read, of)
    return plain.diagonal_of(r, found.s0, found.arrays[0], found.arrays[1])


def fisher_rao_distances(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
    """(n, m); with other None (n, n), exactly symmetric, zero on the diagonal."""
    from msma_fast.triton_kernels import fisher_rao as pairs
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return fisher_rao.fisher_rao_distances(h, weight, bias, other)
    words = vocabulary(weight, bias, h.dtype)
    read = _readout(words)
    x = kernels.rows_of(read, h.contiguous())
    y = None if other is None else kernels.rows_of(read, other.contiguous())
    return fisher_rao.distances_of(pairs.affinities(read, x, y), h, other, words)


OPS = (
    logit_fisher_vp,
    logit_fisher_quadratic,
    logit_fisher_mean,
    logit_fisher_trace,
    logit_fisher_diag,
    fisher_rao_distances,
)
