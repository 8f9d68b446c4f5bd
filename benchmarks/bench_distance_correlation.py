"""distance_correlation: n = 4096, d = 576, float32. Peer: the same formula over two full float64 matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from benchmarks.conftest import ROUNDS


def _full(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (torch.cdist(z, z) for z in (torch.from_numpy(x).double(), torch.from_numpy(y).double()))
    a, b = (m - m.mean(0) - m.mean(1, keepdim=True) + m.mean() for m in (a, b))
    return float(((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()).sqrt())


RUNS = {"msma_fast": mf.distance_correlation, "full matrices": _full}


@pytest.mark.benchmark(group="distance_correlation 4096 x 576, float32")
@pytest.mark.parametrize("name", RUNS)
def test_distance_correlation(benchmark: Any, points: np.ndarray, name: str) -> None:
    x, y = points[:4096], points[4096:]
    assert mf.distance_correlation(x[:500], y[:500]) == pytest.approx(_full(x[:500], y[:500]), rel=1e-6)
    benchmark.pedantic(RUNS[name], args=(x, y), **ROUNDS)
