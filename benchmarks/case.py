"""What is measured: a case has inputs, contenders (ours first) and a judge of their answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

OURS = "msma_fast"


@dataclass(frozen=True)
class Fault:
    """How wrong an answer is: `value` of `measure`, out of `of` where it is a count; `note` says more."""

    measure: str
    value: float
    of: int | None = None
    note: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Judge(Protocol):
    """Knows the right answer of one case, from an oracle that shares no code with us."""

    def gate(self, answer: Any) -> str | None:
        """Why our answer is wrong, or None."""

    def fault(self, answer: Any) -> Fault:
        """How wrong a peer's answer is."""


def _as_it_is(raw: Any) -> Any:
    return raw


@dataclass(frozen=True)
class Contender:
    """`run(*inputs)` is timed; `answer(raw)` turns what it gave into what the judge reads, and is not.

    needs: the module it cannot run without. repeat: its time counts this many times (a smaller job of the same work).
    """

    name: str
    run: Callable[..., Any]
    answer: Callable[[Any], Any] = _as_it_is
    needs: str = ""
    repeat: float = 1.0

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        return None


@dataclass(frozen=True)
class Case:
    """inputs() gives the arguments of every `run`; judge(*inputs) the judge; flops: of the equivalent matrix products;
    precision: of the products that we really do ("float32" or "int8").

    judged: whether peers answer the same question, so that their faults can be counted.
    """

    op: str
    name: str
    inputs: Callable[[], tuple[Any, ...]]
    contenders: tuple[Contender, ...]
    judge: Callable[..., Judge]
    flops: float | None = None
    precision: str = "float32"
    slow: bool = False
    memory: bool = False
    capped: bool = False
    judged: bool = True


def parameters(cases: Sequence[Case]) -> list[Any]:
    """The cases as pytest parameters."""
    import pytest

    def marks(case: Case) -> list[Any]:
        return [getattr(pytest.mark, mark) for mark in ("slow", "capped") if getattr(case, mark)]

    return [pytest.param(case, id=case.name, marks=marks(case)) for case in cases]
