"""Fisher metrics on activations: of a read-out's tokens in hidden space, of parameters, of Gaussians, of neighbourhoods.

from msma_fast import fisher
fisher.readout(model)                                                       weight, bias and norm of a model
fisher.logit_fisher_vp, _quadratic, _mean, _trace, _diag, _eigh             G(h) = J^T W^T (diag p - p p^T) W J
fisher.fisher_rao_distances, fisher.knn, fisher.path_lengths                geometry of the token distributions
fisher.effective_rank                                                       of a metric
"""

from __future__ import annotations

from msma_fast.fisher._empirical_result import EmpiricalFisher
from msma_fast.fisher._sums import KroneckerFactors
from msma_fast.fisher.eigh import effective_rank, logit_fisher_eigh
from msma_fast.fisher.empirical import empirical
from msma_fast.fisher.gaussian import GaussianFisherRao, gaussian_fisher_rao
from msma_fast.fisher.local_metric import LocalMetric, local_metric
from msma_fast.fisher.logits import (
    logit_fisher_diag,
    logit_fisher_mean,
    logit_fisher_quadratic,
    logit_fisher_trace,
    logit_fisher_vp,
)
from msma_fast.fisher.norms import LayerNorm, RMSNorm
from msma_fast.fisher.pullback import pullback_vp
from msma_fast.fisher.rao import fisher_rao_distances, knn, path_lengths
from msma_fast.fisher.readout import Readout, readout

__all__ = [
    "EmpiricalFisher",
    "GaussianFisherRao",
    "KroneckerFactors",
    "LayerNorm",
    "LocalMetric",
    "RMSNorm",
    "Readout",
    "effective_rank",
    "empirical",
    "fisher_rao_distances",
    "gaussian_fisher_rao",
    "knn",
    "local_metric",
    "logit_fisher_diag",
    "logit_fisher_eigh",
    "logit_fisher_mean",
    "logit_fisher_quadratic",
    "logit_fisher_trace",
    "logit_fisher_vp",
    "path_lengths",
    "pullback_vp",
    "readout",
]
