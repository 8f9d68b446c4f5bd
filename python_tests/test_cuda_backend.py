"""The CUDA backend over the emulator: every answer is the torch backend's, bit for bit, on data made to be hard.

Where Triton's interpreter runs beside it, the screened searches are tested: triton/test_cuda_screen.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hard_searches
import numpy as np
import pytest
import torch
from cuda_emulated import emulated_cuda

import msma_fast as mf
from msma_fast.backends import cuda, cuda_ksg, cuda_launch, cuda_search, registry
from msma_fast.backends.torch.admissible import Admissible

METRICS = ["euclidean", "manhattan", "chebyshev", "minkowski", "cosine", "correlation", "inner_product"]
KINDS = ["normal", "shifted", "huge coordinate", "duplicates", "lattice"]


@pytest.fixture(scope="module", autouse=True)
def emulated(emulated_file: Path) -> Iterator[ModuleType]:
    with emulated_cuda(emulated_file) as module:
        yield module


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, emulated: ModuleType) -> list[str]:
    """The kernels launched, by name."""
    seen: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            if name in ("knn", "radius_count", "select_large", "ksg"):
                seen.append(name)
            return getattr(emulated, name)

    for module in (cuda_launch, cuda_ksg, cuda_search):
        monkeypatch.setattr(module, "compiled", Watched)
    return seen


def data(kind: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    x = hard_searches.data(kind, n, d, seed)
    return x + 10.0 * np.arange(1, d + 1) if kind == "lattice" else x  # a row of equal numbers has no correlation


same = partial(hard_searches.same, "cuda")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_in_few_coordinates(kind: str, metric: str, launches: list[str]) -> None:
    for dtype in (np.float32, np.float64):
        same(data(kind, 67, 3).astype(dtype), 4, metric=metric, p=3.0)
    assert set(launches) == {"knn"}


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "minkowski"])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_in_many_coordinates(kind: str, metric: str, launches: list[str]) -> None:
    same(data(kind, 66, 37).astype(np.float32), 5, metric=metric, p=4.0)
    assert launches == ["knn"]


@pytest.mark.parametrize(("n", "m", "d", "k"), [(1, 2, 1, 1), (20, 21, 8, 21), (33, 129, 5, 65), (3, 1100, 2, 1024)])
def test_odd_shapes(n: int, m: int, d: int, k: int, launches: list[str]) -> None:
    same(data("normal", n, d), k, data("normal", m, d, 1))
    assert launches == ["knn"]


def test_more_neighbours_than_a_queue_holds(launches: list[str]) -> None:
    x, y = data("normal", 5, 2), data("normal", 1300, 2, 1)
    y[:, 0] = np.round(2 * y[:, 0])  # many equal distances, and no equal rows
    y[:, 1] /= 1000
    same(x, 1025, y, metric="chebyshev")
    same(
        y[:5], 1300, y, metric="chebyshev", groups=np.arange(5), point_groups=np.arange(1300) % 7
    )  # some are not there
    assert set(launches) == {"select_large"}


def test_separate_points_groups_and_window(launches: list[str]) -> None:
    x, y = data("normal", 40, 3), data("normal", 90, 3, 1)
    same(x, 5, y)
    same(x, 5, y, groups=np.arange(40) % 4, point_groups=np.arange(90) % 4)
    same(y, 5, groups=np.arange(90) // 7, window=3)
    same(y, 5, window=30)
    same(y, 8, groups=np.arange(90) // 85)  # most rows are left with 5 neighbours
    same(np.repeat(y, 3, 0), 4, groups=np.arange(270) // 9)
    assert set(launches) == {"knn"}


def test_candidates_are_the_admissible_points() -> None:
    x = data("normal", 50, 3)
    stats = same(x, 2, groups=np.arange(50) // 5, window=7)
    rows = np.arange(50)
    far = np.abs(rows[:, None] - rows[None, :]) > 7
    assert np.array_equal(stats.candidates, (far & (rows[:, None] // 5 != rows[None, :] // 5)).sum(1))


def test_admissible_points_of_queries_that_are_none_of_them() -> None:
    """A query without a column of its own excludes no more than its label does."""
    own, groups = torch.tensor([0, -1, 2]), torch.tensor([0, 1, 1], dtype=torch.int32)
    who = Admissible(own, groups, torch.tensor([0, 1, 1, 0], dtype=torch.int32))
    assert who.counts(3, 4).tolist() == who.mask(torch.arange(3), 4).sum(1).tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_counts_within_a_radius(kind: str, metric: str, launches: list[str]) -> None:
    x = data(kind, 67, 3).astype(np.float32)
    y = data(kind, 45, 3, 1).astype(np.float32)
    reach = mf.knn(x, 6, metric=metric, p=3.0, backend="torch").distances[:, -1]
    for closed in (True, False):
        options: dict[str, Any] = {"metric": metric, "p": 3.0, "closed": closed}
        ours = mf.radius_count(x, reach, groups=np.arange(67) // 3, window=1, backend="cuda", **options)
        assert np.array_equal(
            ours, mf.radius_count(x, reach, groups=np.arange(67) // 3, window=1, backend="torch", **options)
        )
        ours = mf.radius_count(x, reach, y, backend="cuda", **options)
        assert np.array_equal(ours, mf.radius_count(x, reach, y, backend="torch", **options))
    assert set(launches) == {"radius_count"}


def test_more_radii_than_a_launch_takes(launches: list[str]) -> None:
    from msma_fast.backends.torch.kernel import Kernel, Rows

    x = Rows(torch.from_numpy(data("normal", 30, 4)))
    tops = torch.linspace(0, 12, 70, dtype=torch.float64).expand(30, 70)
    found = cuda_search.within(Kernel("sqeuclidean"), x, x, tops, Admissible(torch.arange(30)))
    keys = (x.values[:, None] - x.values[None]).square().sum(2).fill_diagonal_(torch.inf)
    assert torch.equal(found, (keys[:, :, None] <= tops[:, None]).sum(1))
    assert launches == ["radius_count"] * 3


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("kind", ["normal", "shifted", "duplicates", "lattice"])
def test_mutual_information(kind: str, metric: str, method: str, launches: list[str]) -> None:
    x, y = data(kind, 61, 2), data(kind, 61, 11, 1)
    y[:, 0] += x[:, 0]
    layers = [x, y, x @ y[:2, :]]
    for options in ({}, {"groups": np.arange(61) // 3, "window": 2}):
        rest: dict[str, Any] = {"metric": metric, "method": method, **options}
        both = [mf.ksg_mi(x, y, [1, 4], backend=name, **rest) for name in ("cuda", "torch")]
        assert np.array_equal(*both)
        both = [mf.ksg_mi_matrix(layers, [3, 5], backend=name, **rest) for name in ("cuda", "torch")]
        np.testing.assert_allclose(both[0], both[1], rtol=1e-13, atol=1e-13)
    assert set(launches) == {"ksg"}


def test_permutations(launches: list[str]) -> None:
    x, y = data("normal", 40, 2), data("normal", 40, 2, 1)
    for groups in (None, np.arange(40) // 2):
        both = [
            mf.mi_permutation_test(x, y, 3, n_permutations=9, seed=0, groups=groups, backend=name)
            for name in ("cuda", "torch")
        ]
        np.testing.assert_allclose(both[0].null, both[1].null, rtol=1e-13, atol=1e-13)
        assert both[0].p_value == both[1].p_value
    assert set(launches) == {"ksg"}


def test_mutual_information_by_many_ks(launches: list[str]) -> None:
    x, y = data("normal", 50, 1), data("normal", 50, 1, 1)
    ks = list(range(1, 41))
    assert np.array_equal(*(mf.ksg_mi(x, y, ks, backend=name) for name in ("cuda", "torch")))
    assert launches == ["ksg", "ksg"]


def test_more_neighbours_than_ksg_holds(monkeypatch: pytest.MonkeyPatch, emulated: ModuleType) -> None:
    x, y = data("normal", 40, 1), data("normal", 40, 1, 1)

    class Small:
        MOST_NEIGHBORS, MOST_RADII = 5, 32

    monkeypatch.setattr(cuda_ksg, "compiled", Small)  # which has no kernel
    assert np.array_equal(*(mf.ksg_mi(x, y, [2, 5], backend=name) for name in ("cuda", "torch")))


def test_what_is_made_of_searches(launches: list[str]) -> None:
    x, y, z = (data("normal", 60, 2, seed) for seed in range(3))
    for call in (
        lambda name: mf.ksg_cmi(x, y, z, 3, backend=name),
        lambda name: mf.mixed_mi(x, y, 3, backend=name),
        lambda name: mf.ross_mi(x, np.arange(60) % 3, 3, backend=name),
        lambda name: mf.pairwise_distances(x, y, backend=name),
    ):
        assert np.array_equal(call("cuda"), call("torch"))
    assert {"knn", "radius_count"} <= set(launches)


def test_it_says_what_it_serves() -> None:
    entry = next(entry for entry in mf.backends() if entry.name == "cuda")
    assert entry.available
    assert "emulator" in entry.reason
    assert cuda.serves("knn", torch.device("cuda"))[0] is False
    assert mf.explain_backend("knn", data("normal", 5, 2), backend="cuda").startswith("knn on cpu: cuda")


def test_who_comes_first() -> None:
    """Searches, counts and KSG are CUDA's where both can serve; every other op is Triton's."""
    first = {
        op for op in registry._ops("torch") if registry.order(op).index("cuda") < registry.order(op).index("triton")
    }
    assert first == registry._CUDA_FIRST.keys()
    assert "fisher_rao_distances" not in first
    assert all(sorted(registry.order(op)) == sorted(registry.ORDER) for op in registry._ops("torch"))


def test_without_the_file_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MSMA_FAST_CUDA_EMULATED", str(tmp_path / "none.so"))
    cuda._load.cache_clear()
    cuda.available.cache_clear()
    able, reason = cuda.available()
    assert not able
    assert "MSMA_FAST_CUDA_EMULATED cannot be imported" in reason
    with pytest.raises(NotImplementedError, match="'cuda' cannot run here"):
        cuda.compiled()
    monkeypatch.undo()
    cuda._load.cache_clear()
    cuda.available.cache_clear()
