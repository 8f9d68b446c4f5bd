"""Fisher information geometry."""

from __future__ import annotations

from msma_fast.fisher.gaussian import GaussianFisherRao, gaussian_fisher_rao
from msma_fast.fisher.local_metric import LocalMetric, local_metric
from msma_fast.fisher.pullback import pullback_vp

__all__ = ["GaussianFisherRao", "LocalMetric", "gaussian_fisher_rao", "local_metric", "pullback_vp"]
