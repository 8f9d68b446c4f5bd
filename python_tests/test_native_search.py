"""The compiled searches: the same answers on every instruction set and thread count, the certificate under attack, rows
that cannot be certified, memory, forks and concurrent callers. That the answers are right is tested with the torch
backend's, against the oracles, in test_neighbors.py and test_extremes.py.
"""

from __future__ import annotations

import hashlib
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from subprocesses import printed
from test_native import SETS

import msma_fast as mf
from msma_fast.backends import native, native_search

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

Array = np.ndarray[Any, Any]
SCREENED = ["euclidean", "cosine", "correlation", "inner_product", "mahalanobis"]
DIRECT = ["manhattan", "chebyshev", "minkowski"]


def cloud(n: int, d: int, seed: int = 0) -> Array:
    """Correlated rows in texts, a few very long ones, one huge coordinate, and duplicates."""
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, 6)) @ rng.standard_normal((6, d)) + 0.3 * rng.standard_normal((n, d))
    x[:: max(1, n // 7)] *= 40.0
    x[:, 0] += 900.0
    x[n // 2 : n // 2 + n // 10] = x[: n // 10]
    return x.astype(np.float32)


def options(metric: str, d: int) -> dict[str, Any]:
    if metric == "mahalanobis":
        root = np.random.default_rng(d).standard_normal((d, d))
        return {"metric": metric, "metric_tensor": root @ root.T}
    return {"metric": metric, "p": 3.0} if metric == "minkowski" else {"metric": metric}


def digest() -> str:
    """Of searches of every kind: distances, order and counts; and the candidates of a screen that loses no row."""
    state = hashlib.sha256()
    _, stats = mf.knn(CLOUDS["gaussian"], K, backend="native", return_stats=True)
    assert not stats.widened.any()
    state.update(stats.candidates.tobytes())
    for n, d in [(300, 3), (301, 17), (1500, 64), (700, 577)]:
        x, groups = cloud(n, d), np.arange(n) // 9
        for metric in SCREENED + DIRECT:
            if metric == "mahalanobis" and d > 100:
                continue
            how = options(metric, d)
            for rules in ({}, {"groups": groups}, {"window": 4}):
                found = mf.knn(x, 7, backend="native", **how, **rules)
                radius = found.distances[:, -1]
                counts = mf.radius_count(x, radius, backend="native", closed=True, **how, **rules)
                for part in (found.distances, found.indices, counts):
                    state.update(np.ascontiguousarray(part).tobytes())
        cross = mf.knn(x[: n // 3], 4, points=x[n // 3 :].astype(np.float64), backend="native")
        state.update(cross.indices.tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set_gives_the_same_answers_and_candidates(cap: str) -> None:
    out = printed("import test_native_search as t; print(t.digest())", MSMA_FAST_CPU=cap)
    assert out == digest()


def test_thread_counts_give_the_same_answers_and_candidates() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(digest())
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


# The certificate under attack.

CLOUDS = {
    "texts": np.unique(cloud(400, 40), axis=0),
    "integers": np.random.default_rng(0).integers(-8, 9, (1300, 16)).astype(np.float32),
    "gaussian": np.random.default_rng(1).standard_normal((1300, 33)).astype(np.float32),
    "long": (np.random.default_rng(2).standard_normal((500, 20)) * 10.0 ** np.linspace(0, 4, 500)[:, None]).astype(
        "f4"
    ),
}
K = 5


def kth_keys(x: Array, metric: str) -> torch.Tensor:
    """(n,) the key up to which a row's pairs are its k nearest."""
    distances = mf.knn(x.astype(np.float64), K, metric=metric, backend="torch").distances[:, -1]
    keys = distances**2 if metric == "euclidean" else distances
    return torch.from_numpy(keys * (1.0 + 1e-12 * np.sign(keys)))


def answers(x: Array, metric: str, radius: float) -> tuple[Array, ...]:
    found = mf.knn(x, K, metric=metric, backend="native")
    return found.indices, found.distances, mf.radius_count(x, radius, metric=metric, backend="native")


def attacked(metric: str, name: str, strength: float) -> tuple[int, int]:
    """Answers that change when screened values move within `strength` times their bound: (by random signs, by the worst)."""
    x = CLOUDS[name]
    kth = kth_keys(x, metric)
    radius = float(np.median(mf.knn(x, K, metric=metric, backend="torch").distances[:, -1]))
    truth = answers(x, metric, radius)
    changed = []
    try:
        for pivot in (None, kth):
            native_search.adversary = native_search.Adversary(strength, seed=3, pivot=pivot)
            changed.append(sum(int((a != b).sum()) for a, b in zip(answers(x, metric, radius), truth, strict=True)))
    finally:
        native_search.adversary = None
    return changed[0], changed[1]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("name", CLOUDS)
def test_errors_within_the_bound_change_nothing(name: str, metric: str) -> None:
    assert attacked(metric, name, 0.999) == (0, 0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_four_times_the_bound_breaks_the_search(metric: str) -> None:
    assert attacked(metric, "gaussian", 4.0)[1] > 0


@pytest.mark.parametrize("cap", SETS)
def test_the_attack_on_every_instruction_set(cap: str) -> None:
    code = """
import test_native_search as t
print([t.attacked(m, "gaussian", s)[1] > 0 for m in ("euclidean", "inner_product") for s in (0.999, 4.0)])
"""
    out = printed(code, MSMA_FAST_CPU=cap)
    assert out == "[False, True, False, True]"


# Rows that the screen cannot certify, and searches that it does not serve.


def test_rows_with_too_many_candidates_get_every_key() -> None:
    """Two tight clusters far apart and far from their coordinate-wise median: within a cluster eight bits cannot tell
    anything."""
    rng = np.random.default_rng(0)
    centre = 1e3 * rng.choice([-1.0, 1.0], 32)
    x = (rng.standard_normal((4000, 32)) * 1e-3 + np.repeat([centre, -centre], 2000, 0)).astype(np.float32)
    found, stats = mf.knn(x, 3, backend="native", return_stats=True)
    assert (stats.widened == 2).all()
    assert (stats.candidates == 3999).all()
    rows = np.arange(0, 4000, 400)
    keys = ((x[rows, None].astype(np.float64) - x[None].astype(np.float64)) ** 2).sum(2)
    keys[np.arange(10), rows] = np.inf
    np.testing.assert_allclose(found.distances[rows], np.sort(np.sqrt(keys), 1)[:, :3], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_of_short_numbers_are_found(dtype: type) -> None:
    """Their bits lie at the top of a float64."""
    rng = np.random.default_rng(0)
    x: Array = rng.integers(-100, 100, (5000, 16)).astype(dtype)
    units = native_search.find_units(torch.from_numpy(np.concatenate([x, x])), None)
    assert units is not None
    assert len(np.unique(x, axis=0)) == 5000
    np.testing.assert_array_equal(units.first.numpy(), np.arange(5000))
    np.testing.assert_array_equal(units.size.numpy(), 2)


def test_rows_that_had_no_room_are_screened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tight clusters and many neighbours: the reservoirs ask for more memory than there is."""
    rng = np.random.default_rng(0)
    centres = rng.choice([-1.0, 1.0], (8, 32))
    x = (centres[rng.integers(0, 8, 9000)] + 0.03 * rng.standard_normal((9000, 32))).astype(np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, stats = mf.knn(x, 600, backend="native", return_stats=True)
        monkeypatch.setattr(native_search, "_FEW", len(x))
        once, once_stats = mf.knn(x, 600, backend="native", return_stats=True)
    finally:
        torch.set_num_threads(threads)
    assert (stats.widened == native_search.FINE).sum() > 0
    assert (stats.widened == 2).sum() < (once_stats.widened == 2).sum()
    np.testing.assert_array_equal(found.indices, once.indices)
    np.testing.assert_array_equal(found.distances, once.distances)
    rows = np.arange(0, 9000, 500)
    others = rows[:, None] != np.arange(9000)
    expected = oracles.nearest(oracles.canonical_keys(x[rows], x, "euclidean"), others, 600)
    np.testing.assert_array_equal(found.indices[rows], expected.indices)


def test_most_rows_of_real_shape_are_certified() -> None:
    _, stats = mf.knn(cloud(2000, 96), 10, backend="native", return_stats=True)
    assert np.median(stats.candidates) < 100
    assert (stats.widened == 0).mean() > 0.95


@pytest.mark.parametrize("k", [120, 299])
def test_large_k(k: int) -> None:
    x = cloud(300, 20)
    found = mf.knn(x, k, backend="native")
    expected = mf.knn(x, k, backend="torch")
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("d", [4, 40])
def test_nan_rows_end_last_and_never_crash(d: int) -> None:
    x = np.random.default_rng(0).standard_normal((200, d)).astype(np.float32)
    x[7, 1] = np.nan
    x[9, 2] = np.inf
    found = mf.knn(x, 5, check_finite=False, backend="native")
    clean = np.setdiff1d(np.arange(200), [7, 9])
    again = mf.knn(x[clean], 5, backend="native")
    np.testing.assert_array_equal(found.indices[clean], clean[again.indices])
    assert mf.radius_count(x, 1.0, check_finite=False, backend="native")[7] == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nan_outside_the_sample_of_the_shift(metric: str) -> None:
    x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    x[7, 0] = np.nan
    found = mf.knn(x, 5, metric=metric, check_finite=False, backend="native")
    clean = np.delete(np.arange(2000), 7)
    np.testing.assert_array_equal(found.indices[clean], clean[mf.knn(x[clean], 5, metric=metric).indices])


def test_products_whose_squares_underflow() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 40))
    y = 1e-170 * (1.0 + 2.0**-52 * rng.integers(-8, 9, (800, 40)))
    found = mf.knn(x, 5, points=y, metric="inner_product", backend="native")
    expected = np.argsort(oracles.canonical_keys(x, y, "inner_product"), 1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found.indices, expected)


@pytest.mark.parametrize("metric", DIRECT)
def test_direct_metrics_against_the_oracle(metric: str) -> None:
    x = cloud(500, 21)
    found = mf.knn(x, 6, backend="native", **options(metric, 21))
    difference = np.abs(x[:, None].astype(np.float64) - x[None].astype(np.float64))
    keys = {"manhattan": difference.sum(2), "chebyshev": difference.max(2), "minkowski": (difference**3).sum(2)}[metric]
    np.fill_diagonal(keys, np.inf)
    wanted = np.sort(keys, 1)[:, :6]
    np.testing.assert_allclose(np.take_along_axis(keys, found.indices, 1), wanted, rtol=1e-12)


# Memory, threads, forks.


def peak_growth(n: int, d: int, k: int) -> tuple[float, float]:
    """(MiB that a search adds at its peak, MiB that it may)."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((n, d)).astype(np.float32))
    mf.knn(x[:400], k, backend="native")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mf.knn(x, k, backend="native")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    allowed = (0.6 * n * d * 4 + n * k * 13 + 16 * k * n) / 2**20 + 64 * torch.get_num_threads()
    return grown, allowed


@pytest.mark.parametrize(("n", "d", "k"), [(30_000, 96, 15), (6_000, 600, 15), (60_000, 3, 5)])
def test_memory(n: int, d: int, k: int) -> None:
    out = printed(f"import test_native_search as t; print(*t.peak_growth({n}, {d}, {k}))", OMP_NUM_THREADS="2")
    grown, allowed = map(float, out.split())
    assert grown <= allowed


def test_concurrent_callers() -> None:
    x = cloud(900, 48)
    expected = mf.knn(x, 6, backend="native").indices
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: mf.knn(x, 6, backend="native").indices, range(8)):
            np.testing.assert_array_equal(found, expected)


def test_a_forked_child_searches() -> None:
    """After the parent has used torch's own threads, which do not survive a fork."""
    x = cloud(900, 96)
    torch.set_num_threads(2)
    expected = mf.knn(x, 6, backend="native").indices
    child = os.fork()
    if child == 0:  # pragma: no cover
        os._exit(0 if (mf.knn(x, 6, backend="native").indices == expected).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.slow
def test_more_pairs_than_an_int32_counts() -> None:
    """n m > 2^31, against the oracle's order on a few rows."""
    x = np.random.default_rng(0).standard_normal((50_000, 24)).astype(np.float32)
    found = mf.knn(x, 4, backend="native")
    rows = np.array([0, 1, 24_999, 49_998, 49_999])
    keys = ((x[rows, None].astype(np.float64) - x[None].astype(np.float64)) ** 2).sum(2)
    keys[np.arange(5), rows] = np.inf
    np.testing.assert_array_equal(found.indices[rows], np.argsort(keys, 1, kind="stable")[:, :4])
