"""How far KSG estimates from other samples of this size would lie: estimates with whole units of rows left out.

theta    the estimate from all U units; SE its standard error
jackknife  theta_(j) without block j, which has u_j units; G blocks; h_j = U / u_j; tau_j = h_j theta - (h_j - 1) theta_(j)
           SE^2 = (1/G) sum_j (tau_j - theta_J)^2 / (h_j - 1) with theta_J = sum_j tau_j / h_j;
           (G - 1)/G sum_j (theta_(j) - mean)^2 where all blocks are equal
subsample  theta*_r from B units drawn without replacement, R draws
           SE^2 = B / (U - B) * (1/(R - 1)) sum_r (theta*_r - mean)^2
interval   theta -+ t SE, t the quantile of Student's distribution

Both count units, not rows: units are what is independent, and the number of rows in one is part of what it happens to be.
The rate B / (U - B): the mean of B of U numbers drawn without replacement has the variance S^2 / B (1 - B / U), and that of
all U has S^2 / U; it makes the one the other, for estimates whose error falls with the root of the number of units.

Sources: Busing, Meijer, van der Leeden, Statistics and Computing 9, 3 (1999), the jackknife for unequal blocks; Politis,
Romano, Annals of Statistics 22, 2031 (1994), subsampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._arrays import wrapper_like
from msma_fast.backends import registry
from msma_fast.backends.registry import check_name
from msma_fast.diagnostics import neighbor_counts
from msma_fast.information import exclusions, ksg_mi, matrix_arguments, paired, unbatched
from msma_fast.results import Array, MIInterval


def mi_interval(
    x: Array,
    y: Array,
    k: int | Sequence[int] = 3,
    *,
    resampling: str = "jackknife",
    units: Array | None = None,
    level: float = 0.95,
    n_resamples: int = 20,
    fraction: float = 0.5,
    method: str = "ksg1",
    metric: str = "chebyshev",
    groups: Array | None = None,
    window: int = 0,
    seed: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> MIInterval:
    """A confidence interval around `ksg_mi(x, y, k)`, in nats: what other samples of this size would have given.

    x (n,) or (n, dx), y alike. units (n,) integer labels: the rows of a unit (a text) depend on each other, and are kept
    or left out together; None: `groups` where given, else every row is a unit. A resample is `ksg_mi` of the rows kept.

    resampling "jackknife": the units are dealt at random into n_resamples blocks (as many as units where these are
    fewer) and each block is left out once. "subsample": round(fraction units) of the units, drawn without
    replacement, n_resamples times; their variance times drawn / (units - drawn) is that of the whole sample. Nothing is
    drawn twice: repeated rows are at distance zero, and nearest-neighbour estimates of them are useless.

    Returns MIInterval(mi, low, high, standard_error, resamples): floats and (R,), or (K,) and (R, K) for K values of k. The
    interval is centred on the estimate from all rows, since those from fewer are biased differently, and as wide as
    Student's t at `level` says: blocks - 1 degrees of freedom, or 1 / (1 / (units - 1) + 1 / (n_resamples - 1)) rounded down.

    When not to trust it: it is about the estimator's mean at this n, not about the true information. The bias (many
    dimensions, the ceiling) is not in it: such an interval can miss the truth every time. A row's term depends on its
    neighbours, which both ways count more than once where a resample keeps most rows: of independent rows and k = 3 the
    jackknife's interval is 1.2 to 1.5 times too wide, the subsample's with fraction 0.5 at most 1.2 times
    (docs/information.md). Units that depend on each other make it too narrow, and few units make it a guess.

    window: rows at most w apart among those kept are not neighbours. What was excluded stays so; where a unit is left out,
    the w rows on both sides of the gap lose a few neighbours more. Units must then be runs of consecutive rows.

    Cost: one `ksg_mi` for each resample and one for all rows. Raises ValueError / TypeError as `ksg_mi`, for fewer than two
    units, a fraction that draws none or all, level outside (0, 1), and where a resample leaves a row fewer than k neighbours.
    """
    check_name(backend)
    a, b = paired(x, y, check_finite)
    n = unbatched("x", a).shape[0]
    ks, single = _checks.neighbor_counts(k, n)

    def estimate(rows: Tensor | None, labels: Tensor | None) -> Tensor:
        u, v = (a, b) if rows is None else (a[rows], b[rows])
        options: dict[str, Any] = {"method": method, "metric": metric, "groups": labels, "window": window}
        found: Tensor = ksg_mi(u, v, ks, check_finite=False, backend=backend, **options)
        return found

    plan = _plan(n, a.device, max(ks), units, groups, window, resampling, level, n_resamples, fraction, seed)
    found = _interval(estimate, plan)
    wrap = wrapper_like(x)
    if single:
        mi, low, high, error = (float(figure[0]) for figure in found[:4])
        return MIInterval(mi, low, high, error, wrap(found.resamples[:, 0]))
    return MIInterval(*map(wrap, found))


def mi_matrix_interval(
    layers: Any,
    k: int | Sequence[int] = 3,
    *,
    resampling: str = "jackknife",
    units: Array | None = None,
    level: float = 0.95,
    n_resamples: int = 20,
    fraction: float = 0.5,
    method: str = "ksg1",
    metric: str = "euclidean",
    groups: Array | None = None,
    window: int = 0,
    seed: int = 0,
    check_finite: bool = True,
    backend: str | None = None,
) -> MIInterval:
    """Intervals around every entry of `ksg_mi_matrix(layers, k)`, from the same resamples for all pairs of layers.

    layers (L, n, d) or a list of (n, d_l). Each interval is about its own pair; many of them are not a joint statement.
    The fields are (L, L), resamples (R, L, L); a trailing K for K values of k. Everything else is as in `mi_interval`.
    Cost: one `ksg_mi_matrix` for each resample and one for all rows.
    """
    check_name(backend)
    parts, like, ks, single = matrix_arguments(layers, k, method, metric, check_finite)
    n, device = parts[0].shape[0], parts[0].device
    window = _checks.window(window, n, self_search=True)

    def estimate(rows: Tensor | None, labels: Tensor | None) -> Tensor:
        kept = parts if rows is None else [layer.take(rows) for layer in parts]
        within = min(window, kept[0].shape[0])
        labels = None if labels is None else labels.to(device)
        found: Tensor = registry.run(
            "ksg_matrix", device, backend or "", kept, ks, method, metric, labels, within, None
        )
        return found[..., 0] if single else found

    plan = _plan(n, device, max(ks), units, groups, window, resampling, level, n_resamples, fraction, seed)
    return MIInterval(*map(wrapper_like(like), _interval(estimate, plan)))


class _Plan(NamedTuple):
    """unit (n,) int64: the unit of each row; labels: the groups; kept (R, U) bool: the units of each resample; quantile: t."""

    resampling: str
    unit: Tensor
    labels: Tensor | None
    kept: Tensor
    quantile: float

    def resamples(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The rows of each resample, ascending, and their groups."""
        for units in self.kept:
            rows = units[self.unit].nonzero()[:, 0]
            yield rows, None if self.labels is None else self.labels[rows]


