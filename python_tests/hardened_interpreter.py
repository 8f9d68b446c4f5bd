"""Triton's interpreter made strict: what it lets pass and a GPU would not is an error, and dots round as tensor cores may.

    with hardened(seed=1): kernel[grid](...)

- A pointer belongs to the tensor that it was made from: a load, store or atomic under a true mask outside that tensor raises
  OutOfBounds, also where another argument lies there. So does a number that has no bin in a histogram.
- What nobody has written is poison, NaN or a number far below zero: memory of torch.empty and its like, and what a load under
  a false mask without `other` gives.
- Two programs that write different numbers to one address without atomics raise LostUpdate.
- Programs run in a random order.
- dot: bfloat16 is decoded (the interpreter multiplies its bits), TF32 operands are rounded to 10 bits after the point of the
  mantissa, and float32 sums are truncated towards zero after every step of a tensor core; without tensor cores, rounded after
  every term. Of tf32x3 the three sums of products are truncated, one after the other, and added to the accumulator to nearest,
  as Triton does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

# The terms that a tensor core of compute capability 8.0 adds at once; those of 9.0 and 10.0 add more, and lose less.
# Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7 (2021) e330.
STEP, TF32_STEP = 8, 4
# A pointer carries the number of its argument above its address, which user memory has no use for.
ADDRESS_BITS = 48
POISON_BYTE = 0xA5  # integers of it are far below zero, or above any index
# What Triton itself does, whatever is in its place now: blocks may be nested, and the inner one holds.
load, store = interpreter.InterpreterBuilder.create_masked_load, interpreter.InterpreterBuilder.create_masked_store
add, binned = interpreter.InterpreterBuilder.create_atomic_rmw, interpreter.InterpreterBuilder.create_histogram
set_dim, set_index = interpreter.InterpreterBuilder.set_grid_dim, interpreter.InterpreterBuilder.set_grid_idx
to_host, convert = interpreter.GridExecutor._init_args_hst, interpreter._implicit_cvt
patch_tensor = interpreter._patch_lang_tensor
ALLOCATIONS = ((torch, ("empty", "empty_like", "empty_strided", "empty_permuted")), (torch.Tensor, ("new_empty",)))


class OutOfBounds(Exception):
    """A kernel touched memory outside the tensor that its pointer came from."""


class LostUpdate(Exception):
    """Two programs wrote different values to one address."""


def decoded(values: np.ndarray, dtype: Any) -> np.ndarray:
    """bfloat16 bits as float32; everything else as it is."""
    if dtype.scalar != tl.bfloat16:
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)


def rounded_to_tf32(values: np.ndarray) -> np.ndarray:
    """float32 with 10 bits after the point, to nearest, ties to even."""
    bits = values.view(np.uint32).astype(np.uint64)
    near = (bits + np.uint64(0xFFF) + ((bits >> np.uint64(13)) & np.uint64(1))) & np.uint64(0xFFFFE000)
    return np.where(np.isfinite(values), near.astype(np.uint32).view(np.float32), values)


def truncated(values: np.ndarray) -> np.ndarray:
    """float64 -> float32 towards zero."""
    near = values.astype(np.float32)
    over = np.abs(near.astype(np.float64)) > np.abs(values)
    return np.where(over, np.nextafter(near, np.float32(0)), near)


def added(left: np.ndarray, right: np.ndarray, total: np.ndarray, step: int) -> np.ndarray:
    """total + left @ right in float32, `step` terms at a time, truncated after each step; step 1: rounded."""
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    for at in range(0, left.shape[-1], step):
        part = np.matmul(wide_left[..., at : at + step], wide_right[..., at : at + step, :]) + total.astype(np.float64)
        total = part.astype(np.float32) if step == 1 else truncated(part)
    return total


def poisoned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """What nobody has written: NaN, or bytes POISON_BYTE."""
    if np.issubdtype(dtype, np.floating):
        return np.full(shape, np.nan, dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.full(size, 1 if dtype == np.bool_ else POISON_BYTE, np.uint8).view(dtype).reshape(shape)


def unwritten(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """An allocation without values, with poison for them."""

    def allocated(*arguments: Any, **named: Any) -> torch.Tensor:
        fresh = allocate(*arguments, **named)
        with torch.no_grad():
            if fresh.dtype.is_floating_point or fresh.dtype.is_complex:
                return fresh.fill_(float("nan"))
            if fresh.dtype == torch.bool:
                return fresh.fill_(True)
            value = int.from_bytes(bytes([POISON_BYTE]) * fresh.element_size(), "little", signed=fresh.dtype.is_signed)
            return fresh.fill_(value)

    return allocated


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = rounded_to_tf32(values)
    with np.errstate(invalid="ignore"):
        rest = np.nan_to_num(values - high)
    return high, (rest.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def of_three(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right in float32 from three TF32 products, without low times low: the high parts are rounded to TF32, and of the
    rest a tensor core drops the last bits."""
    (a, a_low), (b, b_low) = halves(left), halves(right)
    total = np.zeros((left.shape[-2], right.shape[-1]), dtype=np.float32)
    for x, y in ((a_low, b), (a, b_low), (a, b)):
        total = added(x, y, total, TF32_STEP)
    return total


