"""Counts and neighbours from keys in registers: the oracle's integers, its neighbours and its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch

from msma_fast.backends import triton as backend
from msma_fast.backends import triton_direct
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Keys
from msma_fast.backends.torch.knn import Search
from msma_fast.backends.torch.prepare import kernel_of, prepare
from msma_fast.triton_kernels import direct

pytestmark = pytest.mark.usefixtures("strict")

METRICS = [
    ("euclidean", 2.0),
    ("manhattan", 1.0),
    ("chebyshev", 2.0),
    ("minkowski", 3.0),
    ("minkowski", 16.0),
    ("inner_product", 2.0),
    ("cosine", 2.0),
]
KINDS = ["normal", "shifted", "huge coordinate", "duplicates", "lattice"]


def data(kind: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "shifted":
        x += 1e6
    if kind == "huge coordinate":
        x[0, 0] = 1e15
    if kind == "duplicates":
        x = x[rng.integers(0, max(1, n // 3), n)]
    if kind == "lattice":
        x = np.round(x * 2) + 0.5
    return x


def rule(n: int, m: int | None, groups: Any, point_groups: Any, window: int) -> Admissible:
    labels, others = (
        None if each is None else torch.from_numpy(np.asarray(each)).to(torch.int32) for each in (groups, point_groups)
    )
    return Admissible(torch.arange(n) if m is None else None, labels, labels if m is None else others, window=window)


def radii_of(keys: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n, count): keys of other pairs, which are ties of some, and the numbers just below."""
    rng = np.random.default_rng(seed)
    top = rng.choice(keys.ravel(), (len(keys), count))
    top[:, 0] = keys[np.arange(len(keys)), rng.integers(0, keys.shape[1], len(keys))]
    return np.where(rng.random(top.shape) < 0.3, np.nextafter(top, -np.inf), top)


def check_counts(
    x: np.ndarray, y: np.ndarray | None, metric: str, p: float, radii: int, dtype: Any = torch.float64,
    groups: Any = None, point_groups: Any = None, window: int = 0,
) -> None:  # fmt: skip
    left = prepare(torch.from_numpy(x).to(dtype), metric, "x")
    right = left if y is None else prepare(torch.from_numpy(y).to(dtype), metric, "y")
    keys = oracles.canonical_keys(left.values.double().numpy(), right.values.double().numpy(), metric, p)
    allowed = oracles.admissible(len(x), None if y is None else len(y), groups, point_groups, window)
    top = radii_of(keys, radii, 1)
    who = rule(len(x), None if y is None else len(y), groups, point_groups, window)
    found = triton_direct.counts(kernel_of(metric, p, None), left, right, torch.from_numpy(top), who).numpy()
    wanted = ((keys[:, :, None] <= top[:, None, :]) & allowed[:, :, None]).sum(1)
    assert wanted.min() < wanted.max() or len(x) == 1
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("metric", "p"), METRICS)
def test_counts_of_hard_data(metric: str, p: float) -> None:
    for kind in KINDS:
        check_counts(data(kind, 17, 3 if kind == "normal" else 9), None, metric, p, 1)
    for kind in ("huge coordinate", "lattice"):
        check_counts(data(kind, 19, 19), data(kind, 139, 19, 1), metric, p, 2)
    check_counts(data("normal", 7, 11), data("lattice", 13, 11, 1), metric, p, 6)


