"""Canonical keys by the compiled module, on CPU tensors; every other part of an op is the torch backend's.

pair_keys(kernel, x (n, d), y (m, d), i (P,), j (P,)) -> (P,) float64
block_keys(kernel, x (n, d), y (m, d))               -> (n, m) float64

The formulas and their order of operations are in backends/torch/kernel.py; the results are the same bits for every
instruction set and thread count. Threads: torch.get_num_threads(). MSMA_FAST_CPU=scalar|avx2|avx512|amx, read at the first
call, caps the instruction set; "amx" is "avx512" with the products of the certified screen on AMX tiles. The module is
imported when first asked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch.kernel import Kernel, Keys, Rows

KINDS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "minkowski", "inner_product", "cosine", "mahalanobis"])


@cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        module = importlib.import_module("msma_fast._native")
    except ImportError as error:
        return None, (
            f"msma_fast._native cannot be imported ({error}); it is built at install time where CMake and a C++17 "
            "compiler are found"
        )
    # torch's OpenMP threads do not survive a fork: a child that uses them waits for ever. Ours are made anew by each call.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
    return module, ""


def compiled() -> ModuleType:
    """The compiled module. Raises NotImplementedError where it is not there."""
    module, reason = _load()
    if module is None:
        raise NotImplementedError(f"backend: 'native' cannot run here: {reason}")
    return module


def available() -> tuple[bool, str]:
    """Whether the compiled module is there, and why (not). Never raises.

    An unknown MSMA_FAST_CPU does not make it unavailable: every call then raises, so that a misspelled cap is noticed.
    """
    module, reason = _load()
    if module is None:
        return False, reason
    return True, f"C++ kernels, {_in_use()}"


def _in_use() -> str:
    try:
        fault = compiled().amx_fault()
        return f"instruction set {instruction_set()}" + (f" (AMX tiles are not used: {fault})" if fault else "")
    except ValueError as error:  # MSMA_FAST_CPU holds an unknown value
        return str(error)


def instruction_set() -> str:
    """The instruction set in use: "scalar", "avx2", "avx512" or "amx".

    Raises ValueError where MSMA_FAST_CPU is unknown, NotImplementedError without the compiled module.
    """
    name: str = compiled().instruction_set()
    return name


def cpu_features() -> dict[str, bool]:
    """What the processor and its operating system offer; AMX counts once the system has granted it to this process."""
    features: dict[str, bool] = compiled().cpu_features()
    return features


def status() -> dict[str, str]:
    """What `msma-fast doctor` prints."""
    features = " ".join(name for name, there in cpu_features().items() if there)
    return {"native": _in_use(), "features": features or "none of those asked for"}


def serves(op: str, device: torch.device) -> tuple[bool, str]:
    """CPU tensors only."""
    if device.type != "cpu":
        return False, f"the compiled kernels run on CPU tensors; these are on {device}"
    return True, "CPU tensors"


def operations() -> dict[str, Callable[..., Any]]:
    """op name -> function: the torch backend's ops over the compiled keys and searches, and those with kernels of their
    own."""
    from msma_fast.backends import native_ksg_dense, native_ksg_low, native_search
    from msma_fast.backends import native_pairwise_distances as own
    from msma_fast.backends.native_reductions import REDUCTIONS
    from msma_fast.backends.torch.ops import ops as bind

    keys = native_search.over(Keys(pair_keys, block_keys, KINDS))
    return bind(keys, REDUCTIONS) | {
        "all_finite": native_search.all_finite,
        "ksg": partial(native_ksg_low.ksg, partial(native_ksg_dense.ksg, keys)),
        "ksg_matrix": partial(native_ksg_low.ksg_matrix, partial(native_ksg_dense.ksg_matrix, keys)),
        "ksg_permutations": partial(native_ksg_dense.ksg_permutations, keys),
        "pairwise_distances": partial(own.pairwise_distances, compiled(), keys),
        "pairwise_distances_backward": partial(own.pairwise_distances_backward, keys),
    }


def pair_keys(kernel: Kernel, x: Rows, y: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Keys of the index pairs (x[i[t]], y[j[t]]); i and j (P,) int64; (P,) float64.

    Raises ValueError where shapes, dtypes or an index do not fit, NotImplementedError without the compiled module.
    """
    indices = array("i", i), array("j", j)
    keys = compiled().pair_keys(*problem(kernel, x, y), *indices, torch.get_num_threads())
    return torch.from_numpy(keys)


def block_keys(kernel: Kernel, x: Rows, y: Rows) -> Tensor:
    """Keys of all pairs; (n, m) float64. Raises as pair_keys."""
    return torch.from_numpy(compiled().block_keys(*problem(kernel, x, y), torch.get_num_threads()))


def problem(kernel: Kernel, x: Rows, y: Rows) -> tuple[Any, ...]:
    """The arguments by which the compiled module knows a kernel over two row sets."""
    tensor = None if kernel.tensor is None else array("tensor", kernel.tensor)
    return kernel.kind, int(kernel.p), tensor, *_rows("x", x), *_rows("y", y)


def _rows(name: str, rows: Rows) -> tuple[Any, Any]:
    norms = None if rows.norms is None else array(f"{name}.norms", rows.norms)
    return array(name, rows.values), norms


def array(name: str, tensor: Tensor) -> Any:
    """The tensor's memory as a numpy array; copied only where it is not contiguous."""
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a CPU tensor, got one on {tensor.device}")
    return tensor.detach().contiguous().numpy()
