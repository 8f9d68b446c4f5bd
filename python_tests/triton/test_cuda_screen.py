"""Screened searches by CUDA and Triton together: lists and canonical ends by CUDA over its emulator, the rest in Triton's
interpreter. Answers are the torch backend's, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import hard_searches
import numpy as np
import pytest
import torch
from cuda_emulated import emulated_cuda
from hard_searches import data

import msma_fast as mf
from msma_fast.backends import cuda_launch, cuda_search, triton_search
from msma_fast.backends.torch import knn
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.triton import interpreted

pytestmark = [
    pytest.mark.usefixtures("strict"),
    pytest.mark.skipif(not interpreted(), reason="the emulator's tensors are the interpreter's"),
]


@pytest.fixture(scope="module", autouse=True)
def emulated(emulated_file: Path) -> Iterator[ModuleType]:
    with emulated_cuda(emulated_file) as module:
        yield module


@pytest.fixture(autouse=True)
def _exact_products(emulated: ModuleType) -> None:
    emulated.set_product_error(0.0)


@pytest.fixture(autouse=True)
def _two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of few points the first half is collected first, and bounds the second."""
    monkeypatch.setattr(cuda_launch, "FIRST", 2)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The CUDA steps of the searches, by name."""
    seen: list[str] = []
    for module, name in ((cuda_launch, "collect"), (cuda_search, "finish")):
        plain = getattr(module, name)

        def watched(*arguments: Any, name: str = name, plain: Any = plain) -> Any:
            seen.append(name)
            return plain(*arguments)

        monkeypatch.setattr(module, name, watched)
    return seen


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The direct launches, by name."""
    seen: list[str] = []
    for name in ("knn", "radius_count"):
        plain = getattr(cuda_launch, name)

        def watched(*arguments: Any, name: str = name, plain: Any = plain, **more: Any) -> Any:
            seen.append(name)
            return plain(*arguments, **more)

        monkeypatch.setattr(cuda_launch, name, watched)
    return seen


same = partial(hard_searches.same, "cuda")


@pytest.mark.parametrize(
    ("kind", "metric", "dtype"),
    [
        ("shifted", "euclidean", np.float64),
        ("huge coordinate", "euclidean", np.float32),
        ("huge coordinate", "inner_product", np.float64),
        ("duplicates", "cosine", np.float32),
        ("lattice", "inner_product", np.float32),
    ],
)
def test_hard_data(kind: str, metric: str, dtype: type, steps: list[str]) -> None:
    same(data(kind, 130, 9).astype(dtype), 4, metric=metric)
    assert steps == ["collect", "finish"]


@pytest.mark.parametrize(("n", "d", "k"), [(65, 33, 16), (257, 130, 3)])
def test_odd_shapes(n: int, d: int, k: int, steps: list[str]) -> None:
    same(data("normal", n, d), k)
    assert steps == ["collect", "finish"]


def test_the_screen_drops_most_and_certifies() -> None:
    stats = same(data("normal", 300, 40).astype(np.float32), 5)
    assert np.median(stats.candidates) < 15
    assert (stats.widened == 0).all()


