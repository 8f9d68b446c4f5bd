"""Mutual information where values may repeat: discrete, continuous and mixed variables; float64, in nats, never clipped.

I(X; Y) = <psi(k_i) + log(N_i) - psi(m_x) - psi(m_y)>
Source: Gao, Kannan, Oh, Viswanath, "Estimating mutual information for discrete-continuous mixtures", NeurIPS 2017.
"""

from __future__ import annotations

import math

from msma_fast import _checks
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.information import METRICS, exclusions, paired, unbatched
from msma_fast.results import Array


def mixed_mi(
    x: Array,
    y: Array,
    k: int = 3,
    *,
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> float:
    """Mutual information of paired samples in which values may repeat, in nats. Never clipped.

    x (n,) or (n, dx), y alike with the same n: each column continuous, discrete (numbers, as floats) or a mixture of both,
    such as a rectified activation. metric "chebyshev" or "euclidean" within each sample, the joint distance is the larger;
    groups and window exclude neighbours as in `ksg_mi`.

    rho_i is the distance of row i to its k-th joint neighbour. Where it is positive, the term of the row is
    psi(k) + log(N_i) - psi(m_x) - psi(m_y) with m_x = 1 + #{j: |x_i - x_j| < rho_i}. Where it is 0, m_x = 1 + #{j: x_j = x_i}
    and k becomes 1 + #{j: both equal}. N_i = 1 + the admissible neighbours of row i (N without groups and window). These are
    the counts of the program that Gao et al. published; their paper prints log(n_x + 1) with closed counts in place of
    psi(m_x). Without ties it is KSG1 with log(N) for psi(N), and of discrete samples the plug-in value up to O(1 / counts).

    Raises ValueError / TypeError as `ksg_mi`; integer arrays are refused, convert them to floats.
    When not to trust it: numbers stand for a discrete variable, so their distances decide who is a neighbour where few rows
    repeat; rare values (fewer than k + 1 rows) lean on that. For labels without an order use `ross_mi`. It also shares the
    limits of `ksg_mi`: its ceiling, and strong dependence in many dimensions.
    """
    check_name(backend)
    a, b = paired(x, y, check_finite)
    n = unbatched("x", a).shape[0]
    k = _checks.neighbor_count("k", k, n, self_search=True)
    _checks.choice("metric", metric, METRICS)
    labels, window = exclusions(groups, window, n, k, a.device)
    local = registry.run("mixed_mi", a.device, backend or "", a, b, k, metric, labels, window)
    return math.fsum(local.tolist()) / n
