"""msma_fast: exact geometry of language-model activations.

import msma_fast as mf
    mf.pairwise_distances, mf.knn, mf.radius_count, mf.knn_graph, mf.radius_graph      distances and neighbours
    mf.ksg_mi, mf.ksg_mi_matrix, mf.ross_mi, mf.mixed_mi, mf.mi_permutation_test       mutual information, in nats
    mf.mi_interval, mf.mi_matrix_interval                                              confidence intervals
    mf.ksg_cmi, mf.knn_entropy, mf.knn_kl_divergence                                   conditional; entropy, divergence
    mf.intrinsic_dimension, mf.neighborhood_overlap, mf.distance_correlation, mf.cka   geometry of layers
    mf.distance_histogram, mf.correlation_integral, mf.stress                          distances summed up, never stored
    mf.gaussian_kernel_sums, mf.mmd, mf.cauchy_schwarz_divergence                      kernel distances of distributions
    mf.fisher                                                                          Fisher metrics on activations
    mf.Activations, mf.collect_activations                                             activations of transformers models
    mf.find_scales, mf.MSMA, mf.intervene                                              scales, maps between them, interventions
    mf.backends, mf.use_backend, mf.explain_backend                                    who computes, and why
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msma_fast import fisher
from msma_fast._version import __version__
from msma_fast.backends.registry import BackendInfo, backends, use_backend
from msma_fast.conditional_information import ksg_cmi
from msma_fast.dimension import intrinsic_dimension
from msma_fast.distance_counts import correlation_integral, distance_histogram
from msma_fast.distances import pairwise_distances
from msma_fast.distortion import stress
from msma_fast.entropy import knn_entropy, knn_kl_divergence
from msma_fast.explain import explain_backend
from msma_fast.graph import NeighborGraph, knn_graph, radius_graph
from msma_fast.information import ksg_mi, ksg_mi_matrix, ross_mi
from msma_fast.intervals import mi_interval, mi_matrix_interval
from msma_fast.kernel_sums import cauchy_schwarz_divergence, gaussian_kernel_sums, mmd
from msma_fast.mixed_information import mixed_mi
from msma_fast.neighbors import knn, radius_count
from msma_fast.permutation import mi_permutation_test
from msma_fast.results import DimensionResult, KnnStats, MIInterval, MIResult, Neighbors, PermutationResult
from msma_fast.similarity import cka, cka_matrix, distance_correlation, neighborhood_overlap

if TYPE_CHECKING:
    from msma_fast.activations import Activations, collect_activations
    from msma_fast.msma.alignment import MSMA
    from msma_fast.msma.interventions import InterventionResult, intervene
    from msma_fast.msma.scales import ScalePartition, find_scales

__all__ = [
    "MSMA",
    "Activations",
    "BackendInfo",
    "DimensionResult",
    "InterventionResult",
    "KnnStats",
    "MIInterval",
    "MIResult",
    "NeighborGraph",
    "Neighbors",
    "PermutationResult",
    "ScalePartition",
    "__version__",
    "backends",
    "cauchy_schwarz_divergence",
    "cka",
    "cka_matrix",
    "collect_activations",
    "correlation_integral",
    "distance_correlation",
    "distance_histogram",
    "explain_backend",
    "find_scales",
    "fisher",
    "gaussian_kernel_sums",
    "intervene",
    "intrinsic_dimension",
    "knn",
    "knn_entropy",
    "knn_graph",
    "knn_kl_divergence",
    "ksg_cmi",
    "ksg_mi",
    "ksg_mi_matrix",
    "mi_interval",
    "mi_matrix_interval",
    "mi_permutation_test",
    "mixed_mi",
    "mmd",
    "neighborhood_overlap",
    "pairwise_distances",
    "radius_count",
    "radius_graph",
    "ross_mi",
    "stress",
    "use_backend",
]

# Loaded on first use: they need packages that the engine does not.
_ACTIVATIONS = ("Activations", "collect_activations")
_SCALES = ("ScalePartition", "find_scales")
_INTERVENTIONS = ("InterventionResult", "intervene")


def __getattr__(name: str) -> Any:
    if name in _ACTIVATIONS:
        from msma_fast import activations

        return getattr(activations, name)
    if name in _SCALES:
        from msma_fast.msma import scales

        return getattr(scales, name)
    if name in _INTERVENTIONS:
        from msma_fast.msma import interventions

        return getattr(interventions, name)
    if name == "MSMA":
        from msma_fast.msma import alignment

        return alignment.MSMA
    raise AttributeError(f"module 'msma_fast' has no attribute {name!r}")
