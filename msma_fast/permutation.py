"""mi_permutation_test: is the information more than the same estimator finds in shuffled pairs?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.information import METHODS, METRICS, check_neighbors, labels32, paired, unbatched
from msma_fast.results import Array, PermutationResult

ROUNDING = 1e-12  # relative: the same terms summed in another order, which a permutation may do, are equal


def _whole_texts(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation that exchanges whole texts, the rows of each in their own order."""
    order = labels.argsort(stable=True)
    size = torch.bincount(labels)
    length = int(size[0])
    table = order.view(-1, length)  # [texts, rows of a text]
    permutation = torch.empty_like(order)
    permutation[table.reshape(-1)] = table[torch.randperm(table.shape[0], generator=generator)].reshape(-1)
    return permutation


def permute_within(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation of rows among equal labels (n,) int64: sorting by (label, random) against sorting by (label, index)."""
    shuffled = torch.randperm(labels.shape[0], generator=generator)
    permutation = torch.empty_like(shuffled)
    permutation[labels.argsort(stable=True)] = shuffled[labels[shuffled].argsort(stable=True)]
    return permutation


def mi_permutation_test(
    x: Array,
    y: Array,
    k: int = 3,
    n_permutations: int = 200,
    *,
    method: str = "ksg1",
    metric: str = "chebyshev",
    groups: Array | None = None,
    exchange: Array | None = None,
    within: Array | None = None,
    seed: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> PermutationResult:
    """KSG mutual information of x and y (n, d) against n_permutations shuffles of the pairing.

    A permutation re-indexes the marginal distances of y. groups (n,) excludes neighbours as in `ksg_mi`; a permuted pair
    excludes those of its x's text and those of its y's text. Without
    exchange or within, all rows are exchanged (for independent rows). exchange (n,) labels: whole texts of equal length
    are exchanged, rows in their order (for dependent rows). within (n,) labels: rows are exchanged only among equal
    labels (the null "same token identity"): the excess is information beyond the label.

    Memory on a CPU: the distances of both samples, 8 n^2 bytes, 64 n sqrt(k n) for their near columns and 16 n for each
    permutation, to n = 5792 (34 + 10 + 7 MB for n = 2048, k = 3, 200 permutations); beyond, blocks of rows, more slowly.

    Returns PermutationResult(mi, null, p_value, z, excess), nats. Raises ValueError / TypeError as `ksg_mi`, for texts of
    unequal length, and when both exchange and within are given.
    """
    check_name(backend)
    a, b = paired(x, y, check_finite)
    unbatched("x", a)
    n, device = a.shape[0], a.device
    k = _checks.neighbor_count("k", k, n, self_search=True)
    n_permutations = _checks.integer("n_permutations", n_permutations, at_least=1)
    _checks.choice("method", method, METHODS)
    _checks.choice("metric", metric, METRICS)
    labels = labels32("groups", groups, n, device)
    check_neighbors(labels, 0, n, k)
    if exchange is not None and within is not None:
        raise ValueError("exchange: expected None together with within (one null at a time), got both")
    generator = torch.Generator().manual_seed(_checks.integer("seed", seed, at_least=0))
    draw = _null(exchange, within, n, generator)
    permutations = torch.stack([torch.arange(n)] + [draw() for _ in range(n_permutations)]).to(device)
    values = registry.run("ksg_permutations", device, backend or "", a, b, k, method, metric, labels, permutations)
    mi, null = float(values[0]), values[1:]
    mean, rounding = float(null.mean()), ROUNDING * (1 + abs(mi))
    spread = float(null.std()) if n_permutations > 1 else float("nan")
    p_value = (1 + int((null >= mi - rounding).sum())) / (1 + n_permutations)
    z = (mi - mean) / spread if spread > rounding else float("nan")
    return PermutationResult(mi, wrapper_like(x)(null), p_value, z, mi - mean)


def _null(exchange: Any, within: Any, n: int, generator: torch.Generator) -> Any:
    """A function that draws one permutation (n,) on the CPU, so that a seed means the same on every device."""
    if exchange is not None:
        texts = _checks.labels("exchange", exchange, (n,), torch.device("cpu")).unique(return_inverse=True)[1]
        sizes = torch.bincount(texts)
        if int(sizes.min()) != int(sizes.max()):
            raise ValueError(
                f"exchange: expected texts of equal length, got lengths from {int(sizes.min())} to {int(sizes.max())}; "
                "sample blocks of the same number of rows from every text"
            )
        if len(sizes) == 1:
            raise ValueError("exchange: expected at least 2 different labels, got 1: nothing could be exchanged")
        return lambda: _whole_texts(texts, generator)
    if within is not None:
        same = _checks.labels("within", within, (n,), torch.device("cpu")).unique(return_inverse=True)[1]
        if int(same.max()) + 1 == n:
            raise ValueError(
                "within: expected labels that some rows share, got all different: nothing could be exchanged"
            )
        return lambda: permute_within(same, generator)
    return lambda: torch.randperm(n, generator=generator)
