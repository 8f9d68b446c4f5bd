"""The engine by Triton kernels, on CUDA tensors; under TRITON_INTERPRET=1 on CPU tensors, in Triton's interpreter.

What no kernel has is the torch backend's, over canonical keys by a kernel. The variable is read when the kernels are first
imported: an interpreted process never launches on a GPU, and the other way round.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from msma_fast.backends.torch.kernel import Kernel, Keys, Rows


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


@cache
def available() -> tuple[bool, str]:
    """Whether kernels can run here, and why (not). Starts no CUDA context."""
    if importlib.util.find_spec("triton") is None:
        return False, "triton is not installed: pip install 'msma_fast[triton]'"
    if interpreted():
        return True, "Triton kernels in the interpreter, on CPU tensors"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return (
            False,
            "no CUDA device that this torch can use; TRITON_INTERPRET=1 runs the kernels on CPU tensors, slowly",
        )
    return True, "Triton kernels on CUDA tensors"


def status() -> dict[str, str]:
    """What `msma-fast doctor` prints."""
    return {"triton": available()[1]}


def serves(op: str, device: torch.device) -> tuple[bool, str]:
    """CUDA tensors, once the device has solved the op's planted problems; CPU tensors in the interpreter."""
    from msma_fast.backends import triton_check

    return triton_check.serves(operations, op, device, "cpu" if interpreted() else "cuda")


def operations() -> dict[str, Callable[..., Any]]:
    """op name -> function: the torch backend's ops over these keys, searches and sums."""
    from msma_fast.backends import (
        triton_fast,
        triton_fisher,
        triton_ksg,
        triton_pairwise_distances,
        triton_radius_count,
        triton_reductions,
        triton_search,
    )
    from msma_fast.backends.torch.ops import ops as bind
    from msma_fast.triton_kernels.keys import KINDS

    keys = Keys(pair_keys, block_keys, KINDS, triton_search.nearest, triton_radius_count.within)
    bound = bind(keys, triton_reductions.REDUCTIONS)
    information = (triton_ksg.ksg, triton_ksg.ksg_matrix, triton_ksg.ksg_permutations)
    bound |= {op.__name__: partial(op, keys) for op in information}
    bound |= {op.__name__: op for op in triton_fisher.OPS}
    bound["knn"] = partial(triton_fast.knn, keys, bound["knn"])
    bound["pairwise_distances"] = partial(triton_pairwise_distances.pairwise_distances, keys)
    bound["pairwise_distances_backward"] = triton_pairwise_distances.pairwise_distances_backward
    return bound


def pair_keys(kernel: Kernel, x: Rows, y: Rows, i: Tensor, j: Tensor) -> Tensor:
    """(P,) float64 of the index pairs (x[i[t]], y[j[t]]); i and j (P,) int64."""
    from msma_fast.triton_kernels import keys

    return keys.pair_keys(
        kernel.kind, int(kernel.p), (x.values, x.norms), (y.values, y.norms), i.contiguous(), j.contiguous()
    )


def block_keys(kernel: Kernel, x: Rows, y: Rows) -> Tensor:
    """(n, m) float64 of all pairs."""
    from msma_fast.triton_kernels import keys

    return keys.block_keys(kernel.kind, int(kernel.p), (x.values, x.norms), (y.values, y.norms))
