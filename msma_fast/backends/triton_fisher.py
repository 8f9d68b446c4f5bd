"""The Fisher metric of a read-out by Triton kernels, on CUDA tensors (or in the interpreter).

Each op stands for the one of its name in backends/torch/: the same sums, from kernels that write no block of logits, and the
same formulas over them. float64 rows, and a weight whose rows do not lie one after the other, are the torch backend's. So are
the ops whose sums have d numbers a row: matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from msma_fast.backends.torch import fisher_rao
from msma_fast.backends.torch import logit_fisher as plain
from msma_fast.backends.torch.vocabulary import Part, Vocabulary, gathered, parts, vocabulary

if TYPE_CHECKING:
    from msma_fast.triton_kernels.logit_fisher import Readout, Rows


def _served(h: Tensor, weight: Tensor) -> bool:
    return h.dtype == torch.float32 and weight.is_contiguous()


def _readout(words: Vocabulary) -> Readout:
    from msma_fast.triton_kernels.logit_fisher import Readout

    return Readout(words.weight, words.center, None if words.bias is None else words.bias.contiguous())


def logit_fisher_quadratic(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n,): v_i^T G(h_i) v_i; v (n, d)."""
    from msma_fast.triton_kernels import logit_fisher as kernels

    if not _served(h, weight):
        return plain.logit_fisher_quadratic(h, weight, bias, v)

    def softmax_of(rows: Tensor, words: Vocabulary) -> Rows:
        return kernels.rows_of(_readout(words), rows.contiguous())

    def answer(part: Part) -> Tensor:
        steps = v[part.rows]
        origin = (steps * part.words.take(part.of.top.long())).sum(1)
        mean, square = kernels.quadratic(_readout(part.words), part.of, steps, origin)
        return (square - mean * mean).clamp_min_(0.0)

    found = parts(h, vocabulary(weight, bias, h.dtype), softmax_of)
    return gathered(found, [answer(part) for part in found])


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


OPS = (logit_fisher_quadratic, fisher_rao_distances)
