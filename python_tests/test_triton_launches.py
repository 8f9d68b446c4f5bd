"""What a launch compiles, by Triton's own path from arguments to machine code, without a GPU and without running it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

from msma_fast.triton_kernels import centered_products
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction


class Driver:
    """As much of a GPU's driver as compiling asks for."""

    def get_current_device(self) -> int:
        return -1  # compiled kernels are kept by device: none of a real one's

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 80, 32)


@contextmanager
def compiling() -> Iterator[list[Any]]:
    """Within the block a launch on CPU tensors compiles for sm_80, and is listed instead of run."""
    found = []
    run = JITFunction.run

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        found.append(run(kernel, *arguments, grid=grid, warmup=True, **named))

    with patch.object(JITFunction, "run", compile_only), patch.object(driver, "_active", Driver()):
        yield found


@pytest.mark.parametrize("n", [200, 300])
def test_few_rows_and_more_compile_alike(n: int) -> None:
    """256 rows are one block of them: no number of blocks may become a constant of the kernel."""
    side = torch.zeros(n, 3), 1.0, 0.0
    with compiling() as kernels:
        centered_products.products("distance", side, side)
    assert [kernel.name for kernel in kernels] == ["products_kernel"]
