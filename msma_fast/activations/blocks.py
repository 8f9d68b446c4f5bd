"""Finding the stacks of blocks of a transformers model, and the model's own words about itself.

A stack is a list of blocks that run one after another on states (batch, length, d): one stack for
decoder-only and encoder-only models, two ("encoder", "decoder") for encoder-decoder models. The list is found
by what it is, not by the model's name: the outermost ModuleList with as many members as the configuration
declares layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")


@dataclass(frozen=True)
class Stack:
    """The blocks of one stack. Layer 0 is the input of the first block, layer l the output of block l."""

    prefix: str  # "layer", or "encoder" and "decoder"
    blocks: tuple[nn.Module, ...]

    @property
    def names(self) -> list[str]:
        return [f"{self.prefix}.{layer}" for layer in range(len(self.blocks) + 1)]


def check_model(model: Any) -> None:
    """Raises TypeError for anything that is not a transformers model."""
    if not isinstance(model, nn.Module) or not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        raise TypeError(
            "model: expected a transformers model, the name of one, or a folder that holds one, "
            f"got {type(model).__name__}"
        )


def is_encoder_decoder(model: Any) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def find_stacks(model: Any) -> list[Stack]:
    """The stacks in the order in which they run. Raises NotImplementedError where there are no blocks."""
    if is_encoder_decoder(model):
        parts = [("encoder", model.get_encoder()), ("decoder", model.get_decoder())]
    else:
        parts = [("layer", model)]
    return [Stack(prefix, _blocks(part, model.config)) for prefix, part in parts]


def _blocks(part: nn.Module, config: Any) -> tuple[nn.Module, ...]:
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    declared = {getattr(config, name) for name in _LAYER_COUNTS if isinstance(getattr(config, name, None), int)}
    lists = [tuple(blocks) for blocks in _outermost_lists(part)]
    found = [blocks for blocks in lists if len(blocks) in declared]
    if not found:
        raise NotImplementedError(
            f"model: expected a list of {sorted(declared)} blocks inside {type(part).__name__}, "
            f"got lists of {sorted(len(blocks) for blocks in lists)}; this architecture is not supported"
        )
    return max(found, key=_size)


def _size(blocks: tuple[nn.Module, ...]) -> int:
    return sum(weight.numel() for block in blocks for weight in block.parameters())


def _outermost_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child) > 0:
            yield child
        else:
            yield from _outermost_lists(child)


def position_limit(model: Any) -> int | None:
    """The longest sequence the learned position embeddings allow, or None where the positions have no table.

    RoBERTa and its kin count positions from padding_idx + 1, so that many rows of their table are never used.
    """
    limits = []
    for name, module in model.named_modules():
        table = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and table in ("wpe", "position_embeddings", "embed_positions"):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min(limits, default=None)


def padding_id(model: Any, tokenizer: Any) -> int:
    """What fills a batch behind the shorter texts; the attention mask hides it from every other token."""
    for holder in (model.config, tokenizer):
        value = getattr(holder, "pad_token_id", None)
        if isinstance(value, int) and value >= 0:
            return value
    return 0
