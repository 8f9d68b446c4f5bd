"""The planted problems that a GPU has to solve before it serves: the interpreter solves them, broken ops do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from msma_fast.backends import triton as backend
from msma_fast.backends.triton_check import fault

CPU = torch.device("cpu")


@pytest.mark.usefixtures("strict")
def test_right_answers_pass() -> None:
    assert fault(backend.operations(), CPU) == ""


@pytest.mark.parametrize(
    "op", ["knn", "radius_count", "pairwise_distances", "ksg", "distance_counts", "stress", "logit_fisher_vp"]
)
def test_wrong_answers_and_errors_are_told(op: str) -> None:
    from msma_fast.backends.torch.ops import TORCH_KEYS
    from msma_fast.backends.torch.ops import ops as bind

    right = bind(TORCH_KEYS)
    assert fault(right, CPU) == ""

    def wrong(*arguments: Any) -> Any:
        answer = right[op](*arguments)
        first = answer[0] if isinstance(answer, tuple) else answer
        first += first.abs() + 1
        return answer

    def raises(*arguments: Any) -> Any:
        raise RuntimeError("no kernel image")

    assert fault(right | {op: wrong}, CPU) == f"{op} gave another answer than the CPU in a planted problem"
    assert f"{op} failed" in fault(right | {op: raises}, CPU)
    assert "no kernel image" in fault(right | {op: raises}, CPU)
