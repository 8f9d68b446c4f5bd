"""KSG counts of samples of any dimension by the compiled module, on CPU tensors: every pair of rows, in float32 first.

ksg(x (n, dx), y (n, dy))           -> local terms, n_x, n_y, tied (n, K), N_i (n,)
ksg_matrix(layers, L of (n, d_l))   -> (L, L, K)
ksg_permutations(x, y, (P, n))      -> (P,)

Canonical keys decide wherever float32 values cannot (csrc/cpu/ksg_keys.hpp): counts are those of the torch backend. Samples
are read where they lie, mapped files and half precision too. Memory: a block of 96 rows or more of every sample's values, at
most 256 MiB of values of later blocks, and a float32 copy of the samples, of one at a time where all are more than 256 MiB;
8 n^2 bytes for permutations. The definitions are in backends/torch/ksg.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import Parted
from msma_fast.backends.native import array, compiled
from msma_fast.backends.native_ksg_low import psi_table
from msma_fast.backends.torch import ksg as plain
from msma_fast.backends.torch import ops
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Keys
from msma_fast.backends.torch.prepare import kernel_of

_DENSE = 1 << 25  # pairs whose values are kept for permutations: n = 5792, 256 MiB for both samples


def ksg(
    keys: Keys, x: Tensor, y: Tensor, ks: list[int], method: str, metric: str, groups: Tensor | None, window: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(local terms (n, K), n_x (n, K), n_y (n, K), tied (n, K), N_i (n,)); as ops.ksg."""
    rule = ops.self_admissible(x.shape[0], groups, window, x.device)
    kind, samples = _samples(keys, [Parted((x,)), Parted((y,))], metric, rule)
    found = compiled().ksg_counts(kind, samples, ks, method == "ksg2", _labels(groups), window, torch.get_num_threads())
    counts = plain.Counts(*(torch.from_numpy(part) for part in found))
    neighbors = plain.neighbor_numbers(rule, x.shape[0])
    return plain.local_terms(counts, ks, method, neighbors), *counts, neighbors


def ksg_matrix(
    keys: Keys,
    layers: list[Parted],
    ks: list[int],
    method: str,
    metric: str,
    groups: Tensor | None,
    window: int,
    permutation: Tensor | None,
) -> Tensor:
    """(L, L, K) float64; as ops.ksg_matrix. Every layer's values once per block of rows, shared by all its pairs."""
    count, n = len(layers), layers[0].shape[0]
    rule = ops.self_admissible(n, groups, window, layers[0].device)
    kind, samples = _samples(keys, layers, metric, rule)
    if permutation is not None:
        rule = plain.permuted_pairs(rule, permutation)
        samples += [_stored(layer.take(permutation)) for layer in layers]
    neighbors = plain.neighbor_numbers(rule, n)
    plain.check_fewest(int(neighbors.min()) - 1, max(ks))
    pairs = torch.triu_indices(count, count)
    partners = pairs + torch.tensor([[0], [0 if permutation is None else count]])
    sums = compiled().ksg_sums(
        kind,
        samples,
        array("pairs", partners.T),
        ks,
        method == "ksg2",
        _labels(groups),
        _labels(rule.partners),
        window,
        *_terms(ks, method, n),
        array("neighbors", neighbors),
        torch.get_num_threads(),
    )
    mean = torch.from_numpy(sums) / n
    matrix = torch.empty(count, count, len(ks), dtype=torch.float64)
    matrix[pairs[0], pairs[1]] = mean
    matrix[pairs[1], pairs[0]] = mean
    return matrix


def ksg_permutations(
    keys: Keys, x: Tensor, y: Tensor, k: int, method: str, metric: str, groups: Tensor | None, permutations: Tensor
) -> Tensor:
    """(P,) float64; as ops.ksg_permutations, which serves beyond n = 5792."""
    n = x.shape[0]
    if n * n > _DENSE:
        return ops.ksg_permutations(keys, x, y, k, method, metric, groups, permutations)
    # A permutation brings any two rows of y together.
    kind, samples = _samples(keys, [Parted((x,)), Parted((y,))], metric, Admissible())
    sums, fewest = compiled().ksg_permutation_sums(
        kind,
        samples,
        k,
        method == "ksg2",
        _labels(groups),
        array("permutations", permutations.to(torch.int32)),
        *_terms([k], method, n),
        torch.get_num_threads(),
    )
    plain.check_fewest(fewest, k, plain.IN_A_PERMUTED_SAMPLE)
    return torch.from_numpy(sums) / n


def _samples(keys: Keys, samples: list[Parted], metric: str, admissible: Admissible) -> tuple[str, list[Any]]:
    """The formula, and the rows as the compiled module takes them."""
    for sample in samples:
        ops.check_overflow(_problem(keys, sample, metric), admissible, metric)  # one promoted copy at a time
    return kernel_of(metric, 2.0, None).kind, [_stored(sample) for sample in samples]


def _problem(keys: Keys, sample: Parted, metric: str) -> ops.Problem:
    return ops.problem_of(keys, sample.whole(), None, metric, 2.0, None, ("samples", "samples"))


def _stored(sample: Parted) -> tuple[list[Any], Any]:
    """Parts in the stored dtype, bfloat16 as its bits, and the rows that are meant, or None."""
    parts = [part.contiguous().view(torch.uint16) if part.dtype == torch.bfloat16 else part for part in sample.parts]
    return [array("samples", part) for part in parts], None if sample.rows is None else array("rows", sample.rows)


def _labels(labels: Tensor | None) -> Any:
    return None if labels is None else array("labels", labels.to(torch.int32))


def _terms(ks: list[int], method: str, n: int) -> tuple[Any, Any]:
    """psi(k), less 1/k for KSG2, and psi of 0 to n + 1."""
    k = torch.tensor(ks, dtype=torch.float64)
    offsets = torch.special.digamma(k) - (1 / k if method == "ksg2" else 0)
    return offsets.numpy(), psi_table(n + 1).numpy()
