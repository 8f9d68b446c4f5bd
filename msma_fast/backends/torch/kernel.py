"""What every provider of canonical keys (torch, native, later Triton and CUDA) is asked for.

A metric is reduced to a `Kernel` (one of the formulas below) over prepared `Rows`. The canonical key of a pair is a float64
number computed in one fixed order, so that it is the same for every backend, instruction set, block and thread count:

    lane l = j mod 8 accumulates coordinate j in increasing j, starting from +0.0;
    the lanes combine as ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7));
    every multiply, add, divide and square root is rounded on its own (no fused multiply-add).

| kind          | key of rows x and y, a = x - y in float64                                               |
|---------------|-----------------------------------------------------------------------------------------|
| sqeuclidean   | sum a a                                                                                 |
| manhattan     | sum |a|                                                                                 |
| chebyshev     | max |a|                                                                                 |
| minkowski     | sum ((|a| |a|) |a|)..., p factors from left to right, integer 1 <= p <= 16              |
| inner_product | 0 - sum x y                                                                             |
| cosine        | max(0, 1 - (sum x y) / (norm_x norm_y)), and exactly 0 where the two rows are equal     |
| mahalanobis   | z_i = sum_j M_ij a_j by lanes over j, then max(0, sum a z), M symmetric, by lanes over i |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Kernel(NamedTuple):
    """One formula of the table above; `p` for minkowski, `tensor` (d, d) float64 symmetric for mahalanobis."""

    kind: str
    p: float = 0
    tensor: Tensor | None = None


class Rows(NamedTuple):
    """Prepared rows: `values` (n, d) contiguous float32 or float64, `norms` (n,) float64 for cosine, else None."""

    values: Tensor
    norms: Tensor | None = None

    def take(self, index: Tensor) -> Rows:
        """The chosen rows, still contiguous."""
        norms = None if self.norms is None else self.norms.index_select(0, index)
        return Rows(self.values.index_select(0, index), norms)


class Keys(NamedTuple):
    """Who computes canonical keys, and of which kinds; keys are float64. A provider may bring searches and scans of its
    own (None: the torch backend's), with the signatures named here."""

    pair_keys: Callable[[Kernel, Rows, Rows, Tensor, Tensor], Tensor]  # (P,) of index pairs
    block_keys: Callable[[Kernel, Rows, Rows], Tensor]  # (n, m) of all pairs
    kinds: frozenset[str]
    nearest: Callable[[Any], Any] | None = None  # knn.Search -> knn.Found
    within: Callable[..., Tensor] | None = None  # (kernel, x, y, threshold, admissible) -> (n,) int64
    ranges: Callable[[Tensor], tuple[Tensor, Tensor]] | None = (
        None  # (n, d) -> column minima, maxima; NaN if not finite
    )
    find_units: Callable[[Tensor, Tensor | None], Any] | None = None  # collapse.find_units
    expand: Callable[..., tuple[Tensor, Tensor]] | None = None  # collapse.expand
    root: Callable[[Tensor], Tensor] | None = None  # square roots of float64, correctly rounded
