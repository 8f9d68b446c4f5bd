"""Canonical float64 keys in torch: the plain reading of the table in kernel.py.

pair_keys(kernel, x (n, d), y (m, d), i (P,), j (P,)) -> (P,) float64
block_keys(kernel, x (n, d), y (m, d))               -> (n, m) float64

Only separate sub, mul, add, maximum and tensor division are used: torch's addcmul, sum, norm, matmul and pow fuse or
reorder, and would change bits. Zero padding to a multiple of eight lanes changes nothing: accumulators start at +0.0 and
x + 0.0 is x.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from msma_fast.backends.torch.exact import sqrt
from msma_fast.backends.torch.kernel import Kernel, Rows

# Elements of one temporary: a few MiB, so that the passes over it stay in the cache.
_CHUNK = 1 << 18

# Equal rows have a cosine key of a few units in the last place; only such keys are worth comparing rows for.
_COSINE_EQUAL = 1e-9

KINDS = frozenset(
    [
        "sqeuclidean",
        "manhattan",
        "chebyshev",
        "minkowski",
        "inner_product",
        "cosine",
        "mahalanobis",
        "power",
        "kl",
        "jensen_shannon",
    ]
)


def combine(lanes: Tensor) -> Tensor:
    """((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)) over the last axis of eight."""
    a, b, c, d, e, f, g, h = lanes.unbind(-1)
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def _combine_max(lanes: Tensor) -> Tensor:
    return lanes.amax(-1)


def lanes(values: Tensor) -> Tensor:
    """(..., d) -> (..., ceil(d / 8), 8) float64, zero padded."""
    values = values.to(torch.float64)
    short = -values.shape[-1] % 8
    if short:
        values = torch.nn.functional.pad(values, (0, short))
    return values.unflatten(-1, (-1, 8))


def lane_sum(terms: Tensor) -> Tensor:
    """The canonical sum over the last axis of (..., d) terms."""
    blocks = lanes(terms)
    total = torch.zeros_like(blocks[..., 0, :])
    for t in range(blocks.shape[-2]):
        total = total + blocks[..., t, :]
    return combine(total)


def row_norms(values: Tensor) -> Tensor:
    """(n, d) -> (n,) float64: the correctly rounded root of the canonical sum of squares."""
    wide = values.to(torch.float64)
    return sqrt(lane_sum(wide * wide))


def _power(a: Tensor, p: int) -> Tensor:
    result = a
    for _ in range(p - 1):
        result = result * a
    return result


def _kl_term(x: Tensor, y: Tensor) -> Tensor:
    """x log(x / y) with 0 log 0 = 0, and inf where x > 0 = y."""
    ratio = x / y
    logarithm = torch.where(ratio.isinf() & (y > 0), torch.log(x) - torch.log(y), torch.log(ratio))
    return torch.where(x > 0, x * logarithm, torch.zeros_like(x))


def _jensen_shannon_term(x: Tensor, y: Tensor) -> Tensor:
    middle = (x + y) / 2
    return (_kl_term(x, middle) + _kl_term(y, middle)) / 2


def _term(kernel: Kernel) -> Callable[[Tensor, Tensor], Tensor]:
    """The summand of one coordinate; a sum for every kind but chebyshev."""
    kind, p = kernel.kind, kernel.p

    def squared(x: Tensor, y: Tensor) -> Tensor:
        a = x - y
        return a * a

    return {
        "sqeuclidean": squared,
        "manhattan": lambda x, y: (x - y).abs(),
        "chebyshev": lambda x, y: (x - y).abs(),
        "minkowski": lambda x, y: _power((x - y).abs(), int(p)),
        "power": lambda x, y: (x - y).abs() ** p,
        "inner_product": lambda x, y: x * y,
        "cosine": lambda x, y: x * y,
        "kl": _kl_term,
        "jensen_shannon": _jensen_shannon_term,
    }[kind]


def _reduce(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """x and y (..., blocks, 8) that broadcast -> (...) sums (or maxima) in canonical order."""
    term = _term(kernel)
    total: Tensor | None = None
    for t in range(x.shape[-2]):
        value = term(x[..., t, :], y[..., t, :])
        if kernel.kind == "chebyshev":
            total = value if total is None else torch.maximum(total, value)
        else:
            total = value + 0.0 if total is None else total.add_(value)
    if total is None:
        raise RuntimeError("a key needs at least one coordinate")
    return _combine_max(total) if kernel.kind == "chebyshev" else combine(total)


def _mahalanobis(tensor: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(P, d) and (P, d) -> (P,) max(0, a . M a)."""
    difference = x.to(torch.float64) - y.to(torch.float64)
    a, m = lanes(difference), lanes(tensor)  # [P, blocks, 8], [d, blocks, 8]
    total = torch.zeros(*difference.shape, 8, dtype=torch.float64, device=x.device)  # [P, d, 8]
    for t in range(a.shape[-2]):
        total = total + m[None, :, t, :] * a[:, None, t, :]
    z = combine(total)
    return lane_sum(difference * z).clamp_min(0.0)