@pytest.mark.parametrize("d", [1, 2, 8, 16, 17, 24])
def test_counts_in_every_width(d: int) -> None:
    check_counts(data("normal", 11, d), data("normal", 29, d, 1), "manhattan", 1.0, 5)
    check_counts(data("normal", 11, d), data("normal", 29, d, 1), "chebyshev", 2.0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_counts_of_other_dtypes(dtype: Any) -> None:
    for d in (4, 18):
        check_counts(data("normal", 30, d), None, "euclidean", 2.0, 2, dtype)


@pytest.mark.parametrize("d", [2, 18])
def test_who_is_counted(d: int) -> None:
    x, y = data("normal", 70, d), data("normal", 131, d, 1)
    labels = np.arange(70) // 3
    check_counts(x, None, "manhattan", 1.0, 1, groups=labels)
    check_counts(x, None, "manhattan", 1.0, 2, window=5)
    check_counts(x, None, "manhattan", 1.0, 1, groups=labels, window=69 // 2)
    check_counts(x, y, "manhattan", 1.0, 2, groups=np.arange(70) % 4, point_groups=np.arange(131) % 4)
    check_counts(x[:1], y, "manhattan", 1.0, 1)
    check_counts(x, y[:1], "manhattan", 1.0, 1)


def test_more_queries_than_a_block() -> None:
    x = data("normal", 1030, 1)
    check_counts(x, None, "chebyshev", 2.0, 1, window=1)


@pytest.mark.parametrize("radii", [1, 2])
def test_a_program_of_several_tiles(monkeypatch: pytest.MonkeyPatch, radii: int) -> None:
    monkeypatch.setattr(direct, "PROGRAMS", 1)
    check_counts(data("normal", 18, 17), data("normal", 300, 17, 1), "manhattan", 1.0, radii)


@pytest.mark.parametrize("d", [3, 20])
def test_a_query_may_have_no_column_of_its_own(d: int) -> None:
    x = torch.from_numpy(data("normal", 40, d))
    own = torch.tensor([5, -1, 39, 0] * 10)
    rows = prepare(x, "manhattan", "x")
    top = torch.full((40, 1), float("inf"), dtype=torch.float64)
    found = triton_direct.counts(kernel_of("manhattan", 1.0, None), rows, rows, top, Admissible(own))
    assert found[:, 0].tolist() == [39, 40, 39, 39] * 10
    assert not triton_direct.counts(kernel_of("manhattan", 1.0, None), rows, rows, -top, Admissible(own)).any()


@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize("metric", ["manhattan", "chebyshev"])
def test_nan_is_in_no_radius(d: int, metric: str) -> None:
    x = torch.from_numpy(data("normal", 20, d))
    x[4, d - 1] = float("nan")
    rows = prepare(x, metric, "x")
    top = torch.full((20, 1), 1e300, dtype=torch.float64)
    found = triton_direct.counts(kernel_of(metric, 1.0, None), rows, rows, top, Admissible(torch.arange(20)))
    assert found[:, 0].tolist() == [0 if i == 4 else 18 for i in range(20)]


@pytest.mark.parametrize("d", [5, 20])
def test_equal_rows_have_cosine_zero(d: int) -> None:
    """Of many rows some have a product that is not quite that of the norms."""
    x = prepare(torch.from_numpy(data("normal", 90, d)), "cosine", "x")
    assert x.norms is not None
    assert (1.0 - (x.values * x.values).sum(1) / (x.norms * x.norms)).max() > 0
    top = torch.zeros(90, 1, dtype=torch.float64)
    assert (triton_direct.counts(kernel_of("cosine", 2.0, None), x, x, top, Admissible()) == 1).all()


@pytest.mark.parametrize("d", [3, 18])
@pytest.mark.parametrize("metric", ["manhattan", "chebyshev"])
def test_second_labels(metric: str, d: int) -> None:
    x, labels = data("normal", 40, d), np.arange(40) // 3
    rows, keys = prepare(torch.from_numpy(x), metric, "x"), oracles.canonical_keys(x, x, metric)
    second = np.random.default_rng(1).permutation(40) // 4
    allowed = oracles.admissible(40, None, labels, None, 1) & (second[:, None] != second[None, :])
    for radii in (1, 5):
        top = radii_of(keys, radii, 1)
        who = rule(40, None, labels, None, 1)._replace(partners=torch.from_numpy(second))
        found = triton_direct.counts(kernel_of(metric, 1.0, None), rows, rows, torch.from_numpy(top), who).numpy()
        assert np.array_equal(found, ((keys[:, :, None] <= top[:, None, :]) & allowed[:, :, None]).sum(1))


def check_nearest(
    x: np.ndarray, k: int, metric: str, p: float, y: np.ndarray | None = None, groups: Any = None,
    point_groups: Any = None, window: int = 0,
) -> Any:  # fmt: skip
    left = prepare(torch.from_numpy(x), metric, "x")
    right = left if y is None else prepare(torch.from_numpy(y), metric, "y")
    m = None if y is None else len(y)
    kernel = kernel_of(metric, p, None)
    provider = Keys(backend.pair_keys, backend.block_keys, frozenset([kernel.kind]))
    search = Search(provider, kernel, left, right, rule(len(x), m, groups, point_groups, window), k)
    found = triton_direct.nearest_direct(search)
    keys = oracles.canonical_keys(x, x if y is None else y, metric, p)
    wanted = oracles.nearest(keys, oracles.admissible(len(x), m, groups, point_groups, window), k)
    assert np.array_equal(found.indices.numpy(), wanted.indices)
    assert np.array_equal(found.keys.numpy(), wanted.keys)
    assert (found.level == 2).all()
    return found


@pytest.mark.parametrize(("metric", "p"), METRICS)
def test_nearest_of_hard_data(metric: str, p: float) -> None:
    for kind in KINDS:
        check_nearest(data(kind, 30, 5), 3, metric, p)
    check_nearest(data("normal", 17, 18), 3, metric, p, data("normal", 131, 18, 1))


def test_nearest_of_those_admissible(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data("lattice", 70, 3), data("lattice", 150, 3, 1)
    check_nearest(x, 5, "manhattan", 1.0, y, np.arange(70) % 4, np.arange(150) % 4)
    check_nearest(y, 5, "chebyshev", 2.0, groups=np.arange(150) // 7, window=3)
    check_nearest(y, 8, "manhattan", 1.0, groups=1 + np.arange(150) // 145)  # most rows are left with 5 neighbours
    monkeypatch.setattr(triton_direct, "_ENTRIES", 3000)  # blocks of a few queries
    check_nearest(x, 5, "manhattan", 1.0, groups=np.arange(70) // 3, window=2)


def test_a_sample_of_the_points_bounds_the_neighbours() -> None:
    found = check_nearest(data("normal", 20, 4), 1, "manhattan", 1.0, data("normal", 700, 4, 1))
    assert (found.candidates >= 1).all()
    assert (found.candidates < 100).all()
    assert found.candidates.double().mean() > 1.5  # the bound is not that of all points


def test_lists_that_overflow() -> None:
    x = np.zeros((200, 2))
    x[:20] = data("normal", 20, 2)
    found = check_nearest(x, 2, "chebyshev", 2.0)
    assert (found.candidates[20:] == 199).all()
    assert (found.candidates[:20] < 199).any()
