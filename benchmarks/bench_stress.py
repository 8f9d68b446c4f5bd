"""stress with both gradients: n = 4096, d = 576, float32. Peer: two full float32 matrices by torch.cdist under autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from benchmarks.conftest import ROUNDS


def _full(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (torch.cdist(x, x) - torch.cdist(y, y)).square().sum() / 2


def _run(measure: Any, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(measure(x, y), (x, y))


RUNS = {"msma_fast": mf.stress, "torch.cdist": _full}


@pytest.mark.benchmark(group="stress and gradients, 4096 x 576, float32")
@pytest.mark.parametrize("name", RUNS)
def test_stress(benchmark: Any, points: np.ndarray, name: str) -> None:
    small = torch.from_numpy(points[:300]).double()
    pair = [z.clone().requires_grad_() for z in (small, small[:, ::2].tanh())]
    exact = _full(*pair)
    assert float(mf.stress(*pair).detach()) == pytest.approx(float(exact.detach()), rel=1e-6)
    x = torch.from_numpy(points[:4096]).requires_grad_()
    y = torch.from_numpy(points[4096:]).requires_grad_()
    benchmark.pedantic(_run, args=(RUNS[name], x, y), **ROUNDS)
