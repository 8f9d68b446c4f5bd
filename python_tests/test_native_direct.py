"""The compiled searches under manhattan, chebyshev and minkowski: keys, order and counts against the oracle's bits, on
every instruction set; the certificate of their screen under attack; what the screen cannot serve.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
import torch
from subprocesses import printed
from test_native import SETS

import msma_fast as mf
from msma_fast.backends import native, native_search
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

Array = np.ndarray[Any, Any]
KERNELS = {
    "manhattan": Kernel("manhattan"),
    "chebyshev": Kernel("chebyshev"),
    "minkowski 3": Kernel("minkowski", 3),
    "minkowski 4": Kernel("minkowski", 4),
    "minkowski 16": Kernel("minkowski", 16),
}
N = 809  # with n n pairs enough that the screen serves, and no multiple of anything
K = 6


def points(name: str, n: int = N, d: int = 29, dtype: Any = np.float32) -> Array:
    """(n, d) rows that are hard in one way each."""
    rng = np.random.default_rng([n, d])
    x = rng.standard_normal((n, d))
    top, tiny = float(np.finfo(dtype).max), float(np.finfo(dtype).smallest_subnormal)
    if name == "texts":  # correlated rows, some long, near ones side by side
        x = rng.standard_normal((n, 6)) @ rng.standard_normal((6, d)) + 0.3 * x
        x[:: n // 7] *= 40.0
        x[: n // 3] = x[0] + 0.1 * x[: n // 3]
    elif name == "ties":
        x = rng.integers(-3, 4, (n, d)).astype(float)
    elif name == "duplicates":
        x[n // 2 :] = x[: n - n // 2]
    elif name == "shifted":
        x += 1e6
    elif name == "huge coordinate":
        x[:, d // 2] += 1e5 * rng.standard_normal(n)
        x[5, 0] = 1e7
    elif name == "wide columns":  # several bytes of a sketch for some
        x *= 10.0 ** np.linspace(-1, 1.5, d)
    elif name == "large":
        x = rng.uniform(-1.0, 1.0, (n, d)) * 0.95 * top
    elif name == "subnormal":
        x = np.rint(50.0 * x) * tiny
    elif name == "small and large":
        x[: n // 2] *= 1e-30
    elif name == "one wide column":  # float32 codes under chebyshev
        x[:, 3] *= 1e3
    elif name == "clusters":
        x = 1e-3 * x + np.repeat([[-1e3], [1e3]], [n // 2, n - n // 2], 0)
    return x.astype(dtype)


CLOUDS = [
    "normal", "texts", "ties", "duplicates", "shifted", "huge coordinate", "wide columns", "large", "subnormal",
    "small and large", "one wide column", "clusters",
]  # fmt: skip


class Case(NamedTuple):
    """A search, by the oracle and compiled."""

    kernel: str
    x: Array
    y: Array | None = None
    groups: Array | None = None
    window: int = 0

    def keys(self) -> Array:
        kernel = KERNELS[self.kernel]
        with np.errstate(all="ignore"):
            return oracles.canonical_keys(self.x, self.x if self.y is None else self.y, kernel.kind, kernel.p)

    def allowed(self) -> Array:
        return oracles.admissible(
            len(self.x), None if self.y is None else len(self.y), self.groups, self.groups, self.window
        )

    def arguments(self) -> tuple[Kernel, Rows, Rows, Admissible]:
        x = Rows(torch.from_numpy(self.x))
        y = x if self.y is None else Rows(torch.from_numpy(self.y))
        groups = None if self.groups is None else torch.from_numpy(self.groups)
        own = torch.arange(len(self.x)) if self.y is None else None
        return KERNELS[self.kernel], x, y, Admissible(own, groups, groups, window=self.window)

    def knn(self, k: int = K) -> tuple[Array, Array, Array]:
        """(keys, indices, candidates)."""
        found = native_search.direct_search(*self.arguments(), k)
        return found.keys.numpy(), found.indices.numpy(), found.candidates.numpy()

    def counts(self, threshold: Array) -> Array:
        kernel, x, y, admissible = self.arguments()
        return native_search.direct_count(kernel, x, y, torch.from_numpy(threshold), admissible).numpy()

    def thresholds(self, keys: Array) -> Array:
        """(n,) some at a key, some between, below and above all of them."""
        order = np.sort(np.where(self.allowed(), keys, np.inf), 1)
        limits = order[np.arange(len(keys)), np.arange(len(keys)) % 40]
        limits[::5] = order[::5, order.shape[1] // 2]
        limits[3::50], limits[4::50], limits[6::50] = -1.0, np.inf, 0.0
        return limits

    def check(self, k: int = K) -> Array:
        """Raises unless the compiled answers are the oracle's; the candidates."""
        keys, allowed = self.keys(), self.allowed()
        nearest = oracles.nearest(keys, allowed, k)
        found, indices, candidates = self.knn(k)
        np.testing.assert_array_equal(indices, nearest.indices)
        np.testing.assert_array_equal(found, nearest.keys)
        limits = self.thresholds(keys)
        np.testing.assert_array_equal(self.counts(limits), ((keys <= limits[:, None]) & allowed).sum(1))
        assert (candidates <= allowed.sum(1)).all()
        return candidates


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_keys_order_and_counts(cloud: str, kernel: str, dtype: Any) -> None:
    Case(kernel, points(cloud, dtype=dtype)).check()


