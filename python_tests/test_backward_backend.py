"""The backend of a call takes its gradients too, on whatever thread autograd runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import msma_fast as mf
from msma_fast.backends import registry

WEIGHT = torch.rand(11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OPS: dict[str, Callable[..., torch.Tensor]] = {
    "closed form": lambda x, **how: mf.pairwise_distances(x, **how).sum(),
    "expression": lambda x, **how: mf.pairwise_distances(x, metric="cosine", **how).sum(),
    "knn": lambda x, **how: mf.knn(x, 2, **how).distances.sum(),
    "fisher quadratic": lambda x, **how: mf.fisher.logit_fisher_quadratic(x, WEIGHT, x.detach(), **how).sum(),
    "fisher distances": lambda x, **how: mf.fisher.fisher_rao_distances(x, WEIGHT, **how).sum(),
    "kernel sums": lambda x, **how: mf.gaussian_kernel_sums(x, bandwidth=1.0, **how),
}


def backends_asked(loss: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the backward asks the registry for, on a thread that no `use_backend` reached, as autograd's CUDA threads."""
    asked = set()
    run = registry.run

    def watched(op: str, device: torch.device, backend: str, *arguments: Any) -> Any:
        asked.add(backend)
        return run(op, device, backend, *arguments)

    monkeypatch.setattr(registry, "run", watched)
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    return asked


@pytest.mark.parametrize("op", OPS)
def test_backend_of_the_call(op: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(9, 3, dtype=torch.float64, requires_grad=True)
    assert backends_asked(OPS[op](x, backend=backend), monkeypatch) == {backend}
    assert x.grad is not None


@pytest.mark.parametrize("op", OPS)
def test_backend_of_the_block(op: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(9, 3, dtype=torch.float64, requires_grad=True)
    with mf.use_backend(backend):
        loss = OPS[op](x)
    assert backends_asked(loss, monkeypatch) == {backend}


@pytest.mark.parametrize("op", OPS)
def test_automatic_stays_automatic(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(9, 3, dtype=torch.float64, requires_grad=True)
    assert backends_asked(OPS[op](x), monkeypatch) == {""}
