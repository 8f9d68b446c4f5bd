"""Conditional mutual information of continuous samples by nearest neighbours; float64, in nats, signed, never clipped.

I(X; Y | Z) = psi(k) - <psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)>, strict counts
Source: Frenzel, Pompe, Phys. Rev. Lett. 99, 204101 (2007), the KSG1 form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.information import METRICS, exclusions, paired, sample
from msma_fast.results import Array


def ksg_cmi(
    x: Array,
    y: Array,
    z: Array,
    k: int | Sequence[int] = 3,
    *,
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> Any:
    """Mutual information of x and y given z, in nats, by the Frenzel-Pompe estimator. Never clipped.

    x (n,), (n, dx) or (b, n, dx); y and z alike with the same n. k: an integer, or a sequence of them, all in one pass.
    metric "chebyshev" or "euclidean" within each of x, y and z; distances in joint spaces are the largest of these.
    groups (n,) integer labels: rows with the same label are not neighbours; window w: nor are rows with |i - j| <= w.

    Returns a float, or a float64 array: (K,) for a sequence of k, (b,) or (b, K) for a batch. Raises ValueError / TypeError
    as `ksg_mi`.

    Transfer entropy from x to y, what the past of x tells about y beyond y's own past, is `ksg_cmi(y[1:], x[:-1], y[:-1])`
    for one step of past; with `window` rows near in time are not neighbours (examples/transfer_entropy.py).

    When not to trust it: it is biased towards zero, the more so the more dimensions z has, so that a small value is no
    proof of conditional independence; compare with surrogates that break only the link in question. No estimate can exceed
    psi(N) - psi(k) without ties. Repeated rows count as ties; for discrete data use counts.
    """
    check_name(backend)
    a, b = paired(x, y, check_finite)
    c = sample("z", z, check_finite)
    if c.shape[:-1] != a.shape[:-1]:
        raise ValueError(f"z: expected as many rows as x {tuple(a.shape[:-1])}, got {tuple(c.shape[:-1])}")
    if c.device != a.device:
        raise ValueError(f"z: expected device {a.device} as x, got {c.device}")
    n = a.shape[-2]
    ks, single = _checks.neighbor_counts(k, n)
    _checks.choice("metric", metric, METRICS)
    labels, window = exclusions(groups, window, n, max(ks), a.device)

    def estimate(*samples: Tensor) -> Tensor:
        """(K,): correctly rounded sums, the same for any number of threads."""
        local = registry.run("ksg_cmi", a.device, backend or "", *samples, ks, metric, labels, window)
        return torch.tensor([math.fsum(terms) / n for terms in local.T.tolist()], dtype=torch.float64, device=a.device)

    wrap = wrapper_like(x)
    if a.ndim == 3:
        batch = torch.stack([estimate(*samples) for samples in zip(a, b, c, strict=True)])
        return wrap(batch[:, 0] if single else batch)
    cmi = estimate(a, b, c)
    return float(cmi[0]) if single else wrap(cmi)
