"""The mean attention span of each head: the mean over kept query positions i of sum_j a_ij |i - j|, in
tokens.

a_ij (batch, heads, length, length) are the self-attention weights of a block, available only under eager
attention, which `eager_attention` sets for the time of a collection. Sums are float64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast.activations.blocks import Stack
from msma_fast.activations.forward import Capture, run

KeepWeights = Callable[[str, Tensor], None]
_ROW_SUM_TOLERANCE = 0.05  # a bfloat16 softmax row over a few tokens sums to one within its rounding


@contextlib.contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Every part of the model on eager attention, and afterwards each on what it had."""
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


class AttentionCapture:
    """Context manager: while it is open, `keep(name, weights)` is called with each wanted block's
    self-attention weights (b, h, t, t); `name` is the layer the block ends in."""

    def __init__(self, found: dict[str, tuple[nn.Module, int]], keep: KeepWeights) -> None:
        self._found = found
        self._keep = keep
        self._handles: list[Any] = []

    def __enter__(self) -> AttentionCapture:
        for name, (module, place) in self._found.items():
            self._handles.append(module.register_forward_hook(self._hook(name, place)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str, place: int) -> Callable[..., None]:
        return lambda module, args, output: self._keep(name, output[place])


def find_attention(
    model: Any, stacks: Sequence[Stack], wanted: Sequence[str], ids: Sequence[int]
) -> dict[str, tuple[nn.Module, int]]:
    """For each wanted block, the module whose output holds its self-attention weights, and the place in that
    output: the first output of the block, in the order of the pass, with shape (1, heads, t, t) and rows that
    sum to one.

    To be called under `eager_attention`. Raises NotImplementedError where a block shows no such weights.
    """
    found: dict[str, tuple[nn.Module, int]] = {}
    tokens = torch.tensor([list(ids)], device=model.get_input_embeddings().weight.device)

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if name not in found and isinstance(output, tuple):
                places = [place for place, item in enumerate(output) if _is_attention(item, tokens.shape[1])]
                if places:
                    found[name] = (module, places[0])

        return hook

    blocks = {name: block for stack in stacks for name, block in zip(stack.names[1:], stack.blocks, strict=True)}
    handles = [
        module.register_forward_hook(watch(name))
        for name in wanted
        if name in blocks
        for module in blocks[name].modules()
    ]
    try:
        with Capture(stacks, wanted, lambda name, state: None):
            run(model, tokens, torch.ones_like(tokens))
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in wanted if name in blocks and name not in found]
    if missing:
        raise NotImplementedError(
            f"attention_span: expected attention weights from the blocks of {type(model).__name__}, "
            f"got none at {missing}"
        )
    return found


def spans(weights: Tensor, batch: Tensor, positions: Tensor) -> Tensor:
    """Each head's span, summed over the (batch, position) queries: weights (b, h, t, t) -> float64 (h,)."""
    queries = weights[batch, :, positions].to(torch.float64)  # (rows, h, t)
    distance = (positions[:, None] - torch.arange(weights.shape[-1], device=weights.device)).abs()  # (rows, t)
    return torch.einsum("rht,rt->h", queries, distance.to(torch.float64)).cpu()


def _is_attention(item: Any, length: int) -> bool:
    if not isinstance(item, Tensor) or item.ndim != 4 or item.shape[0] != 1 or item.shape[-2:] != (length, length):
        return False
    sums = item.float().sum(-1)
    return bool((item >= 0).all()) and bool(((sums - 1).abs() < _ROW_SUM_TOLERANCE).all())
