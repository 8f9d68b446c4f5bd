"""The engine by compiled CUDA kernels, on CUDA tensors: searches, counts and KSG by canonical keys, each in one launch.

What has no kernel here is the torch backend's, over Triton's canonical keys where Triton runs, else torch's. The module
msma_fast._cuda is imported when first asked for, and no CUDA context is started before a tensor is there.

MSMA_FAST_CUDA_EMULATED, read when the module is first asked for, is the file of _cuda_emulated (csrc/cuda/CMakeLists.txt): the
same kernels over a model of a GPU take the module's place and serve CPU tensors, slowly. For tests.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch

from msma_fast.backends.torch.kernel import Keys

KINDS = frozenset(["sqeuclidean", "manhattan", "chebyshev", "minkowski", "inner_product", "cosine"])


@cache
def _load() -> tuple[ModuleType | None, str]:
    path = os.environ.get("MSMA_FAST_CUDA_EMULATED")
    try:
        return (_emulated(path) if path else importlib.import_module("msma_fast._cuda")), ""
    except ImportError as error:
        return None, (
            f"{'MSMA_FAST_CUDA_EMULATED' if path else 'msma_fast._cuda'} cannot be imported ({error}); msma_fast._cuda is "
            "built at install time where nvcc is found"
        )


def _emulated(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_cuda_emulated", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled() -> ModuleType:
    """The compiled module. Raises NotImplementedError where it is not there."""
    module, reason = _load()
    if module is None:
        raise NotImplementedError(f"backend: 'cuda' cannot run here: {reason}")
    return module


def emulated() -> bool:
    """Whether the model of a GPU has the module's place."""
    there: bool = compiled().emulated()
    return there


@cache
def available() -> tuple[bool, str]:
    """Whether kernels can run here, and why (not). Starts no CUDA context."""
    module, reason = _load()
    if module is None:
        return False, reason
    if module.emulated():
        return True, "CUDA kernels in the emulator, on CPU tensors"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return False, "no CUDA device that this torch can use"
    return True, f"CUDA kernels for {' '.join(module.architectures())}, on CUDA tensors"


def status() -> dict[str, str]:
    """What `msma-fast doctor` prints."""
    return {"cuda": available()[1]}


def serves(op: str, device: torch.device) -> tuple[bool, str]:
    """CUDA tensors, once the device has solved the op's planted problems; CPU tensors in the emulator."""
    from msma_fast.backends import triton_check

    return triton_check.serves(operations, op, device, "cpu" if emulated() else "cuda")


@cache
def beside_triton() -> bool:
    """Whether Triton's kernels run on the tensors that these kernels run on."""
    from msma_fast.backends import triton

    return triton.available()[0] and triton.interpreted() == emulated()


def operations() -> dict[str, Callable[..., Any]]:
    """op name -> function: the torch backend's ops over these searches and counts, and KSG."""
    from msma_fast.backends import cuda_ksg, cuda_search, triton_fast, triton_ksg
    from msma_fast.backends.torch.ops import TORCH_KEYS
    from msma_fast.backends.torch.ops import ops as bind

    base = _triton_keys() if beside_triton() else TORCH_KEYS
    keys = Keys(base.pair_keys, base.block_keys, KINDS, cuda_search.nearest, cuda_search.within)
    bound = bind(keys)
    information = (triton_ksg.ksg, triton_ksg.ksg_matrix, triton_ksg.ksg_permutations)
    bound |= {op.__name__: partial(op, keys, count=cuda_ksg.counted) for op in information}
    if beside_triton():
        bound["knn"] = partial(triton_fast.knn, keys, bound["knn"])  # precision="fast" is Triton's
    return bound


def _triton_keys() -> Keys:
    from msma_fast.backends import triton

    return Keys(triton.pair_keys, triton.block_keys, KINDS)
