"""Full distance matrices, and similarities computed from them: torch, scipy, scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Contender


def _both(x: np.ndarray, y: np.ndarray | None) -> tuple[Tensor, Tensor]:
    a = torch.from_numpy(x)
    return a, a if y is None else torch.from_numpy(y)


def torch_cdist(*, direct: bool = False) -> Contender:
    """The default, which uses a matrix product, or `direct` differences."""
    mode = "donot_use_mm_for_euclid_dist" if direct else "use_mm_for_euclid_dist_if_necessary"
    return Contender(
        "torch.cdist direct" if direct else "torch.cdist",
        lambda x, y: torch.cdist(*_both(x, y), compute_mode=mode),
    )


def scipy_cdist() -> Contender:
    def run(x: np.ndarray, y: np.ndarray | None) -> Any:
        from scipy.spatial.distance import cdist

        return cdist(x, x if y is None else y)

    return Contender("scipy cdist", run, needs="scipy")


def sklearn_pairwise() -> Contender:
    def run(x: np.ndarray, y: np.ndarray | None) -> Any:
        from sklearn.metrics import pairwise_distances

        return pairwise_distances(x, y)

    return Contender("scikit-learn", run, needs="sklearn")


def torch_distance_correlation() -> Contender:
    """The definition, over full float32 matrices."""

    def centred(points: Tensor) -> Tensor:
        a = torch.cdist(points, points)
        return a - a.mean(0) - a.mean(1, keepdim=True) + a.mean()

    def run(x: np.ndarray, y: np.ndarray) -> float:
        a, b = (centred(torch.from_numpy(points)) for points in (x, y))
        return float(((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()).sqrt())

    return Contender("torch", run)


def torch_stress() -> Contender:
    """Raw stress and both gradients by autograd, over full float32 matrices."""

    def stress(x: Tensor, y: Tensor) -> Tensor:
        return (torch.cdist(x, x) - torch.cdist(y, y)).square().sum() / 2

    return Contender("torch", lambda x, y: value_and_gradients(stress, x, y))


def value_and_gradients(measure: Callable[[Tensor, Tensor], Tensor], x: np.ndarray, y: np.ndarray) -> float:
    """The value; both gradients are computed too."""
    a, b = (torch.from_numpy(points).requires_grad_() for points in (x, y))
    value = measure(a, b)
    torch.autograd.grad(value, (a, b))
    return float(value.detach())


def torch_cka() -> Contender:
    """|X'Y|^2 / (|X'X| |Y'Y|) of centred columns, in float32."""

    def run(x: np.ndarray, y: np.ndarray) -> float:
        a, b = (torch.from_numpy(points) for points in (x, y))
        a, b = a - a.mean(0), b - b.mean(0)
        return float((a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm()))

    return Contender("torch", run)
