"""The comparator must reject every planted wrong answer, and accept and count only legal swaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from compare import KnnReport, Mismatch, check_knn

K = 4


class Problem:
    """Twelve points in two groups; column 7 is a near-tie of column 3 for row 0, inside the band."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.keys = rng.random((12, 12)) + 0.5
        self.keys[0, 3], self.keys[0, 7] = 0.25, np.nextafter(0.25, 1)
        self.allowed = oracles.admissible(12, groups=np.array([0] * 9 + [1] * 3))
        self.band = 4 * 12 * 2.0**-53 * self.keys
        best = oracles.nearest(self.keys, self.allowed, K)
        self.found = [np.sqrt(best.keys), best.indices.copy(), best.valid.copy()]

    def check(self, band: bool = False, ulps: int = 0, dtype: Any = np.float64) -> KnnReport:
        return check_knn(
            tuple(self.found), self.keys, self.allowed, K, to_distance=np.sqrt, dtype=dtype,
            band=self.band if band else None, ulps=ulps,
        )  # fmt: skip

    def place(self, row: int, place: int, column: int) -> None:
        """Put a column, with its own true distance, into a place."""
        self.found[1][row, place] = column
        self.found[0][row, place] = np.sqrt(self.keys[row, column])

    def swap(self, row: int, a: int, b: int) -> None:
        for part in self.found[:2]:
            part[row, [a, b]] = part[row, [b, a]]


@pytest.fixture
def problem() -> Problem:
    return Problem()


BOTH_MODES = pytest.mark.parametrize("band", [False, True], ids=["exact", "band"])


@BOTH_MODES
def test_the_right_answer_is_accepted(problem: Problem, band: bool) -> None:
    # Rows 0 to 8 share a label, so only the columns 9 to 11 may serve them: three of four places are filled.
    assert problem.check(band) == KnnReport(rows=12, swaps=0, padded=9)


def _rejects(problem: Problem, band: bool, message: str) -> None:
    with pytest.raises(Mismatch, match=message):
        problem.check(band)


@BOTH_MODES
def test_a_missing_neighbour_is_rejected(problem: Problem, band: bool) -> None:
    order = np.argsort(np.where(problem.allowed[10], problem.keys[10], np.inf))
    for place in range(2, K):  # drop the third, pull the rest up
        problem.place(10, place, int(order[place + 1]))
    _rejects(problem, band, "missing|index")


@BOTH_MODES
def test_the_wrong_order_is_rejected(problem: Problem, band: bool) -> None:
    problem.swap(11, 1, 2)
    _rejects(problem, band, "before|index")


@BOTH_MODES
def test_a_repeated_index_is_rejected(problem: Problem, band: bool) -> None:
    problem.place(10, 1, int(problem.found[1][10, 0]))
    _rejects(problem, band, "twice")


@BOTH_MODES
@pytest.mark.parametrize(("row", "column"), [(10, 10), (10, 9), (0, 5)], ids=["self", "same group", "same group 0"])
def test_an_excluded_column_is_rejected(problem: Problem, band: bool, row: int, column: int) -> None:
    problem.place(row, 0, column)
    _rejects(problem, band, "excluded")


@BOTH_MODES
@pytest.mark.parametrize("column", [-1, 12])
def test_an_index_outside_the_points_is_rejected(problem: Problem, band: bool, column: int) -> None:
    problem.found[1][10, 1] = column
    _rejects(problem, band, "outside")


@BOTH_MODES
def test_wrong_validity_and_padding_are_rejected(problem: Problem, band: bool) -> None:
    problem.found[2][0, 3] = True
    _rejects(problem, band, "valid is True")
    problem.found[2][0, 3] = False
    problem.found[2][11, 3] = False
    _rejects(problem, band, "valid is False")
    problem.found[2][11, 3] = True
    problem.found[1][0, 3] = 0
    _rejects(problem, band, "expected -1")
    problem.found[1][0, 3] = -1
    for wrong in (np.nan, 0.0, -np.inf):
        problem.found[0][0, 3] = wrong
        _rejects(problem, band, "expected inf")


@pytest.mark.parametrize("direction", [-np.inf, np.inf])
def test_a_distance_one_ulp_off_is_rejected_unless_promised(problem: Problem, direction: float) -> None:
    problem.found[0][10, 2] = np.nextafter(problem.found[0][10, 2], direction)
    _rejects(problem, False, "distance")
    assert problem.check(ulps=1).swaps == 0
    problem.found[0][10, 2] = np.nextafter(problem.found[0][10, 2], direction)
    with pytest.raises(Mismatch, match="distance"):
        problem.check(ulps=1)


@BOTH_MODES
@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1e300, -1.0])
def test_a_wild_distance_is_rejected(problem: Problem, band: bool, wrong: float) -> None:
    problem.found[0][10, 0] = wrong
    _rejects(problem, band, "distance")


def test_a_distance_outside_the_band_is_rejected(problem: Problem) -> None:
    problem.found[0][10, 0] *= 1 + 1e-13
    _rejects(problem, True, "distance")


def test_float32_distances_are_the_key_rounded_once(problem: Problem) -> None:
    exact = problem.found[0]
    problem.found[0] = exact.astype(np.float32)
    assert problem.check(dtype=np.float32).swaps == 0
    problem.found[0][10, 2] = np.nextafter(problem.found[0][10, 2], np.float32(9))
    with pytest.raises(Mismatch, match="distance"):
        problem.check(dtype=np.float32)


def _ungrouped() -> Problem:
    problem = Problem()
    problem.allowed = oracles.admissible(12)
    best = oracles.nearest(problem.keys, problem.allowed, K)
    problem.found = [np.sqrt(best.keys), best.indices.copy(), best.valid.copy()]
    assert problem.found[1][0, :2].tolist() == [3, 7]
    return problem


def test_a_swap_within_the_band_is_accepted_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    problem = _ungrouped()
    problem.swap(0, 0, 1)
    with pytest.raises(Mismatch, match="index 7"):
        problem.check()
    assert problem.check(band=True).swaps == 2
    assert "2 near-tie swaps" in capsys.readouterr().out


def test_a_swap_across_the_last_place_is_accepted_and_counted() -> None:
    problem = _ungrouped()
    last, outside = np.argsort(np.where(problem.allowed[5], problem.keys[5], np.inf))[K - 1 : K + 1]
    problem.keys[5, outside] = problem.keys[5, last] * (1 + 2.0**-52)
    problem.place(5, K - 1, int(outside))
    assert problem.check(band=True).swaps == 1
    problem.keys[5, outside] = problem.keys[5, last] * (1 + 1e-12)
    problem.place(5, K - 1, int(outside))
    with pytest.raises(Mismatch, match="missing"):
        problem.check(band=True)


def test_exact_ties_follow_the_index() -> None:
    problem = _ungrouped()
    problem.keys[0, 7] = problem.keys[0, 3]
    problem.found[0][0, 1] = problem.found[0][0, 0]
    assert problem.check().swaps == 0
    problem.swap(0, 0, 1)
    with pytest.raises(Mismatch, match="index 7"):
        problem.check()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_wrong_shapes_and_dtypes_are_rejected(problem: Problem, part: int) -> None:
    right = problem.found[part]
    problem.found[part] = right[:, :-1]
    _rejects(problem, False, "shape")
    problem.found[part] = right.astype(np.float32 if part == 0 else np.int32)
    _rejects(problem, False, "dtype")