@pytest.mark.parametrize("kernel", ["manhattan", "chebyshev", "minkowski 3"])
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 64, 131, 300])
def test_dimensions(d: int, kernel: str) -> None:
    Case(kernel, points("normal", d=d)).check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_cross_searches(kernel: str) -> None:
    """Rows that lie elsewhere than the columns, too."""
    x, y = points("texts", 613), points("normal", 997)
    Case(kernel, x, y).check()
    Case(kernel, y + np.float32(3.0), x).check()
    Case(kernel, points("one wide column", 613), y).check()


@pytest.mark.parametrize("kernel", ["manhattan", "chebyshev", "minkowski 3"])
def test_groups_and_windows(kernel: str) -> None:
    x = points("texts")
    Case(kernel, x, groups=np.arange(N, dtype=np.int32) // 50).check()
    Case(kernel, x, window=30).check()
    Case(kernel, x, groups=(np.arange(N) < N - 3).astype(np.int32)).check()  # most rows have three others
    assert Case(kernel, x, groups=np.zeros(N, np.int32)).knn()[1].max() == -1


@pytest.mark.parametrize("kernel", ["manhattan", "chebyshev", "minkowski 3"])
@pytest.mark.parametrize("k", [1, 50, 51, 300, N - 1])
def test_numbers_of_neighbours(k: int, kernel: str) -> None:
    Case(kernel, points("texts")).check(k)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_screen_leaves_most_pairs_out(kernel: str) -> None:
    """A screen that keeps everything is no screen; `clusters` it cannot tell apart, and says so."""
    for cloud, most in [
        ("normal", 80),
        ("texts", 150),
        ("shifted", 80),
        ("wide columns", 150),
        ("one wide column", 150),
    ]:
        assert np.median(Case(kernel, points(cloud)).knn()[2]) < most, cloud
    found, stats = mf.knn(points("normal"), K, metric="manhattan", return_stats=True, backend="native")
    assert (stats.widened == 0).all()
    assert (stats.candidates >= K).all()
    assert (found.indices >= 0).all()
    assert (Case("manhattan", points("clusters")).knn()[2] == N - 1).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_that_are_not_finite(kernel: str) -> None:
    """More of them than neighbours, in the sample and outside it; finite rows find what they would without them."""
    x = points("normal", 1200)
    wrong = np.arange(1, 1200, 97)
    x[wrong[::2], 3] = np.nan
    x[wrong[1::2], 0] = np.inf
    clean = np.setdiff1d(np.arange(1200), wrong)
    keys, indices, _ = Case(kernel, x).knn()
    expected, nearest, _ = Case(kernel, x[clean]).knn()
    np.testing.assert_array_equal(indices[clean], clean[nearest])
    np.testing.assert_array_equal(keys[clean], expected)
    limits = np.full(1200, keys[clean, -1].mean())
    np.testing.assert_array_equal(Case(kernel, x).counts(limits)[clean], Case(kernel, x[clean]).counts(limits[clean]))
    assert (Case(kernel, x).counts(limits)[wrong] == 0).all()


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "minkowski"])
def test_unchecked_rows_through_the_public_door(metric: str) -> None:
    x = points("normal")
    x[7, 1], x[9, 2] = np.nan, np.inf
    clean = np.setdiff1d(np.arange(N), [7, 9])
    found = mf.knn(x, K, metric=metric, p=3.0, check_finite=False, backend="native")
    again = mf.knn(x[clean], K, metric=metric, p=3.0, backend="native")
    np.testing.assert_array_equal(found.indices[clean], clean[again.indices])


