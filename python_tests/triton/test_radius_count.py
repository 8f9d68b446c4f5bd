"""Counts by the Triton screen: the oracle's integers on data made to be hard, and few keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from test_direct import data, radii_of, rule

import msma_fast as mf
from msma_fast.backends import triton as backend
from msma_fast.backends import triton_direct, triton_radius_count
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.prepare import kernel_of, prepare

pytestmark = pytest.mark.usefixtures("strict")


class Problem:
    """Rows under a metric, thresholds and what the oracle counts."""

    def __init__(
        self, x: np.ndarray, metric: str, radii: int, y: np.ndarray | None = None, groups: Any = None,
        point_groups: Any = None, window: int = 0,
    ) -> None:  # fmt: skip
        m = None if y is None else len(y)
        self.x = prepare(torch.from_numpy(x), metric, "x")
        self.y = self.x if y is None else prepare(torch.from_numpy(y), metric, "y")
        self.kernel, self.who = kernel_of(metric, 2.0, None), rule(len(x), m, groups, point_groups, window)
        keys = oracles.canonical_keys(x, x if y is None else y, metric)
        allowed = oracles.admissible(len(x), m, groups, point_groups, window)
        self.tops = radii_of(keys, radii, 2)
        self.wanted = ((keys[:, :, None] <= self.tops[:, None, :]) & allowed[:, :, None]).sum(1)

    def found(self) -> np.ndarray:
        tops = torch.from_numpy(self.tops)
        return triton_radius_count.within(self.kernel, self.x, self.y, tops, self.who).numpy()

    def check(self) -> None:
        assert np.array_equal(self.found(), self.wanted)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs got a key, call by call."""
    found: list[int] = []
    plain = backend.pair_keys

    def counted(kernel: Any, x: Any, y: Any, i: Any, j: Any) -> Any:
        found.append(i.numel())
        return plain(kernel, x, y, i, j)

    monkeypatch.setattr(backend, "pair_keys", counted)
    return found


