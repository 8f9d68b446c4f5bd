"""One forward and one backward pass, whose hooks hand every sequence's gradient of every parameter to the sums.

A parameter counts as seen where each of its uses in the graph of the score is a module's call whose first axis is the
batch beyond doubt. What is not seen (weights used outside their module, tables looked up without a batch axis, routed
rows) is left over, to be done by passes over one sequence each, where a gradient belongs to that sequence as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from msma_fast.fisher._calls import Call, kind_of
from msma_fast.fisher._sums import Diagonal, Unit, is_leaf


class _Seen:
    """A call, the place of its output in the graph and the version of x it saw (a later one: x was overwritten)."""

    def __init__(self, call: Call, result: Tensor) -> None:
        self.call = call
        self.edge: GradientEdge = get_gradient_edge(result)
        self.version = call.x._version

    def intact(self) -> bool:
        return self.call.x._version == self.version


class Passes:
    """Hooks on the modules that own trainable parameters; `close` takes them away."""

    def __init__(self, model: nn.Module, sums: Diagonal) -> None:
        self._sums = sums
        self._wanted: set[Unit] = set()  # empty but for the forward pass
        self._size = 0
        self._lengths: set[int] = set()
        self._seen: list[_Seen] = []
        self._due: dict[Unit, int] = {}
        self._arrived: dict[Unit, list[tuple[Call, Tensor]]] = {}
        self._rest: list[Unit] = []
        self._units = {parameter: unit for unit in sums.units for parameter in unit}
        self._handles: list[Any] = []
        for module in filter(is_leaf, model.modules()):
            if any(p in self._units for p in module.parameters(recurse=False)):
                if kind_of(module) == "embedding":
                    self._handles.append(module.register_forward_pre_hook(self._spread))
                self._handles.append(module.register_forward_hook(self._called, with_kwargs=True))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def run(
        self, score: Callable[[], Tensor], size: int, lengths: set[int], again: list[Unit] | None = None
    ) -> list[Unit]:
        """Adds the gradients of all units for `size` sequences, or of those to be done again; the units that are left over.

        score: runs the model and adds up the sequences' scores. lengths: the other sizes of the batch's tensors; size is
        none of them unless it is 1.
        """
        self._size, self._lengths, self._seen, self._arrived = size, lengths, [], {}
        wanted = self._sums.units if again is None else again
        self._wanted = set(wanted)
        try:
            total = score()
        finally:
            self._wanted = set()
        uses = _uses_in_graph(total)
        used = [unit for unit in wanted if any(uses[p] for p in unit)]
        if not used:
            return []
        seen = [record for record in self._seen if record.intact()]
        self._seen = []
        self._due = self._complete(used, seen, uses)
        self._rest = [unit for unit in used if unit not in self._due]
        # Paths from the score to the outputs of modules end at those that depend on no parameter but the module's own, or at
        # a parameter that was not seen: autograd has to go no further, and computes the gradients of no other weights.
        edges: list[Any] = [record.edge for record in seen if again is not None or not record.call.x.requires_grad]
        weights = [parameter for unit in self._rest for parameter in unit]
        ends = [*edges, *weights]
        found = torch.autograd.grad(total, ends, allow_unused=True) if ends else ()
        if size == 1:
            for parameter, gradient in zip(weights, found[len(edges) :], strict=True):
                if gradient is not None:
                    self._sums.add_gradient(
                        self._units[parameter], gradient.to_dense().to(self._sums.dtypes[parameter])
                    )
            self._rest = []
        if again is None:  # paths that end elsewhere, at tensors that are no parameters, need every output as an end
            return self._rest + list(self._due)
        for unit in list(self._arrived):
            self._hand_over(unit)  # no gradient flows to its other uses
        return self._rest

    def _complete(self, used: list[Unit], seen: list[_Seen], uses: Counter[nn.Parameter]) -> dict[Unit, int]:
        """The units all of whose uses are calls that were seen, and how many these are."""
        calls = Counter(p for record in seen for p in record.call.module.parameters(recurse=False))
        return {unit: uses[unit[0]] for unit in used if all(uses[p] == calls[p] > 0 for p in unit)}

    def _spread(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Positions looked up once for all sequences, (1, t), are looked up for each, so that each has its gradient."""
        x = args[0] if len(args) == 1 else None
        if not self._wanted or not isinstance(x, Tensor) or self._size == 1 or 1 in self._lengths:
            return None
        return (x.expand(self._size, -1),) if x.ndim == 2 and x.shape[0] == 1 else None

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        x = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(x, Tensor) or not isinstance(result, Tensor):
            return
        if not any(self._units.get(p) in self._wanted for p in module.parameters(recurse=False)):
            return
        size = self._size
        if result.requires_grad and (size == 1 or (x.shape[:1] == result.shape[:1] == (size,) and result.ndim >= 3)):
            call = Call(module, kind_of(module), x, size)
            self._seen.append(_Seen(call, result))
            result.register_hook(partial(self._gradient_of, call))

    def _gradient_of(self, call: Call, g: Tensor) -> None:
        for unit in {self._units[p]: None for p in call.module.parameters(recurse=False) if p in self._units}:
            if unit in self._due:
                self._arrived.setdefault(unit, []).append((call, g))
                if len(self._arrived[unit]) == self._due[unit]:
                    self._hand_over(unit)
                    del self._due[unit]

    def _hand_over(self, unit: Unit) -> None:
        calls = self._arrived.pop(unit)
        if any(_shared_row(call, g) for call, g in calls):
            self._rest.append(unit)
        else:
            self._sums.add(unit, calls)


def _shared_row(call: Call, g: Tensor) -> bool:
    """Whether the model took a spread lookup's row for one sequence as the row of all: then other rows have no gradient."""
    if call.kind != "embedding" or call.size == 1 or call.x.stride(0) != 0:
        return False
    return not bool((g != 0).flatten(1).any(1).all())


def _uses_in_graph(total: Tensor) -> Counter[nn.Parameter]:
    """How often each parameter enters the graph that computed `total`."""
    uses: Counter[nn.Parameter] = Counter()
    seen, stack = {total.grad_fn}, [total.grad_fn] if total.grad_fn is not None else []
    while stack:
        for node, _ in stack.pop().next_functions:
            variable = getattr(node, "variable", None)  # of the nodes that accumulate a leaf's gradient
            if variable is not None:
                uses[variable] += 1
            elif node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return uses
