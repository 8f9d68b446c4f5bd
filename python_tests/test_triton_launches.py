"""What a launch compiles, by Triton's own path from arguments to machine code, without a GPU and without running it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch

from msma_fast.backends.triton import interpreted

pytest.importorskip("triton")
if interpreted():
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from benchmarks.gpu.variants import Variant, variants
from msma_fast.backends import triton as backend
from msma_fast.backends.triton_check import planted
from msma_fast.triton_kernels import (
    centered_products,
    distance_counts,
    gaussian_kernel_sums,
    keys,
    pairwise_distances,
    pairwise_distances_backward,
    resources,
    screen,
    stress,
)


class Driver:
    """As much of a GPU's driver as compiling asks for."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_device(self) -> int:
        return -self.architecture  # compiled kernels are kept by device: none of a real one's

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)


@contextmanager
def compiling() -> Iterator[list[Any]]:
    """Within the block a launch on CPU tensors compiles for sm_80, and is listed instead of run."""
    found = []
    run = JITFunction.run

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        found.append(run(kernel, *arguments, grid=grid, warmup=True, **named))

    with patch.object(JITFunction, "run", compile_only), patch.object(driver, "_active", Driver(80)):
        yield found


def launch(op: str, n: int, d: int) -> None:
    """The op's launcher on n rows of d coordinates."""
    x, square = torch.zeros(n, d, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    single, ones = x.to(torch.float32), torch.ones(1, dtype=torch.float64)
    index = torch.zeros(n, dtype=torch.int64)
    if op == "centered_products":
        centered_products.products("distance", (x, 1.0, 0.0), (x, 1.0, 0.0))
    elif op == "distance_counts":
        distance_counts.counts("sqeuclidean", (x, None), None, None, 0, torch.zeros(n, dtype=torch.float64))
    elif op == "gaussian_kernel_sums":
        gaussian_kernel_sums.sums(x, None, ones)
    elif op == "gradients of gaussian_kernel_sums":
        gaussian_kernel_sums.gradients(x, None, ones, ones)
    elif op == "block_keys":
        keys.block_keys("sqeuclidean", 0, (x, None), (x, None))
    elif op == "pair_keys":
        keys.pair_keys("sqeuclidean", 0, (x, None), (x, None), index, index)
    elif op == "direct":
        pairwise_distances.direct("sqeuclidean", True, single, None, torch.empty(n, n))
    elif op == "canonical":
        pairwise_distances.canonical("sqeuclidean", 2.0, "root", (single, None), None, None, torch.empty(n, n), True)
    elif op == "pull":
        pairwise_distances_backward.pull("difference", ones, single, single, square.to(single), None, x, False)
    elif op == "ties":
        pairwise_distances_backward.ties(x, x, square)
    else:
        stress.stress(x, x, True, True)


OPS = [
    "centered_products",
    "distance_counts",
    "gaussian_kernel_sums",
    "gradients of gaussian_kernel_sums",
    "block_keys",
]
OPS += ["pair_keys", "direct", "canonical", "pull", "ties", "stress"]


@pytest.mark.parametrize("op", OPS)
def test_one_kernel_serves_every_shape(op: str) -> None:
    """One row, a multiple of 16, one coordinate, several: another shape would wait for another compilation."""
    with compiling() as kernels:
        for n, d in ((1, 1), (16, 16), (300, 3)):
            launch(op, n, d)
    assert len(kernels) >= 3
    assert len({id(kernel) for kernel in kernels}) == 1


# What a flag or a formula leaves unread, whose pointer is some other tensor's.
STAND_INS = {
    "norm_x_ptr",
    "norm_y_ptr",
    "own_ptr",
    "label_i_ptr",
    "label_ptr",
    "partner_ptr",
    "tensor_ptr",
    "second_ptr",
}


def is_launch_of(variant: Variant, types: dict[str, str], constants: dict[str, Any]) -> bool:
    """Whether a launch with these argument types and constants is what the variant compiles."""
    free = STAND_INS | set(variant.rows)
    sampled = {width: constants.get(width) for width in ("WIDTH", "X", "Y")}
    told: dict[str, Any] = {**variant.constants, **sampled}
    return all(variant.types.get(name) == kind for name, kind in types.items() if name not in free) and all(
        constants[name] == value for name, value in told.items() if name in constants
    )


@pytest.mark.parametrize("architecture", [80, 90])
def test_every_launch_is_of_a_variant_that_the_tests_compile(architecture: int) -> None:
    """The planted problems launch every kernel; nothing runs, so that what the kernels should have written is zero."""
    known = list(variants())
    unknown, launched = set(), set()
    empty = torch.empty

    def look(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        binder = kernel.device_caches[-architecture][-1]
        bound, special, _ = binder(*arguments, **named)
        types = {name: kind for name, (kind, _) in zip(bound, special, strict=True) if kind != "constexpr"}
        constants = {name: value for name, value in bound.items() if name not in types}
        launched.add(kernel)
        if not any(each.kernel is kernel and is_launch_of(each, types, constants) for each in known):
            unknown.add((kernel.__name__, str(constants), str(types)))

    with (
        patch.object(JITFunction, "run", look),
        patch.object(driver, "_active", Driver(architecture)),
        patch.object(resources, "capability_of", lambda _: architecture),
        patch.object(screen, "capability_of", lambda _: architecture),
        patch.object(torch, "empty", lambda *size, **named: empty(*size, **named).zero_()),
    ):
        operations = backend.operations()
        for op, problems in planted().items():
            for arguments, _ in problems:
                operations[op](*arguments)
    assert not unknown
    assert launched >= {each.kernel for each in known}
