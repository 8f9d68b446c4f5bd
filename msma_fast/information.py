"""Mutual information of continuous samples by nearest neighbours. Everything is float64, in nats, signed, never clipped.

KSG1  psi(k) + <psi(N_i)> - <psi(n_x + 1) + psi(n_y + 1)>, strict counts
KSG2  psi(k) - 1/k + <psi(N_i)> - <psi(n_x) + psi(n_y)>, closed counts
Ross  <psi(N_i)> + <psi(k_i)> - <psi(N_label)> - <psi(m_i)>

N_i = 1 + the admissible neighbours of row i: with groups or a window, psi(N) would be biased.
Sources: Kraskov, Stoegbauer, Grassberger, Phys. Rev. E 69, 066138 (2004); Ross, PLoS ONE 9(2), e87357 (2014);
Gao et al., NeurIPS 2017 (repeated values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import Parted, wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.diagnostics import diagnose, means, neighbor_counts
from msma_fast.results import Array

METHODS = ("ksg1", "ksg2")
METRICS = ("chebyshev", "euclidean")


def sample(name: str, value: Any, check_finite: bool = True) -> Tensor:
    """(n,) -> (n, 1); (n, d) and (b, n, d) stay."""
    tensor = _checks.points(name, value, ndims=(1, 2, 3), check_finite=check_finite)
    return tensor[:, None] if tensor.ndim == 1 else tensor


def paired(x: Array, y: Array, check_finite: bool = True) -> tuple[Tensor, Tensor]:
    """Two samples with the same batch and n."""
    a, b = sample("x", x, check_finite), sample("y", y, check_finite)
    if a.shape[:-1] != b.shape[:-1]:
        raise ValueError(f"y: expected as many rows as x {tuple(a.shape[:-1])}, got {tuple(b.shape[:-1])}")
    if a.device != b.device:
        raise ValueError(f"y: expected device {a.device} as x, got {b.device}")
    return a, b


def labels32(name: str, value: Any, n: int, device: torch.device) -> Tensor | None:
    """(n,) labels as int32 ranks, or None."""
    if value is None:
        return None
    ranks: Tensor = _checks.labels(name, value, (n,), device).unique(return_inverse=True)[1].to(torch.int32)
    return ranks


def check_neighbors(groups: Tensor | None, window: int, n: int, k: int) -> None:
    """Every row needs k admissible neighbours."""
    if groups is None and not window:
        return
    fewest = int(neighbor_counts(groups, window, n).min())
    if fewest < k:
        raise ValueError(
            f"k: expected at most {fewest}, the fewest neighbours a row has left after groups and window, got {k}"
        )


def exclusions(groups: Any, window: Any, n: int, k: int, device: torch.device) -> tuple[Tensor | None, int]:
    """(labels as int32 ranks or None, window), with k admissible neighbours for every row of a self-search."""
    window = _checks.window(window, n, self_search=True)
    labels = labels32("groups", groups, n, device)
    check_neighbors(labels, window, n, k)
    return labels, window


def unbatched(name: str, tensor: Tensor) -> Tensor:
    """A sample (n, d), not a batch of them."""
    if tensor.ndim != 2:
        raise ValueError(f"{name}: expected shape (n,) or (n, d), got {tuple(tensor.shape)}")
    return tensor


def _noisy(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """x plus Gaussian noise of `noise` times each column's standard deviation, at least one ulp of its size. A constant column
    has no deviation: its size stands in, one where it is zero."""
    wide = x.to(torch.float64)
    size = wide.abs().amax(-2, keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    spread = (wide / size).std(-2, keepdim=True)  # of huge values the squares would overflow
    spread = torch.where(spread > 0, spread, 1.0)
    scale = torch.clamp(noise * spread, min=torch.finfo(x.dtype).eps) * size
    return wide + scale * torch.randn(wide.shape, dtype=torch.float64, generator=generator).to(wide.device)


def ksg_mi(
    x: Array,
    y: Array,
    k: int | Sequence[int] = 3,
    *,
    method: str = "ksg1",
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    noise: float = 0.0,
    seed: int = 0,
    diagnostics: bool = False,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """Mutual information of paired samples in nats, by the Kraskov-Stoegbauer-Grassberger estimator. Never clipped.

    x (n,), (n, dx) or (b, n, dx); y alike with the same n. k: an integer, or a sequence of them, all in one pass.
    method "ksg1" or "ksg2"; metric "chebyshev" or "euclidean" within each marginal, the joint distance is the larger.
    groups (n,) integer labels: rows with the same label are not neighbours; window w: nor are rows with |i - j| <= w.
    noise: seeded Gaussian noise added to both samples, relative to each column's standard deviation (for ties;
    to its size where it is constant).

    Returns a float, or a float64 array: (K,) for a sequence of k, (b,) or (b, K) for a batch. diagnostics=True returns
    an `MIResult` instead (not for a batch). Raises ValueError / TypeError for NaN or inf, empty or mismatched samples,
    integer or complex data, k out of range, and a row left with fewer than k neighbours.
    When not to trust it: near the ceiling psi(N) - psi(k), with many ties, or with strong dependence in many dimensions;
    diagnostics says so. `mi_interval` puts a confidence interval around it.
    Cost: n log n where both samples have at most 3 dimensions on a CPU, else n^2 (dx + dy).
    """
    check_name(backend)
    a, b = paired(x, y, check_finite)
    n = a.shape[-2]
    ks, single = _checks.neighbor_counts(k, n)
    _checks.choice("method", method, METHODS)
    _checks.choice("metric", metric, METRICS)
    labels, window = exclusions(groups, window, n, max(ks), a.device)
    noise = _checks.number("noise", noise, at_least=0.0)
    if noise == math.inf:
        raise ValueError("noise: expected a finite number >= 0, got inf")
    seed = _checks.integer("seed", seed, at_least=0)
    if noise:
        generator = torch.Generator().manual_seed(seed)
        a, b = _noisy(a, noise, generator), _noisy(b, noise, generator)
    wrap = wrapper_like(x)

    def estimate(u: Tensor, v: Tensor, ks: list[int]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = registry.run(
            "ksg", u.device, backend or "", u, v, ks, method, metric, labels, window
        )
        return found

    if a.ndim == 3:
        if diagnostics:
            raise ValueError(f"diagnostics: expected one paired sample (n, d), got a batch of {a.shape[0]}")
        batch = torch.stack([means(estimate(u, v, ks)[0]) for u, v in zip(a, b, strict=True)])
        return wrap(batch[:, 0] if single else batch)
    if diagnostics:
        return diagnose(a, b, ks, single, labels, window, estimate, wrap)
    mi = means(estimate(a, b, ks)[0])
    return float(mi[0]) if single else wrap(mi)


def check_layers(layers: Any, check_finite: bool = True) -> tuple[list[Parted], Any]:
    """(L, n, d), a list of (n, d_l), or what keeps layers where they lie, as `mf.Activations` does -> the layers, and one
    array to wrap results like. Nothing is copied."""
    if hasattr(layers, "parted"):
        parted = [layers.parted(i) for i in range(len(layers))]
        for i, layer in enumerate(parted):
            for part in layer.parts:
                _checks.points(f"layers[{i}]", part, ndims=(2,), check_finite=check_finite)
        return parted, parted[0].parts[0]
    if isinstance(layers, (list, tuple)):
        if not layers:
            raise ValueError("layers: expected (L, n, d) or a list of (n, d) arrays, got an empty list")
        tensors = [sample(f"layers[{i}]", layer, check_finite) for i, layer in enumerate(layers)]
        like = layers[0]
    else:
        stacked = _checks.points("layers", layers, ndims=(3,), check_finite=check_finite)
        tensors, like = list(stacked), layers
    for i, layer in enumerate(tensors):
        if layer.ndim != 2 or layer.shape[0] != tensors[0].shape[0]:
            raise ValueError(
                f"layers[{i}]: expected {tensors[0].shape[0]} rows as in layers[0], got shape {tuple(layer.shape)}"
            )
    return [Parted((tensor,)) for tensor in tensors], like


def matrix_arguments(
    layers: Any, k: Any, method: str, metric: str, check_finite: bool
) -> tuple[list[Parted], Any, list[int], bool]:
    """What every estimate of all pairs of layers asks for: (layers, an array to wrap results like, values of k, whether one
    was given)."""
    parts, like = check_layers(layers, check_finite)
    ks, single = _checks.neighbor_counts(k, parts[0].shape[0])
    _checks.choice("method", method, METHODS)
    _checks.choice("metric", metric, METRICS)
    return parts, like, ks, single


def check_permutation(name: str, value: Any, n: int, device: torch.device) -> Tensor:
    """(n,) a permutation of 0..n-1."""
    tensor = _checks.labels(name, value, (n,), device)
    if not bool((tensor.sort().values == torch.arange(n, device=device)).all()):
        raise ValueError(f"{name}: expected every index of 0..{n - 1} once, got repeated or missing ones")
    return tensor


def ksg_mi_matrix(
    layers: Any,
    k: int | Sequence[int] = 3,
    *,
    method: str = "ksg1",
    metric: str = "euclidean",
    groups: Array | None = None,
    window: int = 0,
    permutation: Array | None = None,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """KSG mutual information of all pairs of layers, in nats: (L, L) float64 symmetric, or (L, L, K) for K values of k.

    layers (L, n, d), a list of (n, d_l), or an `mf.Activations`, whose layers may stay on disk. Each layer's distances are
    computed once per block of rows and shared by all its pairs. Memory: O(L block n), with one layer at a time beside it
    where all are more than 256 MiB in float32; layers that are mapped from files are read where they are, again for every
    block, and not copied. The diagonal is the estimator's own I(X; X) (psi(N) - psi(k) without ties).
    permutation (n,): a null; entry (l, m) with l <= m pairs row i of layer l with row permutation[i] of layer m, and is
    mirrored. Other arguments, the estimator and the errors are those of `ksg_mi`.
    """
    check_name(backend)
    parts, like, ks, single = matrix_arguments(layers, k, method, metric, check_finite)
    n, device = parts[0].shape[0], parts[0].device
    labels, window = exclusions(groups, window, n, max(ks), device)
    order = None if permutation is None else check_permutation("permutation", permutation, n, device)
    matrix = registry.run("ksg_matrix", device, backend or "", parts, ks, method, metric, labels, window, order)
    return wrapper_like(like)(matrix[..., 0] if single else matrix)


def ross_mi(
    x: Array,
    labels: Array,
    k: int = 3,
    *,
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> float:
    """Mutual information between a continuous sample x (n,) or (n, d) and integer labels (n,), in nats.

    Ross (2014): <psi(N_i)> + <psi(k_i)> - <psi(N_label)> - <psi(m_i)>, k_i = min(k, rows of the label - 1). Rows alone
    with their label are left out. Where rows repeat (distance 0), k_i and m_i count the rows at distance 0, so that a
    discrete x gives the plug-in information instead of an inflated one. groups and window exclude neighbours.

    Raises ValueError / TypeError as `ksg_mi`, for labels that are not integers, and when every row is alone.
    """
    check_name(backend)
    a = unbatched("x", sample("x", x, check_finite))
    n = a.shape[0]
    k = _checks.neighbor_count("k", k, n, self_search=True)
    _checks.choice("metric", metric, METRICS)
    classes = _checks.labels("labels", labels, (n,), a.device)
    window = _checks.window(window, n, self_search=True)
    excluded = labels32("groups", groups, n, a.device)
    # A row whose label occurs nowhere else says nothing about the label's density: leave it out of N as well.
    _, inverse, size = classes.unique(return_inverse=True, return_counts=True)
    kept = size[inverse] > 1
    if not bool(kept.any()):
        raise ValueError(f"labels: expected some label to occur twice, got {n} different ones")
    excluded = None if excluded is None else excluded[kept]
    local = registry.run("ross", a.device, backend or "", a[kept], inverse[kept], k, metric, excluded, window)
    usable = ~torch.isnan(local)
    if not bool(usable.any()):
        raise ValueError("labels: expected rows with an admissible neighbour of the same label, got none")
    return math.fsum(local[usable].tolist()) / int(usable.sum())
