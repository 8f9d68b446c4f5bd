"""pairwise_distances: n = 4096, d = 576, float32, euclidean, self. Peers: torch.cdist (direct), scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from benchmarks.conftest import ROUNDS


def _cdist(x: np.ndarray) -> np.ndarray:
    t = torch.from_numpy(x)
    return torch.cdist(t, t, compute_mode="donot_use_mm_for_euclid_dist").numpy()


def _sklearn(x: np.ndarray) -> np.ndarray:
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(x)


RUNS = {"msma_fast": mf.pairwise_distances, "torch.cdist": _cdist, "scikit-learn": _sklearn}


@pytest.mark.benchmark(group="pairwise_distances 4096 x 576, float32")
@pytest.mark.parametrize("name", RUNS)
def test_pairwise_distances(benchmark: Any, points: np.ndarray, name: str) -> None:
    x = points[:4096]
    rows = x[:8].astype(np.float64)
    exact = np.sqrt(((rows[:, None] - x[None].astype(np.float64)) ** 2).sum(-1))
    found = RUNS[name](x)[:8].astype(np.float64)
    error = float((np.abs(found - exact) / np.where(exact > 0, exact, 1)).max())
    benchmark.extra_info["largest relative error"] = error
    if name == "msma_fast":
        assert error < 1e-6
    benchmark.pedantic(RUNS[name], args=(x,), **ROUNDS)
