"""Hypothesis strategies: small point sets of the kinds that break a screen or a tie rule.

Arrays come from a drawn kind and seed, not element by element: cases stay cheap and shrink well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles
from hypothesis import strategies as st

KINDS = (
    "normal",
    "duplicates",
    "lattice",
    "shifted",
    "huge_coordinate",
    "scales",
    "one_ulp",
    "clusters",
    "all_equal",
)
DTYPES = ("float16", "float32", "float64")


def cloud(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    """(n, d) float64 points of one kind; all but huge_coordinate and shifted fit a float16."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "duplicates":
        x = x[rng.integers(0, max(1, n // 4), n)]
    elif kind == "lattice":
        x = rng.integers(1, 4, (n, d)).astype(np.float64)
    elif kind == "shifted":
        x = x + 1e6
    elif kind == "huge_coordinate":
        x[:, 0] = np.where(rng.random(n) < 0.3, 1e30, x[:, 0])
    elif kind == "scales":
        x = x * 10.0 ** rng.integers(-4, 4, d)
    elif kind == "one_ulp":
        steps = rng.integers(-1, 2, (n, d))
        x = x[:1] + steps * np.spacing(np.abs(x[:1]).astype(np.float32)).astype(np.float64)
    elif kind == "clusters":
        x = x * 2.0**-8 + np.where(np.arange(n) % 2, 4096.0, -4096.0)[:, None]
    elif kind == "all_equal":
        x = np.broadcast_to(x[:1], (n, d)).copy()
    return x


def probabilities(n: int, d: int, seed: int, zeros: bool = True) -> np.ndarray:
    """(n, d) rows that sum to one, some exactly equal, some with exact zeros."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, d)) + 0.05
    if zeros and d > 2:
        x[rng.random((n, d)) < 0.15] = 0.0
        x[:, 0] += 0.1
    x = x[rng.integers(0, n, n)] if n > 3 else x
    return np.asarray(x / x.sum(1, keepdims=True))


@dataclass(frozen=True)
class Case:
    kind: str
    x: np.ndarray
    y: np.ndarray | None
    k: int
    metric: str
    p: float
    metric_tensor: np.ndarray | None
    groups: np.ndarray | None
    point_groups: np.ndarray | None
    window: int

    def keys(self) -> np.ndarray:
        points = self.x if self.y is None else self.y
        return oracles.canonical_keys(self.x, points, self.metric, self.p, self.metric_tensor)

    def allowed(self) -> np.ndarray:
        m = None if self.y is None else len(self.y)
        return oracles.admissible(len(self.x), m, self.groups, self.point_groups, self.window)

    def options(self) -> dict[str, Any]:
        return {
            "metric": self.metric, "p": self.p, "metric_tensor": self.metric_tensor,
            "groups": self.groups, "point_groups": self.point_groups, "window": self.window,
        }  # fmt: skip


@st.composite
def knn_cases(draw: st.DrawFn, metrics: tuple[str, ...] = oracles.EXACT_METRICS, most: int = 24) -> Case:
    metric = draw(st.sampled_from(metrics))
    n, d = draw(st.integers(2, most)), draw(st.integers(2 if metric == "correlation" else 1, 19))
    seed, kind = draw(st.integers(0, 10**6)), draw(st.sampled_from(KINDS))
    separate, dtype = draw(st.booleans()), draw(st.sampled_from(DTYPES))
    m = draw(st.integers(1, most)) if separate else n
    rng = np.random.default_rng(seed + 1)
    if metric in oracles.PROBABILITY_METRICS:
        both = probabilities(n + m, d, seed)
        dtype = "float64" if dtype == "float16" else dtype
    else:
        both = cloud(kind, n + m, d, seed)
        if dtype == "float16" and kind in ("huge_coordinate", "shifted"):
            dtype = "float32"
        if metric in ("cosine", "correlation"):
            both = _no_zero_rows(both, dtype)
    both = both.astype(dtype)
    p = float(draw(st.sampled_from((1, 2, 3, 5)))) if metric == "minkowski" else 2.0
    tensor = None
    if metric == "mahalanobis":
        factor = rng.standard_normal((d, d))
        tensor = factor @ factor.T + np.eye(d)
    groups = point_groups = None
    if draw(st.booleans()):
        labels = rng.integers(0, 4, n + m)
        groups, point_groups = labels[:n], labels[n:] if separate else None
    window = 0 if separate else draw(st.integers(0, 3))
    k = draw(st.integers(1, m if separate else n - 1))
    return Case(kind, both[:n], both[n:] if separate else None, k, metric, p, tensor, groups, point_groups, window)


def _no_zero_rows(x: np.ndarray, dtype: str) -> np.ndarray:
    """Rows whose norm and spread stay away from zero in `dtype`: a zero row under cosine is an error."""
    rounded = x.astype(dtype).astype(np.float64)
    spread = np.ptp(rounded, axis=1) if x.shape[1] > 1 else np.abs(rounded[:, 0])
    bad = spread <= 1e-6 * np.abs(rounded).max(1)
    ramp = np.arange(1.0, x.shape[1] + 1)
    return np.where(bad[:, None], ramp * np.maximum(1.0, np.abs(x).max(1, keepdims=True)), x)
