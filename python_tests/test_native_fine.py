"""Codes of sixteen bits: the answers of the oracle, the same on every instruction set, under attack, and used where eight
bits leave nearly every pair undecided."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np
import oracles
import pytest
from subprocesses import printed
from test_native import SETS
from test_native_search import attacked, cloud

import msma_fast as mf
from msma_fast.backends import native, native_search

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

METRICS = ["euclidean", "cosine", "inner_product"]


def refine_everything() -> None:
    """Every search screens with fine codes from the start."""
    native_search.sides = partial(native_search.sides, fine=True)


@pytest.fixture
def finely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_search, "sides", partial(native_search.sides, fine=True))


def agree(x: np.ndarray, k: int, metric: str, **options: Any) -> None:
    """knn and radius_count are the torch backend's."""
    found, stats = mf.knn(x, k, metric=metric, return_stats=True, backend="native", **options)
    expected = mf.knn(x, k, metric=metric, backend="torch", **options)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert (stats.widened == 0).all()  # certified by the first screen, which is the fine one
    radius = found.distances[:, -1]
    for closed in (False, True):
        counts = [
            mf.radius_count(x, radius, metric=metric, closed=closed, backend=backend, **options)
            for backend in ("native", "torch")
        ]
        np.testing.assert_array_equal(*counts)


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d"), [(60, 9), (301, 17), (700, 63), (500, 577), (97, 2050)])
def test_fine_codes_give_the_same_answers(n: int, d: int, metric: str) -> None:
    agree(cloud(n, d), 5, metric)
    if metric != "inner_product":
        agree(cloud(n, d).astype(np.float64), 5, metric, groups=np.arange(n) // 3, window=2)


@pytest.mark.usefixtures("finely")
def test_the_largest_codes() -> None:
    """Rows whose codes are all the largest there are, of either sign: their products need every bit."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (200, 4096))
    agree((signs * rng.choice([1.0, 1.0 - 2.0**-9], (200, 1))).astype(np.float32), 3, "euclidean")
    ones = np.ones((200, 4096), np.float32)
    ones[np.arange(200), rng.integers(0, 4096, 200)] += np.linspace(0, 1e-3, 200, dtype=np.float32)
    agree(ones, 3, "inner_product")


@pytest.mark.usefixtures("finely")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["texts", "integers", "gaussian", "long"])
def test_errors_within_the_bound_change_nothing(name: str, metric: str) -> None:
    assert attacked(metric, name, 0.999) == (0, 0)


def digest() -> str:
    state = hashlib.sha256()
    for n, d in ((700, 33), (400, 577), (200, 1500)):
        x = np.random.default_rng(d).standard_normal((n, d)).astype(np.float32)
        for metric in METRICS:
            found, stats = mf.knn(x, 7, metric=metric, backend="native", return_stats=True)
            for part in (found.indices, found.distances, stats.candidates):
                state.update(np.ascontiguousarray(part).tobytes())
    return state.hexdigest()


def four_times_the_bound() -> list[bool]:
    return [attacked(metric, "gaussian", 4.0)[1] > 0 for metric in METRICS]


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set(cap: str, finely: None) -> None:
    """The same answers and candidates; within the bound nothing breaks, with four times the bound every metric does."""
    code = """
import test_native_fine as t
t.refine_everything()
print(t.digest(), t.attacked("euclidean", "gaussian", 0.999), all(t.four_times_the_bound()))
"""
    out = printed(code, MSMA_FAST_CPU=cap)
    assert out == f"{digest()} (0, 0) True"


@pytest.mark.parametrize("metric", METRICS)
def test_fine_codes_take_over_where_eight_bits_decide_nothing(metric: str) -> None:
    x = np.random.default_rng(0).standard_normal((3000, 3000), dtype=np.float32)
    found, stats = mf.knn(x, 5, metric=metric, backend="native", return_stats=True)
    assert (stats.widened == native_search.FINE).mean() > 0.95
    assert np.median(stats.candidates) < 150
    rows = np.arange(0, 3000, 100)
    expected = oracles.nearest(oracles.canonical_keys(x[rows], x, metric), rows[:, None] != np.arange(3000), 5)
    np.testing.assert_array_equal(found.indices[rows], expected.indices)
