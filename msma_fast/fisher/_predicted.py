"""Which tokens a batch predicts, and the score of each sequence: log p(y | x) summed over its predicted tokens.

A causal model predicts token t + 1 from position t (labels, where the batch has none, are its input_ids); every other
model has a label per position of its logits. -100 means: not predicted, as in torch's cross entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100


def is_causal(model: nn.Module) -> bool:
    """Whether logits at position t are about token t + 1. Encoder-decoder models get their shift from decoder_input_ids."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False):
        return False
    endings = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    return any(kind.__name__.endswith(endings) for kind in type(model).__mro__)


def split_labels(model: nn.Module, batch: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Tensor]:
    """What the model is called with, and a label for each position of its logits, IGNORED where nothing is predicted."""
    inputs = dict(batch)
    labels = inputs.pop("labels", None)
    causal = is_causal(model)
    if labels is None and causal:
        labels = inputs.get("input_ids")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim < 1 + causal:
        came = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{where}['labels']: expected an integer tensor with a label per position, got {came}")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        mask = inputs.get("decoder_attention_mask")
        if inputs.get("decoder_input_ids") is None and inputs.get("decoder_inputs_embeds") is None:
            inputs["decoder_input_ids"] = _decoder_inputs(model, labels, where)
    else:
        mask = inputs.get("attention_mask")
    labels = labels.to(torch.int64)
    if causal:
        return inputs, _next_tokens(labels, mask, where)
    if isinstance(mask, Tensor) and mask.shape == labels.shape:
        labels = labels.masked_fill(mask == 0, IGNORED)
    return inputs, labels


def _decoder_inputs(model: nn.Module, labels: Tensor, where: str) -> Any:
    prepare = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is None:
        raise ValueError(f"{where}: expected 'decoder_input_ids', which {type(model).__name__} cannot make from labels")
    return prepare(labels=labels)


def _next_tokens(labels: Tensor, mask: Any, where: str) -> Tensor:
    """Moved one to the left; a token counts where neither it nor the position that predicts it is masked."""
    after = torch.full_like(labels, IGNORED)
    after[:, :-1] = labels[:, 1:]
    if isinstance(mask, Tensor):
        if mask.shape != labels.shape:
            raise ValueError(
                f"{where}['attention_mask']: expected shape {tuple(labels.shape)} as the tokens, got {tuple(mask.shape)}"
            )
        visible = mask != 0
        after[:, :-1].masked_fill_(~(visible[:, 1:] & visible[:, :-1]), IGNORED)
    return after


def logits_of(model: nn.Module, inputs: Mapping[str, Any], labels: Tensor, where: str) -> Tensor:
    """The model's logits (*labels.shape, V)."""
    logits = getattr(model(**inputs), "logits", None)
    if not isinstance(logits, Tensor):
        raise TypeError(f"model: expected one whose result has .logits, got {type(model).__name__}")
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"{where}['labels']: expected a label per position of each sequence's logits, {tuple(logits.shape[1:-1])}, "
            f"got {tuple(labels.shape[1:])}"
            + (f" for {labels.shape[0]} sequences, not {logits.shape[0]}" if len(labels) != len(logits) else "")
        )
    return logits


def checked(labels: Tensor, vocabulary: int, where: str) -> Tensor:
    """`labels`, none of them outside the vocabulary."""
    kept = labels[labels != IGNORED]
    if kept.numel() and (int(kept.min()) < 0 or int(kept.max()) >= vocabulary):
        raise ValueError(
            f"{where}['labels']: expected {IGNORED} or 0 to {vocabulary - 1}, "
            f"got values from {int(kept.min())} to {int(kept.max())}"
        )
    return labels


def sampled(labels: Tensor, logits: Tensor, generator: torch.Generator) -> Tensor:
    """`labels` with every one that is not IGNORED replaced by a draw from the model's own distribution there."""
    keep = labels != IGNORED
    drawn = labels.clone()
    if bool(keep.any()):
        shares = torch.softmax(_widened(logits.detach()[keep]), -1)
        drawn[keep] = torch.multinomial(shares, 1, generator=generator).squeeze(-1)
    return drawn


def negative_score(logits: Tensor, labels: Tensor) -> Tensor:
    """-sum log p(y | x) over the predicted tokens of every sequence: a sum, so that each sequence's gradient stays its own."""
    keep = labels != IGNORED
    return nn.functional.cross_entropy(_widened(logits[keep]), labels[keep], reduction="sum")


def _widened(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