def _plan(
    n: int,
    device: torch.device,
    k: int,
    units: Any,
    groups: Any,
    window: int,
    resampling: str,
    level: float,
    n_resamples: int,
    fraction: float,
    seed: int,
) -> _Plan:
    """Which rows each resample keeps. What can be refused is refused here, before any estimate; on the CPU, so that a seed
    means the same on every device."""
    labels, window = exclusions(groups, window, n, k, device)
    labels = None if labels is None else labels.cpu()
    _checks.choice("resampling", resampling, ("jackknife", "subsample"))
    level, fraction = _share("level", level), _share("fraction", fraction)
    n_resamples = _checks.integer("n_resamples", n_resamples, at_least=2)
    generator = torch.Generator().manual_seed(_checks.integer("seed", seed, at_least=0))
    unit = _units(units, labels, window, n)
    n_units = int(unit.max()) + 1
    if n_units < 2:
        raise ValueError("units: expected at least 2 different labels (those of groups where units is None), got 1")
    if resampling == "jackknife":
        kept = _all_but_a_block(n_units, min(n_resamples, n_units), generator)
        freedom = kept.shape[0] - 1
    else:
        drawn = round(fraction * n_units)
        if not 0 < drawn < n_units:
            raise ValueError(
                f"fraction: expected one that draws 1 to {n_units - 1} of {n_units} units, got {fraction}, which draws {drawn}"
            )
        kept = _drawn(n_units, n_resamples, drawn, generator)
        # A variance from U units and one from R draws are off by 2 / (U - 1) and 2 / (R - 1), squared and relative: these add.
        freedom = max(1, (n_units - 1) * (n_resamples - 1) // (n_units + n_resamples - 2))
    plan = _Plan(resampling, unit, labels, kept, _student(level, freedom))
    for rows, texts in plan.resamples():
        fewest = int(neighbor_counts(texts, min(window, len(rows)), len(rows)).min())
        if fewest <= k:  # with exactly k neighbours a row every estimate is the same number
            raise ValueError(
                f"k: expected at most {fewest - 1}, one less than the fewest neighbours in a resample, got {k}"
            )
    return plan


def _share(name: str, value: Any) -> float:
    number = _checks.number(name, value)
    if not 0 < number < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, both excluded, got {value}")
    return number


def _units(units: Any, labels: Tensor | None, window: int, n: int) -> Tensor:
    """(n,) int64 ranks 0..U-1 of the labels."""
    if units is not None:
        unit: Tensor = _checks.labels("units", units, (n,), torch.device("cpu")).unique(return_inverse=True)[1]
    elif labels is not None:
        unit = labels.to(torch.int64)
    elif window:
        raise ValueError(
            "units: expected labels of runs of consecutive rows together with window "
            "(np.arange(n) // 50 makes blocks of 50 rows), got None"
        )
    else:
        return torch.arange(n)
    runs = 1 + int((unit[1:] != unit[:-1]).sum())
    if window and runs > int(unit.max()) + 1:
        raise ValueError(
            "units: expected labels of runs of consecutive rows together with window (those of groups where units is None), "
            f"got {int(unit.max()) + 1} labels in {runs} runs"
        )
    return unit


def _all_but_a_block(n_units: int, n_blocks: int, generator: torch.Generator) -> Tensor:
    """(G, U) bool: a random order of the units is dealt to the blocks in turn."""
    block = torch.empty(n_units, dtype=torch.int64)
    block[torch.randperm(n_units, generator=generator)] = torch.arange(n_units) % n_blocks
    return block != torch.arange(n_blocks)[:, None]


def _drawn(n_units: int, n_resamples: int, drawn: int, generator: torch.Generator) -> Tensor:
    """(R, U) bool: the first units of a random order, a new one for each resample."""
    kept = torch.zeros(n_resamples, n_units, dtype=torch.bool)
    for resample in kept:
        resample[torch.randperm(n_units, generator=generator)[:drawn]] = True
    return kept


def _interval(estimate: Callable[[Tensor | None, Tensor | None], Tensor], plan: _Plan) -> MIInterval:
    """Of tensors: mi, low, high and standard error in the shape of an estimate, the resamples with a leading R."""
    theta = estimate(None, plan.labels)
    resamples = torch.stack([estimate(rows.to(theta.device), labels) for rows, labels in plan.resamples()])
    n_units, sizes = plan.kept.shape[1], plan.kept.sum(1)
    if plan.resampling == "jackknife":
        h = (n_units / (n_units - sizes).to(torch.float64)).to(theta.device).view(-1, *[1] * theta.ndim)
        pseudo = h * theta - (h - 1) * resamples
        variance = ((pseudo - (pseudo / h).sum(0)) ** 2 / (h - 1)).mean(0)
    else:
        drawn = int(sizes[0])
        variance = resamples.var(0) * drawn / (n_units - drawn)
    error = variance.sqrt()
    return MIInterval(theta, theta - plan.quantile * error, theta + plan.quantile * error, error, resamples)


def _student(level: float, freedom: int) -> float:
    """t with P(|T| <= t) = level for a whole number of degrees of freedom, by bisection of the closed form.

    P = sin a (1 + 1/2 cos^2 a + (1 3)/(2 4) cos^4 a + ...) for even freedom, else
    P = 2/pi (a + sin a (cos a + 2/3 cos^3 a + (2 4)/(3 5) cos^5 a + ...)), up to cos^(freedom - 2); here
    a = atan(t / sqrt(freedom)).
    """

    def probability(a: float) -> float:
        term = math.cos(a) if freedom % 2 else 1.0
        total = 0.0
        for power in range(freedom % 2, freedom - 1, 2):
            total += term
            term *= (power + 1) / (power + 2) * math.cos(a) ** 2
        return 2 / math.pi * (a + math.sin(a) * total) if freedom % 2 else math.sin(a) * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
