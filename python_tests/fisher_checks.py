"""The sums over a read-out's tokens, each against its definition (fisher_oracles.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
from fisher_oracles import metrics

from msma_fast import fisher


def off(found: Any, wanted: np.ndarray) -> float:
    assert np.shape(found) == wanted.shape
    return float(np.abs(np.asarray(found, dtype=np.float64) - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def check(h: Any, weight: Any, bias: Any, v: Any, backend: str, tolerance: float) -> None:
    g = metrics(h, weight, bias)
    run: dict[str, Any] = {"bias": bias, "backend": backend}
    diagonal = np.einsum("nii->ni", g)
    assert off(fisher.logit_fisher_vp(h, weight, v, **run), np.einsum("nij,nj->ni", g, v)) <= tolerance
    assert off(fisher.logit_fisher_quadratic(h, weight, v, **run), np.einsum("nij,ni,nj->n", g, v, v)) <= tolerance
    assert off(fisher.logit_fisher_mean(h, weight, **run), g.mean(0)) <= tolerance
    assert off(fisher.logit_fisher_trace(h, weight, **run), diagonal.sum(1)) <= tolerance
    assert off(fisher.logit_fisher_diag(h, weight, **run), diagonal) <= tolerance