def test_separate_points_groups_and_window(steps: list[str]) -> None:
    x, y = data("normal", 70, 16), data("normal", 150, 16, 1)
    same(x, 5, y, groups=np.arange(70) % 4, point_groups=np.arange(150) % 4)
    same(y, 8, groups=np.arange(150) // 145, window=3)  # most rows are left with 5 neighbours
    assert steps == ["collect", "finish"] * 2


def test_rows_whose_list_overflows_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[int] = []

    def search_all(search: Any) -> Any:
        again.append(search.x.values.shape[0])
        return knn.search_all(search)

    monkeypatch.setattr(triton_search, "room", lambda _: 2)
    monkeypatch.setattr(triton_search, "search_all", search_all)
    same(data("normal", 200, 12), 5)
    assert sum(again) > 100


def test_few_neighbours_of_many_take_every_key(steps: list[str]) -> None:
    stats = same(data("normal", 60, 12), 20)
    assert (stats.widened == 2).all()
    assert steps == []


POINTS = {
    "integers": np.random.default_rng(0).integers(-8, 9, (260, 16)).astype(np.float32),
    "normal": data("normal", 260, 16),
    "long": (data("normal", 260, 12) * 10.0 ** np.linspace(0, 4, 260)[:, None]).astype(np.float32),
}


ATTACKS = [
    pytest.param(*each, marks=() if each[2] == "shrink" or each[:2] == ("integers", "euclidean") else pytest.mark.slow)
    for each in product(POINTS, ["euclidean", "cosine", "inner_product"], ["random", "up", "down", "shrink"])
]


@pytest.mark.parametrize(("points", "metric", "sign"), ATTACKS)
def test_errors_of_products_within_the_bound_change_nothing(
    points: str, metric: str, sign: str, emulated: ModuleType, steps: list[str]
) -> None:
    """Nine tenths of the declared error kappa |a||b|, the worst signs included; the sums' own roundings are the rest."""
    kappa, _, _ = screens.constants(POINTS[points].shape[1], 0)
    emulated.set_product_error(0.9 * kappa, emulated.ProductSign.__members__[sign])
    same(POINTS[points], 5, metric=metric)
    assert steps == ["collect", "finish"]


def test_the_first_part_bounds_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    plain = cuda_launch.collect

    def watched(x: Any, y: Any, rule: Any, top: torch.Tensor, limit: int, better: Any) -> Any:
        def noted(lists: Any) -> torch.Tensor:
            found = better(lists)
            assert (found <= top).all()
            seen.append((float(top[:200].mean()), float(found[:200].mean())))
            return found

        return plain(x, y, rule, top, limit, noted)

    monkeypatch.setattr(cuda_launch, "collect", watched)
    same(data("normal", 200, 24), 3)
    ((first, second),) = seen
    assert second <= first


def test_few_queries_are_left_to_kernels_that_split_the_points(launched: list[str]) -> None:
    x, y = data("normal", 20, 3), data("normal", 150, 3, 1)
    same(x, 4, y, metric="manhattan")
    reach = np.full(20, 1.0)
    ours, theirs = (mf.radius_count(x, reach, y, metric="manhattan", backend=name) for name in ("cuda", "torch"))
    assert np.array_equal(ours, theirs)
    assert launched == []


@pytest.mark.parametrize("sign", ["random", "down", "shrink"])
def test_four_times_the_bound_loses_neighbours(sign: str, emulated: ModuleType) -> None:
    """Integers on a line: bfloat16 loses nothing of them, and the declared error of the products is the whole bound."""
    x = np.zeros((200, 16), np.float32)
    x[:, 0] = np.arange(200) - 100
    kappa, _, _ = screens.constants(16, 0)
    wanted = mf.knn(x, 5, backend="torch").indices
    lost = {}
    for times in (0.9, 4.0):
        emulated.set_product_error(times * kappa, emulated.ProductSign.__members__[sign])
        lost[times] = (mf.knn(x, 5, backend="cuda").indices != wanted).any()
    assert lost == {0.9: False, 4.0: True}


def test_counts_within_a_radius() -> None:
    x = data("normal", 130, 20).astype(np.float32)
    low = data("normal", 130, 3).astype(np.float32)
    for rows, metric in ((x, "euclidean"), (low, "euclidean")):
        reach = mf.knn(rows, 9, metric=metric, backend="torch").distances[:, -1]
        ours, theirs = (mf.radius_count(rows, reach, metric=metric, backend=name) for name in ("cuda", "torch"))
        assert np.array_equal(ours, theirs)


def test_mutual_information_in_few_and_many_coordinates() -> None:
    x, y = data("normal", 60, 12), data("normal", 60, 2, 1)
    for metric in ("euclidean", "chebyshev"):
        assert np.array_equal(*(mf.ksg_mi(x, y, [2, 4], metric=metric, backend=name) for name in ("cuda", "torch")))


def test_the_fast_search_is_triton_s() -> None:
    x = torch.from_numpy(data("normal", 200, 12))
    ours, theirs = (mf.knn(x, 2, precision="fast", backend=name) for name in ("cuda", "triton"))
    assert torch.equal(ours.indices, theirs.indices)
