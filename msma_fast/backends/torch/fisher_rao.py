"""Fisher-Rao distances between the token distributions p, q of a read-out l = W h + b.

    B = sum_t sqrt(p_t q_t)      d = 2 arccos B = 4 arcsin(|sqrt p - sqrt q| / 2)

A product of square roots loses what makes close distributions differ. Where B is near one, differences of logits are taken:
    D = W (h - g)     c = log sum_t q_t exp(D_t)     |sqrt p - sqrt q|^2 = sum_t q_t expm1((D_t - c) / 2)^2
a pair at a time; of many close pairs of float32 rows first B again in float64, which leaves the closest of them.
With delta = (D - c) / 2, p_t = q_t exp(2 delta_t): d d / dh = sum_t w_t (B p_t - sqrt(p_t q_t)) / sin(d / 2), and for close
pairs B p - sqrt(p q) = (B - 1) p - p expm1(-delta).
h (n, d), other (m, d), weight (V, d), bias (V,) or None. Blocks of tokens; never an (n, V) array.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from msma_fast.backends.torch.vocabulary import Block, Vocabulary, softmax, vocabulary, without
from msma_fast.backends.torch.whole import reduced

_CLOSE = 1.0 - 2.0**-6  # above this B the differences decide; below it arccos loses no more than five bits
_PAIRS = 1 << 12  # close pairs taken together
_ENTRIES = 1 << 24  # of a block of float64 affinities
_NEAR = 0.05  # distances below it lose digits in a gradient by square roots
_SURE = 1e-8  # squared chords above it, of float64 affinities, are right to float32's digits


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
    renew(distances, i, j, h, y, words)
    if other is None:
        distances = distances.triu(1)
        distances = distances + distances.T
    return distances


def few(n: int, m: int, d: int) -> int:
    """How many close pairs, of n x m, cost less one by one (some five V d each) than float64 products of all."""
    return n + m + 2 * n * m // (5 * d)


def renew(distances: Tensor, i: Tensor, j: Tensor, x: Tensor, y: Tensor, words: Vocabulary) -> None:
    """The close pairs (i, j), (P,) each, of distances (n, m), in place."""
    if x.dtype == torch.float32 and reduced(x.device):  # asked by ops with products of their own
        x, y, words = x.double(), y.double(), vocabulary(words.weight, words.bias, torch.float64)
    elif x.dtype == torch.float32 and i.numel() > few(x.shape[0], y.shape[0], x.shape[1]):
        left = _renew_in_float64(distances, i, j, x, y, words)
        i, j = i[left], j[left]
    for rows, columns in _parts(i, j):
        distances[rows, columns] = _close(x[rows], y[columns], words).to(distances.dtype)


def _parts(i: Tensor, j: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A list of pairs, _PAIRS at a time; nothing of none."""
    return list(zip(i.split(_PAIRS), j.split(_PAIRS), strict=True)) if i.numel() else []


