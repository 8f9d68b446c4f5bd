"""Mutual information of discrete-continuous mixtures by nearest neighbours, on canonical keys.

I(X; Y) = <psi(k_i) + log(N_i) - psi(m_x) - psi(m_y)>

rho_i: the k-th smallest joint key max(K_x, K_y) of row i. Where rho_i > 0, k_i = k and m_x = 1 + #{j: K_x < rho_i}, strict.
Where rho_i = 0 (row i is repeated at least k times), k_i = 1 + #{j: joint key 0} and m_x = 1 + #{j: K_x = 0}; m_y alike.
N_i = 1 + admissible neighbours. x (n, dx), y (n, dy) -> (n,) float64 local terms in nats.

Source: Gao, Kannan, Oh, Viswanath, NeurIPS 2017, in the form that the authors' own program computes. Their paper prints
log(n_x + 1) with closed counts that leave out the row itself, which is biased low where the counts are small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import joint
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows


def mixed_mi(keys: Keys, kernel: Kernel, x: Rows, y: Rows, k: int, admissible: Admissible) -> Tensor:
    """(n,) local terms."""
    n = x.values.shape[0]
    by = _by_searches if joint.searchable(keys, kernel) else _by_blocks
    at_zero, *counts = by(keys, kernel, x, y, k, admissible)
    repeats, n_x, n_y = (count.to(torch.float64) for count in counts)
    digamma = torch.special.digamma
    k_i = torch.where(at_zero, repeats + 1, float(k))
    neighbors = (1 + admissible.counts(n, n)).to(torch.float64)
    return digamma(k_i) + torch.log(neighbors) - digamma(n_x + 1) - digamma(n_y + 1)


def _limit(radius: Tensor) -> Tensor:
    """The largest key that counts: 0 where the radius is 0, else the last one below it."""
    return torch.where(radius == 0, radius, joint.below(radius))


def _by_searches(keys: Keys, kernel: Kernel, x: Rows, y: Rows, k: int, admissible: Admissible) -> tuple[Tensor, ...]:
    """(rho = 0, neighbours at joint key 0, n_x, n_y), each (n,); the second is meant where the first holds."""
    both = joint.concatenated(x, y)
    radius = joint.nearest_keys(keys, kernel, both, k, admissible)[:, -1]
    counts = [joint.count_within(keys, kernel, rows, _limit(radius), admissible) for rows in (x, y)]
    repeats = torch.zeros_like(counts[0])
    if bool((radius == 0).any()):
        repeats = joint.count_within(keys, kernel, both, torch.zeros_like(radius), admissible)
    return radius == 0, repeats, *counts


def _by_blocks(keys: Keys, kernel: Kernel, x: Rows, y: Rows, k: int, admissible: Admissible) -> tuple[Tensor, ...]:
    """The same from every key, a block of rows at a time."""
    parts = []
    for index in joint.row_blocks(x.values.shape[0], x.values.device):
        x_keys, y_keys = (joint.key_block(keys, kernel, rows, index, admissible) for rows in (x, y))
        both = torch.maximum(x_keys, y_keys)
        radius = both.topk(k, dim=1, largest=False, sorted=True).values[:, -1:]
        limit = _limit(radius)
        counts = ((block <= edge).sum(1) for block, edge in ((both, 0.0), (x_keys, limit), (y_keys, limit)))
        parts.append(((radius == 0).squeeze(1), *counts))
    return tuple(torch.cat(field) for field in zip(*parts, strict=True))
