"""What the tests do on a GPU, in the interpreter: kernels work on copies, and their answers reach the caller's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from gpu_launches import Copies, asking, launching, on
from triton.tools.tensor_descriptor import TensorDescriptor

import msma_fast as mf
from msma_fast.backends import registry
from msma_fast.backends import triton as backend
from msma_fast.backends.registry import use_backend
from msma_fast.triton_kernels import resources, screen

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not backend.interpreted(), reason="about launches in the interpreter")


@triton.jit
def doubled_kernel(x_ptr, out_ptr, stride, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    values = tl.load(x_ptr + at * stride, mask=at < n, other=0.0)
    tl.store(out_ptr + at * stride, 2 * values, mask=at < n)


def test_a_launch_sees_copies_and_its_stores_come_back() -> None:
    both = torch.arange(20.0)
    x, out = both[::2], both[1::2]  # two views of one storage
    seen: list[Any] = []

    def watched(kernel: Any, *arguments: Any, **named: Any) -> Any:
        seen.extend(arguments)
        return run(kernel, *arguments, **named)

    launcher = type(doubled_kernel)
    run, launcher.run = launcher.run, launching(watched, CPU)
    try:
        doubled_kernel[(1,)](x, out, 2, 10, BLOCK=16)
    finally:
        launcher.run = run
    assert torch.equal(out, 2 * torch.arange(0.0, 20.0, 2))
    assert torch.equal(x, torch.arange(0.0, 20.0, 2))
    assert seen[0].data_ptr() != x.data_ptr()
    assert seen[1].data_ptr() == seen[0].data_ptr() + 4
    assert seen[0].stride() == (2,)
    assert seen[2:] == [2, 10]


def test_a_descriptor_is_of_the_copy() -> None:
    base = torch.arange(64.0).reshape(8, 8)
    copies = Copies(CPU)
    moved = copies.of(TensorDescriptor.from_tensor(base, [4, 4]))
    assert torch.equal(moved.base, base)
    assert moved.base.data_ptr() != base.data_ptr()
    assert moved.block_shape == [4, 4]
    moved.base += 1
    copies.back()
    assert base[0, 0] == 1


def test_ops_of_this_backend_alone_move() -> None:
    calls: list[tuple[str, str]] = []

    def run(op: str, where: torch.device, backend: str, *arguments: Any) -> Any:
        calls.append((where.type, arguments[1][0].device.type))
        return (torch.ones(2), None)

    ask, x = asking(run, torch.device("meta")), torch.zeros(3)
    for name in ("triton", "torch"):
        found, none = ask("knn", CPU, name, 3, (x, "euclidean"))
        assert torch.equal(found, torch.ones(2))
        assert none is None
    with use_backend("triton"):
        ask("knn", CPU, "", 3, (x, "euclidean"))
    assert calls == [("meta", "meta"), ("cpu", "cpu"), ("meta", "meta")]


@pytest.mark.usefixtures("strict")
def test_answers_are_the_same() -> None:
    x = np.random.default_rng(0).standard_normal((150, 20))
    wanted = mf.knn(x, 4, backend="triton")
    with on(CPU, type(doubled_kernel)):
        found = mf.knn(x, 4, backend="triton")
        assert mf.ksg_mi(x[:40, :2], x[:40, 2:4], backend="triton") == mf.ksg_mi(
            x[:40, :2], x[:40, 2:4], backend="torch"
        )
    assert np.array_equal(found.indices, wanted.indices)
    assert np.array_equal(found.distances, wanted.distances)


def test_whom_the_gpu_serves_is_asked_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are compiled serve no CPU tensors: `choose` and `explain_backend` have to be told where these will be."""
    monkeypatch.setattr(backend, "serves", lambda op, device: (device.type == "meta", "the GPU"))
    with pytest.raises(NotImplementedError, match="the GPU"):
        registry.choose("knn", CPU, "triton")
    with on(torch.device("meta"), type(doubled_kernel)):
        assert registry.choose("knn", CPU, "triton") == "triton"
        assert registry.verdict("native", "knn", CPU)[1] != "the GPU"
        assert mf.explain_backend("knn", np.ones((3, 2)), backend="triton").startswith("knn on cpu: triton")
    with pytest.raises(NotImplementedError, match="the GPU"):
        registry.choose("knn", CPU, "triton")


def test_tiles_are_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher called on CPU tensors takes the configuration, and the descriptors, of the device that will run it."""
    for module in (resources, screen):
        monkeypatch.setattr(module, "capability_of", lambda device: 90 if device.type == "meta" else 80)
    rows = torch.zeros(256, 64, dtype=torch.bfloat16)
    tile = {"BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64}
    only = [resources.Configuration({"B": 1}, 4, only=(90,)), resources.Configuration({"B": 2}, 4)]
    assert resources.launched(only, lambda _: resources.Need(0, 0), CPU)["B"] == 2
    with on(torch.device("meta"), type(doubled_kernel)):
        assert resources.launched(only, lambda _: resources.Need(0, 0), CPU)["B"] == 1
        assert screen.rows_of(rows, rows, tile)["DESCRIPTORS"]
    assert not screen.rows_of(rows, rows, tile)["DESCRIPTORS"]