def _renew_in_float64(distances: Tensor, i: Tensor, j: Tensor, x: Tensor, y: Tensor, words: Vocabulary) -> Tensor:
    """(P,) bool: the pairs that are closer than a float64 affinity tells."""
    wide = vocabulary(words.weight, words.bias, torch.float64)
    if x is y and x.shape[0] ** 2 <= _ENTRIES:  # one side serves as both
        chords = 2.0 - 2.0 * _affinities(x.to(torch.float64), None, wide)[i, j]
    else:
        rows, at = i.unique(return_inverse=True)
        columns, to = j.unique(return_inverse=True)
        other = y[columns].to(torch.float64)
        chords = other.new_empty(i.shape)
        for part in torch.arange(rows.numel(), device=x.device).split(max(1, _ENTRIES // columns.numel())):
            mine = (at >= part[0]) & (at <= part[-1])
            affinity = _affinities(x[rows[part]].to(torch.float64), other, wide)
            chords[mine] = 2.0 - 2.0 * affinity[at[mine] - part[0], to[mine]]
    sure = chords > _SURE
    distances[i[sure], j[sure]] = (4.0 * (chords[sure].sqrt() / 2).asin()).to(distances.dtype)
    same = torch.cat([(x[rows] == y[columns]).all(1) for rows, columns in _parts(i, j)])
    distances[i[same], j[same]] = 0.0
    return ~(sure | same)


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
    if bool(close.any()):
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


class _Pairs:
    """Close pairs h and other (P, d): log q, and delta as the module has it, a block of tokens at a time."""

    def __init__(self, h: Tensor, other: Tensor, words: Vocabulary) -> None:
        self.other, self.words, self.step = other, words, h - other
        self.of = softmax(other, words)
        self.origin = (self.step * words.take(self.of.top)).sum(1, keepdim=True)
        self.level = torch.zeros_like(h[:, :1])
        for _, log_q, shift in self._shifts():
            self.level += _raised(log_q, shift).sum(1, keepdim=True)
        self.level.log1p_()

    def _shifts(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """(block, log q, D less that of the most probable token), (P, B) each."""
        for block in self.words.blocks(self.other.shape[0], 4):
            log_q = block.logits(self.other) - self.of.log_normalizer[:, None]
            yield block, log_q, without(self.step @ block.rows.T - self.origin, self.of.top, block.start)

    def blocks(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """(block, log q, delta)."""
        for block, log_q, shift in self._shifts():
            yield block, log_q, shift.sub_(self.level).div_(2.0)

    def chords(self) -> Tensor:
        """(P,) |sqrt p - sqrt q|^2."""
        total = torch.zeros_like(self.other[:, 0])
        for _, log_q, delta in self.blocks():
            total += _raised(log_q / 2, delta).square_().sum(1)
        return total


def _close(h: Tensor, other: Tensor, words: Vocabulary) -> Tensor:
    """(P,) distances of close pairs, to a relative error that does not grow as they become closer."""
    return 4.0 * (_Pairs(h, other, words).chords().sqrt() / 2).clamp(max=1.0).asin()


def _close_slopes(h: Tensor, other: Tensor, words: Vocabulary) -> tuple[Tensor, Tensor]:
    """(P, d) each: the gradients of the distances of close pairs, by h and by other; 0 at distance zero."""
    pairs = _Pairs(h, other, words)
    chord = pairs.chords()[:, None]
    to_h, to_other = torch.zeros_like(h), torch.zeros_like(other)
    for block, log_q, delta in pairs.blocks():
        log_p = log_q + 2.0 * delta
        to_h.addmm_(_raised(log_p, -delta) + chord / 2 * log_p.exp(), block.rows)
        to_other.addmm_(_raised(log_q, delta) + chord / 2 * log_q.exp(), block.rows)
    half = (chord.sqrt() / 2).clamp(max=1.0)  # sin(d / 4)
    sine = 2.0 * half * (1.0 - half * half).sqrt()
    return tuple(torch.where(sine > 0, -each / sine, 0.0) for each in (to_h, to_other))  # type: ignore[return-value]


def _raised(a: Tensor, shift: Tensor) -> Tensor:
    """exp(a + shift) - exp(a), whatever the size of the shift: one exponential may be 0 where the other is not."""
    return torch.where(shift.abs() < 1.0, a.exp() * shift.expm1(), (a + shift).exp() - a.exp())


def fisher_rao_distances_backward(
    grad: Tensor, distances: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of h and other, zero where the distance is zero: with c = grad / sin(d / 2), of h_i
    sum_t p_it^(1/2) w_t sum_j c_ij (B_ij p_it^(1/2) - q_jt^(1/2)); those of close pairs one by one."""
    words = vocabulary(weight, bias, h.dtype)
    close = (distances > 0) & (distances < _NEAR)
    if other is None:
        grad = grad + grad.T
    close_pairs = (close if other is not None else close.triu(1)).nonzero(as_tuple=True)
    sine = (distances / 2).sin()
    c = torch.where((sine > 0) & ~close, grad / sine, 0.0)
    own = c * (distances / 2).cos()
    to_h, to_other = torch.zeros_like(h), None if other is None else torch.zeros_like(other)
    for block, left, right in _roots(h, other, words, 4):
        to_h.addmm_(left * (own.sum(1, keepdim=True) * left - c @ right), block.rows)
        if to_other is not None:
            to_other.addmm_(right * (own.sum(0)[:, None] * right - c.T @ left), block.rows)
    y, to_y = (h, to_h) if other is None or to_other is None else (other, to_other)
    for i, j in _parts(*close_pairs):
        weights = grad[i, j, None]
        of_h, of_y = _close_slopes(h[i], y[j], words)
        to_h.index_add_(0, i, weights * of_h)
        to_y.index_add_(0, j, weights * of_y)
    return to_h, to_other
