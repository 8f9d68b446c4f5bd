"""`empirical`: the Fisher matrix of a language model's parameters, from gradients of its log-probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast import _checks
from msma_fast.fisher import _predicted
from msma_fast.fisher._empirical_result import EmpiricalFisher, layers_of
from msma_fast.fisher._passes import Passes
from msma_fast.fisher._sums import Block, Diagonal, Kronecker

_IGNORED = _predicted.IGNORED


def empirical(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    *,
    structure: str = "diag",
    labels: str = "data",
    seed: int = 0,
) -> EmpiricalFisher:
    """The Fisher matrix of a model's parameters: F = 1/N sum over sequences n of s_n s_n^T, in nats^2.

    s_n is the score of a sequence, the gradient of sum_t log p(y_t | x) over its predicted tokens: one example is one
    sequence, and N = n_examples counts the sequences that predict at least one token. F n_examples / n_tokens is the mean
    per predicted token, the scale of a language model's mean loss. The parameters are those with requires_grad.

    model -- a transformers language model, or any torch module whose result has .logits (..., V). It runs in eval mode,
    without dropout, and is left as it was.
    batches -- dicts of tensors as the model takes them, the batch first. A causal model predicts each token from the
    one before it: labels are input_ids unless the dict has "labels", and a token counts where its label is not -100 and
    attention_mask hides neither it nor the one before it. Every other model needs "labels", one per position of its
    logits; an encoder-decoder model's decoder_input_ids are made from them.
    structure -- "diag": the diagonal, exact. "block": each parameter's full matrix, exact, for parameters of at most 4096
    entries. "kfac": Kronecker factors of each linear layer and embedding (Martens and Grosse, ICML 2015), the bias as
    a homogeneous coordinate; positions share the weight as in KFAC-expand (Eschenhagen et al., NeurIPS 2023), and those
    whose gradient is exactly zero, such as padding, are no positions. Norms, every other parameter, and weights tied over
    several modules have their exact diagonal. For one position per sequence and one sequence kfac is exact, for more it
    leaves out the products of different positions and takes inputs as independent of gradients.
    labels -- "data": y_t is the observed token, the empirical Fisher. "sampled": y_t is drawn from the model's own
    distribution (with `seed`, after the observed tokens before it), an unbiased estimate of the true Fisher: given x the
    draws are independent and their scores have mean zero, so that the expected s_n s_n^T is the sum of the tokens' own.
    The two differ, and the empirical Fisher is in general no approximation of the true one (Kunstner, Balles and Hennig,
    NeurIPS 2019). A shared parameter's gradient is summed over its uses before squaring.

    Cost: a training step's arithmetic ("kfac": and t (in^2 + out^2) per layer), and a square of every weight for each
    sequence, which shows where sequences are short. All sequences of a batch are done at once, but for two things: parameters
    whose gradients cannot be told apart inside it (weights used outside their module, T5's position biases, routed experts)
    take a second pass over single sequences; and modules that are no linear layer, embedding or norm by what they compute
    are run again on each. Memory: the result, the activations of one batch and a few MiB ("block": a parameter's gradient
    for each sequence); for a tied embedding the logits' gradient too.

    Raises TypeError / ValueError for batches that are empty or lack labels, labels outside the vocabulary, a model without
    trainable parameters, scores or gradients that are not finite, a parameter too large for "block"; NotImplementedError
    for a linear layer whose weight is used outside of it with "kfac". When not to use it: with float16 weights, whose
    gradients underflow; for products F v alone; for the Fisher of hidden states instead of parameters.
    """
    _checks.choice("structure", structure, ("diag", "block", "kfac"))
    _checks.choice("labels", labels, ("data", "sampled"))
    seed = _checks.integer("seed", seed, at_least=0)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch module, got {type(model).__name__}")
    if isinstance(batches, (Mapping, Tensor, str)) or not isinstance(batches, Iterable):
        raise TypeError(f"batches: expected an iterable of dicts of tensors, got {type(batches).__name__}")
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not names:
        raise ValueError("model: expected parameters with requires_grad, got none")
    sums = _sums(structure, names, model)
    device = next(iter(names)).device
    generator = torch.Generator(device).manual_seed(seed) if labels == "sampled" else None
    modes = [(module, module.training) for module in model.modules()]
    passes = Passes(model, sums)
    examples = tokens = 0
    try:
        model.eval()
        with torch.enable_grad():
            for number, batch in enumerate(batches):
                for target in _pieces(model, batch, f"batches[{number}]", device):
                    examples += target.size
                    tokens += target.add(model, passes, generator)
    finally:
        passes.close()
        for module, training in modes:
            module.training = training
    if not examples:
        raise ValueError("batches: expected at least one sequence with a predicted token, got none")
    found = sums.means(examples)
    for name, value in found.items():
        for part in (value,) if isinstance(value, Tensor) else value[:2]:
            if not bool(torch.isfinite(part).all()):
                raise ValueError(f"model: expected finite gradients, got NaN or inf in those of {name}")
    return EmpiricalFisher(found, examples, tokens, labels, structure, layers_of(model, names))


def _sums(structure: str, names: dict[nn.Parameter, str], model: nn.Module) -> Diagonal:
    if structure == "kfac":
        return Kronecker(names, model)
    return Block(names) if structure == "block" else Diagonal(names)


class _Piece:
    """Some sequences of a batch, at least one predicted token in each."""

    def __init__(self, inputs: dict[str, Any], labels: Tensor, where: str) -> None:
        self.inputs, self.labels, self.where = inputs, labels, where
        self.size = labels.shape[0]

    def take(self, rows: Tensor) -> _Piece:
        n = self.size
        inputs = {
            key: value[rows] if isinstance(value, Tensor) and value.shape[:1] == (n,) else value
            for key, value in self.inputs.items()
        }
        return _Piece(inputs, self.labels[rows], self.where)

    def lengths(self) -> set[int]:
        tensors = [value for value in (*self.inputs.values(), self.labels) if isinstance(value, Tensor)]
        return {length for tensor in tensors for length in tensor.shape[1:]}

    def score(self, model: nn.Module, generator: torch.Generator | None) -> Tensor:
        """The negative score of all sequences, of labels drawn anew and kept where there is a generator."""
        logits = _predicted.logits_of(model, self.inputs, self.labels, self.where)
        self.labels = _predicted.checked(self.labels.to(logits.device), logits.shape[-1], self.where)
        if generator is not None:
            self.labels = _predicted.sampled(self.labels, logits, generator)
        total = _predicted.negative_score(logits, self.labels)
        if not bool(torch.isfinite(total)):
            raise ValueError(f"{self.where}: expected finite log-probabilities, got {float(total.detach())}")
        return total

    def add(self, model: nn.Module, passes: Passes, generator: torch.Generator | None) -> int:
        """Adds the gradients of these sequences; the number of tokens they predict."""
        rest = passes.run(partial(self.score, model, generator), self.size, self.lengths())
        for row in range(self.size if rest else 0):
            one = self.take(torch.tensor([row]))
            passes.run(partial(one.score, model, None), 1, self.lengths(), rest)
        return int((self.labels != _IGNORED).sum())


def _pieces(model: nn.Module, batch: Any, where: str, device: torch.device) -> Iterator[_Piece]:
    """The batch without the sequences that predict nothing, in parts whose size is no other axis of its tensors.

    That is what makes a first axis of that size the batch, and not the length, of what a module sees.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"{where}: expected a dict of tensors, got {type(batch).__name__}")
    moved = {key: value.detach().to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    whole = _Piece(*_predicted.split_labels(model, moved, where), where)
    kept = (whole.labels != _IGNORED).reshape(whole.size, -1).any(1).nonzero().squeeze(1).cpu()
    lengths = whole.lengths()
    start = 0
    while start < len(kept):
        size = len(kept) - start
        while size > 1 and size in lengths:
            size -= 1
        yield whole.take(kept[start : start + size])
        start += size
