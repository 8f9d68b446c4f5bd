"""What is added up over sequences: squared gradients, their outer products, or Kronecker factors.

Parameters are added in units: one parameter, or the weight and bias of a layer whose Kronecker factors are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from msma_fast.fisher._calls import Call, kind_of

BLOCK_LIMIT = 4096  # entries of a parameter whose full matrix is kept: 64 MiB in float32
PART = 2**20  # entries of all sequences' gradients formed at a time: as much as caches hold
GPU_PART = 2**24  # on a GPU, where each part costs launches
SIDE_LIMIT = 16384  # width up to which a Kronecker factor is a matrix: 1 GiB in float32

Unit = tuple[nn.Parameter, ...]


class KroneckerFactors(NamedTuple):
    """F ~ b (x) a of one layer: the entry for W[o, i] and W[p, j] is b[o, p] a[i, j], i and j inputs, o and p outputs.

    a (in, in): mean of a_t a_t^T over positions t. b (out, out): g_t g_t^T summed over a sequence's positions, mean over
    sequences; g is the gradient of the log-probability by the layer's output. has_bias: a has one more coordinate, the
    last, always 1, for the bias. A side with more than 16384 entries and an embedding's a (V,), the frequencies of its
    ids, are diagonals and stored as vectors. nn.Linear stores W as (out, in), GPT-2's Conv1D and embeddings as (in, out).
    """

    a: Tensor
    b: Tensor
    has_bias: bool


class Diagonal:
    """Sum of squared gradients, of each parameter's shape."""

    def __init__(self, names: dict[nn.Parameter, str]) -> None:
        self.names = names
        self.dtypes = {p: torch.float64 if p.dtype == torch.float64 else torch.float32 for p in names}
        self.units: list[Unit] = [(p,) for p in names]
        self.sums = {p: self._zeros(p) for p in names}

    def _zeros(self, parameter: nn.Parameter) -> Tensor:
        return torch.zeros(parameter.shape, dtype=self.dtypes[parameter], device=parameter.device)

    def add(self, unit: Unit, calls: list[tuple[Call, Tensor]]) -> None:
        """All uses of a parameter by the same sequences, with the gradients of their outputs: added before squaring."""
        (parameter,) = unit
        calls = [(call.known(), g) for call, g in calls]
        if calls[0][0].size > 1 and any(call.kind == "other" for call, _ in calls):
            for i in range(calls[0][0].size):
                self._add(parameter, [(call.one(i), g[i : i + 1]) for call, g in calls])
        else:
            self._add(parameter, calls)

    def _add(self, parameter: nn.Parameter, calls: list[tuple[Call, Tensor]]) -> None:
        """The gradients of all sequences, formed for some rows of the parameter at a time."""
        if all(call.kind == "embedding" for call, _ in calls):
            self._add_looked_up(parameter, calls)
            return
        total, size = torch.atleast_1d(self.sums[parameter]), calls[0][0].size
        gradients = [call.gradient(parameter, g, total.dtype) for call, g in calls]
        step = max(1, (PART if total.is_cpu else GPU_PART) // max(1, size * total[:1].numel()))
        room = total.new_empty(size * total[:step].numel())  # used again for each part
        for start in range(0, len(total), step):
            part = total[start : start + step]
            gradient = room[: size * part.numel()].view(size, *part.shape).zero_()
            for add in gradients:
                add(gradient, start)
            part += gradient.square_().sum(0)

    def _add_looked_up(self, parameter: nn.Parameter, calls: list[tuple[Call, Tensor]]) -> None:
        """A sequence's gradient is zero but for the rows of its ids: only these are formed."""
        total = self.sums[parameter]
        rows = [call.rows(g, total.dtype) for call, g in calls]
        ids, g = (torch.cat(parts, 1) for parts in zip(*rows, strict=True))
        sequence, position = (ids >= 0).nonzero(as_tuple=True)
        keys, place = torch.unique(sequence * len(total) + ids[sequence, position], return_inverse=True)
        sums = g.new_zeros(len(keys), g.shape[-1]).index_add_(0, place, g[sequence, position])
        total.index_add_(0, keys % len(total), sums.square_())

    def add_gradient(self, unit: Unit, gradient: Tensor) -> None:
        """The gradient of one sequence."""
        self.sums[unit[0]].addcmul_(gradient, gradient)

    def means(self, sequences: int) -> dict[str, Tensor | KroneckerFactors]:
        return {self.names[parameter]: total / sequences for parameter, total in self.sums.items()}


class Block(Diagonal):
    """Sum of outer products of the flat gradient, (p, p) for a parameter with p entries."""

    def __init__(self, names: dict[nn.Parameter, str]) -> None:
        for parameter, name in names.items():
            if parameter.numel() > BLOCK_LIMIT:
                raise ValueError(
                    f"structure: expected parameters of at most {BLOCK_LIMIT} entries for 'block', got {name} with "
                    f"{parameter.numel()}; set requires_grad of the larger ones to False, or use 'diag' or 'kfac'"
                )
        super().__init__(names)

    def _zeros(self, parameter: nn.Parameter) -> Tensor:
        p = parameter.numel()
        return torch.zeros((p, p), dtype=self.dtypes[parameter], device=parameter.device)

    def _add(self, parameter: nn.Parameter, calls: list[tuple[Call, Tensor]]) -> None:
        total = self.sums[parameter]
        gradient = total.new_zeros(calls[0][0].size, *torch.atleast_1d(parameter).shape)
        for call, g in calls:
            call.gradient(parameter, g, total.dtype)(gradient, 0)
        _add_outer(total, gradient.flatten(1))

    def add_gradient(self, unit: Unit, gradient: Tensor) -> None:
        _add_outer(self.sums[unit[0]], gradient.reshape(1, -1))


class Kronecker(Diagonal):
    """Factors of linear layers and embeddings; the diagonal of every other parameter.

    A weight that several modules share (a read-out tied to the embedding) is no layer of its own and has its diagonal.
    """

    def __init__(self, names: dict[nn.Parameter, str], model: nn.Module) -> None:
        owners: dict[nn.Parameter, list[nn.Module]] = {}
        for module in model.modules():
            if is_leaf(module):
                for parameter in module.parameters(recurse=False):
                    owners.setdefault(parameter, []).append(module)
        layers: list[tuple[nn.Module, Unit]] = []
        for module in model.modules():
            found = (getattr(module, name, None) for name in ("weight", "bias"))
            unit = tuple(p for p in found if p in names and owners.get(p) == [module])
            if kind_of(module) != "other" and unit and unit[0] is module.weight:
                layers.append((module, unit))
        factored = {parameter for _, unit in layers for parameter in unit}
        super().__init__({p: name for p, name in names.items() if p not in factored})
        self.names = names
        self.dtypes |= {p: torch.float64 if p.dtype == torch.float64 else torch.float32 for p in factored}
        self.units += [unit for _, unit in layers]
        self.factors = {unit: self._factors(module, unit) for module, unit in layers}
        self.positions = dict.fromkeys(self.factors, 0)

    def _factors(self, module: nn.Module, unit: Unit) -> tuple[Tensor, Tensor]:
        kind, weight = kind_of(module), unit[0]
        out, width = weight.shape if kind == "linear" else weight.T.shape

        def zeros(side: int, vector: bool) -> Tensor:
            shape = (side,) if vector or side > SIDE_LIMIT else (side, side)
            return torch.zeros(shape, dtype=self.dtypes[weight], device=weight.device)

        return zeros(width + len(unit) - 1, kind == "embedding"), zeros(out, False)

    def add(self, unit: Unit, calls: list[tuple[Call, Tensor]]) -> None:
        """Every position of every sequence that has a gradient counts alike (KFAC-expand)."""
        if unit not in self.factors:
            super().add(unit, calls)
            return
        a, b = self.factors[unit]
        for call, gradient in calls:
            x, g = (part.flatten(0, 1) for part in call.rows(gradient, a.dtype))
            keep = (g != 0).any(-1)
            if call.kind == "embedding":
                keep &= x >= 0
            x, g = x[keep], g[keep]
            self.positions[unit] += x.shape[0]
            _add_outer(b, g)
            if call.kind == "embedding":
                a += torch.bincount(x, minlength=a.shape[0])
            else:
                _add_outer(a, torch.cat((x, x.new_ones(x.shape[0], 1)), 1) if len(unit) == 2 else x)

    def add_gradient(self, unit: Unit, gradient: Tensor) -> None:
        if unit in self.factors:
            raise NotImplementedError(
                f"model: expected {self.names[unit[0]]} to be used by calls of its module alone, got other uses of it; "
                "structure='kfac' is not supported for it, 'diag' is"
            )
        super().add_gradient(unit, gradient)

    def means(self, sequences: int) -> dict[str, Tensor | KroneckerFactors]:
        found = super().means(sequences)
        for unit, (a, b) in self.factors.items():
            mean = a / max(self.positions[unit], 1)
            found[self.names[unit[0]]] = KroneckerFactors(mean, b / sequences, len(unit) == 2)
        return {name: found[name] for name in self.names.values() if name in found}


def is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _add_outer(total: Tensor, rows: Tensor) -> None:
    if total.ndim == 1:
        total.add_(rows.square().sum(0))
    else:
        total.addmm_(rows.T, rows)
