"""The ops of this backend over any provider of canonical keys.

`ops(keys)` binds every op to a provider; torch's own keys stand in for the kinds a provider does not have. Inputs are
checked tensors on one device: points (n, d), labels int32, k and window in range.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast._arrays import Parted
from msma_fast.backends.torch import keys as torch_keys
from msma_fast.backends.torch import knn as knn_module
from msma_fast.backends.torch import ksg as ksg_module
from msma_fast.backends.torch import similarity
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.distance_counts import count_keys, thresholds
from msma_fast.backends.torch.exact import sqrt
from msma_fast.backends.torch.fisher_rao import fisher_rao_distances, fisher_rao_distances_backward, fisher_rao_pairs
from msma_fast.backends.torch.gaussian_kernel_sums import gaussian_gradients, gaussian_sums
from msma_fast.backends.torch.gradients import knn_backward, pairwise_distances_backward
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.ksg_cmi import ksg_cmi as conditional
from msma_fast.backends.torch.logit_fisher import (
    logit_fisher_diag,
    logit_fisher_mean,
    logit_fisher_quadratic,
    logit_fisher_quadratic_backward,
    logit_fisher_trace,
    logit_fisher_vp,
)
from msma_fast.backends.torch.mixed_mi import mixed_mi as mixture
from msma_fast.backends.torch.pairwise_distances import pairwise_distances as all_pairs
from msma_fast.backends.torch.prepare import column_ranges, distances_of, kernel_of, may_overflow, prepare
from msma_fast.backends.torch.radius_count import radius_count as count_within
from msma_fast.backends.torch.radius_neighbors import radius_neighbors as list_within
from msma_fast.backends.torch.stress import stress as sum_stress
from msma_fast.backends.torch.vocabulary import top_tokens
from msma_fast.backends.torch.whole import whole

# Their products are of their arguments' dtype.
FISHER = {
    op.__name__: whole(op)
    for op in (
        logit_fisher_vp,
        logit_fisher_quadratic,
        logit_fisher_quadratic_backward,
        logit_fisher_mean,
        logit_fisher_trace,
        logit_fisher_diag,
        fisher_rao_distances,
        fisher_rao_distances_backward,
        fisher_rao_pairs,
        top_tokens,
    )
}
TORCH_KEYS = Keys(torch_keys.pair_keys, torch_keys.block_keys, torch_keys.KINDS)


class Reductions(NamedTuple):
    """Who computes the sums over pairs of rows; each as the function of that name in this folder."""

    count_keys: Callable[..., Tensor] = count_keys
    centered_products: similarity.Products = similarity.centered_products
    gaussian_sums: Callable[..., Tensor] = gaussian_sums
    gaussian_gradients: Callable[..., tuple[Tensor, Tensor | None]] = gaussian_gradients
    stress: Callable[..., tuple[Tensor, Tensor | None, Tensor | None]] = sum_stress


TORCH_REDUCTIONS = Reductions()


class Problem(NamedTuple):
    """Two row sets under a metric, ready for keys; a self-search where x and y are the same object."""

    keys: Keys
    kernel: Kernel
    x: Rows
    y: Rows


def all_finite(values: Tensor) -> bool:
    """Whether a tensor of floats holds neither NaN nor inf."""
    return bool(torch.isfinite(values).all())


def problem_of(
    keys: Keys, x: Tensor, y: Tensor | None, metric: str, p: float, tensor: Tensor | None, names: tuple[str, str]
) -> Problem:
    kernel = kernel_of(metric, p, tensor)
    if y is not None and x.dtype != y.dtype:
        wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        x, y = x.to(wide), y.to(wide)
    left = prepare(x, metric, names[0])
    right = left if y is None else prepare(y, metric, names[1])
    return Problem(keys if kernel.kind in keys.kinds else TORCH_KEYS, kernel, left, right)


def check_overflow(problem: Problem, admissible: Admissible, metric: str) -> None:
    """ValueError where an admissible pair's canonical key leaves float64. Costs a look at the ranges, nearly always."""
    ranges_of = problem.keys.ranges or column_ranges
    x = ranges_of(problem.x.values)
    y = x if problem.x is problem.y else ranges_of(problem.y.values)
    if not may_overflow(problem.kernel, x, y):
        return
    if not bool(torch.isfinite(torch.cat([*x, *y])).all()):
        return  # check_finite=False: the caller's own affair
    for rows in torch.arange(problem.x.values.shape[0], device=problem.x.values.device).split(64):
        block = problem.keys.block_keys(problem.kernel, problem.x.take(rows), problem.y)
        if not bool(torch.isfinite(admissible.fill(block, rows, 0.0)).all()):
            raise ValueError(
                f"metric: expected distances within float64 for metric={metric!r}, got a pair whose canonical key "
                "overflows; rescale the data"
            )