def _finish(kernel: Kernel, total: Tensor, x_norms: Tensor | None, y_norms: Tensor | None) -> Tensor:
    if kernel.kind == "inner_product":
        return 0.0 - total
    if kernel.kind == "cosine":
        if x_norms is None or y_norms is None:
            raise RuntimeError("cosine keys need the norms of both row sets")
        return (1.0 - total / (x_norms * y_norms)).clamp_min(0.0)
    if kernel.kind == "jensen_shannon":
        return total.clamp_min(0.0)
    return total


def pair_keys(kernel: Kernel, x: Rows, y: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Keys of the index pairs (x[i[t]], y[j[t]]); (P,) float64."""
    d = x.values.shape[1]
    step = max(1, _CHUNK // (d * d if kernel.kind == "mahalanobis" else d))
    parts = []
    for start in range(0, i.shape[0], step):
        rows, cols = i[start : start + step], j[start : start + step]
        a, b = x.values.index_select(0, rows), y.values.index_select(0, cols)
        if kernel.kind == "mahalanobis":
            if kernel.tensor is None:
                raise RuntimeError("mahalanobis keys need the metric tensor")
            keys = _mahalanobis(kernel.tensor, a, b)
        else:
            norms = (None, None) if x.norms is None or y.norms is None else (x.norms[rows], y.norms[cols])
            keys = _finish(kernel, _reduce(kernel, lanes(a), lanes(b)), *norms)
        if kernel.kind == "cosine":
            close = (keys < _COSINE_EQUAL).nonzero().squeeze(-1)
            equal = (a[close] == b[close]).all(-1)
            keys[close[equal]] = 0.0
        parts.append(keys)
    return torch.cat(parts) if parts else x.values.new_empty(0, dtype=torch.float64)


def block_keys(kernel: Kernel, x: Rows, y: Rows) -> Tensor:
    """Keys of all pairs; (n, m) float64."""
    n, m = x.values.shape[0], y.values.shape[0]
    if kernel.kind == "mahalanobis":
        device = x.values.device
        i = torch.arange(n, device=device).repeat_interleave(m)
        return pair_keys(kernel, x, y, i, torch.arange(m, device=device).repeat(n)).view(n, m)
    out = torch.empty(n, m, dtype=torch.float64, device=x.values.device)
    wide_x, wide_y = lanes(x.values), lanes(y.values)
    columns = min(m, _CHUNK // 8)
    step = max(1, _CHUNK // (8 * columns))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        for left in range(0, m, columns):
            cols = slice(left, left + columns)
            norms: tuple[Tensor | None, Tensor | None] = (None, None)
            if x.norms is not None and y.norms is not None:
                norms = (x.norms[rows, None], y.norms[None, cols])
            total = _reduce(kernel, wide_x[rows, None], wide_y[None, cols])
            out[rows, cols] = _finish(kernel, total, *norms)
    if kernel.kind == "cosine":
        i, j = (out < _COSINE_EQUAL).nonzero(as_tuple=True)
        equal = (x.values[i] == y.values[j]).all(-1)
        out[i[equal], j[equal]] = 0.0
    return out
