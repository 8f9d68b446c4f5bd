"""What the tests do on a GPU, in the interpreter: kernels work on copies, and their answers reach the caller's memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from gpu_launches import Copies, asking, launching, on
from triton.tools.tensor_descriptor import TensorDescriptor

import msma_fast as mf
from msma_fast.backends.registry import use_backend

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="about launches in the interpreter")


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
