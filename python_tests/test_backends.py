"""backends(), use_backend and explain_backend, and the registered custom ops."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from strategies import cloud

import msma_fast as mf
from msma_fast.backends import registry

NAMES = {"native", "triton", "cuda", "torch"}


def test_every_backend_says_whether_and_why() -> None:
    entries = {entry.name: entry for entry in mf.backends()}
    assert set(entries) == NAMES
    assert entries["torch"].available is True
    for entry in entries.values():
        assert isinstance(entry.available, bool)
        assert entry.reason or entry.available


def test_explain_names_the_choice(backend: str) -> None:
    x = cloud("normal", 50, 4, 0)
    with mf.use_backend(backend):
        assert backend in str(mf.explain_backend("knn", x))
    automatic = str(mf.explain_backend("knn", x))
    assert any(name in automatic for name in NAMES)
    assert all(str(mf.explain_backend(op, x)) for op in ("pairwise_distances", "radius_count"))
    with pytest.raises(ValueError, match="kmm"):
        mf.explain_backend("kmm", x)


def test_use_backend_nests_and_is_undone_after_an_error(backend: str) -> None:
    x = cloud("normal", 50, 4, 1)
    before = str(mf.explain_backend("knn", x))
    with mf.use_backend(backend), mf.use_backend("torch"):
        assert "torch" in str(mf.explain_backend("knn", x))
    with pytest.raises(KeyError), mf.use_backend("torch"):
        raise KeyError("inside")
    assert str(mf.explain_backend("knn", x)) == before


def test_several_threads_at_once(backend: str) -> None:
    x = cloud("normal", 400, 16, 2)
    wanted, found = mf.knn(x, 5, backend=backend), {}

    def work(name: int) -> None:
        found[name] = mf.knn(x, 5, backend=backend)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for result in found.values():
        assert all(np.array_equal(a, b) for a, b in zip(wanted, result, strict=True))


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", ["enter cuda:1", "op", "leave"]), ("cpu", ["op"])])
def test_an_op_runs_where_its_tensors_are(device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are launched on the current device, whatever device their arguments are on."""
    seen: list[str] = []

    class Guard:
        def __init__(self, where: torch.device) -> None:
            self.where = where

        def __enter__(self) -> None:
            seen.append(f"enter {self.where}")

        def __exit__(self, *_: Any) -> None:
            seen.append("leave")

    monkeypatch.setattr(torch.cuda, "device", Guard)
    monkeypatch.setattr(registry, "choose", lambda *_: "torch")
    monkeypatch.setattr(registry, "_ops", lambda _: {"knn": lambda: seen.append("op")})
    registry.run("knn", torch.device(device), "")
    assert seen == expected


def _samples(name: str, backend: str) -> list[tuple[object, ...]]:
    """Arguments for each op: alone and with separate points, with and without labels, with a gradient."""
    x = torch.from_numpy(cloud("normal", 12, 3, 3))
    y = torch.from_numpy(cloud("normal", 9, 3, 4))
    labels, point_labels = torch.arange(12) % 3, torch.arange(9) % 2
    if name == "pairwise_distances":
        return [
            (x.clone().requires_grad_(), y.clone().requires_grad_(), "euclidean", 2.0, None, backend),
            (x.float(), None, "cosine", 2.0, None, backend),
            (x, y, "mahalanobis", 2.0, torch.eye(3, dtype=torch.float64), backend),
        ]
    if name == "knn":
        return [
            (x.clone().requires_grad_(), None, 2, "euclidean", 2.0, None, labels, None, 1, True, backend),
            (x, y, 4, "minkowski", 3.0, None, labels, point_labels, 0, True, backend),
            (x.float(), None, 3, "chebyshev", 2.0, None, None, None, 0, False, backend),
        ]
    radius = torch.ones(12, dtype=torch.float64)
    return [
        (x, radius, None, "euclidean", 2.0, None, False, labels, None, 1, backend),
        (x, radius, y, "manhattan", 2.0, None, True, labels, point_labels, 0, backend),
    ]


@pytest.mark.parametrize("name", ["pairwise_distances", "knn", "radius_count"])
def test_opcheck(name: str, backend: str) -> None:
    overload = getattr(torch.ops.msma_fast, name).default
    assert not overload._schema.is_mutable
    for arguments in _samples(name, backend):
        torch.library.opcheck(overload, arguments)
