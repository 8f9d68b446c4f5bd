"""Changing the states of a range of layers while a model runs.

Layers are those of `find_stacks`: layer 0 is the input of the first block, layer l the output of block l - 1 of the list. A
state is h (batch, length, d); s is the strength, and at s = 0 every kind leaves every state as it is, bit for bit.

    translate  h + s |h| u                  u a unit direction (d,), |h| the norm of each token's state
    amplify    (1 + s) h
    noise      h + s rms(h) e               e standard normal, a function of (seed, prompt, layer, position)
    attention  a block's self-attention, times (1 - s): s = 1 removes it
    ablate     h_in + (1 - s) (h_out - h_in) of each block: s = 1 skips it

The first three act at every layer of the range, one after another; the last two on the blocks that end in one of its layers.
The kinds are those of Multi-Scale Manifold Alignment (arXiv 2505.20333), there without formulas; relative strengths make them
comparable between layers whose norms differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast.activations.blocks import Stack
from msma_fast.msma.common_random import normals
from msma_fast.msma.matching import OutOfReachError

KINDS = ("translate", "amplify", "noise", "attention", "ablate")
AT_MOST_ONE = ("attention", "ablate")  # kinds of which strength 1 is the whole
Edit = Callable[[Tensor], Tensor]


class Touch:
    """Context manager: while it is open, the states of layers first ... last of a stack are changed.

    direction -- (d,), of any length but 0; for translate
    seed -- of the noise

    `place` says which prompts a batch holds and at which position it starts; the noise depends on it. Raises ValueError for
    a range outside the stack, and for attention and ablate of layer 0 alone, which no block ends in; NotImplementedError for
    a block without a self-attention that can be found.
    """

    def __init__(
        self,
        stack: Stack,
        first: int,
        last: int,
        kind: str,
        strength: float,
        *,
        direction: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 <= first <= last <= len(stack.blocks):
            raise ValueError(f"first, last: expected 0 <= first <= last <= {len(stack.blocks)}, got {first}, {last}")
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        if kind in AT_MOST_ONE and last == 0:
            raise OutOfReachError(
                f"kind: expected layers that blocks end in for {kind!r}, got layer 0 alone, the embedding"
            )
        if (direction is None) == (kind == "translate"):
            raise ValueError(f"direction: expected one for 'translate' and for no other kind, got kind {kind!r}")
        self.stack, self.first, self.last = stack, first, last
        self.kind, self.strength = kind, float(strength)
        self._direction = None if direction is None else direction.float() / direction.float().norm()
        self._seed = seed
        self._numbers: list[int] = []
        self._start = 0
        self._handles: list[Any] = []

    def place(self, numbers: Sequence[int], start: int) -> None:
        """The prompts of the next pass's batch, and the position of its first token."""
        self._numbers, self._start = list(numbers), start

    def __enter__(self) -> Touch:
        try:
            if self.kind in AT_MOST_ONE:
                for block in self.stack.blocks[max(self.first, 1) - 1 : self.last]:
                    self._handles.append(self._on_block(block))
            else:
                for layer in range(self.first, self.last + 1):
                    self._handles.append(at_layer(self.stack, layer, self._change(layer)))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _change(self, layer: int) -> Edit:
        s = self.strength
        if self.kind == "amplify":
            return lambda h: h * (1 + s)
        if self._direction is not None:
            u = self._direction
            return lambda h: h + (s * h.float().norm(dim=-1, keepdim=True) * u.to(h.device)).to(h.dtype)

        def noise(h: Tensor) -> Tensor:
            if len(self._numbers) != h.shape[0]:
                raise ValueError(f"place: expected the numbers of {h.shape[0]} prompts, got {len(self._numbers)}")
            positions = range(self._start, self._start + h.shape[1])
            e = normals(self._seed, self._numbers, layer, positions, h.shape[-1]).to(h.device)
            return h + (s * h.float().square().mean(-1, keepdim=True).sqrt() * e).to(h.dtype)

        return noise

    def _on_block(self, block: nn.Module) -> Any:
        s = self.strength
        if self.kind == "attention":
            return self_attention(block).register_forward_hook(
                lambda module, args, output: _with_state(output, _state(output) * (1 - s))
            )

        def back(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            before = args[0] if args else kwargs["hidden_states"]
            return _with_state(output, torch.lerp(_state(output), before, s))  # exact at both ends

        return block.register_forward_hook(back, with_kwargs=True)


@contextlib.contextmanager
def watch(stack: Stack, layer: int) -> Iterator[list[Tensor]]:
    """While it is open, the list receives the layer's state of each pass, changed by any `Touch` opened before."""
    seen: list[Tensor] = []

    def keep(h: Tensor) -> Tensor:
        seen.append(h)
        return h

    handle = at_layer(stack, layer, keep)
    try:
        yield seen
    finally:
        handle.remove()


def at_layer(stack: Stack, layer: int, change: Edit) -> Any:
    """The handle of a hook that puts change(h) in the place of the layer's state h."""
    if layer > 0:
        return stack.blocks[layer - 1].register_forward_hook(
            lambda module, args, output: _with_state(output, change(_state(output)))
        )

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    return stack.blocks[0].register_forward_pre_hook(before, with_kwargs=True)


def self_attention(block: nn.Module) -> nn.Module:
    """The module whose output is a block's self-attention: of those with "Attention" in the name of their class the first,
    and of those inside one another the innermost. What follows it under BERT's names, `output.dense`, is a part of it: the
    norm and the sum behind that are not."""
    found: tuple[nn.Module, nn.Module] | None = None
    parent, module = block, block
    while True:
        inner = [
            (holder, child)
            for holder in module.modules()
            for child in holder.children()
            if "Attention" in type(child).__name__
        ]
        if not inner:
            break
        parent, module = found = inner[0]
    if found is None:
        raise NotImplementedError(
            f"kind: expected a submodule with Attention in its class's name in {type(block).__name__}, got none"
        )
    projection = getattr(getattr(parent, "output", None), "dense", None)
    return projection if isinstance(projection, nn.Module) and "Attention" in type(parent).__name__ else module


def _state(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_state(output: Any, state: Tensor) -> Any:
    return (state, *output[1:]) if isinstance(output, tuple) else state
