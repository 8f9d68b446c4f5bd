"""Triton's interpreter made strict: what it lets pass and a GPU would not is an error, and dots round as tensor cores may.

    with hardened(seed=1): kernel[grid](...)

- A load, store or atomic under a true mask outside the memory of the kernel's own arguments raises OutOfBounds, as does a
  number that has no bin in a histogram.
- Two programs that write different numbers to one address without atomics raise LostUpdate.
- Programs run in a random order.
- dot: bfloat16 is decoded (the interpreter multiplies its bits), TF32 operands are rounded to 10 bits after the point of the
  mantissa, and float32 sums are truncated towards zero instead of rounded. Of tf32x3 the three sums of products are truncated,
  one after the other, and added to the accumulator to nearest, as Triton does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


class OutOfBounds(Exception):
    """A kernel touched memory that is none of its arguments'."""


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


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = rounded_to_tf32(values)
    with np.errstate(invalid="ignore"):
        rest = np.nan_to_num(values - high)
    return high, (rest.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def of_three(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right in float32 from three TF32 products, without low times low: the high parts are rounded to TF32, and of the
    rest a tensor core drops the last bits."""
    (a, a_low), (b, b_low) = halves(left), halves(right)
    total = np.zeros(1, dtype=np.float32)
    for x, y in ((a_low, b), (a, b_low), (a, b)):
        total = truncated(np.matmul(x.astype(np.float64), y.astype(np.float64)) + total)
    return total


class Watch:
    """One launch: the memory that it may touch, what it wrote, and the order of its programs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.ranges = np.empty((0, 2), dtype=np.int64)
        self.written: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.program = 0

    def launch(self, tensors: list[torch.Tensor]) -> None:
        """Bytes of each tensor argument; only dense ones, so that a range is what the tensor owns."""
        self.finish()
        spans = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors]
        self.ranges = np.array(sorted(spans), dtype=np.int64).reshape(-1, 2)

    def check(self, addresses: np.ndarray, mask: np.ndarray, width: int, what: str) -> None:
        everything, kept = np.broadcast_arrays(addresses, mask)
        asked = everything[kept.astype(bool)].astype(np.int64)
        inside = np.zeros(asked.shape, dtype=bool)
        for start, end in self.ranges:
            inside |= (asked >= start) & (asked + width <= end)
        if not inside.all():
            raise OutOfBounds(f"{what} of {int((~inside).sum())} addresses outside the arguments")

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
    """Within the block every interpreted kernel runs under a Watch."""
    watch = Watch(seed)
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store
    patch_tensor = interpreter._patch_lang_tensor
    add, binned = builder.create_atomic_rmw, builder.create_histogram
    set_dim, set_index = builder.set_grid_dim, builder.set_grid_idx
    to_host, convert = interpreter.GridExecutor._init_args_hst, interpreter._implicit_cvt

    def init_args(self: Any, args: Any, kwargs: Any) -> Any:
        found = to_host(self, args, kwargs)
        arguments = [getattr(each, "base", each) for each in (*found[0], *found[1].values())]  # a descriptor's tensor
        watch.launch([each for each in arguments if isinstance(each, torch.Tensor)])
        return found

    def masked_load(self: Any, ptrs: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        watch.check(ptrs.data, mask.data, ptrs.get_element_ty().primitive_bitwidth // 8, "a load")
        return load(self, ptrs, mask, *rest, **named)

    def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        watch.check(ptrs.data, mask.data, max(1, ptrs.get_element_ty().primitive_bitwidth // 8), "a store")
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
        left, right = decoded(a.data, a.dtype), decoded(b.data, b.dtype)
        if left.dtype == np.float32 and "TF32X3" in str(precision).upper():
            return interpreter.TensorHandle(of_three(left, right) + d.data, d.dtype.scalar)
        if left.dtype == np.float32 and "TF32" in str(precision).upper() and a.dtype.scalar == tl.float32:
            left, right = rounded_to_tf32(left), rounded_to_tf32(right)
        if not np.issubdtype(d.data.dtype, np.floating):
            product = np.matmul(left.astype(np.int64), right.astype(np.int64)) + d.data
            return interpreter.TensorHandle(product.astype(d.data.dtype), d.dtype.scalar)
        product = np.matmul(left.astype(np.float64), right.astype(np.float64)) + d.data.astype(np.float64)
        exact = d.data.dtype == np.float64
        return interpreter.TensorHandle(product if exact else truncated(product).astype(d.data.dtype), d.dtype.scalar)

    def atomic(self: Any, op: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        watch.check(ptrs.data, mask.data, ptrs.get_element_ty().primitive_bitwidth // 8, "an atomic")
        return add(self, op, ptrs, value, mask, *rest)

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
        # Triton 3.6 keeps a scalar in one dimension, which numpy 2.5 does not turn into a number.
        found = convert(value)
        if isinstance(value, (bool, int, float)) and hasattr(found, "handle"):
            found.handle.data = found.handle.data.reshape(())
        return found

    with (
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
        yield watch
        watch.finish()