# Instruction sets and threads.

FINGERPRINTED = ["texts", "ties", "shifted", "wide columns", "one wide column", "large", "subnormal"]


def fingerprint(known: bool = False) -> str:
    """Of keys, order and counts: the compiled ones, or (`known`) the oracle's."""
    state = hashlib.sha256()
    for kernel in ("manhattan", "chebyshev", "minkowski 3"):
        for cloud in FINGERPRINTED:
            case = Case(kernel, points(cloud))
            keys = case.keys()
            limits = case.thresholds(keys)
            nearest = oracles.nearest(keys, case.allowed(), K) if known else None
            parts = case.knn()[:2] if nearest is None else (nearest.keys, nearest.indices)
            counts = ((keys <= limits[:, None]) & case.allowed()).sum(1) if known else case.counts(limits)
            for part in (*parts, counts.astype(np.int64)):
                state.update(np.ascontiguousarray(part).tobytes())
    return state.hexdigest()


@cache
def known_fingerprint() -> str:
    return fingerprint(known=True)


def candidates() -> str:
    """A fingerprint of what got a key, with one thread: with more the order of the tiles varies."""
    torch.set_num_threads(1)
    return hashlib.sha256(b"".join(Case(kernel, points("texts")).knn()[2].tobytes() for kernel in KERNELS)).hexdigest()


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set(cap: str) -> None:
    code = "import test_native_direct as t; print(t.fingerprint(), t.candidates())"
    out = printed(code, MSMA_FAST_CPU=cap)
    found, chosen = out.split()
    assert found == known_fingerprint()
    before = torch.get_num_threads()
    try:
        assert chosen == candidates()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_numbers_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert fingerprint() == known_fingerprint()
    finally:
        torch.set_num_threads(before)


# The certificate under attack.


def attacked(kernel: str, cloud: str, strength: float, y: Array | None = None) -> tuple[int, int]:
    """Answers that change when screened values move within `strength` times their bound: (by random signs, by the
    worst: the nearest pushed away, the others pulled near)."""
    case = Case(kernel, points(cloud), y)
    truth = case.keys()
    nearest = oracles.nearest(truth, case.allowed(), K)
    pivot = np.ascontiguousarray(nearest.keys[:, -1])
    limits = np.sort(truth, 1)[:, 30].copy()
    counts = ((truth <= limits[:, None]) & case.allowed()).sum(1)
    changed = []
    try:
        for push in (None, torch.from_numpy(pivot)):
            native_search.adversary = native_search.Adversary(strength, seed=3, pivot=push)
            keys, indices, _ = case.knn()
            changed.append(int((indices != nearest.indices).sum() + (keys != nearest.keys).sum()))
            if push is not None:
                native_search.adversary = native_search.Adversary(strength, seed=3, pivot=torch.from_numpy(limits))
            changed[-1] += int((case.counts(limits) != counts).sum())
    finally:
        native_search.adversary = None
    return changed[0], changed[1]


@pytest.mark.parametrize("kernel", ["manhattan", "chebyshev", "minkowski 3"])
@pytest.mark.parametrize("cloud", ["normal", "texts", "ties", "wide columns", "one wide column", "shifted"])
def test_errors_within_the_bound_change_nothing(cloud: str, kernel: str) -> None:
    assert attacked(kernel, cloud, 0.999) == (0, 0)


@pytest.mark.parametrize("kernel", ["manhattan", "chebyshev", "minkowski 3"])
def test_an_attack_on_a_cross_search(kernel: str) -> None:
    assert attacked(kernel, "texts", 0.999, points("normal", 701)) == (0, 0)
    assert attacked(kernel, "texts", 4.0, points("normal", 701))[1] > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_four_times_the_bound_breaks_the_search(kernel: str) -> None:
    assert attacked(kernel, "normal", 4.0)[1] > 0
    assert attacked(kernel, "one wide column", 4.0)[1] > 0


@pytest.mark.parametrize("cap", SETS)
def test_the_attack_on_every_instruction_set(cap: str) -> None:
    code = """
import test_native_direct as t
print([t.attacked(k, "normal", s)[1] > 0 for k in ("manhattan", "chebyshev", "minkowski 3") for s in (0.999, 4.0)])
"""
    out = printed(code, MSMA_FAST_CPU=cap)
    assert out == "[False, True, False, True, False, True]"