@pytest.fixture
def direct_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were counted without the screen, call by call."""
    found: list[int] = []
    plain = triton_direct.counts

    def counted(kernel: Any, x: Any, *rest: Any) -> Any:
        found.append(x.values.shape[0])
        return plain(kernel, x, *rest)

    monkeypatch.setattr(triton_direct, "counts", counted)
    return found


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("kind", ["normal", "shifted", "huge coordinate", "duplicates", "lattice"])
def test_hard_data(kind: str, metric: str) -> None:
    for dtype in (np.float32, np.float64):
        Problem(data(kind, 90, 18).astype(dtype), metric, 3).check()


@pytest.mark.parametrize(
    ("n", "m", "d", "radii"), [(1, 1, 17, 1), (2, 130, 65, 1), (129, 31, 33, 2), (130, 257, 64, 1)]
)
def test_odd_shapes(n: int, m: int, d: int, radii: int) -> None:
    Problem(data("normal", n, d), "euclidean", radii, data("normal", m, d, 1)).check()


def test_the_screen_decides_nearly_all(listed: list[int], direct_rows: list[int]) -> None:
    problem = Problem(data("normal", 130, 40).astype(np.float32), "euclidean", 2)
    problem.check()
    assert 0 < sum(listed) < 0.1 * 2 * 130 * 130
    assert not direct_rows


def test_who_is_counted() -> None:
    x, y = data("normal", 70, 20), data("normal", 150, 20, 1)
    Problem(y, "euclidean", 1, groups=np.arange(150) // 7).check()
    Problem(y, "euclidean", 2, window=1).check()
    Problem(y, "euclidean", 1, window=40).check()  # more than a word to both sides
    Problem(y, "cosine", 1, groups=np.arange(150) // 9, window=31).check()
    Problem(x, "euclidean", 2, y, np.arange(70) % 4, np.arange(150) % 4).check()
    Problem(y, "euclidean", 1, window=149).check()


def test_a_threshold_a_query() -> None:
    problem = Problem(data("normal", 40, 20), "euclidean", 1)
    tops = torch.from_numpy(problem.tops)
    found = triton_radius_count.within(problem.kernel, problem.x, problem.y, tops[:, 0], problem.who)
    assert found.dtype == torch.int64
    assert found.tolist() == problem.wanted[:, 0].tolist()


def test_all_and_none(direct_rows: list[int], listed: list[int]) -> None:
    """Everything is within an infinite threshold, nothing within minus infinity or NaN: no key is looked at."""
    for metric in ("euclidean", "inner_product"):
        problem = Problem(data("normal", 70, 20), metric, 3)
        problem.tops = np.tile([np.inf, -np.inf, np.nan], (70, 1))
        assert problem.found().tolist() == [[69, 0, 0]] * 70
    assert not direct_rows
    assert sum(listed) == 0


def test_rows_whose_list_overflows(monkeypatch: pytest.MonkeyPatch, direct_rows: list[int]) -> None:
    """Points at nearly one distance from the first, which the screen cannot tell apart."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 20))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = np.vstack([np.zeros((1, 20)), x * (1 + 1e-9 * rng.standard_normal((200, 1)))])
    problem = Problem(x, "euclidean", 1, groups=np.arange(201) // 2)
    problem.tops[0] = 1.0
    keys = oracles.canonical_keys(x[:1], x, "euclidean")[0]
    problem.wanted[0] = (keys[2:] <= 1.0).sum()
    monkeypatch.setattr(triton_radius_count, "LIMIT", 6)  # seven words hold the points
    for longest, direct in ((6, 1), (7, 0)):
        monkeypatch.setattr(triton_radius_count, "_LONGEST", longest)
        problem.check()
        assert len(direct_rows) == direct
        assert all(1 <= rows < 201 for rows in direct_rows)
        direct_rows.clear()
    monkeypatch.setattr(triton_radius_count, "LIMIT", 7)
    problem.check()
    assert not direct_rows


def test_blocks_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_radius_count, "_ENTRIES", 1)  # as many as padding admits
    Problem(data("normal", 300, 17), "euclidean", 1, window=2, groups=np.arange(300) // 5).check()


def test_rows_that_are_not_finite() -> None:
    x = data("normal", 40, 20)
    x[7, 3] = np.nan
    problem = Problem(x, "euclidean", 1)
    problem.tops = np.full((40, 1), 1e300)
    assert problem.found()[:, 0].tolist() == [0 if i == 7 else 38 for i in range(40)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("d", [3, 33])
def test_the_public_count(dtype: Any, d: int) -> None:
    x = torch.from_numpy(data("normal", 50, 2 * d)).to(dtype)[:, ::2]
    x[5] = x[6]
    for metric in ("euclidean", "cosine", "chebyshev"):
        radius = float(np.median(mf.pairwise_distances(x.float().numpy(), metric=metric, backend="torch")))
        options: dict[str, Any] = {"metric": metric, "closed": True, "groups": torch.arange(50) // 3}
        ours, theirs = (mf.radius_count(x, radius, backend=name, **options) for name in ("triton", "torch"))
        assert torch.equal(ours, theirs)
        assert 0 < int(ours.sum()) < 50 * 47


@pytest.mark.parametrize(("times", "whole"), [(0.99, True), (8.0, False)])
def test_any_error_within_the_bound_changes_no_count(
    times: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every product with a point is off by `times` the least declared margin of that point, up or down."""
    problem = Problem(data("normal", 130, 18), "euclidean", 2)
    screen = screens.build(problem.kernel, problem.x, problem.y, 0)
    c, near, far, col = screens.point_margins(screen)
    margin = (screen.left.r[:, None] * near + screen.left.m[:, None] * far + col).amin(0)
    wrong = 0
    for seed in range(3):
        sign = torch.from_numpy(np.sign(np.random.default_rng(seed).standard_normal(130)))
        moved = (c + times * sign * margin).to(torch.float32)
        monkeypatch.setattr(screens, "point_margins", lambda _, moved=moved: (moved, near, far, col))
        wrong += int((problem.found() != problem.wanted).sum())
    assert (wrong == 0) == whole


def test_the_edges_are_apart_by_little() -> None:
    """A zone that is wide would be safe and slow."""
    problem = Problem(data("normal", 60, 24), "euclidean", 1)
    screen = screens.build(problem.kernel, problem.x, problem.y, 0)
    low, high = triton_radius_count.edges(screen, torch.from_numpy(problem.tops))
    edge = screens.scaled_key(screen, torch.from_numpy(problem.tops), torch.arange(60)) - screen.left.c[:, None]
    assert ((low < edge) & (edge < high)).all()
    assert ((high - low) < 1e-4 * (edge.abs() + screen.left.c[:, None])).all()


def test_own_columns_of_a_subset() -> None:
    problem = Problem(data("normal", 60, 20), "euclidean", 1, window=2)
    rows = torch.tensor([59, 3, 30])
    who = Admissible(rows, window=2)
    tops = torch.from_numpy(problem.tops)[rows]
    found = triton_radius_count.within(problem.kernel, problem.x.take(rows), problem.y, tops, who)
    assert np.array_equal(found.numpy(), problem.wanted[rows.numpy()])


@pytest.mark.parametrize("declared", [True, False])
def test_what_a_query_loses_is_in_both_edges(declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product with a point is off by nearly a tenth of the points' lengths, up or down."""
    problem, plain = Problem(data("normal", 130, 18), "euclidean", 2), screens.row_margin
    c, *margins = screens.point_margins(screens.build(problem.kernel, problem.x, problem.y, 0))
    error = 0.1 * float(c.median())
    sign = torch.from_numpy(np.sign(np.random.default_rng(0).standard_normal(130))).float()
    monkeypatch.setattr(screens, "point_margins", lambda _: (c + 0.99 * error * sign, *margins))
    if declared:
        monkeypatch.setattr(screens, "row_margin", lambda *at: plain(*at) + error)
    assert bool((problem.found() == problem.wanted).all()) == declared
