"""The compiled canonical keys against an independent oracle, to the bit: every kind, both dtypes, awkward widths and
values, every instruction set (in subprocesses), threads, forks and flushed subnormals.

The oracle below is numpy alone: one float64 operation at a time in the documented lane order, vectorized over pairs.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from subprocesses import in_subprocess, printed

from msma_fast.backends import native
from msma_fast.backends.torch.kernel import Kernel, Rows

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

KINDS = sorted(native.KINDS)
WIDTHS = [1, 3, 7, 8, 9, 16, 17, 64, 100, 577]
DTYPES = [np.float32, np.float64]
SETS = ["scalar", "avx2", "avx512", "amx"]

Array = np.ndarray[Any, Any]


class Case:
    """Rows with duplicates, signed zeros and subnormals, the parameters of every kind, and their norms."""

    def __init__(self, n: int, m: int, d: int, dtype: Any, seed: int = 0, scale: float = 1.0) -> None:
        rng = np.random.default_rng([seed, n, m, d])
        tiny = np.finfo(dtype).smallest_subnormal
        self.x = (rng.standard_normal((n, d)) * scale).astype(dtype)
        self.y = (rng.standard_normal((m, d)) * scale).astype(dtype)
        for rows in (self.x, self.y):
            if len(rows) > 4:
                rows[1] = rows[0]
                rows[2, d // 2] = -0.0
                rows[3, d - 1] = 3 * tiny
        if n and m:
            self.y[m // 2] = self.x[n // 2]
        self.p = 3
        root = rng.standard_normal((d, d))
        self.tensor = root @ root.T
        self.tensor = (self.tensor + self.tensor.T) / 2
        self.i = rng.integers(0, max(n, 1), 3 * n + 1 if n and m else 0)
        self.j = rng.integers(0, max(m, 1), len(self.i))

    def norms(self, rows: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.sqrt((rows.astype(np.float64) ** 2).sum(1))

    def kernel(self, kind: str) -> Kernel:
        return Kernel(kind, self.p, torch.from_numpy(self.tensor))

    def rows(self) -> tuple[Rows, Rows]:
        first, second = (Rows(torch.from_numpy(rows), torch.from_numpy(self.norms(rows))) for rows in (self.x, self.y))
        return first, second

    def block(self, kind: str) -> Array:
        return native.block_keys(self.kernel(kind), *self.rows()).numpy()

    def pairs(self, kind: str) -> Array:
        i, j = torch.from_numpy(self.i), torch.from_numpy(self.j)
        return native.pair_keys(self.kernel(kind), *self.rows(), i, j).numpy()

    def oracle(self, kind: str) -> Array:
        with np.errstate(all="ignore"):
            return oracle(kind, self.x, self.y, self.p, self.tensor, self.norms(self.x), self.norms(self.y))


def lane_reduce(terms: list[Array], largest: bool = False) -> Array:
    """The terms of coordinates 0, 1, ..., reduced by lanes."""
    lanes = [np.zeros(terms[0].shape) for _ in range(8)]
    for j, term in enumerate(terms):
        lanes[j % 8] = np.maximum(lanes[j % 8], term) if largest else lanes[j % 8] + term
    if largest:
        return np.max(lanes, axis=0)
    a, b, c, d, e, f, g, h = lanes
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def oracle(kind: str, x: Array, y: Array, p: int, tensor: Array, x_norms: Array, y_norms: Array) -> Array:
    """(n, m) keys."""
    left, right = x.astype(np.float64), y.astype(np.float64)
    differences = [left[:, None, j] - right[None, :, j] for j in range(x.shape[1])]
    if kind == "sqeuclidean":
        return lane_reduce([a * a for a in differences])
    if kind == "manhattan":
        return lane_reduce([np.abs(a) for a in differences])
    if kind == "chebyshev":
        return lane_reduce([np.abs(a) for a in differences], largest=True)
    if kind == "minkowski":
        powers = [np.abs(a) for a in differences]
        for _ in range(p - 1):
            powers = [power * np.abs(a) for power, a in zip(powers, differences, strict=True)]
        return lane_reduce(powers)
    if kind == "mahalanobis":
        z = lane_reduce([a[..., None] * tensor[:, j] for j, a in enumerate(differences)])
        keys = lane_reduce([a * z[..., i] for i, a in enumerate(differences)])
        return np.where(keys < 0.0, 0.0, keys)
    products = lane_reduce([left[:, None, j] * right[None, :, j] for j in range(x.shape[1])])
    if kind == "inner_product":
        return 0.0 - products
    keys = 1.0 - products / (x_norms[:, None] * y_norms[None, :])
    equal = (left[:, None] == right[None, :]).all(-1)
    return np.where(equal & (keys < 1e-9) | (keys < 0.0), 0.0, keys)


def assert_same_bits(got: Array, expected: Array) -> None:
    """Equal bits, sign of zero included; NaN where NaN is expected, whatever its payload."""
    assert got.dtype == expected.dtype == np.float64
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    keep = ~np.isnan(expected)
    np.testing.assert_array_equal(got[keep].view(np.int64), expected[keep].view(np.int64))


def check(case: Case, kind: str) -> None:
    expected = case.oracle(kind)
    assert_same_bits(case.block(kind), expected)
    assert_same_bits(case.pairs(kind), expected[case.i, case.j])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_the_oracle_to_the_bit(kind: str, d: int, dtype: Any) -> None:
    check(Case(7, 6, d, dtype), kind)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1), (4, 4), (5, 3), (131, 3), (3, 1031), (70, 97)])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_shapes(kind: str, n: int, m: int) -> None:
    for d in (5, 24):
        check(Case(n, m, d, np.float32), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_and_no_pairs(kind: str) -> None:
    for n, m in ((0, 4), (4, 0), (0, 0)):
        case = Case(n, m, 5, np.float64)
        assert case.block(kind).shape == (n, m)
        assert case.pairs(kind).shape == (0,)


def test_several_panels_of_wide_rows() -> None:
    check(Case(9, 300, 577, np.float32), "sqeuclidean")


@pytest.mark.parametrize("p", [1, 2, 5, 16])
def test_minkowski_powers(p: int) -> None:
    case = Case(6, 7, 19, np.float64)
    case.p = p
    check(case, "minkowski")


@pytest.mark.parametrize("d", [1, 16, 577])
@pytest.mark.parametrize("kind", sorted(native.KINDS - {"mahalanobis", "cosine"}))
def test_keys_are_close_to_the_exact_sum(kind: str, d: int) -> None:
    case = Case(5, 6, d, np.float64)
    term = {
        "sqeuclidean": lambda a, b: (a - b) ** 2,
        "manhattan": lambda a, b: abs(a - b),
        "chebyshev": lambda a, b: abs(a - b),
        "minkowski": lambda a, b: abs(a - b) ** 3,
        "inner_product": lambda a, b: -a * b,
    }[kind]
    keys = case.block(kind)
    for r, a in enumerate(case.x.tolist()):
        for c, b in enumerate(case.y.tolist()):
            terms = [term(u, v) for u, v in zip(a, b, strict=True)]
            exact = max(terms) if kind == "chebyshev" else math.fsum(terms)
            assert abs(keys[r, c] - exact) <= (d + 8) * 2.0**-52 * math.fsum(map(abs, terms))


@pytest.mark.parametrize("scale", [1e300, 1e160, 1e-155, 1e-308])
@pytest.mark.parametrize("kind", KINDS)
def test_huge_and_subnormal_values(kind: str, scale: float) -> None:
    for d in (1, 9, 33):
        check(Case(6, 5, d, np.float64, scale=scale), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_inf_reach_the_key(kind: str) -> None:
    for place in range(11):
        case = Case(6, 6, 11, np.float32)
        case.x[3, place] = np.nan
        case.y[2, (place + 4) % 11] = np.inf
        case.x[4, place] = -np.inf
        check(case, kind)
        assert np.isnan(case.block(kind)[3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_of_equal_rows_is_exactly_zero(dtype: Any) -> None:
    case = Case(40, 40, 577, dtype)
    case.y = case.x[::-1].copy()
    keys = case.block("cosine")
    assert (keys[range(40), range(39, -1, -1)] == 0.0).all()
    case.y[0, 5] = np.nextafter(case.y[0, 5], dtype(1e9))
    check(case, "cosine")


# -- instruction sets -------------------------------------------------------------------------------------------------


def digest() -> str:
    """A fingerprint of every kind's keys over both dtypes and all widths."""
    state = hashlib.sha256()
    for dtype in DTYPES:
        for d in WIDTHS:
            case = Case(13, 11, d, dtype, seed=1)
            for kind in KINDS:
                state.update(case.block(kind).tobytes())
                state.update(case.pairs(kind).tobytes())
    return state.hexdigest()


