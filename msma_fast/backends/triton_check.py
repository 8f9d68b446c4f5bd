"""Whether a device gives the right answers: small planted problems of each op, against the torch backend on the CPU.

An op whose kernels do not compile, do not launch or answer wrongly is left to the torch backend on that device, and
`explain_backend` says why. The other ops keep their kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast._arrays import Parted

Ops = dict[str, Callable[..., Any]]

_N, _D, _FEW = 130, 40, 40  # rows, coordinates, rows of the dearer problems
_RELATIVE = 2e-6  # sums and distances of float32 rows are within 1e-6
_ROUGH = 1e-4  # where neither side's float32 products are exact, and exponentials of them are taken


class Problem(NamedTuple):
    """The arguments of an op, and how near its answer is to the CPU's: the same "bits", each of its "entries" within
    _RELATIVE of itself, within _RELATIVE of the "largest" entry, or "nearly", within _ROUGH of that."""

    arguments: tuple[Any, ...]
    near: str


def serves(operations: Callable[[], Ops], op: str, device: torch.device, wanted: str) -> tuple[bool, str]:
    """Whether a backend's op serves a device, and why (not): tensors of the type `wanted`, and of a GPU that has solved the
    op's planted problems."""
    if device.type != wanted:
        return False, f"the kernels run on {wanted} tensors here; these are on {device}"
    if wanted == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        if found := fault_of_gpu(operations, op, index):
            return False, found
    return True, f"{wanted} tensors"


@cache
def fault_of_gpu(operations: Callable[[], Ops], op: str, index: int) -> str:
    """What a GPU does wrongly in an op; empty where nothing is. Asked once a process, when the op is first asked for."""
    found = fault(operations(), op, torch.device("cuda", index))
    return found and f"{torch.cuda.get_device_name(index)}: {found}"


def fault(ops: Ops, op: str, device: torch.device) -> str:
    """What `ops[op]` does wrongly on the device; empty where nothing is, and for an op without planted problems.

    In a thread of its own. A custom op is often who asks first, and below it autograd records nothing, which the torch
    backend's backward needs; nor are the caller's autocast, inference mode and default device what is checked.
    """
    with ThreadPoolExecutor(1) as alone:
        return alone.submit(_on, device, partial(_fault, ops, op, device)).result()


def _on(device: torch.device, ask: Callable[[], str]) -> str:
    """The current GPU is a thread's own."""
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        return ask()


@torch.no_grad()
def _fault(ops: Ops, op: str, device: torch.device) -> str:
    from msma_fast.backends.torch.ops import TORCH_KEYS
    from msma_fast.backends.torch.ops import ops as bind

    try:
        plain = bind(TORCH_KEYS)[op]
        for arguments, near in planted().get(op, []):
            found = _answer(op, ops[op](*_moved(arguments, device)))
            wanted = _answer(op, plain(*arguments))
            if not all(_agree(mine.cpu(), theirs, near) for mine, theirs in zip(found, wanted, strict=True)):
                return f"{op} gave another answer than the CPU in a planted problem"
    except Exception as error:  # whatever a compiler, a driver or a launch raises
        return f"{op} failed in a planted problem: {type(error).__name__}: {error}"
    return ""


