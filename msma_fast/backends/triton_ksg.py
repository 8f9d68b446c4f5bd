"""KSG with searches and counts in Triton kernels, on CUDA tensors (or in the interpreter): the torch backend's counts.

ksg(x (n, dx), y (n, dy))           -> local terms, n_x, n_y, tied (n, K), N_i (n,)
ksg_matrix(layers, L of (n, d_l))   -> (L, L, K)
ksg_permutations(x, y, (P, n))      -> (P,)

All are counts of pairs of samples (triton_ksg_pairs.py). A permuted sample is a sample of its own, for a batch of permutations
at a time: copying n rows is nothing beside n^2 pairs, and tiles are read in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from msma_fast._arrays import Parted
from msma_fast.backends.torch import ksg as plain
from msma_fast.backends.torch import ops
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Keys, Rows
from msma_fast.backends.torch.prepare import kernel_of
from msma_fast.backends.triton_ksg_pairs import Paired, Source, counted, permutations_at_once

Count = Callable[[Paired], plain.Counts]  # n_x, n_y and tied of pairs of samples

_PREPARED = 1 << 31  # bytes of samples kept as their keys need them


def ksg(
    keys: Keys,
    x: Tensor,
    y: Tensor,
    ks: list[int],
    method: str,
    metric: str,
    groups: Tensor | None,
    window: int,
    count: Count = counted,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(local terms (n, K), n_x (n, K), n_y (n, K), tied (n, K), N_i (n,)); as ops.ksg."""
    n = x.shape[0]
    rule = ops.self_admissible(n, groups, window, x.device)
    problems = [_problem(keys, sample, metric, name, rule) for name, sample in (("x", x), ("y", y))]
    sources = [partial(_same, problem.x) for problem in problems]
    samples = torch.tensor([[0, 1]])
    found = count(Paired(keys, problems[0].kernel, sources, samples, ks, method, rule, None, n))
    counts = plain.Counts(*(field[0] for field in found))
    neighbors = plain.neighbor_numbers(rule, n)
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
    count: Count = counted,
) -> Tensor:
    """(L, L, K) float64; as ops.ksg_matrix."""
    size, n, device = len(layers), layers[0].shape[0], layers[0].device
    rule = ops.self_admissible(n, groups, window, device)

    def read(layer: Parted) -> Rows:
        return ops.problem_of(keys, layer.whole(), None, metric, 2.0, None, ("layers", "layers")).x

    sources: list[Source] = [partial(read, layer) for layer in layers]
    samples = torch.triu_indices(size, size).T
    if permutation is not None:
        rule = plain.permuted_pairs(rule, permutation)
        sources += [partial(read, layer.take(permutation)) for layer in layers]
        samples = samples + torch.tensor([0, size])
    sources = _kept(sources)
    kernel = kernel_of(metric, 2.0, None)
    for source in sources[:size]:
        rows = source()
        ops.check_overflow(ops.Problem(keys, kernel, rows, rows), rule._replace(partners=None), metric)
    neighbors = plain.neighbor_numbers(rule, n)
    plain.check_fewest(int(neighbors.min()) - 1, max(ks))
    partners = None if rule.partners is None else rule.partners[None]
    paired = Paired(keys, kernel, sources, samples, ks, method, rule._replace(partners=None), partners, n)
    found = count(paired)
    mean = torch.stack([_sums(found, pair, paired, neighbors) for pair in range(samples.shape[0])]) / n
    matrix = mean.new_empty(size, size, len(ks))
    a, b = torch.triu_indices(size, size, device=device)
    matrix[a, b] = mean
    matrix[b, a] = mean
    return matrix


def ksg_permutations(
    keys: Keys,
    x: Tensor,
    y: Tensor,
    k: int,
    method: str,
    metric: str,
    groups: Tensor | None,
    permutations: Tensor,
    count: Count = counted,
) -> Tensor:
    """(P,) float64; as ops.ksg_permutations."""
    n, device = x.shape[0], x.device
    left, right = (_problem(keys, z, metric, name, Admissible()) for name, z in (("x", x), ("y", y)))
    rule = ops.self_admissible(n, groups, 0, device)
    rules = [plain.permuted_pairs(rule, permutation) for permutation in permutations]
    neighbors = [plain.neighbor_numbers(each, n) for each in rules]
    plain.check_fewest(min(int(numbers.min()) for numbers in neighbors) - 1, k, plain.IN_A_PERMUTED_SAMPLE)
    total = torch.empty(permutations.shape[0], dtype=torch.float64, device=device)
    for some in torch.arange(permutations.shape[0]).split(permutations_at_once(n, right.x.values.shape[1])):
        sources = _kept([partial(_same, left.x)] + [partial(right.x.take, permutations[t]) for t in some.tolist()])
        samples = torch.stack([torch.zeros_like(some), torch.arange(1, len(some) + 1)], 1)
        partners = None if groups is None else groups[permutations[some.to(permutations.device)]]
        paired = Paired(keys, left.kernel, sources, samples, [k], method, rule, partners, n)
        found = count(paired)
        for place, t in enumerate(some.tolist()):
            total[t] = _sums(found, place, paired, neighbors[t])[0]
    return total / n


def _problem(keys: Keys, sample: Tensor, metric: str, name: str, admissible: Admissible) -> ops.Problem:
    problem = ops.problem_of(keys, sample, None, metric, 2.0, None, (name, name))
    ops.check_overflow(problem, admissible, metric)
    return problem


def _kept(sources: Sequence[Source]) -> list[Source]:
    """The same samples, each prepared once as long as they fit _PREPARED; what does not fit is prepared on every touch."""
    kept: dict[int, Rows] = {}

    def read(place: int) -> Rows:
        if place in kept:
            return kept[place]
        rows = sources[place]()
        if sum(each.values.nbytes for each in (*kept.values(), rows)) <= _PREPARED:
            kept[place] = rows
        return rows

    return [partial(read, place) for place in range(len(sources))]


def _same(rows: Rows) -> Rows:
    return rows


def _sums(found: plain.Counts, pair: int, paired: Paired, neighbors: Tensor) -> Tensor:
    """(K,) sums of local terms of one pair."""
    counts = plain.Counts(*(field[pair] for field in found))
    return plain.local_terms(counts, paired.ks, paired.method, neighbors).sum(0)
