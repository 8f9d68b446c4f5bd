"""Float64 references for the information estimators: the textbook definitions over full (n, n) matrices of the canonical
keys of oracles.py. Nats. Like it, this imports nothing of the package under test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from oracles import Array, admissible, canonical_keys, nearest, to_distance
from scipy.special import digamma


class Ksg(NamedTuple):
    mi: float
    local: Array  # (n,), its mean is mi
    n_x: Array
    n_y: Array
    ceiling: float  # <psi(N_i)> - psi(k), the estimate of I(X;X) without ties


def ksg_from_keys(keys_x: Array, keys_y: Array, k: int, method: str, allowed: Array) -> Ksg:
    """KSG1: psi(k) + <psi(N_i)> - <psi(n_x + 1) + psi(n_y + 1)>, counts strict.
    KSG2: psi(k) - 1/k + <psi(N_i)> - <psi(n_x) + psi(n_y)>, counts closed."""
    joint = nearest(np.maximum(keys_x, keys_y), allowed, k)
    if not joint.valid.all():
        raise ValueError("a row has fewer than k admissible neighbours")
    base = digamma(k) + digamma(1 + allowed.sum(1))
    if method == "ksg1":
        eps = joint.keys[:, -1:]
        n_x, n_y = (((keys < eps) & allowed).sum(1) for keys in (keys_x, keys_y))
        local = base - digamma(n_x + 1) - digamma(n_y + 1)
    else:
        n_x, n_y = (
            ((keys <= np.take_along_axis(keys, joint.indices, 1).max(1)[:, None]) & allowed).sum(1)
            for keys in (keys_x, keys_y)
        )
        local = base - 1.0 / k - digamma(n_x) - digamma(n_y)
    ceiling = math.fsum(digamma(1 + allowed.sum(1))) / len(allowed) - float(digamma(k))
    return Ksg(math.fsum(local) / len(local), local, n_x, n_y, ceiling)


def ksg_mi(
    x: Array,
    y: Array,
    k: int = 3,
    method: str = "ksg1",
    metric: str = "chebyshev",
    groups: Any = None,
    window: int = 0,
) -> Ksg:
    """Kraskov-Stoegbauer-Grassberger by full matrices; x (n, dx) or (n,), y (n, dy) or (n,)."""
    x, y = (np.asarray(z, dtype=np.float64).reshape(len(z), -1) for z in (x, y))
    allowed = admissible(len(x), groups=groups, window=window)
    return ksg_from_keys(canonical_keys(x, x, metric), canonical_keys(y, y, metric), k, method, allowed)


def ksg_matrix(
    layers: Sequence[Array], k: int = 3, method: str = "ksg1", metric: str = "euclidean", **kw: Any
) -> Array:
    return np.array([[ksg_mi(a, b, k, method, metric, **kw).mi for b in layers] for a in layers])


def ross_mi(x: Array, labels: Array, k: int, metric: str) -> float:
    """psi(N) + <psi(k_i)> - <psi(N_label)> - <psi(m_i)>; m_i: points up to the k_i-th of the same label.

    k_i = min(k, N_label - 1); a row alone with its label is left out of everything.
    """
    x, labels = np.asarray(x, dtype=np.float64).reshape(len(x), -1), np.asarray(labels)
    kept = (labels[:, None] == labels[None, :]).sum(1) > 1
    x, labels = x[kept], labels[kept]
    keys, others, same = canonical_keys(x, x, metric), admissible(len(x)), labels[:, None] == labels[None, :]
    k_each = np.minimum(k, same.sum(1) - 1)
    radius = nearest(keys, others & same, k).keys[np.arange(len(x)), k_each - 1][:, None]
    within = ((keys <= radius) & others).sum(1)
    terms = digamma(len(x)) + digamma(k_each) - digamma(same.sum(1)) - digamma(within)
    return float(terms.mean())


def ksg_cmi(
    x: Array, y: Array, z: Array, k: int = 3, metric: str = "chebyshev", groups: Any = None, window: int = 0
) -> float:
    """psi(k) - <psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)>, strict counts below the k-th joint distance."""
    keys_x, keys_y, keys_z = (canonical_keys(s, s, metric) for s in (_columns(x), _columns(y), _columns(z)))
    allowed = admissible(len(x), groups=groups, window=window)
    xz, yz = np.maximum(keys_x, keys_z), np.maximum(keys_y, keys_z)
    eps = nearest(np.maximum(xz, keys_y), allowed, k).keys[:, -1:]
    n_xz, n_yz, n_z = (((keys < eps) & allowed).sum(1) for keys in (xz, yz, keys_z))
    terms = digamma(k) - digamma(n_xz + 1) - digamma(n_yz + 1) + digamma(n_z + 1)
    return math.fsum(terms) / len(x)


def mixed_mi(x: Array, y: Array, k: int = 3, metric: str = "chebyshev", groups: Any = None, window: int = 0) -> float:
    """<psi(k_i) + log N_i - psi(m_x) - psi(m_y)>, each row counted among its own neighbours: strictly below the k-th joint
    distance with k_i = k, or, where that is zero, at distance zero with k_i the rows that equal row i in both."""
    keys_x, keys_y = (canonical_keys(s, s, metric) for s in (_columns(x), _columns(y)))
    allowed = admissible(len(x), groups=groups, window=window)
    joint = np.maximum(keys_x, keys_y)
    total = []
    for i, radius in enumerate(nearest(joint, allowed, k).keys[:, -1]):
        others = allowed[i]
        a, b, both = keys_x[i][others], keys_y[i][others], joint[i][others]
        if radius > 0:
            k_i, m_x, m_y = k, 1 + (a < radius).sum(), 1 + (b < radius).sum()
        else:
            k_i, m_x, m_y = 1 + (both == 0).sum(), 1 + (a == 0).sum(), 1 + (b == 0).sum()
        total.append(digamma(k_i) + math.log(1 + others.sum()) - digamma(m_x) - digamma(m_y))
    return math.fsum(total) / len(total)


def knn_entropy(x: Array, k: int = 3, metric: str = "chebyshev", groups: Any = None, window: int = 0) -> float:
    """<psi(N_i)> - psi(k) + <log volume of the ball to the k-th neighbour>."""
    x = _columns(x)
    d, allowed = x.shape[1], admissible(len(x), groups=groups, window=window)
    radius = to_distance(nearest(canonical_keys(x, x, metric), allowed, k).keys[:, -1], metric)
    log_unit = d * math.log(2) if metric == "chebyshev" else d / 2 * math.log(math.pi) - math.lgamma(1 + d / 2)
    terms = digamma(1 + allowed.sum(1)) - digamma(k) + log_unit + d * np.log(radius)
    return math.fsum(terms) / len(x)


def knn_kl_divergence(
    x: Array, y: Array, k: int = 5, metric: str = "euclidean", groups: Any = None, window: int = 0
) -> float:
    """Mean log ratio of the densities k / (neighbours volume(r_i)) and k / (m volume(s_i)) at the rows of x."""
    x, y = _columns(x), _columns(y)
    allowed = admissible(len(x), groups=groups, window=window)
    r = to_distance(nearest(canonical_keys(x, x, metric), allowed, k).keys[:, -1], metric)
    s = to_distance(nearest(canonical_keys(x, y, metric), admissible(len(x), len(y)), k).keys[:, -1], metric)
    terms = x.shape[1] * (np.log(s) - np.log(r)) + np.log(len(y)) - np.log(allowed.sum(1))
    return math.fsum(terms) / len(x)


def _columns(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)
