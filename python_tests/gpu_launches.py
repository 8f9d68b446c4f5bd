"""The tests of Triton kernels on a real GPU: what they call on CPU tensors runs on `device`, and the answers come back.

An op asked of the "triton" backend gets its tensors on the device; a kernel that a test launches itself on CPU tensors gets
copies of their storages there, which are copied back after the launch. Whether "triton" serves CPU tensors, and with which
tiles, is answered as for the device. So the same tests serve the interpreter and a GPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from msma_fast.backends import registry
from msma_fast.backends.triton import serves
from msma_fast.backends.triton_check import planted
from msma_fast.triton_kernels import resources, screen


class Copies:
    """Storages on another device: views of one storage stay views of one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pairs: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def of(self, argument: Any) -> Any:
        if isinstance(argument, TensorDescriptor):
            return dataclasses.replace(argument, base=self.of(argument.base))
        if not isinstance(argument, Tensor) or argument.device.type != "cpu":
            return argument
        storage = argument.untyped_storage()
        if storage.data_ptr() not in self.pairs:
            there = torch.UntypedStorage(storage.nbytes(), device=self.device)
            there.copy_(storage)
            self.pairs[storage.data_ptr()] = storage, there
        there = self.pairs[storage.data_ptr()][1]
        view = torch.empty(0, dtype=argument.dtype, device=self.device)
        return view.set_(there, argument.storage_offset(), argument.shape, argument.stride())

    def back(self) -> None:
        for here, there in self.pairs.values():
            here.copy_(there)


def launching(run: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """A launch whose CPU tensors are copied to the device and back."""

    def launch(kernel: Any, *arguments: Any, **named: Any) -> Any:
        copies = Copies(device)
        result = run(kernel, *map(copies.of, arguments), **{name: copies.of(value) for name, value in named.items()})
        copies.back()
        return result

    return launch


def asking(run: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """registry.run whose "triton" backend gets its tensors on the device; answers are where the arguments were."""

    def ask(op: str, where: torch.device, backend: str, *arguments: Any) -> Any:
        if (backend or registry._forced.get()) != "triton":
            return run(op, where, backend, *arguments)
        there = tree_map_only(Tensor, lambda tensor: tensor.to(device), arguments)
        return tree_map_only(Tensor, lambda tensor: tensor.to(where), run(op, device, backend, *there))

    return ask


def judging(verdict: Callable[..., tuple[bool, str]], device: torch.device) -> Callable[..., tuple[bool, str]]:
    """registry.verdict whose "triton" backend is asked of the device."""

    def judge(name: str, op: str, where: torch.device) -> tuple[bool, str]:
        return verdict(name, op, device if name == "triton" and where.type == "cpu" else where)

    return judge


def capability_on(device: torch.device) -> Callable[[torch.device], int]:
    """resources.capability_of that takes CPU tensors for tensors of the device."""
    capability_of = resources.capability_of
    return lambda where: capability_of(device if where.type == "cpu" else where)


@cache
def checked(device: torch.device) -> None:
    """Every op's planted problems, once a process."""
    for op in planted():
        serves(op, device)


@contextmanager
def on(device: torch.device, launcher: Any = JITFunction) -> Iterator[None]:
    capability = capability_on(device)
    with (
        patch.object(launcher, "run", launching(launcher.run, device)),
        patch.object(registry, "run", asking(registry.run, device)),
        patch.object(registry, "verdict", judging(registry.verdict, device)),
        patch.object(resources, "capability_of", capability),
        patch.object(screen, "capability_of", capability),
    ):
        yield
