"""When not to believe a KSG estimate. The thresholds are rules of thumb, not calibrated: "no warning" is no proof.

ceiling   psi(<N_i>) - psi(k): without ties no estimate exceeds it, and one near it only says "more than this"
ties      rows whose k-th joint distance is shared: the samples are not continuous
drift     the estimate moves when half of the rows are left out: the neighbourhoods are too large for the dependence,
          as they are in many dimensions, and the estimate has not converged in n
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msma_fast.backends import registry
from msma_fast.results import MIResult

CEILING_SHARE = 0.7
TIE_SHARE = 0.01
DRIFT_SHARE = 0.1  # of the estimate, or of 0.2 nats where that is more
DRIFT_ERRORS = 4.0  # standard errors of the estimate


def reasons_against(
    mi: float, ceiling: float, tie_fraction: float = 0.0, drift: float = 0.0, error: float = 0.0
) -> tuple[str, ...]:
    """Why an estimate should not be believed; empty when nothing was found, which is no proof that it is right."""
    reasons = []
    if mi > CEILING_SHARE * ceiling:
        reasons.append(
            f"{mi:.2f} nats is close to the estimator's ceiling of {ceiling:.2f}: read it as 'more than this'"
        )
    if tie_fraction > TIE_SHARE:
        reasons.append(f"{tie_fraction:.1%} of rows have a tied k-th distance: the samples are not continuous")
    if abs(drift) > max(DRIFT_SHARE * max(abs(mi), 0.2), DRIFT_ERRORS * error):
        direction = "more" if drift > 0 else "less"
        reasons.append(
            f"the estimate is {abs(drift):.2f} nats {direction} than with half of the rows: it has not converged in n, "
            "as happens in many dimensions"
        )
    return tuple(reasons)


def neighbor_counts(groups: Tensor | None, window: int, n: int) -> Tensor:
    """(n,) int64: the admissible neighbours of each row."""
    device = torch.device("cpu") if groups is None else groups.device
    counts: Tensor = registry.run("neighbor_counts", device, "", n, groups, window)
    return counts


def halves_of(x: Tensor, groups: Tensor | None, window: int, k: int) -> list[Tensor]:
    """Row indices of two halves: random ones, or with a window the first and the second; none where a half is too small
    for k neighbours a row."""
    n = x.shape[0]
    if n < 4 * (k + 1):
        return []
    order = torch.arange(n) if window else torch.randperm(n, generator=torch.Generator().manual_seed(0))
    halves = [half.sort().values.to(x.device) for half in (order[: n // 2], order[n // 2 :])]
    for half in halves:
        if int(neighbor_counts(None if groups is None else groups[half], window, half.shape[0]).min()) < k:
            return []
    return halves


def diagnose(
    ks: list[int],
    single: bool,
    local: Tensor,
    n_x: Tensor,
    n_y: Tensor,
    tied: Tensor,
    neighbors: Tensor,
    halves: list[Tensor],
    wrap: Callable[[Tensor], Any],
) -> MIResult:
    """The `MIResult` of local terms and counts (n, K); `halves` are the estimates (K,) of two halves, or empty."""
    digamma = torch.special.digamma
    mi, ties = local.mean(0), tied.to(torch.float64).mean(0)
    ceiling = digamma(neighbors.to(torch.float64)).mean() - digamma(
        torch.tensor(ks, dtype=torch.float64, device=mi.device)
    )
    error = local.std(0) / math.sqrt(local.shape[0])
    drift = mi - torch.stack(halves).mean(0) if halves else torch.zeros_like(mi)
    reasons: dict[str, None] = {}  # an ordered set: several k often give the same reason
    for t in range(len(ks)):
        found = (float(value[t]) for value in (mi, ceiling, ties, drift, error))
        reasons |= dict.fromkeys(reasons_against(*found))
    verdict = "unreliable" if reasons else "no warning"
    if single:
        scalars = (float(mi[0]), wrap(local[:, 0]), wrap(n_x[:, 0]), wrap(n_y[:, 0]), float(ceiling[0]), float(ties[0]))
        return MIResult(*scalars, verdict, tuple(reasons))
    return MIResult(wrap(mi), wrap(local), wrap(n_x), wrap(n_y), wrap(ceiling), wrap(ties), verdict, tuple(reasons))
