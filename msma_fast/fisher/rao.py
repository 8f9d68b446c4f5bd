"""Fisher-Rao geometry of the token distributions of a read-out: distances, neighbours, and a token's path through depth.

    d(p, q) = 2 arccos(sum_t sqrt(p_t q_t)) = 4 arcsin(|sqrt p - sqrt q| / 2)     p = softmax(W norm(h) + b)
The length of the shortest path between two distributions in the Fisher metric (Rao 1945; Amari, Nagaoka 2000), at most pi.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks, fisher_ops
from msma_fast.backends import registry
from msma_fast.fisher._arguments import Checked, readout_of, within
from msma_fast.results import Array, Neighbors

_ENTRIES = 1 << 24  # of a block of distances
_SORTED = 1 << 20  # distances put in order at a time


def fisher_rao_distances(
    h: Array,
    weight: Array,
    other: Array | None = None,
    bias: Array | None = None,
    *,
    norm: Any = None,
    backend: str | None = None,
) -> Any:
    """Fisher-Rao distances of the token distributions at h_i and other_j: (n, m), in [0, pi].

    h (n, d); other (m, d), None for all pairs of h: then exactly symmetric with a zero diagonal. weight (V, d), bias (V,),
    norm and dtypes as in `logit_fisher_vp`. Close distributions are compared by differences of logits, so that a distance of
    1e-4 is as precise as one of 1. Differentiable once in h and other; the gradient at distance zero is zero.

    Cost: n V d, m V d and n m V (half of it for other=None), and some five V d for each pair closer than 0.35; of more than
    n + m such pairs of float32 rows most are decided by the same products in float64, with blocks of 128 MiB and 40 bytes
    a pair. Memory n m and a few n x V / 100. The gradient takes pairs closer than 0.05 one by one, whatever their number.
    Errors as in `logit_fisher_vp`.
    When not to use it: for one pair a row (`path_lengths`), or for the k nearest only (`knn`).
    """
    read = readout_of(h, weight, bias, norm, backend)
    points = None if other is None else read.normed(read.others("other", other))
    found: Tensor = fisher_ops.fisher_rao_distances(read.normed(read.h), read.weight, read.bias, points, read.backend)
    return read.wrap(within(found, read))


def knn(
    h: Array,
    weight: Array,
    k: int,
    points: Array | None = None,
    bias: Array | None = None,
    *,
    norm: Any = None,
    groups: Array | None = None,
    point_groups: Array | None = None,
    window: int = 0,
    backend: str | None = None,
) -> Any:
    """The k nearest points of every row of h by Fisher-Rao distance, ascending by (distance, index).

    h (n, d) queries; points (m, d), such as another layer's states, None for a self-search without the row itself; weight,
    bias, norm as in `fisher_rao_distances`; groups, point_groups, window, k and the returned Neighbors as in `mf.knn`.
    Distances are compared as they were computed (float32 for float32 input): there is no certificate. Not differentiable.

    Cost: as all distances, with the points' logits again for every 2^24 distances; memory some 300 MiB at a time.
    """
    read = readout_of(h, weight, bias, norm, backend)
    queries = read.h.detach()
    n = queries.shape[0]
    with torch.no_grad():
        x = read.normed(queries)
        y = x if points is None else read.normed(read.others("points", points).detach())
    m, own = y.shape[0], points is None
    k = _checks.neighbor_count("k", k, m, self_search=own)
    window = _checks.window(window, n, self_search=own)
    left, right = _checks.labels_of_sides(groups, point_groups, x, None if own else y)
    right = left if own else right
    index = torch.arange(m, device=x.device)
    whole = own and n * n <= _ENTRIES  # then half of the matrix is enough
    size = n if whole else max(1, _ENTRIES // m)
    parts = []
    for block in torch.arange(n, device=x.device).split(size):
        found = _distances(read, x[block], None if whole else y)
        for rows, part in zip(block.split(max(1, _SORTED // m)), found.split(max(1, _SORTED // m)), strict=True):
            barred = torch.zeros_like(part, dtype=torch.bool)
            if own:
                barred |= (rows[:, None] - index).abs() <= window
            if left is not None and right is not None:
                barred |= left[rows, None] == right
            distances, order = part.masked_fill(barred, float("inf")).sort(dim=1, stable=True)
            parts.append((distances[:, :k].contiguous(), order[:, :k].contiguous()))
    distances, indices = (torch.cat(field) for field in zip(*parts, strict=True))
    valid = distances.isfinite()
    return Neighbors(*map(read.wrap, (distances, indices.masked_fill(~valid, -1), valid)))


def _distances(read: Checked, x: Tensor, y: Tensor | None) -> Tensor:
    found: Tensor = registry.run("fisher_rao_distances", x.device, read.backend, x, read.weight, read.bias, y)
    return within(found, read)


def path_lengths(
    layers: Any, weight: Array, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """How far each token's distribution moves from layer to layer: (L - 1, n) Fisher-Rao distances; their sum over the first
    axis is the length of the token's path through depth.

    layers (L, n, d), or a sequence of L >= 2 arrays (n, d), such as [acts.layer(l) for l in ...]; weight, bias, norm as in
    `fisher_rao_distances`: the same read-out on every layer, the logit lens. Cost: at most nine products n V d a step.
    Errors as in `logit_fisher_vp`.
    """
    states = list(layers)
    if len(states) < 2:
        raise ValueError(f"layers: expected at least two layers, got {len(states)}")
    reads = [readout_of(state, weight, bias, norm, backend) for state in states]
    steps = []
    with torch.no_grad():
        points = [read.normed(read.h.detach()) for read in reads]
        for number, (read, before, after) in enumerate(zip(reads[1:], points, points[1:], strict=False), 1):
            if before.shape != after.shape:
                raise ValueError(
                    f"layers[{number}]: expected shape {tuple(before.shape)} as the layer before, got {tuple(after.shape)}"
                )
            found = registry.run(
                "fisher_rao_pairs", after.device, read.backend, after, read.weight, read.bias, before.to(after.dtype)
            )
            steps.append(within(found, read))
    return reads[0].wrap(torch.stack(steps))
