"""Fisher information geometry."""

from __future__ import annotations

from msma_fast.fisher.gaussian import GaussianFisherRao, gaussian_fisher_rao
from msma_fast.fisher.pullback import pullback_vp

__all__ = ["GaussianFisherRao", "gaussian_fisher_rao", "pullback_vp"]
