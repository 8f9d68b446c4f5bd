"""Which ops a CUDA device gets: each is checked by planted problems when it is first asked for, on that device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from msma_fast.backends import triton as backend
from msma_fast.backends import triton_check

DEVICE = torch.device("cuda", 1)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.device, list[int]]]:
    """(op, device, the devices made current) of every check; stress is wrong there. No GPU is needed."""
    found: list[tuple[str, torch.device, list[Any]]] = []
    current: list[Any] = []

    class Guard:
        def __init__(self, device: Any) -> None:
            self.device = device

        def __enter__(self) -> None:
            current.append(self.device)

        def __exit__(self, *_: Any) -> None:
            current.pop()

    def fault(ops: Any, op: str, device: torch.device) -> str:
        found.append((op, device, list(current)))
        return "stress is wrong" if op == "stress" else ""

    monkeypatch.setattr(torch.cuda, "device", Guard)
    monkeypatch.setattr(triton_check, "_fault", fault)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(backend, "interpreted", lambda: False)
    triton_check.fault_of_gpu.cache_clear()
    return found


def test_one_wrong_op_leaves_the_others(checked: list[Any]) -> None:
    assert backend.serves("knn", DEVICE) == (True, "cuda tensors")
    assert backend.serves("stress", DEVICE) == (False, "GPU 1: stress is wrong")
    assert backend.serves("cka", DEVICE) == (True, "cuda tensors")
    assert [op for op, *_ in checked] == ["knn", "stress", "cka"]  # each when it is first asked for


def test_a_check_runs_once_on_its_device(checked: list[Any]) -> None:
    for _ in range(2):
        backend.serves("knn", DEVICE)
        backend.serves("knn", torch.device("cuda"))
    assert checked == [("knn", device, [device]) for device in (DEVICE, torch.device("cuda", 2))]


def test_other_devices_are_refused_unchecked(checked: list[Any]) -> None:
    assert backend.serves("knn", torch.device("cpu"))[0] is False
    assert checked == []