class Watch:
    """One launch: the memory that each argument may touch, what it wrote, and the order of its programs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.spans: list[tuple[int, int]] = []
        self.written: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.program = 0

    def launch(self) -> None:
        self.finish()
        self.spans = []

    def number(self, tensor: torch.Tensor) -> int:
        """The number of an argument, from 1. Its pointers may touch the bytes from its first to its last element."""
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        start = tensor.data_ptr()
        self.spans.append((start, start + (reach * tensor.element_size() if tensor.numel() else 0)))
        return len(self.spans)

    def checked(self, pointers: Any, mask: np.ndarray, what: str) -> Any:
        """The pointers without the numbers of their arguments, which those under a true mask have to respect."""
        width = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        addresses = pointers.data & np.uint64((1 << ADDRESS_BITS) - 1)
        everything, number, kept = np.broadcast_arrays(addresses, pointers.data >> np.uint64(ADDRESS_BITS), mask)
        kept = kept.astype(bool)
        asked, number = everything[kept].astype(np.int64), number[kept]
        inside = np.zeros(asked.shape, dtype=bool)
        for own in np.unique(number):
            if 1 <= own <= len(self.spans):
                start, end = self.spans[int(own) - 1]
                inside |= (number == own) & (asked >= start) & (asked + width <= end)
        if not inside.all():
            raise OutOfBounds(f"{what} of {int((~inside).sum())} addresses outside the tensor of their pointer")
        return interpreter.TensorHandle(addresses, pointers.dtype)

    def wrote(self, addresses: np.ndarray, values: np.ndarray, mask: np.ndarray) -> None:
        where, what, kept = np.broadcast_arrays(addresses, values, mask)
        kept = kept.astype(bool)
        where = where[kept].astype(np.int64)
        self.written.append((where, what[kept], np.full(where.shape, self.program)))

    def finish(self) -> None:
        """Looks at what the launch wrote: one address, several programs, several values."""
        if not self.written:
            return
        kinds = {values.dtype for _, values, _ in self.written}
        for kind in kinds:
            chunks = [chunk for chunk in self.written if chunk[1].dtype == kind]
            where, what, program = (np.concatenate(field) for field in zip(*chunks, strict=True))
            order = np.argsort(where, kind="stable")
            where, what, program = where[order], what[order], program[order]
            clash = (np.diff(where) == 0) & (np.diff(program) != 0) & (what[1:] != what[:-1])
            if clash.any():
                at = int(clash.argmax())
                raise LostUpdate(f"programs {program[at]} and {program[at + 1]} wrote {what[at]} and {what[at + 1]}")
        self.written = []


@contextmanager
def hardened(seed: int = 0) -> Iterator[Watch]:
    """Within the block every interpreted kernel runs under a Watch; of nested blocks, under the inner one's."""
    watch = Watch(seed)
    builder = interpreter.InterpreterBuilder

    def init_args(self: Any, args: Any, kwargs: Any) -> Any:
        watch.launch()
        return to_host(self, args, kwargs)

    def masked_load(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:
        ptrs = watch.checked(ptrs, mask.data, "a load")
        if other is None:
            element = ptrs.get_element_ty()
            dtype = interpreter._get_np_dtype(element)
            bits = poisoned(ptrs.data.shape, dtype)
            if element.is_bf16():
                bits[...] = 0x7FC0  # its bits are integers here
            other = interpreter.TensorHandle(bits, element)
        return load(self, ptrs, mask, other, *rest, **named)

    def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        ptrs = watch.checked(ptrs, mask.data, "a store")
        watch.wrote(ptrs.data, value.data, mask.data)
        return store(self, ptrs, value, mask, *rest, **named)

    def grid_dim(self: Any, *dim: int) -> None:
        self.order = watch.random.permutation(int(np.prod(dim)))
        set_dim(self, *dim)

    def grid_index(self: Any, x: int, y: int, z: int) -> None:
        _, ny, nz = self.grid_dim
        watch.program = int(self.order[(x * ny + y) * nz + z])
        set_index(self, watch.program // (ny * nz), watch.program // nz % ny, watch.program % nz)

    def dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        left, right, step = decoded(a.data, a.dtype), decoded(b.data, b.dtype), STEP
        if a.dtype.scalar == tl.float32 and "TF32X3" in str(precision).upper():
            return interpreter.TensorHandle(of_three(left, right) + d.data, d.dtype.scalar)
        if a.dtype.scalar == tl.float32:
            step = 1
            if "TF32" in str(precision).upper():
                left, right, step = rounded_to_tf32(left), rounded_to_tf32(right), TF32_STEP
        if not np.issubdtype(d.data.dtype, np.floating):
            product = np.matmul(left.astype(np.int64), right.astype(np.int64)) + d.data
        elif d.data.dtype == np.float64:
            product = np.matmul(left.astype(np.float64), right.astype(np.float64)) + d.data
        else:
            product = added(left, right, d.data, step)
        return interpreter.TensorHandle(product.astype(d.data.dtype), d.dtype.scalar)

    def atomic(self: Any, op: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        return add(self, op, watch.checked(ptrs, mask.data, "an atomic"), value, mask, *rest)

    def histogram(self: Any, data: Any, bins: int, mask: Any) -> Any:
        kept = data.data if mask is None else data.data[mask.data.astype(bool)]
        if ((kept < 0) | (kept >= bins)).any():
            raise OutOfBounds(f"a histogram of {bins} bins of numbers from {kept.min()} to {kept.max()}")
        return binned(self, data, bins, mask)

    def lang_tensor(tensor: Any, scope: Any) -> None:
        # As in `argument`, for the bounds of a loop.
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    def argument(value: Any) -> Any:
        found = convert(value)
        if isinstance(value, torch.Tensor):
            found.handle.data = found.handle.data + np.uint64(watch.number(value) << ADDRESS_BITS)
        # Triton 3.6 keeps a scalar in one dimension, which numpy 2.5 does not turn into a number.
        if isinstance(value, (bool, int, float)) and hasattr(found, "handle"):
            found.handle.data = found.handle.data.reshape(())
        return found

    with (
        ExitStack() as stack,
        patch.object(interpreter, "_implicit_cvt", argument),
        patch.object(interpreter.GridExecutor, "_init_args_hst", init_args),
        patch.object(builder, "create_masked_load", masked_load),
        patch.object(builder, "create_masked_store", masked_store),
        patch.object(interpreter, "_patch_lang_tensor", lang_tensor),
        patch.object(builder, "create_atomic_rmw", atomic),
        patch.object(builder, "create_histogram", histogram),
        patch.object(builder, "set_grid_dim", grid_dim),
        patch.object(builder, "set_grid_idx", grid_index),
        patch.object(builder, "create_dot", dot),
    ):
        for owner, names in ALLOCATIONS:
            for name in names:
                stack.enter_context(patch.object(owner, name, unwritten(getattr(owner, name))))
        yield watch
        watch.finish()
