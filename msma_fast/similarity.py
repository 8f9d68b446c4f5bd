"""How alike two representations of the same rows are: neighborhood_overlap, distance_correlation, cka."""

from __future__ import annotations

import torch

from msma_fast import _checks
from msma_fast._arrays import from_array, wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.information import check_layers
from msma_fast.neighbors import knn
from msma_fast.results import Array


def shared_fraction(a: Array, b: Array) -> float:
    """Shared entries over entries of two (n, k) neighbour index arrays, the mean of |A_i and B_i| / k where no row is short.

    -1 entries match nothing and do not count; the larger of the two counts divides. nan where there is no neighbour."""
    one, two = from_array("a", a), from_array("b", b)
    if one.shape != two.shape or one.ndim != 2:
        raise ValueError(f"b: expected indices of shape {tuple(one.shape)}, got {tuple(two.shape)}")
    both = torch.cat([one, two], 1).sort(1).values
    shared = (both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)  # an index occurs at most once on each side
    present = max(int((one >= 0).sum()), int((two >= 0).sum()))
    return float(shared.sum()) / present if present else float("nan")


def neighborhood_overlap(
    x: Array,
    y: Array,
    k: int,
    *,
    metric: str = "euclidean",
    groups: Array | None = None,
    check_finite: bool = True,
    backend: str | None = None,
) -> float:
    """Mean share of common k nearest neighbours, |A and B| / k, of paired rows x (n, dx) and y (n, dy).

    1 when every row has the same neighbours on both sides, k / (n - 1) by chance. groups as in `knn`.
    Raises ValueError / TypeError as `knn` does and for different numbers of rows.
    """
    a, b = _checks.paired(x, y, check_finite)
    found = [
        knn(side, k, metric=metric, groups=groups, check_finite=False, backend=backend).indices
        for side in (a.detach(), b.detach())
    ]
    return shared_fraction(*found)


def distance_correlation(x: Array, y: Array, *, check_finite: bool = True, backend: str | None = None) -> float:
    """Distance correlation of paired rows x (n, dx), y (n, dy): the square root of the biased V-statistic, in [0, 1].

    Szekely, Rizzo, Bakirov (2007), euclidean distances. Cost n^2 d / 2 a side, memory a tile per thread (blocks of rows
    on the torch backend). 0 where one side does not vary. Biased upwards for small n: compare against
    shuffled pairs. Raises ValueError / TypeError for bad data.
    """
    check_name(backend)
    a, b = _checks.paired(x, y, check_finite)
    return float(registry.run("distance_correlation", a.device, backend or "", a, b))


def cka(x: Array, y: Array, kernel: str = "linear", *, check_finite: bool = True, backend: str | None = None) -> float:
    """Centred kernel alignment of paired rows x (n, dx), y (n, dy), in [0, 1] (biased HSIC; Kornblith et al. 2019).

    kernel "linear", or "rbf" with the bandwidth at the median distance. Linear CKA is invariant under rotation and
    isotropic scaling; a few massive coordinates can decide it. 0 where one side does not vary. Memory: d x d or blocks of
    rows, never n x n. Raises ValueError / TypeError for bad data.
    """
    check_name(backend)
    a, b = _checks.paired(x, y, check_finite)
    _checks.choice("kernel", kernel, ("linear", "rbf"))
    return float(registry.run("cka", a.device, backend or "", a, b, kernel))


def cka_matrix(layers: Array, *, check_finite: bool = True, backend: str | None = None) -> Array:
    """Linear CKA of all pairs of layers, (L, L) float64; layers (L, n, d), a list of (n, d_l), or an
    `mf.Activations`.

    Each layer is centred once and products are taken in the layers' own precision (float32: about 1e-6 relative), at
    2 n d^2 operations a pair; `cka` works in float64. Raises ValueError / TypeError as `cka` does.
    """
    check_name(backend)
    parts, like = check_layers(layers, check_finite)
    wide = [part.whole().to(torch.promote_types(part.dtype, torch.float32)) for part in parts]
    return wrapper_like(like)(registry.run("cka_matrix", parts[0].device, backend or "", wide))
