"""Whether a device gives the right answers: small planted problems, against the torch backend on the CPU.

A kernel that does not compile, does not launch or answers wrongly leaves the device to the torch backend, and
`explain_backend` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Ops = dict[str, Callable[..., Any]]


def fault(ops: Ops, device: torch.device) -> str:
    """What `ops` do wrongly on the device; empty where nothing is."""
    from msma_fast.backends.torch.ops import TORCH_KEYS
    from msma_fast.backends.torch.ops import ops as bind

    plain = bind(TORCH_KEYS)
    for op, arguments, same in _planted():
        try:
            found = _answer(op, ops[op](*_moved(arguments, device)))
        except Exception as error:  # whatever a compiler, a driver or a launch raises
            return f"{op} failed in a planted problem: {type(error).__name__}: {error}"
        wanted = _answer(op, plain[op](*arguments))
        for mine, theirs in zip(found, wanted, strict=True):
            if not same(mine.cpu(), theirs):
                return f"{op} gave another answer than the CPU in a planted problem"
    return ""


def _close(mine: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(mine, theirs, rtol=2e-6, atol=1e-9)


def _near(mine: Tensor, theirs: Tensor) -> bool:
    """Where float32 products of either side are not exact."""
    return bool((mine - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def _planted() -> Iterator[tuple[str, tuple[Any, ...], Callable[[Tensor, Tensor], bool]]]:
    """(op, its arguments, how answers are compared): rows far from the origin, two of them equal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(130, 40, generator=generator)
    x[:, 0] += 100
    x[7] = x[8]
    y = torch.randn(130, 3, generator=generator)
    groups = (torch.arange(130) // 5).to(torch.int32)
    rule = groups, None, 2
    for rows, metric, reach in (
        (x, "euclidean", 8.5),
        (x, "cosine", 0.005),
        (y, "euclidean", 1.0),
        (y, "manhattan", 1.0),
    ):
        radius = torch.full((130,), reach)
        yield "knn", (rows, None, 5, metric, 2.0, None, *rule, True, torch.float32), torch.equal
        yield "radius_count", (rows, radius, None, metric, 2.0, None, False, *rule), torch.equal
        yield "pairwise_distances", (rows, None, metric, 2.0, None, torch.float32), _close
    for metric in ("euclidean", "chebyshev"):
        yield "ksg", (x, y @ x[:3] + 0.1 * x, [3], "ksg1", metric, groups, 2), _close
    limits = torch.tensor([5.0, 8.5, 9.0], dtype=torch.float64)
    yield "distance_counts", (x, None, limits, False, "euclidean", groups, 2), torch.equal
    yield "gaussian_kernel_sums", (x, y @ x[:3], limits), _close
    yield "stress", (x, y, (True, True)), _close
    h, weight = x[:30, 1:33] / 6, x[:, 1:33].to(torch.bfloat16)
    yield "logit_fisher_vp", (h, weight, y[:, 1], x[60:90, None, 1:33]), _near
    yield "logit_fisher_quadratic", (h, weight, y[:, 1], x[60:90, 1:33]), _near
    yield "logit_fisher_mean", (h[:, :7], x[:, :7], None, None), _near
    for op in ("logit_fisher_trace", "logit_fisher_diag"):
        yield op, (h[:, :7], x[:, :7], None), _near
    yield "fisher_rao_distances", (h, weight, None, None), _near


def _moved(arguments: Any, device: torch.device) -> Any:
    if isinstance(arguments, Tensor):
        return arguments.to(device)
    if isinstance(arguments, (tuple, list)):
        return type(arguments)(_moved(each, device) for each in arguments)
    return arguments


def _answer(op: str, result: Any) -> tuple[Tensor, ...]:
    parts = result if isinstance(result, tuple) else (result,)
    parts = parts[:2] if op == "knn" else parts  # how many candidates a screen had is its own affair
    return tuple(each for each in parts if isinstance(each, Tensor))
