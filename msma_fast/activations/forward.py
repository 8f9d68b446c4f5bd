"""One forward pass of a batch, keeping some rows of some layers.

`Capture` hooks the input of each stack's first block and the output of each block, gathers the wanted rows of
each state (batch, length, d) at once, and ends the pass after the last layer that is wanted: no final norm,
no read-out and no logits are ever computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast.activations.blocks import Stack, is_encoder_decoder

Keep = Callable[[str, Tensor], None]


class _Enough(Exception):
    """Raised in a hook once the last wanted layer is kept, to leave the model's forward."""


class Capture:
    """Context manager: while it is open, `keep(name, state)` gets each wanted layer's state (b, t, d)."""

    def __init__(self, stacks: Sequence[Stack], wanted: Sequence[str], keep: Keep) -> None:
        self._stacks = stacks
        self._wanted = set(wanted)
        self._last = [name for stack in stacks for name in stack.names if name in self._wanted][-1]
        self._keep = keep
        self._handles: list[Any] = []

    def __enter__(self) -> Capture:
        for stack in self._stacks:
            names = stack.names
            if names[0] in self._wanted:
                self._handles.append(
                    stack.blocks[0].register_forward_pre_hook(self._before(names[0]), with_kwargs=True)
                )
            for block, name in zip(stack.blocks, names[1:], strict=True):
                if name in self._wanted:
                    self._handles.append(block.register_forward_hook(self._after(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, name: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._take(name, args[0] if args else kwargs["hidden_states"])

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._take(name, output[0] if isinstance(output, tuple) else output)

        return hook

    def _take(self, name: str, state: Any) -> None:
        if not isinstance(state, Tensor) or state.ndim != 3:
            shape = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
            raise NotImplementedError(f"model: expected states (batch, length, d) at {name}, got {shape}")
        self._keep(name, state)
        if name == self._last:
            raise _Enough


def pad(sequences: Sequence[Sequence[int]], padding: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, int64 (batch, longest), padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in sequences])
    lengths = torch.tensor([len(ids) for ids in sequences])
    mask = (torch.arange(longest) < lengths[:, None]).to(torch.int64)
    return ids.to(device), mask.to(device)


def run(model: Any, ids: Tensor, mask: Tensor, decoder_ids: Tensor | None = None) -> None:
    """Run the model on ids (b, t) until an open `Capture` has enough. An encoder-decoder model's decoder
    reads `decoder_ids`, by default the encoder's own ids, so that a row is the same token in both stacks."""
    inputs = {"input_ids": ids, "attention_mask": mask}
    if is_encoder_decoder(model):
        inputs |= {
            "decoder_input_ids": ids if decoder_ids is None else decoder_ids,
            "decoder_attention_mask": mask,
        }
    extra = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    try:
        with torch.inference_mode():
            model(**inputs, **extra)
    except _Enough:
        return
    raise NotImplementedError("model: expected every block to run in a forward pass, got a pass that left some out")
