"""What a model's blocks are, learned by running them on a few tokens instead of from a table of model names.

- the width and dtype of each layer;
- norm_applied: whether a layer's state is the very output of a normalisation (BERT's blocks end in one, and
  its embedding does; GPT-2's and Llama's do not);
- causal: whether a stack's states are unchanged, bit for bit, when the last token is changed;
- where each block's attention weights come out (`find_attention`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast.activations.blocks import Stack, is_encoder_decoder
from msma_fast.activations.forward import Capture, run
from msma_fast.activations.layers import dtype_name

PROBE_TOKENS = 8


@dataclass(frozen=True)
class Probe:
    """layers: name -> {"name", "kind", "norm_applied", "dim", "dtype"}; causal: stack's prefix -> bool."""

    layers: dict[str, dict[str, Any]]
    causal: dict[str, bool]


def probe(model: Any, stacks: Sequence[Stack], ids: Sequence[int], vocabulary: int) -> Probe:
    """Run a text's first tokens (at least two), then once for each stack with the last token changed."""
    device = model.get_input_embeddings().weight.device
    base = torch.tensor([list(ids[:PROBE_TOKENS])], device=device)
    changed = base.clone()
    changed[0, -1] = base[0, 0] if base[0, 0] != base[0, -1] else (base[0, -1] + 1) % vocabulary
    with _norm_outputs(model) as norms:
        states = _states(model, stacks, base, base)
        normed = {_where(output) for output in norms}
        layers = {
            name: {
                "name": name,
                "kind": "embedding" if name.endswith(".0") else "block",
                "norm_applied": _where(state) in normed,
                "dim": int(state.shape[-1]),
                "dtype": dtype_name(state.dtype),
            }
            for name, state in states.items()
        }
    causal = {}
    for stack in stacks:
        decoder = is_encoder_decoder(model) and stack.prefix == "decoder"
        other = _states(model, stacks, base if decoder else changed, changed if decoder else base)
        causal[stack.prefix] = torch.equal(states[stack.names[-1]][:, :-1], other[stack.names[-1]][:, :-1])
    return Probe(layers, causal)


def _states(model: Any, stacks: Sequence[Stack], ids: Tensor, decoder_ids: Tensor) -> dict[str, Tensor]:
    states: dict[str, Tensor] = {}
    names = [name for stack in stacks for name in stack.names]
    with Capture(stacks, names, states.__setitem__):
        run(model, ids, torch.ones_like(ids), decoder_ids)
    return states


def _where(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape


@contextlib.contextmanager
def _norm_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Every output of every normalisation module, held so that no later tensor takes its place in memory."""
    outputs: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        outputs.append(output)

    norms = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
    handles = [module.register_forward_hook(hook) for module in norms]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
