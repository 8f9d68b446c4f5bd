"""Neighbours and counts by the space partition against every pair's canonical key, to the bit and in (key, index) order.

The oracle is numpy alone: one float64 operation at a time in the documented lane order.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from subprocesses import printed

from msma_fast.backends import native, native_tree
from msma_fast.backends.torch.kernel import Kernel, Rows

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

KINDS = sorted(native_tree.KINDS)
DTYPES = [np.float32, np.float64]
P = 3

Array = np.ndarray[Any, Any]


def oracle_keys(kind: str, x: Array, y: Array, p: int = P) -> Array:
    """(n, m): lane l = j mod 8 takes coordinate j, the lanes combine in the documented tree."""
    lanes = [np.zeros((len(x), len(y))) for _ in range(8)]
    for j in range(x.shape[1]):
        size = np.abs(x[:, None, j].astype(np.float64) - y[None, :, j].astype(np.float64))
        if kind == "chebyshev":
            lanes[j % 8] = np.maximum(lanes[j % 8], size)
            continue
        term = size
        for _ in range({"manhattan": 1, "sqeuclidean": 2, "minkowski": p}[kind] - 1):
            term = term * size
        lanes[j % 8] = lanes[j % 8] + term
    if kind == "chebyshev":
        return np.max(lanes, axis=0)
    a, b, c, d, e, f, g, h = lanes
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


class Case(NamedTuple):
    """One search; y None for a self-search."""

    x: Array
    y: Array | None = None
    kind: str = "sqeuclidean"
    k: int = 5
    groups: Array | None = None
    point_groups: Array | None = None
    window: int = 0
    p: int = P

    def rows(self) -> tuple[Rows, Rows]:
        x = Rows(torch.from_numpy(self.x))
        return x, x if self.y is None else Rows(torch.from_numpy(self.y))

    def admissible(self) -> tuple[torch.Tensor | None, torch.Tensor | None, int]:
        point_groups = self.groups if self.y is None else self.point_groups
        both = self.groups, point_groups
        mine, theirs = (None if g is None else torch.from_numpy(g.astype(np.int32)) for g in both)
        return mine, theirs, self.window

    def knn(self) -> tuple[Array, Array, Array]:
        (x, y), (mine, theirs, window) = self.rows(), self.admissible()
        found = native_tree.tree_knn(Kernel(self.kind, self.p), x, y, self.k, mine, theirs, window)
        return found[0].numpy(), found[1].numpy(), found[2].numpy()

    def counts(self, thresholds: Array) -> Array:
        (x, y), (mine, theirs, window) = self.rows(), self.admissible()
        limits = torch.from_numpy(thresholds)
        return native_tree.tree_count(Kernel(self.kind, self.p), x, y, limits, mine, theirs, window).numpy()

    def expected(self) -> Array:
        """(n, m) keys, inf where the pair is not admissible."""
        points = self.x if self.y is None else self.y
        keys = oracle_keys(self.kind, self.x, points, self.p)
        if self.y is None:
            i = np.arange(len(self.x))
            keys[np.abs(i[:, None] - i[None, :]) <= self.window] = np.inf
        if self.groups is not None:
            theirs = self.groups if self.y is None else self.point_groups
            assert theirs is not None
            keys[self.groups[:, None] == theirs[None, :]] = np.inf
        return keys


def check(case: Case) -> None:
    keys, indices, candidates = case.knn()
    every = case.expected()
    order = every.argsort(axis=1, kind="stable")[:, : case.k]
    best = np.full((len(case.x), case.k), np.inf)
    best[:, : order.shape[1]] = np.take_along_axis(every, order, 1)
    wanted = np.full(best.shape, -1)
    wanted[:, : order.shape[1]] = order
    wanted[np.isinf(best)] = -1
    np.testing.assert_array_equal(indices, wanted)
    np.testing.assert_array_equal(keys.view(np.int64), best.view(np.int64))
    assert ((candidates >= 0) & (candidates <= every.shape[1])).all()
    # At a neighbour's very key, just below it, and in the middle of the crowd.
    last = np.where(np.isinf(best[:, -1]), best[:, 0], best[:, -1])
    below = np.nextafter(last, -np.inf)
    middle = np.full(len(last), np.median(every[np.isfinite(every)]) if np.isfinite(every).any() else 1.0)
    for limits in (last, below, middle):
        closed = np.where(np.isinf(limits), 1.0, limits)
        np.testing.assert_array_equal(case.counts(closed), (every <= closed[:, None]).sum(1))
    np.testing.assert_array_equal(case.counts(np.full(len(last), np.inf)), np.isfinite(every).sum(1))
    check_one_threshold(case, every)
    for nothing in (-1.0, -np.inf, np.nan):
        assert not case.counts(np.full(len(last), nothing)).any()


def check_one_threshold(case: Case, every: Array) -> None:
    """The same for all queries: at keys that occur and just below, where float32 sums cannot tell, and at the ends."""
    keys = np.sort(every[np.isfinite(every)])
    shares = (0.002, 0.03, 0.5, 0.97, 1.0)
    occurring = [keys[int(share * (len(keys) - 1))] for share in shares] if len(keys) else [1.0]
    below = [np.nextafter(key, -np.inf) for key in occurring]
    for one in (*occurring, *below, 0.0, 5e-324, 1e-45, 1e300):
        np.testing.assert_array_equal(case.counts(np.full(len(case.x), one)), (every <= one).sum(1))


def normal(n: int, d: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng([seed, n, d]).standard_normal((n, d)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", range(1, 17))
@pytest.mark.parametrize("kind", KINDS)
def test_every_width(kind: str, d: int, dtype: Any) -> None:
    check(Case(normal(201, d, dtype), kind=kind))


@pytest.mark.parametrize("p", [1, 2, 16])
def test_powers(p: int) -> None:
    check(Case(normal(150, 5, np.float64), kind="minkowski", p=p))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 400])
@pytest.mark.parametrize("d", [1, 3])
def test_odd_sizes(n: int, d: int) -> None:
    for k in sorted({1, 3, max(1, n - 1)}):  # k above n - 1 leaves -1 and inf
        check(Case(normal(n, d), kind="manhattan", k=k))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (1, 300), (300, 7), (130, 517)])
@pytest.mark.parametrize("kind", KINDS)
def test_other_points(kind: str, n: int, m: int) -> None:
    x, y = normal(n, 4, seed=1), normal(m, 4, seed=2)
    x[n // 2] = y[m // 2]
    check(Case(x, y, kind, k=min(6, m)))


def test_other_points_far_away() -> None:
    check(Case(normal(90, 3, np.float64) + 50.0, normal(400, 3, np.float64)))


def hard(name: str, d: int) -> Array:
    rng = np.random.default_rng([len(name), d])
    x = rng.standard_normal((600, d))
    if name == "shifted":
        x += 1e6
    elif name == "one huge coordinate":
        x[17, d - 1] = 1e30
    elif name == "one column huge":
        x[:, 0] *= 1e12
    elif name == "grid":
        x = rng.integers(-2, 3, (600, d)).astype(np.float64)
    elif name == "duplicates":
        x = x[rng.integers(0, 40, 600)]
    elif name == "all equal":
        x[:] = x[0]
    elif name == "signed zeros":
        x = np.where(rng.random((600, d)) < 0.5, -0.0, 0.0) + rng.integers(0, 2, (600, 1))
    elif name == "subnormal":
        x *= 1e-310
    elif name == "squares become subnormal":
        x *= 1e-160
    elif name == "curve":
        x = np.outer(np.linspace(0.0, 1.0, 600), np.ones(d)) + 1e-9 * x
    return x


NAMES = ["shifted", "one huge coordinate", "one column huge", "grid", "duplicates", "all equal", "signed zeros"]
NAMES += ["subnormal", "squares become subnormal", "curve"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 8, 11])
@pytest.mark.parametrize("name", NAMES)
def test_hard_rows(name: str, d: int, dtype: Any) -> None:
    kinds = KINDS if name == "grid" else ["sqeuclidean", "chebyshev"]
    for kind in kinds:
        check(Case(hard(name, d).astype(dtype), kind=kind, k=7))


def test_more_points_than_one_subtree() -> None:
    """Cut by several threads at the top; oracle rows are sampled."""
    x = normal(20_011, 3, np.float64)
    x[::3] = np.round(x[::3], 1)
    rows = np.arange(0, len(x), 401)
    keys, indices, _ = Case(x, k=4).knn()
    every = oracle_keys("sqeuclidean", x[rows], x)
    every[np.arange(len(rows)), rows] = np.inf
    order = every.argsort(axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(indices[rows], order)
    np.testing.assert_array_equal(keys[rows], np.take_along_axis(every, order, 1))
    counts = Case(x).counts(keys[:, -1].copy())
    np.testing.assert_array_equal(counts[rows], (every <= keys[rows, -1:]).sum(1))


@pytest.mark.parametrize("kind", ["sqeuclidean", "chebyshev"])
@pytest.mark.parametrize("data", ["grid", "duplicates", "shifted", "all equal"])
def test_groups_and_windows(kind: str, data: str) -> None:
    x = hard(data, 3)[:500]
    few, many = np.arange(500) // 130, np.arange(500) // 7
    scattered = np.random.default_rng(3).integers(-5, 5, 500)
    for groups in (few, many, scattered):
        check(Case(x, kind=kind, groups=groups))
    for window in (1, 20, 480, 5000):
        check(Case(x, kind=kind, window=window))
    check(Case(x, kind=kind, groups=many, window=12))
    check(Case(x, kind=kind, groups=np.zeros(500, np.int32), k=2))  # nobody is admissible
    check(Case(x[:90], x, kind, groups=few[:90], point_groups=scattered))
    check(Case(x[:90], x, kind, groups=few[:90] + 7, point_groups=many))


@pytest.mark.parametrize("name", ["all equal", "duplicates"])
def test_many_equal_points_are_not_all_visited(name: str) -> None:
    x = np.repeat(hard(name, 2), 20, axis=0)
    _, indices, candidates = Case(x, k=3).knn()
    assert candidates.mean() < 400
    if name == "all equal":
        np.testing.assert_array_equal(indices[5000], [0, 1, 2])


@pytest.mark.parametrize("d", [1, 3, 9])
def test_nan_and_inf_end(d: int) -> None:
    """No promise but an end without a crash; rows far from the NaN keep their neighbours."""
    x = normal(700, d)
    x[5:400:9, d // 2] = np.nan
    x[3, 0] = np.inf
    _, indices, _ = Case(x).knn()
    assert indices.min() >= -1
    assert indices.max() < 700
    assert not np.isin(indices, np.arange(5, 400, 9)).any()
    Case(x).counts(np.full(700, 2.0))
    x[:] = np.nan
    assert (Case(x).knn()[1] == -1).all()


# -- instruction sets and threads --------------------------------------------------------------------------------------


def digest() -> str:
    """A fingerprint of keys, indices, candidates and counts, ties and labels among them."""
    state = hashlib.sha256()
    for d in range(1, 17):
        for kind in KINDS:
            for x in (normal(300, d), hard("grid", d)[:200]):
                case = Case(x, kind=kind, groups=np.arange(len(x)) // 10, window=3)
                found = case.knn()
                one = np.full(len(x), found[0][7, 1])
                for part in (*found, case.counts(found[0][:, -1].copy()), case.counts(one)):
                    state.update(part.tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("cap", ["scalar", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_bits(cap: str) -> None:
    code = "import test_native_tree as t; print(t.native.instruction_set(), t.digest())"
    out = printed(code, MSMA_FAST_CPU=cap)
    used, found = out.split()
    assert used in (cap, native.instruction_set())  # a machine may have less than the cap allows
    assert found == digest()


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    x = normal(9000, 3)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append((*Case(x).knn(), Case(x).counts(np.full(9000, 0.05))))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_flushed_subnormals_change_nothing() -> None:
    x = hard("subnormal", 3)
    expected = Case(x).knn()
    torch.set_flush_denormal(True)
    try:
        found = Case(x).knn()
    finally:
        torch.set_flush_denormal(False)
    assert all(np.array_equal(a.view(np.int64), b.view(np.int64)) for a, b in zip(expected, found, strict=True))


# -- the boundary ------------------------------------------------------------------------------------------------------


def test_serves() -> None:
    assert native_tree.serves(Kernel("chebyshev"), Rows(torch.ones(3, 16)))
    assert not native_tree.serves(Kernel("chebyshev"), Rows(torch.ones(3, 17)))
    assert not native_tree.serves(Kernel("cosine"), Rows(torch.ones(3, 2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((3, 17))}, r"x: expected a contiguous float64 array of shape \(n, d\) with 1 <= d <= 16, got"),
        ({"x": np.ones((3, 2), np.int64)}, "x: expected a float32 or float64 array, got dtype int64"),
        ({"x": np.ones((0, 2))}, r"x: expected at least one point, got dtype float64, shape \(0, 2\)"),
        ({"y": np.ones((3, 3))}, "y: expected d = 2 as in x"),
        ({"y": np.ones((3, 2), np.float32)}, "y: expected a contiguous float64 array"),
        ({"y": np.ones((3, 2)), "window": 1}, "window: expected 0 where y is given, got 1"),
        ({"window": -1}, "window: expected at least 0, got -1"),
        ({"k": 0}, "k: expected at least 1, got 0"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"kind": "cosine"}, "kind: expected one of sqeuclidean, manhattan, chebyshev, minkowski, got 'cosine'"),
        ({"kind": "minkowski", "p": 17}, "p: expected an integer from 1 to 16, got 17"),
        ({"groups": np.ones(3, np.int32)}, "groups, point_groups: expected both or neither"),
        (
            {"groups": np.ones(3, np.int64), "point_groups": np.ones(3, np.int32)},
            r"groups: expected a contiguous int32 array of shape \(3,\), got dtype int64",
        ),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"kind": "manhattan", "p": 0, "x": np.ones((3, 2)), "y": None, "k": 1}
    given |= {"groups": None, "point_groups": None, "window": 0, "threads": 1}
    from msma_fast import _native

    with pytest.raises(ValueError, match=message):
        _native.tree_knn(**(given | changes))


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match=r"threshold_keys: expected a contiguous float64 array of shape \(4,\), got"):
        Case(normal(4, 2)).counts(np.ones(3))


def test_a_tensor_elsewhere_is_refused() -> None:
    rows = Rows(torch.ones(2, 3, device="meta"))
    with pytest.raises(ValueError, match="x: expected a CPU tensor, got one on meta"):
        native_tree.tree_knn(Kernel("manhattan"), rows, rows, 1, None, None, 0)
