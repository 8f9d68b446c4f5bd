"""explain_backend: which backend would serve a call, and why the others would not."""

from __future__ import annotations

from typing import Any

import torch

from msma_fast._arrays import from_array
from msma_fast.backends import registry
from msma_fast.metrics import METRICS, promise

# Public functions by the op they run.
_OPS = {
    "pairwise_distances": "pairwise_distances",
    "knn": "knn",
    "knn_graph": "knn",
    "neighborhood_overlap": "knn",
    "intrinsic_dimension": "knn",
    "radius_count": "radius_count",
    "radius_graph": "radius_neighbors",
    "ksg_mi": "ksg",
    "ksg_mi_matrix": "ksg_matrix",
    "mi_interval": "ksg",
    "mi_matrix_interval": "ksg_matrix",
    "mi_permutation_test": "ksg_permutations",
    "ksg_cmi": "ksg_cmi",
    "mixed_mi": "mixed_mi",
    "ross_mi": "ross",
    "knn_entropy": "knn",
    "knn_kl_divergence": "knn",
    "distance_correlation": "distance_correlation",
    "cka": "cka",
    "cka_matrix": "cka_matrix",
    "distance_histogram": "distance_counts",
    "correlation_integral": "distance_counts",
    "gaussian_kernel_sums": "gaussian_kernel_sums",
    "mmd": "gaussian_kernel_sums",
    "cauchy_schwarz_divergence": "gaussian_kernel_sums",
    "stress": "stress",
    "fisher.logit_fisher_vp": "logit_fisher_vp",
    "fisher.logit_fisher_eigh": "logit_fisher_vp",
    "fisher.logit_fisher_quadratic": "logit_fisher_quadratic",
    "fisher.logit_fisher_mean": "logit_fisher_mean",
    "fisher.logit_fisher_trace": "logit_fisher_trace",
    "fisher.logit_fisher_diag": "logit_fisher_diag",
    "fisher.fisher_rao_distances": "fisher_rao_distances",
    "fisher.knn": "fisher_rao_distances",
    "fisher.path_lengths": "fisher_rao_pairs",
}


def explain_backend(
    function: str, *arrays: Any, metric: str | None = None, p: float = 2.0, backend: str | None = None, **options: Any
) -> str:
    """What would serve `mf.<function>(*arrays)` and why, a line for each backend; nothing is computed, but that a GPU
    solves small planted problems of an op when the op is first asked for.

    function: the name of a public function, such as "knn"; arrays: its array arguments (only their device matters);
    its other keywords are accepted and change nothing;
    metric and p: also says what is promised of the answers. Raises ValueError for an unknown function or backend and
    NotImplementedError where an explicit backend cannot serve.

    Example: print(mf.explain_backend("knn", x)).
    """
    if function not in _OPS:
        raise ValueError(f"function: expected one of {', '.join(_OPS)}, got {function!r}")
    if metric is not None and metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    device = _device(arrays[0]) if arrays else torch.device("cpu")
    op = _OPS[function]
    chosen = registry.choose(op, device, backend)
    lines = [f"{function} on {device}: {chosen}"]
    for name in registry.order(op):
        able, reason = registry.verdict(name, op, device)
        lines.append(
            f"  {'*' if name == chosen else ' '} {name:<7} {'can serve' if able else 'cannot serve'}: {reason}"
        )
    if metric is not None:
        meaning = {
            "identical": "identical on every backend, bit for bit",
            "band": "equal on every backend within a few units in the last place",
        }[promise(metric, p)]
        lines.append(f"  answers under {metric}: {meaning}")
    return "\n".join(lines)


def _device(value: Any) -> torch.device:
    found: torch.device = (value.parted(0) if hasattr(value, "parted") else from_array("arrays", value)).device
    return found


def native_status() -> dict[str, str]:
    """What the compiled module says of this processor, for `msma-fast doctor`; empty where there is none."""
    return registry.status("native")
