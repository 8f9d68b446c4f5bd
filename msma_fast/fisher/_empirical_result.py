"""What `empirical` returns, and where in the model each of its parameters is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from msma_fast.fisher._sums import KroneckerFactors


@dataclass(frozen=True)
class EmpiricalFisher:
    """The Fisher matrix of a model's parameters, averaged over n_examples sequences.

    by_name: parameter name, as in model.named_parameters(), -> for "diag" the diagonal, of the parameter's shape; for
    "block" the full matrix (p, p) of its p entries in row-major order; for "kfac" `KroneckerFactors` under the name of a
    layer's weight (the bias is inside), or the diagonal. float32, float64 for float64 parameters. n_tokens: predicted
    tokens; times n_examples / n_tokens, the values are averages over tokens.
    """

    by_name: dict[str, Tensor | KroneckerFactors]
    n_examples: int
    n_tokens: int
    labels: str
    structure: str
    layers: dict[str, str] = field(repr=False)

    def trace(self) -> float:
        """The mean squared norm of the score over all parameters (with "kfac", its approximation), nats^2."""
        return sum(map(self._trace, self.by_name.values()))

    def by_layer(self) -> dict[str, float]:
        """Traces by layer, in the order of the model: they add up to trace().

        "layer.l" (or "encoder.l" and "decoder.l") is the l-th block, from 1, whose output is layer l of the activations;
        "embedding" is what comes before the first block, "final" everything else. A read-out tied to the embedding counts
        there. Raises NotImplementedError for a model that is no transformers model.
        """
        if not self.layers:
            raise NotImplementedError("by_layer: expected the Fisher of a transformers model, got one without blocks")
        found: dict[str, float] = {}
        for name, value in self.by_name.items():
            layer = self.layers[name]
            found[layer] = found.get(layer, 0.0) + self._trace(value)
        return found

    def _trace(self, value: Tensor | KroneckerFactors) -> float:
        if isinstance(value, KroneckerFactors):
            a, b = ((side if side.ndim == 1 else side.diagonal()).sum(dtype=torch.float64) for side in value[:2])
            return float(a) * float(b)
        return float((value.diagonal() if self.structure == "block" else value).sum(dtype=torch.float64))


def layers_of(model: nn.Module, names: dict[nn.Parameter, str]) -> dict[str, str]:
    """Parameter name -> layer; empty for a model that has no blocks to be found."""
    from msma_fast.activations.blocks import find_stacks  # here: the package of activations takes time to import

    try:
        stacks = find_stacks(model)
    except (AttributeError, NotImplementedError):
        return {}
    blocks = {
        parameter: f"{stack.prefix}.{number}"
        for stack in stacks
        for number, block in enumerate(stack.blocks, 1)
        for parameter in block.parameters()
    }
    found: dict[str, str] = {}
    reached = False
    for parameter in model.parameters():
        reached = reached or parameter in blocks
        if parameter in names:
            found[names[parameter]] = blocks.get(parameter, "final" if reached else "embedding")
    return found
