"""The read-out of a transformers model, logits = W norm(h) + b, found by looking at what the model does and checked on it.

A few tokens are run through the model. W and b are its output embedding; the norm is a module that reads the last block's
output and whose output W reads, up to a constant (T5 scales it), in the closed form that reproduces it. Where norm and W sit
together in a head (BERT, RoBERTa: a dense layer, an activation and a LayerNorm) the map is the whole head before W, by
differentiation. What is returned gives the model's logits from the last block's output, or there is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msma_fast.activations.blocks import find_stacks
from msma_fast.fisher.norms import LayerNorm, RMSNorm

_PROBE = 8  # tokens
Seen = dict[nn.Module, tuple[Tensor, Tensor]]  # of modules that ran: what went in and came out, the last one last
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
    logits, a norm without a weight, a dense layer that is no part of a head), with h the output of its last block.
    """
    embedding = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(embedding, nn.Linear):
        raise TypeError(
            f"model: expected a transformers model with a language-model head, got {type(model).__name__} whose output "
            f"embedding is {type(embedding).__name__}"
        )
    if getattr(model.config, "final_logit_softcapping", None):
        raise NotImplementedError("model: expected logits W x + b of its output embedding, got soft-capped ones")
    with _evaluating(model), torch.no_grad():
        seen, logits = _probe(model, embedding)
        read = seen[embedding][0]
        weight, bias = embedding.weight.detach(), None if embedding.bias is None else embedding.bias.detach()
        _same("logits that are W x + b", logits, embedding(read))
        norm = _norm(model, embedding, seen, logits)
    return Readout(weight, bias, norm)


def _norm(model: Any, embedding: nn.Linear, seen: Seen, logits: Tensor) -> Any:
    """What turns the output of the last block into what W reads: nothing, a norm, or a head; the one that gives the logits."""
    last = find_stacks(model)[-1].blocks[-1]
    if last not in seen:
        raise NotImplementedError(f"model: expected a last block that gives a tensor, got {type(last).__name__}")
    h, read = seen[last][1], seen[embedding][0]
    for norm in _candidates(model, embedding, seen, h, read):
        x = h if norm is None else norm(h.reshape(-1, h.shape[-1]).to(embedding.weight.dtype)).reshape(read.shape)
        if _off(embedding(x.to(embedding.weight.dtype)), logits) <= _TOLERANCE[logits.dtype]:
            return norm
    raise NotImplementedError(
        "model: expected logits W norm(h) + b of the last block's output h, a LayerNorm or an RMSNorm with a weight between, "
        f"or a head that holds W; {type(model).__name__} computes something else"
    )


def _candidates(model: nn.Module, embedding: nn.Linear, seen: Seen, h: Tensor, read: Tensor) -> Iterator[Any]:
    if h.numel() == read.numel():
        yield None
    for module in reversed(seen):
        before, after = seen[module]
        scale = _ratio(after, read)
        own = [name for name, _ in module.named_parameters()]
        if scale is None or not own or any("." in name for name in own) or module.weight.ndim != 1:
            continue
        head = _common(model, module, embedding)
        if head is not model:
            if _equal(seen[head][0], h):
                yield Head(head, embedding)
        elif _equal(before, h):
            yield _closed_form(module, before, scale)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.numel() == b.numel() and torch.equal(a.reshape(-1), b.reshape(-1))


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


def _probe(model: Any, embedding: nn.Linear) -> tuple[Seen, Tensor]:
    """(module -> first tensor in and out, in the order in which they ended; logits)."""
    seen: Seen = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        after = output[0] if isinstance(output, (tuple, list)) and output else output
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


class _Caught(Exception):
    """What the output embedding was given; the embedding itself need not run."""


def _read(embedding: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What the output embedding is given while something runs, up to there."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs[0])
        raise _Caught

    hook = embedding.register_forward_pre_hook(catch)
    try:
        run()
    except _Caught:
        pass
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
