"""Conditional mutual information by nearest neighbours, on canonical keys.

I(X; Y | Z) = psi(k) - <psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)>

eps_i: the k-th smallest joint key max(K_x, K_y, K_z) of row i; n_xz = #{j: max(K_x, K_z) < eps_i}, strict, n_yz alike, and
n_z = #{j: K_z < eps_i}. No count of all neighbours enters, so exclusions need no correction.
x (n, dx), y (n, dy), z (n, dz) -> (n, K) float64 local terms in nats, for K values of k.
Source: Frenzel, Pompe, Phys. Rev. Lett. 99, 204101 (2007).
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import joint
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows


def ksg_cmi(keys: Keys, kernel: Kernel, x: Rows, y: Rows, z: Rows, ks: list[int], admissible: Admissible) -> Tensor:
    """(n, K) local terms."""
    by = _by_searches if joint.searchable(keys, kernel) else _by_blocks
    n_xz, n_yz, n_z = (count.to(torch.float64) for count in by(keys, kernel, x, y, z, ks, admissible))
    digamma = torch.special.digamma
    psi_k = digamma(torch.tensor(ks, dtype=torch.float64, device=n_z.device))
    return psi_k - digamma(n_xz + 1) - digamma(n_yz + 1) + digamma(n_z + 1)


def _by_searches(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, z: Rows, ks: list[int], admissible: Admissible
) -> tuple[Tensor, ...]:
    """(n_xz, n_yz, n_z), each (n, K): one search in the joint space, three counts for each k."""
    radii = joint.nearest_keys(keys, kernel, joint.concatenated(x, y, z), max(ks), admissible)
    counts = []
    for subspace in (joint.concatenated(x, z), joint.concatenated(y, z), z):
        limits = [joint.below(radii[:, k - 1]) for k in ks]
        counts.append(
            torch.stack([joint.count_within(keys, kernel, subspace, limit, admissible) for limit in limits], 1)
        )
    return tuple(counts)


def _by_blocks(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, z: Rows, ks: list[int], admissible: Admissible
) -> tuple[Tensor, ...]:
    """The same from every key, a block of rows at a time."""
    parts = []
    for index in joint.row_blocks(z.values.shape[0], z.values.device):
        z_keys, x_keys, y_keys = (joint.key_block(keys, kernel, rows, index, admissible) for rows in (z, x, y))
        xz, yz = torch.maximum(x_keys, z_keys), torch.maximum(y_keys, z_keys)
        top = torch.maximum(xz, y_keys).topk(max(ks), dim=1, largest=False, sorted=True).values  # [B, max k]
        radii = [top[:, k - 1 : k] for k in ks]
        parts.append([torch.stack([(block < eps).sum(1) for eps in radii], 1) for block in (xz, yz, z_keys)])
    return tuple(torch.cat(field) for field in zip(*parts, strict=True))