def planted() -> dict[str, list[Problem]]:
    """op -> its problems, for every op that has kernels: rows far from the origin, two of them equal.

    Device and dtype are said of every tensor: the caller's defaults are not what is checked."""
    far, low, mixed, pairs = _rows()
    groups = (torch.arange(_N, device="cpu") // 5).to(torch.int32)
    rule = groups, None, 2
    problems: dict[str, list[Problem]] = {}

    def plant(op: str, near: str, *arguments: Any) -> None:
        problems.setdefault(op, []).append(Problem(arguments, near))

    cases = (far, "euclidean", 8.5), (far, "cosine", 0.005), (low, "euclidean", 1.0), (low, "manhattan", 1.0)
    for rows, metric, reach in cases:
        radius = torch.full((_N,), reach, dtype=torch.float32, device="cpu")
        plant("knn", "bits", rows, None, 5, metric, 2.0, None, *rule, True, torch.float32)
        plant("radius_count", "bits", rows, radius, None, metric, 2.0, None, False, *rule)
        plant("pairwise_distances", "entries", rows[:70], None, metric, 2.0, None, torch.float32)
    near = torch.full((_FEW,), 40.0, dtype=torch.float32, device="cpu")
    plant("radius_count", "bits", far[:_FEW], near, None, "manhattan", 2.0, None, False, groups[:_FEW], None, 2)
    plant("radius_neighbors", "bits", low, radius, "euclidean", 2.0, None, False, groups, 2, torch.float32)
    for certified in (True, False):  # a row's one neighbour is far nearer than the others: the fast search finds it too
        plant("knn", "bits", pairs, None, 1, "euclidean", 2.0, None, None, None, 0, certified, torch.float32)

    weights = (far[:30] @ mixed[:20].T).sin()
    for metric in ("euclidean", "manhattan", "chebyshev"):
        both = (True, True, False)
        plant("pairwise_distances_backward", "largest", weights, far[:30], mixed[:20], metric, 2.0, None, both)

    a, b, c, labels = far[:_FEW], mixed[:_FEW], low[:_FEW], groups[:_FEW]
    order = torch.arange(_FEW, device="cpu").roll(7)[None]
    for x, y, metric in ((a, b, "euclidean"), (c, b[:, :2], "chebyshev"), (a, b, "chebyshev")):
        plant("ksg", "entries", x, y, [2, 3], "ksg1", metric, labels, 2)
        plant("ksg_permutations", "entries", x, y, 3, "ksg1", metric, labels, order)  # labels of both samples
    plant("ksg_matrix", "entries", [Parted((a,)), Parted((b,))], [3], "ksg1", "euclidean", labels, 2, None)
    plant("ksg_cmi", "entries", c, b[:, :2], c[:, :1], [3], "chebyshev", labels, 2)
    plant("mixed_mi", "entries", c, b[:, :2], 3, "chebyshev", labels, 2)
    plant("ross", "entries", a, labels % 4, 3, "euclidean", None, 2)

    limits = torch.tensor([5.0, 8.5, 9.0], dtype=torch.float64, device="cpu")
    plant("distance_counts", "bits", a, None, limits, False, "euclidean", labels, 2)
    plant("gaussian_kernel_sums", "entries", a, b, limits)
    plant("gaussian_kernel_sums_backward", "largest", limits, far[:30], mixed[:20], limits)
    plant("stress", "largest", a, c, (True, True))
    plant("distance_correlation", "entries", a, b)
    plant("cka", "entries", a, b, "rbf")

    h, weight, bias = far[:30, 1:33] / 6, far[:, 1:33].to(torch.bfloat16), low[:, 1]
    plant("logit_fisher_quadratic", "nearly", h, weight, bias, far[60:90, 1:33])
    plant("logit_fisher_quadratic", "nearly", h[:, :7], far[:, :7], None, far[60:90, :7])
    plant("fisher_rao_distances", "nearly", h, weight, None, None)
    return problems


def _rows() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(130, 40), (130, 3), one (130, 40) that depends on both, and (130, 40) of pairs close together; float32."""
    generator = torch.Generator(device="cpu").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")

    far = normal(_N, _D)
    far[:, 0] += 100
    far[7] = far[8]
    low = normal(_N, 3)
    pairs = 10 * normal(_N // 2, _D).repeat_interleave(2, 0) + normal(_N, _D) / 10
    return far, low, low @ far[:3] + 0.1 * far, pairs


def _agree(mine: Tensor, theirs: Tensor, near: str) -> bool:
    if near == "bits":
        return torch.equal(mine, theirs)
    if mine.shape != theirs.shape:
        return False
    mine, theirs = mine.to(torch.float64), theirs.to(torch.float64)
    size = theirs.abs() if near == "entries" else theirs.abs().amax()
    return bool(((mine - theirs).abs() <= (_ROUGH if near == "nearly" else _RELATIVE) * size + 1e-9).all())


def _moved(arguments: Any, device: torch.device) -> Any:
    if isinstance(arguments, Tensor):
        return arguments.to(device)
    if isinstance(arguments, Parted):
        return Parted(_moved(arguments.parts, device))
    if isinstance(arguments, (tuple, list)):
        return type(arguments)(_moved(each, device) for each in arguments)
    return arguments


def _answer(op: str, result: Any) -> tuple[Tensor, ...]:
    parts = result if isinstance(result, tuple) else (result,)
    parts = parts[:2] if op == "knn" else parts  # how many candidates a screen had is its own affair
    return tuple(each for each in parts if isinstance(each, Tensor))
