"""Fisher-Rao distances between the token distributions p, q of a read-out l = W h + b.

    B = sum_t sqrt(p_t q_t)      d = 2 arccos B = 4 arcsin(|sqrt p - sqrt q| / 2)

A product of square roots loses what makes close distributions differ. Where B is near one, differences of logits are taken:
    D = W (h - g)     c = log sum_t q_t exp(D_t)     |sqrt p - sqrt q|^2 = sum_t q_t expm1((D_t - c) / 2)^2
h (n, d), other (m, d), weight (V, d), bias (V,) or None. Blocks of tokens; never an (n, V) array.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from msma_fast.backends.torch.vocabulary import Block, Vocabulary, softmax, vocabulary, without

_CLOSE = 1.0 - 2.0**-6  # above this B the differences decide; below it arccos loses no more than five bits
_PAIRS = 1 << 12  # close pairs taken together


def fisher_rao_distances(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
    """(n, m); with other None (n, n), exactly symmetric, zero on the diagonal."""
    words = vocabulary(weight, bias, h.dtype)
    return distances_of(_affinities(h, other, words), h, other, words)


def distances_of(affinity: Tensor, h: Tensor, other: Tensor | None, words: Vocabulary) -> Tensor:
    """affinity (n, m): B; with other None its part above the diagonal is read."""
    y = h if other is None else other
    close = affinity > _CLOSE
    if other is None:
        close = close.triu(1)
    distances = 2.0 * affinity.clamp(0.0, 1.0).acos()
    i, j = close.nonzero(as_tuple=True)
    for left, right in zip(i.split(_PAIRS), j.split(_PAIRS), strict=True):
        distances[left, right] = _close(h[left], y[right], words)
    if other is None:
        distances = distances.triu(1)
        distances = distances + distances.T
    return distances


def fisher_rao_pairs(h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """(n,): the distance of row i of h and row i of other."""
    words = vocabulary(weight, bias, h.dtype)
    parts = zip(h.split(words.rows_at_once()), other.split(words.rows_at_once()), strict=True)
    return torch.cat([_pairs(a, b, words) for a, b in parts])


def _pairs(h: Tensor, other: Tensor, words: Vocabulary) -> Tensor:
    x, y = softmax(h, words).log_normalizer[:, None], softmax(other, words).log_normalizer[:, None]
    affinity = torch.zeros_like(h[:, 0])
    for block in words.blocks(h.shape[0], 2):
        affinity += (((block.logits(h) - x) + (block.logits(other) - y)) / 2).exp_().sum(1)
    distances = 2.0 * affinity.clamp(0.0, 1.0).acos()
    close = affinity > _CLOSE
    distances[close] = _close(h[close], other[close], words)
    return distances


def _affinities(h: Tensor, other: Tensor | None, words: Vocabulary) -> Tensor:
    """B of all pairs, (n, m)."""
    total = h.new_zeros(h.shape[0], h.shape[0] if other is None else other.shape[0])
    for _, left, right in _roots(h, other, words, 2):
        total.addmm_(left, right.T)
    return total


def _roots(h: Tensor, other: Tensor | None, words: Vocabulary, arrays: int) -> Iterator[tuple[Block, Tensor, Tensor]]:
    """(block, sqrt p (n, B), sqrt q (m, B)); with other None the two are one."""
    x = softmax(h, words).log_normalizer[:, None]
    y = x if other is None else softmax(other, words).log_normalizer[:, None]
    for block in words.blocks(h.shape[0], arrays):
        left = ((block.logits(h) - x) / 2).exp_()
        yield block, left, left if other is None else ((block.logits(other) - y) / 2).exp_()


def _close(h: Tensor, other: Tensor, words: Vocabulary) -> Tensor:
    """(P,) distances of close pairs, to a relative error that does not grow as they become closer."""
    if not h.shape[0]:
        return h.new_zeros(0)
    of, step = softmax(other, words), h - other
    origin = (step * words.take(of.top)).sum(1, keepdim=True)

    def shifts() -> Iterator[tuple[Tensor, Tensor]]:
        """(log q, D less that of the most probable token), (P, B) each."""
        for block in words.blocks(h.shape[0], 4):
            log_q = block.logits(other) - of.log_normalizer[:, None]
            yield log_q, without(step @ block.rows.T - origin, of.top, block.start)

    level = torch.zeros_like(h[:, :1])
    for log_q, shift in shifts():
        level += _raised(log_q, shift).sum(1, keepdim=True)
    level.log1p_()
    key = torch.zeros_like(h[:, 0])
    for log_q, shift in shifts():
        key += _raised(log_q / 2, (shift - level) / 2).square_().sum(1)
    return 4.0 * (key.sqrt() / 2).clamp(max=1.0).asin()


def _raised(a: Tensor, shift: Tensor) -> Tensor:
    """exp(a + shift) - exp(a), whatever the size of the shift: one exponential may be 0 where the other is not."""
    return torch.where(shift.abs() < 1.0, a.exp() * shift.expm1(), (a + shift).exp() - a.exp())


def fisher_rao_distances_backward(
    grad: Tensor, distances: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of h and other, zero where the distance is zero: with c = grad / sin(d / 2), of h_i
    sum_t p_it^(1/2) w_t sum_j c_ij (B_ij p_it^(1/2) - q_jt^(1/2))."""
    words = vocabulary(weight, bias, h.dtype)
    if other is None:
        grad = grad + grad.T
    sine = (distances / 2).sin()
    c = torch.where(sine > 0, grad / sine, 0.0)
    own = c * (distances / 2).cos()
    to_h, to_other = torch.zeros_like(h), None if other is None else torch.zeros_like(other)
    for block, left, right in _roots(h, other, words, 4):
        to_h.addmm_(left * (own.sum(1, keepdim=True) * left - c @ right), block.rows)
        if to_other is not None:
            to_other.addmm_(right * (own.sum(0)[:, None] * right - c.T @ left), block.rows)
    return to_h, to_other
