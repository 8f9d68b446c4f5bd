"""Neighbours in the joint space of several samples, and counts in its subspaces, by searches that a provider brings.

The joint key is the largest of the samples' keys. Under chebyshev it is the key of the concatenated columns, bit for bit:
a maximum of float64 numbers is not rounded. So the neighbours come from one search, and the counts from one each, with a
threshold (n,) on the canonical keys themselves; below(radius) makes it strict. Under euclidean the joint key is that of no
single metric. One thread of an AMD Zen 5, ksg_cmi of three samples of d columns, k = 3, searches / blocks of every key in
milliseconds: 0.8 / 1.1 (n = 300, d = 1), 8 / 270 (n = 5000, d = 1), 50 / 337 (5000, 6), 171 / 429 (5000, 64).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.knn import knn

_BLOCK = 1 << 21  # keys of one block of one sample


def searchable(keys: Keys, kernel: Kernel) -> bool:
    """Whether searches serve; else blocks of keys do, which are computed once for neighbours and counts."""
    return kernel.kind == "chebyshev" and keys.nearest is not None and keys.within is not None


def concatenated(*samples: Rows) -> Rows:
    """(n, d1), (n, d2), ... -> (n, d1 + d2 + ...)."""
    return Rows(torch.cat([sample.values for sample in samples], 1))


def nearest_keys(keys: Keys, kernel: Kernel, rows: Rows, k: int, admissible: Admissible) -> Tensor:
    """(n, k) the smallest keys of each row, ascending, inf beyond its admissible neighbours."""
    labels = admissible.groups
    return knn(keys, kernel, rows, rows, k, labels, labels, admissible.window, True).keys


def count_within(keys: Keys, kernel: Kernel, rows: Rows, threshold: Tensor, admissible: Admissible) -> Tensor:
    """(n,) int64: admissible rows with key <= threshold (n,)."""
    if keys.within is None:
        raise RuntimeError("counts need a provider that searches")
    return keys.within(kernel, rows, rows, threshold, admissible)


def below(radius: Tensor) -> Tensor:
    """The largest float64 less than each radius: key <= below(radius) is key < radius."""
    return torch.nextafter(radius, torch.full_like(radius, -math.inf))


def row_blocks(n: int, device: torch.device, samples: int = 1) -> tuple[Tensor, ...]:
    """Row indices in blocks whose keys to all n rows stay in bounded memory, where so many samples' are kept at a time."""
    return torch.arange(n, device=device).split(max(1, _BLOCK // (n * max(1, samples // 8))))


def key_block(keys: Keys, kernel: Kernel, rows: Rows, index: Tensor, admissible: Admissible) -> Tensor:
    """(B, n) keys of the indexed rows to all rows, inf where inadmissible."""
    return admissible.fill(keys.block_keys(kernel, rows.take(index), rows), index)
