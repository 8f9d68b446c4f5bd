"""KSG of samples in few dimensions by the compiled module, on CPU tensors; see csrc/include/msma/ksg.hpp.

ksg(otherwise, x (n, dx), y (n, dy), ...)  -> as the torch backend's ksg
ksg_matrix(otherwise, layers, ...)         -> as the torch backend's ksg_matrix

`otherwise` is the function of the same arguments that takes what is not served here: more dimensions, values that are not
finite, keys that might overflow. Counts are the same numbers as those of comparing all pairs, for every instruction set
and thread count (torch.get_num_threads()).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import Parted
from msma_fast.backends.native import compiled
from msma_fast.backends.torch.prepare import kernel_of

# Of a marginal. Milliseconds of KSG1, k = 3, chebyshev, float32, one thread of an AMD Zen 5 (process time): here / every pair
# of rows (native_ksg_dense). Normal samples are the worst case, the lattice has ties.
#
#   dx + dy          n = 200    500          1000         2000         5000         20,000
#   1 + 1 normal     0.04/0.12  0.07/0.23    0.13/0.55    0.26/1.61    0.71/8.87    3.6/133
#   2 + 2 normal     0.09/0.12  0.21/0.24    0.63/0.55    1.50/1.65    4.62/9.01    25/151
#   3 + 3 normal     0.12/0.12  0.31/0.25    1.04/0.74    2.62/1.92    8.62/9.86    52/163
#   3 + 3 rho = 0.9  0.11/0.12  0.23/0.25    0.73/0.63    1.81/1.95    5.78/10.2    32/174
#   3 + 3 lattice    0.10/0.13  0.23/0.31    0.67/1.12    1.57/3.03    4.38/14.1    21/221
#
# Euclidean is alike. KSG2 takes up to twice as long here at 3 + 3 (n = 500: 0.54/0.27; 5000: 10.4/11.3; lattice 14.2/37.2).
# At 3 + 3 the two meet near n = 4000 on normal samples, and ties turn the answer at any n: no rule by n is better for both,
# so there is none. Each coordinate more a side about doubles the time here from 2 to 3 and hardly changes the other.
LARGEST_DIMENSION = 3
_KEPT_PSI = 1 << 20  # a longer table of digamma is not kept: 8 MiB

_psi = torch.special.digamma(torch.zeros(1, dtype=torch.float64))
_psi_lock = threading.Lock()


def serves(*samples: Tensor | Parted) -> bool:
    """Whether every sample (n, d) has so few coordinates."""
    return samples[0].shape[0] > 1 and all(1 <= sample.shape[1] <= LARGEST_DIMENSION for sample in samples)


def ksg(
    otherwise: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    y: Tensor,
    ks: list[int],
    method: str,
    metric: str,
    groups: Tensor | None,
    window: int,
) -> tuple[Tensor, ...]:
    """(local terms (n, K), n_x (n, K), n_y (n, K), tied (n, K), N_i (n,))."""
    found = None
    if serves(x, y):
        found = compiled().ksg_low(_kind(metric), _wide(x), _wide(y), *_rule(x.shape[0], ks, method, groups, window))
    if found is None:
        return otherwise(x, y, ks, method, metric, groups, window)
    return tuple(map(torch.from_numpy, found))


def ksg_matrix(
    otherwise: Callable[..., Tensor],
    layers: Sequence[Parted],
    ks: list[int],
    method: str,
    metric: str,
    groups: Tensor | None,
    window: int,
    permutation: Tensor | None,
) -> Tensor:
    """(L, L, K) float64. Permuted labels, which exclude pairs on either side, are not served."""
    found = None
    if serves(*layers) and (permutation is None or groups is None):
        left = [_wide(layer.whole()) for layer in layers]
        right = None if permutation is None else [_wide(layer.whole()[permutation]) for layer in layers]
        rule = _rule(layers[0].shape[0], ks, method, groups, window)
        found = compiled().ksg_low_matrix(_kind(metric), left, right, *rule)
    if found is None:
        return otherwise(layers, ks, method, metric, groups, window, permutation)
    return torch.from_numpy(found)


def _kind(metric: str) -> str:
    return kernel_of(metric, 2.0, None).kind


def _wide(sample: Tensor) -> Any:
    """float64 numpy memory, shared where it already is that."""
    return sample.detach().to(torch.float64).contiguous().numpy()


def _rule(n: int, ks: list[int], method: str, groups: Tensor | None, window: int) -> tuple[Any, ...]:
    labels = None if groups is None else groups.detach().contiguous().numpy()
    return ks, method == "ksg2", labels, window, psi_table(n).numpy(), torch.get_num_threads()


def psi_table(n: int) -> Tensor:
    """digamma of 0, 1, ..., n: a row's terms are looked up, with the values of computing each."""
    global _psi
    with _psi_lock:
        table = _psi
        if table.shape[0] <= n:
            table = torch.special.digamma(torch.arange(n + 1, dtype=torch.float64))
            if n <= _KEPT_PSI:
                _psi = table
    return table[: n + 1]
