"""Counting for the Kraskov-Stoegbauer-Grassberger estimators, on canonical keys.

Per block of rows: K_x, K_y (B, n) keys of each marginal, inf where inadmissible; the joint key is max(K_x, K_y).
KSG1: eps_i the k-th smallest joint key, n_x = #{j: K_x < eps_i}, strict. KSG2: eps_x,i the largest K_x among the k joint
neighbours in (key, index) order, n_x = #{j: K_x <= eps_x,i}. Radii and counts use the same keys, so that no strict
comparison is decided by rounding. Source: Phys. Rev. E 69, 066138 (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.joint import key_block, row_blocks
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.select import smallest

_DENSE = 1 << 24  # keys of a whole marginal kept for permutations: 128 MiB, n = 4096

Block = Callable[[Tensor], Tensor]  # row indices (B,) -> keys (B, n), inf where inadmissible


class Counts(NamedTuple):
    """Counts of each marginal (B, K) int64 for K values of k, and whether the k-th joint key is shared (B, K)."""

    n_x: Tensor
    n_y: Tensor
    tied: Tensor


def count_block(x_keys: Tensor, y_keys: Tensor, ks: list[int], method: str, ties: bool = False) -> Counts:
    """One block of rows of one pair of marginals; method "ksg1" or "ksg2". Without `ties` none are looked for."""
    joint = torch.maximum(x_keys, y_keys)
    top = joint.topk(max(ks), dim=1, largest=False, sorted=True).values  # [B, max k]
    neighbours = None
    if method == "ksg2":
        near, cols = (joint <= top[:, -1:]).nonzero(as_tuple=True)
        neighbours = smallest(near, cols, joint[near, cols], joint.shape[0], max(ks))[1]
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for k in ks:
        eps = top[:, k - 1 : k]
        tied = (joint <= eps).sum(1) > k if ties else torch.zeros_like(eps[:, 0], dtype=torch.bool)
        if neighbours is None:
            columns.append(((x_keys < eps).sum(1), (y_keys < eps).sum(1), tied))
        else:
            nearest = neighbours[:, :k]
            reach_x = x_keys.gather(1, nearest).amax(1, keepdim=True)
            reach_y = y_keys.gather(1, nearest).amax(1, keepdim=True)
            columns.append(((x_keys <= reach_x).sum(1), (y_keys <= reach_y).sum(1), tied))
    return Counts(*(torch.stack(field, 1) for field in zip(*columns, strict=True)))


def local_terms(counts: Counts, ks: list[int], method: str, neighbors: Tensor) -> Tensor:
    """(B, K) float64 terms in nats whose mean is the estimate; neighbors (B,): N_i = 1 + admissible neighbours."""
    k = torch.tensor(ks, dtype=torch.float64, device=neighbors.device)
    start = torch.special.digamma(k) + torch.special.digamma(neighbors.to(torch.float64))[:, None]
    n_x, n_y = counts.n_x.to(torch.float64), counts.n_y.to(torch.float64)
    if method == "ksg1":
        return start - torch.special.digamma(n_x + 1) - torch.special.digamma(n_y + 1)
    return start - 1 / k - torch.special.digamma(n_x) - torch.special.digamma(n_y)


def _marginal(keys: Keys, kernel: Kernel, rows: Rows, admissible: Admissible) -> Block:
    return lambda index: key_block(keys, kernel, rows, index, admissible)


def _permuted(keys: Keys, kernel: Kernel, rows: Rows) -> Callable[[Tensor], Block]:
    """permutation -> the marginal whose row i is rows[permutation[i]], every pair admitted: a permutation re-indexes its
    keys, which are kept for n <= 4096 and computed again beyond."""
    n = rows.values.shape[0]
    if n * n > _DENSE:
        return lambda permutation: _marginal(keys, kernel, rows.take(permutation), Admissible())
    dense = keys.block_keys(kernel, rows, rows)

    def permuted(permutation: Tensor) -> Block:
        return lambda index: dense[permutation[index]][:, permutation]

    return permuted


def permuted_pairs(admissible: Admissible, permutation: Tensor) -> Admissible:
    """The rule for pairs (x_i, y_permutation[i]): rows of the same text are excluded on y's side as on x's. With x's labels
    alone the null would admit pairs that the estimate does not, and be biased where texts differ."""
    if admissible.groups is None:
        return admissible
    return admissible._replace(partners=admissible.groups[permutation])


def neighbor_numbers(admissible: Admissible, n: int) -> Tensor:
    """(n,) N_i."""
    return 1 + admissible.counts(n, n)


def check_fewest(fewest: int, k: int, where: str = "") -> None:
    """ValueError where a row is left with fewer than k neighbours."""
    if fewest < k:
        raise ValueError(f"k: expected at most {fewest}, the fewest neighbours a row has left{where}, got {k}")


IN_A_PERMUTED_SAMPLE = " in a permuted sample"


def ksg(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, ks: list[int], method: str, admissible: Admissible
) -> tuple[Tensor, Counts, Tensor]:
    """(local terms (n, K), counts (n, K), N_i (n,)) of one paired sample."""
    n = x.values.shape[0]
    x_block, y_block = _marginal(keys, kernel, x, admissible), _marginal(keys, kernel, y, admissible)
    blocks = row_blocks(n, x.values.device)
    found = [count_block(x_block(rows), y_block(rows), ks, method, ties=True) for rows in blocks]
    counts = Counts(*(torch.cat(field) for field in zip(*found, strict=True)))
    neighbors = neighbor_numbers(admissible, n)
    return local_terms(counts, ks, method, neighbors), counts, neighbors


def ksg_matrix(
    keys: Keys,
    kernel: Kernel,
    layers: Sequence[Callable[[], Rows]],
    ks: list[int],
    method: str,
    admissible: Admissible,
    permutation: Tensor | None,
) -> Tensor:
    """(L, L, K) estimates for all pairs of layers: each layer is read and its keys computed once per block of rows, shared
    by all its pairs.

    With a permutation, entry (l, m), l <= m, pairs row i of layer l with row permutation[i] of layer m, and is mirrored.
    """
    first = layers[0]().values
    count, n, device = len(layers), first.shape[0], first.device
    if permutation is not None:
        admissible = permuted_pairs(admissible, permutation)
    neighbors = neighbor_numbers(admissible, n)
    check_fewest(int(neighbors.min()) - 1, max(ks))
    total = torch.zeros(count, count, len(ks), dtype=torch.float64, device=device)
    for rows in row_blocks(n, device, 2 * count):
        left = [key_block(keys, kernel, layer(), rows, admissible) for layer in layers]
        right = left
        if permutation is not None:
            right = [key_block(keys, kernel, layer().take(permutation), rows, admissible) for layer in layers]
        for a in range(count):
            for b in range(a, count):
                counts = count_block(left[a], right[b], ks, method)
                total[a, b] += local_terms(counts, ks, method, neighbors[rows]).sum(0)
    mean = total / n
    upper = torch.triu(torch.ones(count, count, dtype=torch.bool, device=device))
    return torch.where(upper[..., None], mean, mean.transpose(0, 1))


def ksg_permutations(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, k: int, method: str, admissible: Admissible, permutations: Tensor
) -> Tensor:
    """(P,) estimates with y re-indexed by each of permutations (P, n)."""
    n = x.values.shape[0]
    total = torch.zeros(permutations.shape[0], dtype=torch.float64, device=x.values.device)
    plain = _marginal(keys, kernel, x, Admissible())
    permuted = _permuted(keys, kernel, y)
    rules = [permuted_pairs(admissible, permutation) for permutation in permutations]
    neighbors = [neighbor_numbers(rule, n) for rule in rules]
    check_fewest(min(int(numbers.min()) for numbers in neighbors) - 1, k, IN_A_PERMUTED_SAMPLE)
    for rows in row_blocks(n, x.values.device):
        x_keys = plain(rows)
        for t, permutation in enumerate(permutations):
            left = rules[t].fill(x_keys.clone(), rows)
            right = rules[t].fill(permuted(permutation)(rows), rows)
            counts = count_block(left, right, [k], method)
            total[t] += local_terms(counts, [k], method, neighbors[t][rows]).sum()
    return total / n


def ross(keys: Keys, kernel: Kernel, x: Rows, labels: Tensor, k: int, admissible: Admissible) -> Tensor:
    """(n,) local terms psi(N_i) + psi(k_i) - psi(N_label,i) - psi(m_i); NaN for rows alone with their label.

    k_i = min(k, admissible rows of the same label); r_i the key of the k_i-th of them; m_i = 1 + #{j: key < r_i}.
    Where r_i is 0 (repeated rows), k_i and m_i count the rows of the same label, and all rows, at key 0.
    """
    n = x.values.shape[0]
    digamma = torch.special.digamma
    neighbors = neighbor_numbers(admissible, n).to(torch.float64)
    parts = []
    marginal = _marginal(keys, kernel, x, admissible)
    for rows in row_blocks(n, x.values.device):
        block = marginal(rows)
        mine = block.masked_fill(labels[rows, None] != labels[None, :], float("inf"))
        same = mine.isfinite().sum(1)
        wanted = same.clamp_max(k)
        near = mine.topk(min(k, n), dim=1, largest=False, sorted=True).values
        radius = near.gather(1, (wanted - 1).clamp_min(0)[:, None])
        zero = radius.squeeze(1) == 0
        k_i = torch.where(zero, (mine == 0).sum(1), wanted).to(torch.float64)
        m_i = torch.where(zero, (block == 0).sum(1), 1 + (block < radius).sum(1)).to(torch.float64)
        term = digamma(neighbors[rows]) + digamma(k_i) - digamma((same + 1).to(torch.float64)) - digamma(m_i)
        parts.append(torch.where(same > 0, term, torch.nan))
    return torch.cat(parts)
