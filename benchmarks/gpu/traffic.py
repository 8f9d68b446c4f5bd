"""The bytes that torch's operations between our kernels move: counted as they run, on CPU tensors.

Every operation that is no view reads its tensors once and writes its results once. Of a tensor that is indexed only what is
picked is read; a broadcast one is read once. Sorts and searches take several passes on a GPU: what is counted is the least.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PICKED = {"index.Tensor", "gather.default", "index_select.default"}  # their first argument is not read whole
ALLOCATIONS = {
    "empty.memory_format",
    "empty_like.default",
    "new_empty.default",
    "empty_strided.default",
}  # nothing is moved


class Traffic(TorchDispatchMode):
    """bytes: of all operations within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        if self.paused or name in ALLOCATIONS or func.is_view:
            return out
        results = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if name in PICKED:
            inputs = inputs[1:] + results
        self.bytes += sum(map(size, results)) + sum(size(each) for each in {id(each): each for each in inputs}.values())
        return out


def size(tensor: Tensor) -> int:
    """Bytes of its distinct elements."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(length for length, step in steps if step or not length) * tensor.element_size()