@pytest.fixture(scope="module")
def best_set() -> str:
    """The widest instruction set of this machine."""
    done = in_subprocess("import test_native as t; print(t.native.instruction_set())", MSMA_FAST_CPU="")
    return done.stdout.strip()


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set_gives_the_same_bits(cap: str, best_set: str) -> None:
    code = "import test_native as t; print(t.native.instruction_set(), t.digest())"
    out = printed(code, MSMA_FAST_CPU=cap)
    used, found = out.split()
    assert used == min(cap, best_set, key=SETS.index)
    assert found == digest()


def test_an_unknown_cap_is_an_error_that_lists_the_known_ones() -> None:
    code = """
from test_native import Case, native
import numpy
assert native.available()[0]
for call in (native.instruction_set, lambda: Case(3, 3, 2, numpy.float32).block("manhattan")):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    done = in_subprocess(code, MSMA_FAST_CPU="sse9")
    assert done.returncode == 0, done.stderr
    line = "MSMA_FAST_CPU: expected one of scalar, avx2, avx512, amx, got 'sse9'"
    assert done.stdout.splitlines() == [line, line]


def test_features_are_consistent() -> None:
    features = native.cpu_features()
    assert {"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"} < set(features)
    assert all(type(value) is bool for value in features.values())
    needed = {"scalar": [], "avx2": ["avx2", "fma"], "avx512": ["avx512f", "avx512bw", "avx512vl"]}
    needed["amx"] = [*needed["avx512"], "avx512_vnni", "amx_tile", "amx_int8"]
    assert all(features[name] for name in needed[native.instruction_set()])
    assert features["amx_tile"] or not (features["amx_bf16"] or features["amx_int8"])


# -- threads, forks, floating-point modes ------------------------------------------------------------------------------


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kind: str) -> None:
    case = Case(150, 210, 65, np.float32)
    case.i, case.j = np.arange(150 * 210) // 210, np.arange(150 * 210) % 210
    torch.set_num_threads(1)
    expected = case.block(kind)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        assert_same_bits(case.block(kind), expected)
        assert_same_bits(case.pairs(kind), expected.ravel())


def test_four_python_threads_at_once() -> None:
    case = Case(120, 140, 64, np.float64)
    expected = {kind: case.oracle(kind) for kind in ("sqeuclidean", "chebyshev", "cosine")}
    with ThreadPoolExecutor(4) as pool:
        for kind, keys in pool.map(lambda kind: (kind, case.block(kind)), list(expected) * 8):
            assert_same_bits(keys, expected[kind])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_can_use_it_after_its_parent() -> None:
    case = Case(300, 300, 64, np.float32)
    expected = case.block("sqeuclidean")
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        os._exit(0 if np.array_equal(case.block("sqeuclidean"), expected) else 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def flushes() -> bool:
    return float(torch.tensor([5e-324], dtype=torch.float64) * 1.0) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_flushed_subnormals_change_nothing(kind: str) -> None:
    cases = [Case(5, 5, 9, np.float64, scale=1e-160), Case(400, 400, 9, np.float64, scale=1e-308)]
    expected = [case.oracle(kind) for case in cases]
    if kind == "sqeuclidean":
        assert ((expected[0] > 0) & (expected[0] < 1e-308)).any()
    rows = [case.rows() for case in cases]
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        assert flushes()
        keys = [native.block_keys(case.kernel(kind), *pair) for case, pair in zip(cases, rows, strict=True)]
        still = flushes()
    finally:
        torch.set_flush_denormal(False)
    assert still
    for got, wanted in zip(keys, expected, strict=True):
        assert_same_bits(got.numpy(), wanted)
