"""Who can do what, and why not. An explicit choice fails loudly; the automatic one takes the best that can serve."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch

# Best first, but for what follows. Modules are imported when first asked for.
ORDER = ("native", "triton", "cuda", "torch")
# Ops that CUDA serves better than Triton where both can, and why (docs/gpu.md). By instruction counts, not by timings.
_CUDA_FIRST = {
    "knn": "the k best stay in shared memory in one pass over the keys; the screen's lists and candidates take a launch each",
    "radius_count": "32 radii a pass over canonical keys; the screen is Triton's on both",
    "ksg": "joint keys, radii and counts in one launch; many coordinates are Triton's on both",
    "ksg_matrix": "as ksg, for all pairs of layers",
    "ksg_permutations": "as ksg, for all permutations",
    "ksg_cmi": "searches and counts as knn and radius_count",
    "mixed_mi": "searches and counts as knn and radius_count",
    "ross": "searches and counts as knn and radius_count",
}

_forced: ContextVar[str | None] = ContextVar("msma_fast_backend", default=None)


class BackendInfo(NamedTuple):
    """One backend: its name, whether it can run here, and why (not)."""

    name: str
    available: bool
    reason: str


def order(op: str) -> tuple[str, ...]:
    """The backends in the order in which an op is offered to them: CUDA before Triton for searches, counts and KSG, after it
    for tiles of products, fused sums over pairs and Fisher metrics."""
    return ("native", "cuda", "triton", "torch") if op in _CUDA_FIRST else ORDER


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"msma_fast.backends.{name}")


@cache
def _availability(name: str) -> BackendInfo:
    return BackendInfo(name, *_module(name).available())


@cache
def _ops(name: str) -> dict[str, Callable[..., Any]]:
    ops: dict[str, Callable[..., Any]] = _module(name).operations()
    return ops


def backends() -> list[BackendInfo]:
    """Every backend, best first: name, available, reason.

    Example: `[b.name for b in mf.backends() if b.available]` -> `["native", "torch"]` on a CPU with a C++ build.
    """
    return [_availability(name) for name in ORDER]


def check_name(backend: str | None) -> str | None:
    """None, or the name of a known backend. Raises ValueError / TypeError otherwise."""
    if backend is None:
        return None
    if not isinstance(backend, str):
        raise TypeError(f"backend: expected one of {', '.join(ORDER)} or None, got {type(backend).__name__}")
    if backend not in ORDER:
        raise ValueError(f"backend: expected one of {', '.join(ORDER)} or None, got {backend!r}")
    return backend


def asked(backend: str) -> str:
    """The backend that a call names, or else the block it stands in; "" for the automatic choice. A backward has to be told:
    autograd runs it on threads of its own, which no `use_backend` reaches."""
    return backend or _forced.get() or ""


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the block every call without its own `backend=` uses this one; fails loudly where it cannot serve.

    Raises ValueError for an unknown name, NotImplementedError for one that cannot run here.
    """
    if name is None:
        raise TypeError(f"backend: expected one of {', '.join(ORDER)}, got None")
    check_name(name)
    info = _availability(name)
    if not info.available:
        raise NotImplementedError(f"backend: {name!r} cannot run here: {info.reason}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def verdict(name: str, op: str, device: torch.device) -> tuple[bool, str]:
    """Whether a backend can serve an op on a device, and why (not)."""
    info = _availability(name)
    if not info.available:
        return False, info.reason
    if op not in _ops(name):
        return False, f"has no {op}"
    answer: tuple[bool, str] = _module(name).serves(op, device)
    return answer


def choose(op: str, device: torch.device, backend: str | None = None) -> str:
    """The backend that serves. Raises NotImplementedError where the one asked for (or every one) cannot."""
    name = check_name(backend) or _forced.get()
    if name is not None:
        able, reason = verdict(name, op, device)
        if not able:
            raise NotImplementedError(f"backend: {name!r} cannot serve {op} on {device}: {reason}")
        return name
    reasons = []
    for candidate in order(op):
        able, reason = verdict(candidate, op, device)
        if able:
            return candidate
        reasons.append(f"{candidate}: {reason}")
    raise NotImplementedError(f"backend: none can serve {op} on {device} ({'; '.join(reasons)})")


def status(name: str) -> dict[str, str]:
    """What a backend says of this machine beyond its availability; empty where it cannot run."""
    if not _availability(name).available:
        return {}
    told: dict[str, str] = _module(name).status()
    return told


def all_finite(values: torch.Tensor) -> bool:
    """Whether a tensor of floats holds neither NaN nor inf. A check of arguments, not an op: it serves whatever backend the
    caller asks for, and the compiled scan is only the quicker way."""
    name = "native" if _forced.get() != "torch" and verdict("native", "all_finite", values.device)[0] else "torch"
    try:
        finite: bool = _ops(name)["all_finite"](values.detach())
    except ValueError:  # MSMA_FAST_CPU holds an unknown value: an op that needs it will say so
        finite = _ops("torch")["all_finite"](values.detach())
    return finite


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Makes a CUDA device the current one: kernels are launched there, wherever their arguments are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def run(op: str, device: torch.device, backend: str, *args: Any) -> Any:
    """Calls the op, outside autograd and autocast (half-precision products would void the certificate)."""
    name = choose(op, device, backend or None)
    with current(device), torch.no_grad(), torch.autocast(device.type, enabled=False):
        return _ops(name)[op](*args)
