"""Neighbours by the Triton screen: indices, distances and order equal to the native backend's, on data made to be hard."""

from __future__ import annotations

from functools import partial
from typing import Any

import hard_searches
import numpy as np
import pytest
import torch
from hard_searches import data

import msma_fast as mf
from msma_fast.backends import triton as backend
from msma_fast.backends import triton_search
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.knn import Search
from msma_fast.backends.triton_search import candidates

pytestmark = pytest.mark.usefixtures("strict")


same = partial(hard_searches.same, "triton")


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("kind", ["normal", "shifted", "huge coordinate", "massive tokens", "duplicates", "lattice"])
def test_hard_data(kind: str, metric: str) -> None:
    for dtype in (np.float32, np.float64):
        same(data(kind, 130, 9).astype(dtype), 4, metric=metric)


@pytest.mark.parametrize(
    ("n", "d", "k"), [(20, 1, 5), (64, 32, 1), (65, 33, 16), (129, 64, 32), (70, 130, 3), (300, 3, 60)]
)
def test_odd_shapes(n: int, d: int, k: int) -> None:
    stats = same(data("normal", n, d), k)
    assert (stats.candidates >= k).all()


def test_the_screen_drops_most_and_certifies() -> None:
    stats = same(data("normal", 300, 40).astype(np.float32), 5)
    assert np.median(stats.candidates) < 15
    assert (stats.widened == 0).all()


def test_separate_points_groups_and_window() -> None:
    x, y = data("normal", 70, 16), data("normal", 150, 16, 1)
    same(x, 5, y)
    same(x, 5, y, groups=np.arange(70) % 4, point_groups=np.arange(150) % 4)
    same(y, 5, groups=np.arange(150) // 7, window=3)
    same(y, 5, window=40)
    same(y, 8, groups=np.arange(150) // 145)  # most rows are left with 5 neighbours
    same(y.astype(np.float16), 5)
    same(torch.from_numpy(y).to(torch.bfloat16).to(torch.float32).numpy()[:, ::2], 5)


def test_rows_whose_list_overflows_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points at nearly one distance: no screen of eight bits can tell them apart, and three words hold few of them."""
    monkeypatch.setattr(triton_search, "room", lambda _: 3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 12))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = np.vstack([np.zeros((1, 12)), x * (1 + 1e-9 * rng.standard_normal((300, 1)))])
    stats = same(x, 3)
    assert stats.widened[0] > 0


@pytest.mark.parametrize("points", [700, 301])
def test_bounds_of_every_other_tile(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample gives a first bound that is too high by far; the second one leaves few candidates."""
    monkeypatch.setattr(triton_search, "_SAMPLED", 1)
    x = data("normal", points, 20).astype(np.float32)
    queries = x[:90] + 0.5  # memory of their own: the interpreter copies a storage by its address
    stats = same(queries, 3, x)
    assert np.median(stats.candidates) < 10
    same(queries, 3, x, groups=np.arange(90) // 9, point_groups=np.arange(points) // 9)


def test_blocks_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many words a row may list, the lists of one launch stay in bounded memory."""
    from msma_fast.triton_kernels import knn as kernels

    sizes: list[int] = []
    collect = kernels.collect

    def recorded(*arguments: Any) -> Any:
        found = collect(*arguments)
        sizes.append(found[0].numel())
        return found

    monkeypatch.setattr(kernels, "collect", recorded)
    same(data("normal", 300, 12), 4, groups=np.arange(300) // 3)
    assert sizes == [512 * 16]  # 16 words of 32 points are all that there are
    monkeypatch.setattr(triton_search, "_ENTRIES", 5000)
    same(data("normal", 300, 12), 4, groups=np.arange(300) // 3)
    assert sizes[1:] == [256 * 16, 256 * 16]


def test_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as GPUs with a tensor memory accelerator copy them."""
    from msma_fast.triton_kernels import screen

    monkeypatch.setattr(screen, "has_descriptors", lambda _: True)
    same(data("normal", 150, 70).astype(np.float32), 5)
    same(data("shifted", 40, 9), 3, data("shifted", 290, 9, 1), metric="cosine")


def search_of(x: np.ndarray, k: int) -> Search:
    rows = Rows(torch.from_numpy(x))
    keys = Keys(backend.pair_keys, backend.block_keys, frozenset(["sqeuclidean"]))
    return Search(keys, Kernel("sqeuclidean"), rows, rows, Admissible(torch.arange(len(x))), k)


@pytest.mark.parametrize(("times", "whole"), [(0.99, True), (8.0, False)])
def test_any_error_within_the_bound_loses_no_neighbour(
    times: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every product with a point is off by `times` the least declared margin of that point, up or down: within the bound every
    neighbour stays a candidate, beyond it some are lost, so that the bound is not idle."""
    x = data("normal", 200, 12)
    search = search_of(x, 5)
    screen = screens.build(search.kernel, search.x, search.y, 0)
    c, near, far, col = screens.point_margins(screen)
    margin = (screen.left.r[:, None] * near + screen.left.m[:, None] * far + col).amin(0)
    wanted = mf.knn(x, 5, backend="torch").indices
    lost = 0
    for seed in range(3):
        sign = torch.from_numpy(np.sign(np.random.default_rng(seed).standard_normal(200)))
        moved = (c + times * sign * margin).to(torch.float32)
        monkeypatch.setattr(screens, "point_margins", lambda _, moved=moved: (moved, near, far, col))
        found = candidates(search, limit=200)
        assert not len(found.crowded)
        pairs = set(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
        lost += sum((i, int(j)) not in pairs for i in range(200) for j in wanted[i])
    assert (lost == 0) == whole


@pytest.mark.parametrize("declared", [True, False])
def test_what_a_query_loses_is_in_both_bounds(declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product with a point is off by nearly a tenth of the points' lengths, up or down: no neighbour is lost where the
    queries' own margin says so, and some are where it does not."""
    x = data("normal", 200, 12)
    search, plain = search_of(x, 5), screens.row_margin
    screen = screens.build(search.kernel, search.x, search.y, 0)
    c, near, far, col = screens.point_margins(screen)
    error = 0.1 * float(c.median())
    wanted = mf.knn(x, 5, backend="torch").indices
    sign = torch.from_numpy(np.sign(np.random.default_rng(0).standard_normal(200))).float()
    monkeypatch.setattr(screens, "point_margins", lambda _: (c + 0.99 * error * sign, near, far, col))
    if declared:
        monkeypatch.setattr(screens, "row_margin", lambda *at: plain(*at) + error)
    found = candidates(search, limit=200)
    assert not len(found.crowded)
    pairs = set(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    lost = sum((i, int(j)) not in pairs for i in range(200) for j in wanted[i])
    assert (lost == 0) == declared


def test_the_word_of_the_query_itself_bounds_nothing() -> None:
    """Its least bound is unknown: taken for a number, the second bound would be that of one neighbour fewer."""
    x = data("normal", 1500, 12)
    rows = torch.arange(0, 1500, 75)
    whole = search_of(x, 2)
    found = candidates(whole._replace(x=whole.x.take(rows), admissible=Admissible(rows)), limit=200)
    assert not len(found.crowded)
    pairs = set(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    wanted = mf.knn(x, 2, backend="torch").indices[rows]
    assert all((i, int(j)) in pairs for i in range(len(rows)) for j in wanted[i])


def test_a_query_that_is_not_finite_lists_no_padding() -> None:
    x = data("normal", 40, 12)
    x[7, 3] = np.nan
    found = candidates(search_of(x, 3), limit=200)
    assert int((found.rows == 7).sum()) == 39
    assert int(found.columns.max()) == 39