def pairwise_distances(
    keys: Keys, x: Tensor, y: Tensor | None, metric: str, p: float, tensor: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(n, m) in dtype; (b, n, m) for x (b, n, d)."""
    if x.ndim == 3:
        ys = [None] * len(x) if y is None else list(y)
        return torch.stack(
            [pairwise_distances(keys, a, b, metric, p, tensor, dtype) for a, b in zip(x, ys, strict=True)]
        )
    problem = problem_of(keys, x, y, metric, p, tensor, ("x", "y"))
    check_overflow(problem, Admissible(), metric)
    return all_pairs(*problem, metric, p, dtype)


def knn(
    keys: Keys,
    x: Tensor,
    y: Tensor | None,
    k: int,
    metric: str,
    p: float,
    tensor: Tensor | None,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
    certified: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(distances (n, k) in dtype, indices (n, k), candidates (n,), level (n,))."""
    problem = problem_of(keys, x, y, metric, p, tensor, ("queries", "points"))
    point_groups = groups if y is None else point_groups
    own = torch.arange(x.shape[0], device=x.device) if y is None else None
    check_overflow(problem, Admissible(own, groups, point_groups, window=window), metric)
    found = knn_module.knn(*problem, k, groups, point_groups, window, certified)
    distances = distances_of(found.keys, metric, p, problem.keys.root or sqrt).to(dtype)
    return distances.masked_fill_(found.indices < 0, float("inf")), found.indices, found.candidates, found.level


def radius_count(
    keys: Keys,
    x: Tensor,
    radius: Tensor,
    y: Tensor | None,
    metric: str,
    p: float,
    tensor: Tensor | None,
    closed: bool,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
) -> Tensor:
    """(n,) int64; radius (n,) in the returned precision."""
    problem = problem_of(keys, x, y, metric, p, tensor, ("queries", "points"))
    point_groups = groups if y is None else point_groups
    own = torch.arange(x.shape[0], device=x.device) if y is None else None
    check_overflow(problem, Admissible(own, groups, point_groups, window=window), metric)
    return count_within(*problem, radius, metric, p, closed, groups, point_groups, window)


def radius_neighbors(
    keys: Keys,
    x: Tensor,
    radius: Tensor,
    metric: str,
    p: float,
    tensor: Tensor | None,
    closed: bool,
    groups: Tensor | None,
    window: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """(rows (e,), columns (e,), distances (e,) in dtype) of a self-search; radius (n,) in the returned precision."""
    problem = problem_of(keys, x, None, metric, p, tensor, ("x", "x"))
    admissible = self_admissible(x.shape[0], groups, window, x.device)
    check_overflow(problem, admissible, metric)
    rows, cols, found = list_within(*problem, radius, metric, p, closed, admissible)
    return rows, cols, distances_of(found, metric, p, problem.keys.root or sqrt).to(dtype)


def self_admissible(n: int, groups: Tensor | None, window: int, device: torch.device) -> Admissible:
    return Admissible(torch.arange(n, device=device), groups, groups, window=window)


def ksg(
    keys: Keys, x: Tensor, y: Tensor, ks: list[int], method: str, metric: str, groups: Tensor | None, window: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(local terms (n, K), n_x (n, K), n_y (n, K), tied (n, K), N_i (n,))."""
    left, right = (problem_of(keys, z, None, metric, 2.0, None, (name, name)) for name, z in (("x", x), ("y", y)))
    admissible = self_admissible(x.shape[0], groups, window, x.device)
    for side in (left, right):
        check_overflow(side, admissible, metric)
    local, counts, neighbors = ksg_module.ksg(left.keys, left.kernel, left.x, right.x, ks, method, admissible)
    return local, counts.n_x, counts.n_y, counts.tied, neighbors


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
    """(L, L, K) float64."""
    admissible = self_admissible(layers[0].shape[0], groups, window, layers[0].device)

    def problem(layer: Parted) -> Problem:
        return problem_of(keys, layer.whole(), None, metric, 2.0, None, ("layers", "layers"))

    def read(layer: Parted) -> Rows:
        return problem(layer).x

    for layer in layers:
        check_overflow(problem(layer), admissible, metric)
    first = problem(layers[0])
    sources = [partial(read, layer) for layer in layers]
    return ksg_module.ksg_matrix(first.keys, first.kernel, sources, ks, method, admissible, permutation)


def ksg_permutations(
    keys: Keys, x: Tensor, y: Tensor, k: int, method: str, metric: str, groups: Tensor | None, permutations: Tensor
) -> Tensor:
    """(P,) float64."""
    left, right = (problem_of(keys, z, None, metric, 2.0, None, (name, name)) for name, z in (("x", x), ("y", y)))
    admissible = self_admissible(x.shape[0], groups, 0, x.device)
    for side in (left, right):
        check_overflow(side, Admissible(), metric)  # a permutation brings any two rows of y together
    return ksg_module.ksg_permutations(left.keys, left.kernel, left.x, right.x, k, method, admissible, permutations)


def ksg_cmi(
    keys: Keys, x: Tensor, y: Tensor, z: Tensor, ks: list[int], metric: str, groups: Tensor | None, window: int
) -> Tensor:
    """(n, K) float64 local terms."""
    sides = [problem_of(keys, s, None, metric, 2.0, None, (name, name)) for name, s in (("x", x), ("y", y), ("z", z))]
    admissible = self_admissible(x.shape[0], groups, window, x.device)
    for side in sides:
        check_overflow(side, admissible, metric)
    a, b, c = (side.x for side in sides)
    return conditional(sides[0].keys, sides[0].kernel, a, b, c, ks, admissible)


def mixed_mi(keys: Keys, x: Tensor, y: Tensor, k: int, metric: str, groups: Tensor | None, window: int) -> Tensor:
    """(n,) float64 local terms."""
    left, right = (problem_of(keys, z, None, metric, 2.0, None, (name, name)) for name, z in (("x", x), ("y", y)))
    admissible = self_admissible(x.shape[0], groups, window, x.device)
    for side in (left, right):
        check_overflow(side, admissible, metric)
    return mixture(left.keys, left.kernel, left.x, right.x, k, admissible)


def ross(keys: Keys, x: Tensor, labels: Tensor, k: int, metric: str, groups: Tensor | None, window: int) -> Tensor:
    """(n,) float64 local terms, NaN for rows alone with their label."""
    problem = problem_of(keys, x, None, metric, 2.0, None, ("x", "x"))
    admissible = self_admissible(x.shape[0], groups, window, x.device)
    check_overflow(problem, admissible, metric)
    return ksg_module.ross(problem.keys, problem.kernel, problem.x, labels, k, admissible)


def neighbor_counts(n: int, groups: Tensor | None, window: int) -> Tensor:
    """(n,) int64: the admissible neighbours of each row of a self-search."""
    device = torch.device("cpu") if groups is None else groups.device
    return self_admissible(n, groups, window, device).counts(n, n)


def distance_counts(
    keys: Keys,
    reductions: Reductions,
    x: Tensor,
    y: Tensor | None,
    bounds: Tensor,
    closed: bool,
    metric: str,
    groups: Tensor | None,
    window: int,
) -> Tensor:
    """(E + 1,) int64: pairs below, between and above the bounds (E,) float64."""
    problem = problem_of(keys, x, y, metric, 2.0, None, ("x", "points"))
    admissible = Admissible() if y is not None else self_admissible(x.shape[0], groups, window, x.device)
    check_overflow(problem, admissible, metric)
    return reductions.count_keys(*problem, groups, window, thresholds(bounds, closed, metric))


def gaussian_kernel_sums(keys: Keys, reductions: Reductions, x: Tensor, y: Tensor | None, bandwidths: Tensor) -> Tensor:
    """(B,) float64."""
    check_overflow(problem_of(keys, x, y, "euclidean", 2.0, None, ("x", "y")), Admissible(), "euclidean")
    return reductions.gaussian_sums(x, y, _scales(bandwidths))


def gaussian_kernel_sums_backward(
    reductions: Reductions, grad: Tensor, x: Tensor, y: Tensor | None, bandwidths: Tensor
) -> tuple[Tensor, Tensor | None]:
    """grad (B,) of the sums -> gradients of x and y in float64."""
    return reductions.gaussian_gradients(x, y, _scales(bandwidths), grad.to(torch.float64))


def _scales(bandwidths: Tensor) -> Tensor:
    return 0.5 / (bandwidths * bandwidths)


def stress(
    keys: Keys, reductions: Reductions, x: Tensor, y: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(raw stress, gradient of x or None, gradient of y or None), float64."""
    for side in (x, y):
        check_overflow(problem_of(keys, side, None, "euclidean", 2.0, None, ("x", "x")), Admissible(), "euclidean")
    return reductions.stress(x, y, needs)


def ops(keys: Keys, reductions: Reductions = TORCH_REDUCTIONS) -> dict[str, Callable[..., Any]]:
    """Every op of the engine, with canonical keys from `keys` and sums over pairs from `reductions`."""
    searches = (pairwise_distances, knn, radius_count, radius_neighbors)
    information = (ksg, ksg_matrix, ksg_permutations, ksg_cmi, mixed_mi, ross)
    bound: dict[str, Callable[..., Any]] = {op.__name__: partial(op, keys) for op in searches + information}
    for reduced in (distance_counts, gaussian_kernel_sums, stress):
        bound[reduced.__name__] = partial(reduced, keys, reductions)
    bound["gaussian_kernel_sums_backward"] = partial(gaussian_kernel_sums_backward, reductions)
    for measure in (similarity.distance_correlation, similarity.cka):
        bound[measure.__name__] = partial(measure, reductions.centered_products)
    plain = (all_finite, neighbor_counts, pairwise_distances_backward, knn_backward, similarity.cka_matrix)
    bound |= {op.__name__: op for op in plain}
    return bound | FISHER
