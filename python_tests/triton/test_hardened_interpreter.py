"""The interpreter that the kernels are tested in finds what it says it finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from hardened_interpreter import LostUpdate, decoded, hardened, rounded_to_tf32, truncated
from triton.runtime.errors import InterpreterError

from msma_fast.backends.triton import interpreted

pytestmark = pytest.mark.skipif(not interpreted(), reason="about the interpreter")


@triton.jit
def copy_kernel(x_ptr, y_ptr, n, stride, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at * stride, tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n)


@triton.jit
def dot_kernel(a_ptr, b_ptr, c_ptr, K: tl.constexpr, PRECISION: tl.constexpr):
    i, k = tl.arange(0, 16), tl.arange(0, K)
    a = tl.load(a_ptr + i[:, None] * K + k[None, :])
    b = tl.load(b_ptr + k[:, None] * 16 + i[None, :])
    tl.store(c_ptr + i[:, None] * 16 + i[None, :], tl.dot(a, b, input_precision=PRECISION))


@triton.jit
def order_kernel(out_ptr, count_ptr):
    at = tl.atomic_add(count_ptr, 1)
    tl.store(out_ptr + at, tl.program_id(0))


@triton.jit
def bins_kernel(x_ptr, out_ptr, SIZE: tl.constexpr, BINS: tl.constexpr):
    found = tl.histogram(tl.load(x_ptr + tl.arange(0, SIZE)), BINS)
    tl.atomic_add(out_ptr + tl.arange(0, BINS), found, mask=found > 0)


@triton.jit
def half_kernel(x_ptr, out_ptr, n, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n))


@triton.jit
def either_kernel(x_ptr, y_ptr, out_ptr, n, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out_ptr + at, tl.load(tl.where(at < n, x_ptr + at, y_ptr + at - n)))


@pytest.mark.usefixtures("strict")
def test_memory_of_others_is_out_of_bounds() -> None:
    x, y = torch.arange(10.0), torch.zeros(10)
    copy_kernel[(3,)](x, y, 10, 1, BLOCK=4)
    assert torch.equal(x, y)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a load of 2 addresses"):
        copy_kernel[(3,)](x, torch.zeros(12), 12, 1, BLOCK=4)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a store of"):
        copy_kernel[(3,)](x, y[:9].clone(), 10, 1, BLOCK=4)


@pytest.mark.usefixtures("strict")
def test_memory_of_the_next_argument_is_out_of_bounds() -> None:
    both = torch.zeros(22)
    x, y = both[:10], both[10:]
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a load of 2 addresses"):
        copy_kernel[(3,)](x, y, 12, 1, BLOCK=4)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a store of"):
        copy_kernel[(3,)](y, x, 12, 1, BLOCK=4)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a store of"):
        copy_kernel[(1,)](y, y, 4, -1, BLOCK=4)


@pytest.mark.usefixtures("strict")
def test_a_view_reaches_from_its_first_to_its_last_element() -> None:
    x, wide = torch.arange(10.0), torch.zeros(40)
    copy_kernel[(3,)](x, wide[::3][:10], 10, 3, BLOCK=4)
    assert torch.equal(wide[::3][:10], x)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a store of"):
        copy_kernel[(3,)](x, wide[::3][:10], 10, 4, BLOCK=4)


@pytest.mark.usefixtures("strict")
def test_a_chosen_pointer_keeps_its_tensor() -> None:
    both, out = torch.ones(16), torch.zeros(16)
    x, y = both[:4].zero_(), both[4:]
    either_kernel[(1,)](x, y, out, 4, SIZE=16)
    assert out.tolist() == [0.0] * 4 + [1.0] * 12
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a load of 1 addresses"):
        either_kernel[(1,)](x, y, out, 5, SIZE=16)
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*a load of 1 addresses"):
        either_kernel[(1,)](x, y, out, 3, SIZE=16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_nobody_wrote_is_nan(dtype: torch.dtype) -> None:
    x, out, outside = torch.ones(8, dtype=dtype), torch.zeros(16, dtype=dtype), torch.empty
    with hardened():
        half_kernel[(1,)](x, out, 8, SIZE=16)
        fresh = [torch.empty(3, dtype=dtype), torch.empty_like(x), x.new_empty(2, 2), torch.empty_strided((3,), (2,))]
    assert out[:8].tolist() == [1.0] * 8
    assert all(bool(each.isnan().all()) for each in (out[8:], *fresh))
    assert torch.empty is outside


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_what_nobody_wrote_is_no_index(dtype: torch.dtype) -> None:
    x, out = torch.ones(8, dtype=dtype), torch.zeros(16, dtype=dtype)
    with hardened():
        half_kernel[(1,)](x, out, 8, SIZE=16)
        fresh = torch.empty(8, dtype=dtype)
    assert torch.equal(out[8:], fresh)
    assert (fresh > 100).all() if dtype == torch.uint8 else (fresh < -(2**30)).all()


@pytest.mark.usefixtures("strict")
def test_bins_and_atomics_of_others_are_out_of_bounds() -> None:
    x, out = torch.tensor([0, 2, 2, 3], dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    bins_kernel[(2,)](x, out, SIZE=4, BINS=4)
    assert out.tolist() == [2, 0, 4, 2]
    with pytest.raises(InterpreterError, match=r"OutOfBounds.*an atomic of 1 addresses"):
        bins_kernel[(1,)](x, out[:3].clone(), SIZE=4, BINS=4)
    for outside in (-1, 4):
        with pytest.raises(InterpreterError, match=r"OutOfBounds.*a histogram of 4 bins"):
            bins_kernel[(1,)](x.clone().fill_(outside), out, SIZE=4, BINS=4)


def test_a_lost_update_is_found() -> None:
    with pytest.raises(LostUpdate), hardened():
        copy_kernel[(3,)](torch.arange(10.0), torch.zeros(10), 10, 0, BLOCK=4)
    with hardened():
        copy_kernel[(3,)](torch.ones(10), torch.zeros(10), 10, 0, BLOCK=4)  # the same number: nothing is lost


@pytest.mark.usefixtures("strict")
def test_of_nested_blocks_the_inner_one_holds() -> None:
    x, y = torch.arange(10.0), torch.zeros(10)
    with hardened(seed=3):
        copy_kernel[(3,)](x, y, 10, 1, BLOCK=4)
        with pytest.raises(InterpreterError, match="OutOfBounds"):
            copy_kernel[(3,)](x, y, 11, 1, BLOCK=4)
    copy_kernel[(3,)](y, x, 10, 1, BLOCK=4)
    assert torch.equal(x, y)


def test_programs_run_in_an_order_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        out, count = torch.zeros(20, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        with hardened(seed):
            order_kernel[(20,)](out, count)
        return [int(value) for value in out]

    assert sorted(order(1)) == list(range(20))
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != list(range(20))


@pytest.mark.parametrize(
    ("dtype", "precision", "least", "most"),
    [
        (torch.bfloat16, "ieee", 2.0**-22, 2.0**-17),
        (torch.float16, "ieee", 2.0**-22, 2.0**-17),
        (torch.float32, "ieee", 2.0**-22, 2.0**-17),
        (torch.float32, "tf32", 2.0**-14, 2.0**-6),
        (torch.float32, "tf32x3", 2.0**-23, 2.0**-17),
    ],
)
@pytest.mark.usefixtures("strict")
def test_dots_round_as_tensor_cores(dtype: Any, precision: str, least: float, most: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(shape, generator=generator).to(dtype) for shape in ((16, 32), (32, 16)))
    c = torch.zeros(16, 16)
    dot_kernel[(1,)](a, b, c, K=32, PRECISION=precision)
    exact = a.double() @ b.double()
    assert least < float((c - exact).abs().max()) < most
    if dtype != torch.float32:
        assert (c <= exact).all()  # nothing is rounded up


@pytest.mark.parametrize(
    ("dtype", "precision", "term", "more"),
    [
        (torch.bfloat16, "ieee", 0.2, 0.0),  # eight of them are less than the 2.0 between neighbours of 2^24
        (torch.bfloat16, "ieee", 0.27, 3 * 2.0),
        (torch.float16, "ieee", 0.2, 0.0),
        (torch.float32, "tf32", 0.4, 0.0),  # four of them
        (torch.float32, "tf32", 0.6, 7 * 2.0),
        (torch.float32, "ieee", 1.0, 0.0),  # every one, to even
        (torch.float32, "ieee", 1.5, 31 * 2.0),
    ],
)
@pytest.mark.usefixtures("strict")
def test_a_dot_loses_at_every_step(dtype: Any, precision: str, term: float, more: float) -> None:
    a, b, c = torch.full((16, 32), term).to(dtype), torch.ones(32, 16, dtype=dtype), torch.zeros(16, 16)
    a[:, 0], b[0] = 2.0**12, 2.0**12
    dot_kernel[(1,)](a, b, c, K=32, PRECISION=precision)
    assert (c == 2.0**24 + more).all()


def test_the_roundings() -> None:
    import numpy as np

    assert rounded_to_tf32(np.array([1 + 2**-11, 1 + 3 * 2**-11, np.inf], dtype=np.float32)).tolist() == [
        1.0,
        1 + 2**-9,
        np.inf,
    ]
    assert truncated(np.array([1 + 0.9 * 2**-23, -1 - 0.9 * 2**-23, 0.0])).tolist() == [1.0, -1.0, 0.0]
    bits = torch.tensor([1.5, -3.25], dtype=torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert decoded(bits, tl.bfloat16).tolist() == [1.5, -3.25]
