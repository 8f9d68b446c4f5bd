"""The boundary of the compiled module: which arrays it reads, and what it says of those it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from subprocesses import printed

from msma_fast.backends import native
from msma_fast.backends.torch.kernel import Kernel, Rows

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])


def test_strided_tensors_are_made_contiguous() -> None:
    wide = torch.randn(8, 10, dtype=torch.float64)
    kernel, strided = Kernel("sqeuclidean"), wide[:, ::2]
    assert not strided.is_contiguous()
    copy = Rows(strided.contiguous())
    assert torch.equal(native.block_keys(kernel, Rows(strided), Rows(strided)), native.block_keys(kernel, copy, copy))


def test_tensors_with_a_gradient_are_read() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert native.block_keys(Kernel("manhattan"), Rows(x), Rows(x)).shape == (3, 3)


def boundary(function: str = "pair_keys", **changes: Any) -> Any:
    from msma_fast import _native

    x = np.ones((4, 6))
    arguments: dict[str, Any] = {"kind": "cosine", "p": 0, "tensor": None, "x": x, "x_norms": np.ones(4)}
    arguments |= {"y": x[:3].copy(), "y_norms": np.ones(3), "threads": 1}
    if function == "pair_keys":
        arguments |= {"i": np.array([3, 0]), "j": np.array([2, 0])}
    return getattr(_native, function)(**(arguments | changes))


def test_the_boundary_accepts_what_the_errors_start_from() -> None:
    assert boundary().shape == (2,)
    assert boundary("block_keys").shape == (4, 3)


SWAPPED = np.ones((4, 6)).astype(np.dtype(np.float64).newbyteorder())
UNALIGNED = np.frombuffer(bytes(8 * 24 + 1), dtype=np.uint8)[1:].view(np.float64).reshape(4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((4, 12))[:, ::2]}, r"x: expected a contiguous float32 or float64 array .* not contiguous"),
        ({"x": np.ones((4, 6), np.float16)}, r"x: expected .* got dtype float16, shape \(4, 6\)"),
        ({"x": np.ones(6)}, r"x: expected .* got dtype float64, shape \(6,\)"),
        ({"x": np.ones((4, 0)), "y": np.ones((3, 0))}, r"x: expected .* d >= 1"),
        ({"x": SWAPPED}, r"x: expected .* got dtype >f8"),
        ({"x": UNALIGNED}, r"x: expected .* not aligned"),
        ({"y": np.ones((3, 6), np.float32)}, r"y: expected a contiguous float64 array .* got dtype float32"),
        ({"y": np.ones((3, 5))}, r"y: expected d = 6 as in x, got .* shape \(3, 5\)"),
        ({"x_norms": None}, r"x\.norms: expected a float64 array for cosine, got None"),
        ({"y_norms": np.ones(4)}, r"y\.norms: expected a contiguous float64 array of shape \(3,\), got .*\(4,\)"),
        ({"kind": "hamming"}, r"kind: expected one of .*sqeuclidean.*, got 'hamming'"),
        ({"kind": "minkowski", "p": 0}, r"p: expected an integer from 1 to 16, got 0"),
        ({"kind": "minkowski", "p": 17}, r"p: expected an integer from 1 to 16, got 17"),
        ({"kind": "mahalanobis"}, r"tensor: expected .*\(6, 6\) for mahalanobis, got None"),
        ({"kind": "mahalanobis", "tensor": np.eye(5)}, r"tensor: expected .*\(6, 6\), got .*\(5, 5\)"),
        ({"threads": 0}, r"threads: expected at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("function", ["pair_keys", "block_keys"])
def test_bad_arrays_are_refused(function: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boundary(function, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"i": np.array([0, 4])}, r"i: expected indices in \[0, 4\), got 4 at position 1"),
        ({"j": np.array([-1, 0])}, r"j: expected indices in \[0, 3\), got -1 at position 0"),
        ({"i": np.array([0, 1], np.int32)}, r"i: expected a contiguous int64 array .* got dtype int32"),
        ({"j": np.array([0])}, r"j: expected a contiguous int64 array of shape \(2,\), got .*\(1,\)"),
    ],
)
def test_bad_indices_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boundary(**changes)


def test_lists_are_not_arrays() -> None:
    with pytest.raises(TypeError):
        boundary("block_keys", x=[[1.0, 2.0]])


def test_a_tensor_elsewhere_is_refused() -> None:
    rows = Rows(torch.ones(2, 3, device="meta"))
    with pytest.raises(ValueError, match="x: expected a CPU tensor, got one on meta"):
        native.block_keys(Kernel("sqeuclidean"), rows, rows)
    assert native.serves("knn", torch.device("meta"))[0] is False
    assert native.serves("knn", torch.device("cpu"))[0] is True


def test_a_missing_module_is_a_reason() -> None:
    code = """
import sys
import msma_fast
assert "msma_fast._native" not in sys.modules
sys.modules["msma_fast._native"] = None
from test_native import Case, native
import numpy
there, reason = native.available()
assert not there and "msma_fast._native cannot be imported" in reason, reason
try:
    Case(3, 3, 2, numpy.float32).block("manhattan")
except NotImplementedError as error:
    print(error)
"""
    out = printed(code)
    assert out.startswith("backend: 'native' cannot run here: msma_fast._native cannot be imported")
