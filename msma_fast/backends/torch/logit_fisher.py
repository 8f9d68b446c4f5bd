"""The Fisher metric of a read-out's token distribution in hidden space, G(h) = W^T (diag p - p p^T) W, p = softmax(W h + b).

With r the row of the most probable token, q as p but zero for that token (vocabulary.py), u_t = (w_t - r).v:
    S0 = sum q     S1 = sum q w     ubar = sum q u     A = sum q u w
    G v = A - ubar (S1 - S0 r) - ubar r               v^T G v = sum q u^2 - ubar^2
    G = sum q (w - r)(w - r)^T - (S1 - S0 r)(S1 - S0 r)^T
h (n, d), weight (V, d), bias (V,) or None, v (n, r, d). Blocks of tokens; never an (n, V) array.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch.vocabulary import Part, Vocabulary, gathered, others, parts, vocabulary


def logit_fisher_vp(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n, r, d): G(h_i) v_ir."""
    words = vocabulary(weight, bias, h.dtype)
    size = max(1, words.rows_at_once() // v.shape[1])
    return torch.cat([_products(a, b, words) for a, b in zip(h.split(size), v.split(size), strict=True)])


def _products(h: Tensor, v: Tensor, words: Vocabulary) -> Tensor:
    found = parts(h, words)
    return gathered(found, [_products_of(h[part.rows], v[part.rows], part) for part in found])


def _products_of(h: Tensor, v: Tensor, part: Part) -> Tensor:
    _, of, words = part
    vectors, r = v.shape[1], words.take(of.top)
    origin = (v * r[:, None]).sum(2, keepdim=True)
    s0, s1, mean, along = torch.zeros_like(h[:, 0]), torch.zeros_like(h), torch.zeros_like(origin), torch.zeros_like(v)
    for block, q in others(h, words, of, vectors):
        a = (v @ block.rows.T - origin).mul_(q[:, None])
        mean += a.sum(2, keepdim=True)
        along += a @ block.rows
        s0 += q.sum(1)
        s1.addmm_(q, block.rows)
    return along - mean * (s1 - s0[:, None] * r + r)[:, None]


def logit_fisher_quadratic(h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor) -> Tensor:
    """(n,): v_i^T G(h_i) v_i; v (n, d)."""
    words = vocabulary(weight, bias, h.dtype)
    size = words.rows_at_once()
    return torch.cat([_variance(a, b, words) for a, b in zip(h.split(size), v.split(size), strict=True)])


def _variance(h: Tensor, v: Tensor, words: Vocabulary) -> Tensor:
    found = parts(h, words)
    return gathered(found, [_variance_of(h[part.rows], v[part.rows], part) for part in found])


def _variance_of(h: Tensor, v: Tensor, part: Part) -> Tensor:
    _, of, words = part
    origin = (v * words.take(of.top)).sum(1, keepdim=True)
    mean, square = torch.zeros_like(h[:, 0]), torch.zeros_like(h[:, 0])
    for block, q in others(h, words, of):
        u = v @ block.rows.T - origin
        q *= u
        mean += q.sum(1)
        square += q.mul_(u).sum(1)
    return (square - mean * mean).clamp_min_(0.0)


def logit_fisher_quadratic_backward(
    grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of sum_i grad_i v_i^T G(h_i) v_i: of h, grad sum_t p_t ((u_t - ubar)^2 - v^T G v) w_t; of v, 2 grad G v."""
    words = vocabulary(weight, bias, h.dtype)
    rows = words.rows_at_once()
    found = [_cumulants(a, b, words) for a, b in zip(h.split(rows), v.split(rows), strict=True)]
    third, second = (torch.cat(field) for field in zip(*found, strict=True))
    return grad[:, None] * third, 2.0 * grad[:, None] * second


def _cumulants(h: Tensor, v: Tensor, words: Vocabulary) -> tuple[Tensor, Tensor]:
    """(n, d) each: the gradient of v^T G v by h, and G v."""
    found = parts(h, words)
    answers = zip(*(_cumulants_of(h[part.rows], v[part.rows], part) for part in found), strict=True)
    third, second = (gathered(found, list(each)) for each in answers)
    return third, second


def _cumulants_of(h: Tensor, v: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    _, of, words = part
    r = words.take(of.top)
    origin = (v * r).sum(1, keepdim=True)
    s0, mean, square = (torch.zeros_like(h[:, :1]) for _ in range(3))
    s1, along, curved = (torch.zeros_like(h) for _ in range(3))
    for block, q in others(h, words, of):
        u = v @ block.rows.T - origin
        s0 += q.sum(1, keepdim=True)
        s1.addmm_(q, block.rows)
        mean += q.mul_(u).sum(1, keepdim=True)
        along.addmm_(q, block.rows)
        square += q.mul_(u).sum(1, keepdim=True)
        curved.addmm_(q, block.rows)
    variance = square - mean * mean
    level = mean * mean - variance
    third = curved - 2.0 * mean * along + level * s1 - r * (square - 2.0 * mean * mean + level * s0)
    return third, along - mean * (s1 - s0 * r + r)


def logit_fisher_mean(h: Tensor, weight: Tensor, bias: Tensor | None, shares: Tensor | None) -> Tensor:
    """(d, d): sum_i shares_i G(h_i), exactly symmetric; shares (n,), 1 / n each where None."""
    words = vocabulary(weight, bias, h.dtype)
    if shares is None:
        shares = torch.full_like(h[:, 0], 1.0 / h.shape[0])
    n = words.rows_at_once()
    total = sum((_mean(a, b, words) for a, b in zip(h.split(n), shares.split(n), strict=True)), h.new_zeros(()))
    return (total + total.T) / 2


def _mean(h: Tensor, shares: Tensor, words: Vocabulary) -> Tensor:
    return sum(
        (_mean_of(h[part.rows], shares[part.rows], part) for part in parts(h, words)),
        h.new_zeros(h.shape[1], h.shape[1]),
    )


def _mean_of(h: Tensor, shares: Tensor, part: Part) -> Tensor:
    """Symmetric but for rounding."""
    _, of, words = part
    s0, s1 = torch.zeros_like(h[:, 0]), torch.zeros_like(h)
    total = h.new_zeros(h.shape[1], h.shape[1])
    for block, q in others(h, words, of):
        s0 += q.sum(1)
        s1.addmm_(q, block.rows)
        total.addmm_(block.rows.T * (shares @ q), block.rows)
    r, s0 = words.take(of.top), s0[:, None]
    off = s1 - s0 * r
    weighted = shares[:, None]
    cross = (weighted * r).T @ s1
    return total - cross - cross.T + (weighted * s0 * r).T @ r - (weighted * off).T @ off


def logit_fisher_trace(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n,): the trace of G(h_i), the variance of the token's row."""
    words = vocabulary(weight, bias, h.dtype)
    return torch.cat([_trace(part, words) for part in h.split(words.rows_at_once())])


def _trace(h: Tensor, words: Vocabulary) -> Tensor:
    found = parts(h, words)
    return gathered(found, [_trace_of(h[part.rows], part) for part in found])


def _trace_of(h: Tensor, part: Part) -> Tensor:
    _, of, words = part
    r, s0, s1, square = words.take(of.top), torch.zeros_like(h[:, 0]), torch.zeros_like(h), torch.zeros_like(h[:, 0])
    for block, q in others(h, words, of):
        s0 += q.sum(1)
        s1.addmm_(q, block.rows)
        square += q @ block.rows.square().sum(1)
    off = s1 - s0[:, None] * r
    spread = square - (r * (s1 + off)).sum(1)  # sum q |w - r|^2
    return (spread - off.square().sum(1)).clamp_min_(0.0)


def logit_fisher_diag(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(n, d): the diagonal of G(h_i), the variance of each coordinate of the token's row."""
    words = vocabulary(weight, bias, h.dtype)
    return torch.cat([_diag(part, words) for part in h.split(words.rows_at_once())])


def _diag(h: Tensor, words: Vocabulary) -> Tensor:
    found = parts(h, words)
    return gathered(found, [_diag_of(h[part.rows], part) for part in found])


def _diag_of(h: Tensor, part: Part) -> Tensor:
    _, of, words = part
    s0, s1, square = torch.zeros_like(h[:, 0]), torch.zeros_like(h), torch.zeros_like(h)
    for block, q in others(h, words, of):
        s0 += q.sum(1)
        s1.addmm_(q, block.rows)
        square.addmm_(q, block.rows.square())
    r = words.take(of.top)
    off = s1 - s0[:, None] * r
    return (square - r * (s1 + off) - off.square()).clamp_min_(0.0)
