"""The read-out of a transformers model, logits = W norm(h) + b, found by looking at what the model does and checked on it.

A few tokens are run through the model. W and b are its output embedding; the norm is the last module whose output the output
embedding reads, up to a constant (T5 scales it), in the closed form that reproduces it. Where the two sit together in a head
(BERT, RoBERTa: a dense layer, an activation and a LayerNorm) the map is the whole head before W, by differentiation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msma_fast.fisher.norms import LayerNorm, RMSNorm

_PROBE = 8  # tokens
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


class Readout(NamedTuple):
    """weight (V, d), bias (V,) or None, norm: what is applied to a state before, None where nothing is.

    `fisher.logit_fisher_vp(h, r.weight, v, r.bias, norm=r.norm)` with h the state after a block, before any final norm: what
    `mf.collect_activations` keeps."""

    weight: Tensor
    bias: Tensor | None
    norm: Any


class Head:
    """The part of a head before its output embedding, as a map of rows (n, d) -> (n, d)."""

    def __init__(self, module: nn.Module, embedding: nn.Linear) -> None:
        self.module, self.embedding = module, embedding

    def __call__(self, h: Tensor) -> Tensor:
        return _read(self.embedding, lambda: self.module(h.to(next(self.module.parameters()).dtype))).to(h.dtype)


def readout(model: Any) -> Readout:
    """Weight, bias and norm by which a transformers model with a language-model head reads tokens from a state.

    GPT-2, Llama-like models, T5's decoder, BERT's and RoBERTa's masked-LM heads, and whatever has the same form. The model is
    run on eight tokens, in evaluation mode, and left as it was; tensors are the model's own, not copies. Raises TypeError for
    a model without an output embedding, NotImplementedError where its logits are not W norm(h) + b (soft-capped or scaled
    logits), or the norm is none that is known.
    """
    embedding = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(embedding, nn.Linear):
        raise TypeError(
            f"model: expected a transformers model with a language-model head, got {type(model).__name__} whose output "
            f"embedding is {type(embedding).__name__}"
        )
    with _evaluating(model), torch.no_grad():
        seen, logits = _probe(model, embedding)
        read = seen[embedding][0]
        weight, bias = embedding.weight.detach(), None if embedding.bias is None else embedding.bias.detach()
        _same("logits that are W x + b", logits, embedding(read))
        norm = _norm(model, embedding, seen, read)
    return Readout(weight, bias, norm)


def _norm(model: nn.Module, embedding: nn.Linear, seen: dict[nn.Module, tuple[Tensor, Tensor]], read: Tensor) -> Any:
    for module in reversed(seen):
        before, after = seen[module]
        scale = _ratio(after, read)
        own = [name for name, _ in module.named_parameters()]
        if scale is None or not own or any("." in name for name in own) or module.weight.ndim != 1:
            continue
        head = _common(model, module, embedding)
        if head is not model:
            return Head(head, embedding)
        return _closed_form(module, before, scale)
    if any(torch.equal(after.reshape(-1), read.reshape(-1)) for _, after in seen.values()):
        return None
    raise NotImplementedError(
        f"model: expected an output embedding that reads a block's or a norm's output, {type(model).__name__} computes "
        "something else between"
    )


def _closed_form(module: Any, before: Tensor, scale: float) -> LayerNorm | RMSNorm:
    weight, bias = module.weight.detach(), getattr(module, "bias", None)
    eps = next(
        (float(getattr(module, name)) for name in ("eps", "variance_epsilon", "epsilon") if hasattr(module, name)), 0.0
    )
    bias = None if bias is None else scale * bias.detach()
    rows = before.reshape(-1, before.shape[-1])
    # And with a mean as large as the rest: in half precision the two norms are hardly told apart by rows without one.
    rows = torch.cat([rows, rows + rows.float().square().mean().sqrt().to(rows.dtype)])
    wanted, rows = scale * module(rows).double(), rows.double()
    candidates: list[LayerNorm | RMSNorm] = [LayerNorm(scale * weight, bias, eps)]
    if bias is None:
        candidates += [RMSNorm(scale * weight, eps), RMSNorm(scale * (1.0 + weight), eps)]
    for candidate in candidates:
        if _off(candidate(rows), wanted) <= _TOLERANCE[before.dtype]:
            return candidate
    raise NotImplementedError(
        f"model: expected a LayerNorm or an RMSNorm before the output embedding, got {type(module).__name__}, which is neither"
    )


def _probe(model: Any, embedding: nn.Linear) -> tuple[dict[nn.Module, tuple[Tensor, Tensor]], Tensor]:
    """(module -> first tensor in and out, in the order in which they ended; logits)."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        after = output[0] if isinstance(output, tuple) and output else output
        if inputs and isinstance(inputs[0], Tensor) and isinstance(after, Tensor):
            seen.pop(module, None)
            seen[module] = inputs[0], after

    tokens = torch.arange(2, 2 + _PROBE, device=embedding.weight.device)[None] % embedding.weight.shape[0]
    more = {"decoder_input_ids": tokens} if getattr(model.config, "is_encoder_decoder", False) else {}
    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        logits = model(input_ids=tokens, **more).logits
    finally:
        for hook in hooks:
            hook.remove()
    return seen, logits


def _read(embedding: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What the output embedding is given while something runs."""
    caught: list[Tensor] = []
    hook = embedding.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        run()
    finally:
        hook.remove()
    return caught[0]


def _common(model: nn.Module, one: nn.Module, other: nn.Module) -> nn.Module:
    """The innermost module that holds both."""
    found = model
    for module in model.modules():  # outer ones first
        inside = set(module.modules())
        if one in inside and other in inside:
            found = module
    return found


def _ratio(a: Tensor, b: Tensor) -> float | None:
    """c with b = c a, None where there is none."""
    if a.numel() != b.numel():
        return None
    left, right = a.reshape(-1).double(), b.reshape(-1).double()
    square = float(left @ left)
    scale = float(left @ right) / square if square > 0 else 0.0
    return scale if scale and _off(scale * left, right) <= 2.0 * torch.finfo(b.dtype).eps else None


def _off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _same(what: str, found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape or _off(wanted.float(), found.float()) > _TOLERANCE[found.dtype]:
        raise NotImplementedError(f"model: expected {what} of its output embedding, got something else")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
