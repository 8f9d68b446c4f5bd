"""The planted problems that a GPU has to solve before it serves: the interpreter solves them, broken ops do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from msma_fast.backends import triton as backend
from msma_fast.backends import triton_check
from msma_fast.backends.torch.ops import TORCH_KEYS
from msma_fast.backends.torch.ops import ops as bind
from msma_fast.backends.triton_check import fault, planted

CPU = torch.device("cpu")
RIGHT = bind(TORCH_KEYS)
OPS = sorted(planted())


def test_every_op_with_kernels_is_planted() -> None:
    """What is not torch's own function may launch a kernel."""
    assert sorted(op for op, run in backend.operations().items() if run is not RIGHT[op]) == OPS


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("op", OPS)
def test_right_answers_pass(op: str) -> None:
    assert fault(backend.operations(), op, CPU) == ""


@pytest.mark.parametrize("op", OPS)
def test_wrong_answers_and_errors_are_told(op: str) -> None:
    assert fault(RIGHT, op, CPU) == ""

    def wrong(*arguments: Any) -> Any:
        answer = RIGHT[op](*arguments)
        first = answer[0] if isinstance(answer, tuple) else answer
        first += first.abs() + 1
        return answer

    def raises(*arguments: Any) -> Any:
        raise RuntimeError("no kernel image")

    assert fault(RIGHT | {op: wrong}, op, CPU) == f"{op} gave another answer than the CPU in a planted problem"
    assert fault(RIGHT | {op: raises}, op, CPU) == f"{op} failed in a planted problem: RuntimeError: no kernel image"


@pytest.mark.usefixtures("strict")
def test_a_custom_op_may_be_the_first_to_ask() -> None:
    """Below one, autograd records nothing."""
    with torch._C._AutoDispatchBelowAutograd(), torch.inference_mode():
        for op in ("pairwise_distances_backward", "gaussian_kernel_sums_backward"):
            assert fault(backend.operations(), op, CPU) == ""


@pytest.fixture
def other_defaults() -> Iterator[None]:
    """A caller's default dtype and device, of which the planted problems must take neither."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("other_defaults")
def test_planted_data_are_the_same_under_any_default() -> None:
    def tensors(value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            for each in value:
                yield from tensors(each)

    for op, problems in planted().items():
        for tensor in tensors([problem.arguments for problem in problems]):
            assert tensor.device == CPU, op
        assert next(tensors(problems[0].arguments)).dtype in (torch.float32, torch.float64)
    assert planted()["knn"][0].arguments[0].dtype == torch.float32
    for op in OPS:
        assert fault(RIGHT, op, CPU) == ""


def test_trouble_with_the_data_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(triton_check, "planted", broken)
    assert fault(RIGHT, "knn", CPU) == "knn failed in a planted problem: RuntimeError: out of memory"
