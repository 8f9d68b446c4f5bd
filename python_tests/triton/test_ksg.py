"""KSG by Triton kernels: the counts of the torch backend, on data made to be hard, and of an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from information_oracles import ksg_mi as oracle
from torch import Tensor

import msma_fast as mf
from msma_fast._arrays import Parted
from msma_fast.backends import triton_ksg, triton_ksg_pairs
from msma_fast.backends.torch import ops
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Keys
from msma_fast.triton_kernels import ksg, ksg_exact, ksg_few
from msma_fast.triton_kernels.ksg import Cut
from msma_fast.triton_kernels.resources import Configuration

pytestmark = pytest.mark.usefixtures("strict")

# Canonical keys are the same bits from any provider (test_keys.py), and torch's are no kernels: here these are KSG's own.
KEYS = ops.TORCH_KEYS


def sample(kind: str, n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows whose first coordinates follow a common course."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x[:, 0] += 2 * np.random.default_rng(99).standard_normal(n)
    if kind == "shifted":
        x += 1e6
    if kind == "huge coordinate":
        x[0, 0] = 1e30
    if kind == "massive tokens":
        x[:3] *= 1000
    if kind == "duplicates":
        x = x[np.random.default_rng(5).integers(0, n // 3 + 1, n)]
    if kind == "lattice":
        x = np.round(x)
    return torch.from_numpy(x + 0.0).to(dtype)


def same(x: Tensor, y: Tensor, ks: list[int], method: str = "ksg1", metric: str = "euclidean", **rule: Any) -> None:
    rest = ks, method, metric, rule.get("groups"), rule.get("window", 0)
    for found, wanted in zip(triton_ksg.ksg(KEYS, x, y, *rest), ops.ksg(KEYS, x, y, *rest), strict=True):
        assert torch.equal(found, wanted)


SEARCH_AGAIN = triton_ksg_pairs.by_all_keys


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row may be left to the torch backend, which would hide a wrong list."""
    monkeypatch.setattr(triton_ksg_pairs, "by_all_keys", lambda *_: pytest.fail("rows were searched again"))


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("kind", ["normal", "shifted", "huge coordinate", "massive tokens", "duplicates", "lattice"])
def test_hard_data(kind: str, method: str) -> None:
    dtype = torch.float32 if method == "ksg1" else torch.float64
    same(sample(kind, 66, 9, 1, dtype), sample(kind, 66, 10, 2), [1, 3], method)
    same(sample(kind, 20, 3, 1, dtype), sample(kind, 20, 1, 2), [3], method, "chebyshev")
    same(sample(kind, 40, 3, 1, dtype), sample(kind, 40, 19, 2), [3], method, "chebyshev")
    same(sample(kind, 17, 2, 1, dtype), sample(kind, 17, 3, 2), [1], method)


@pytest.mark.parametrize(
    ("n", "dx", "dy", "ks"),
    [(2, 9, 1, [1]), (3, 1, 1, [1, 2]), (17, 3, 2, [16, 1]), (65, 64, 9, [5]), (131, 65, 3, [1, 9])],
)
def test_odd_shapes(n: int, dx: int, dy: int, ks: list[int]) -> None:
    x, y = sample("normal", n, dx, 1), sample("normal", n, dy, 2)
    same(x, y, ks)
    if n < 20:
        same(x, y, ks, "ksg2", "chebyshev")


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
def test_groups_and_window(method: str) -> None:
    x, y, groups = sample("normal", 70, 9, 1), sample("normal", 70, 12, 2), torch.arange(70, dtype=torch.int32) % 7
    for rule in ({"groups": groups}, {"window": 2}, {"groups": groups // 2, "window": 3}):
        same(x, y, [2, 4], method, **rule)
    same(x[:33, :2], y[:33, :3], [2, 4], method, "chebyshev", groups=groups[:33] // 2, window=3)
    wide = torch.cat([y, y.flip(0)], 1)
    same(x[:, :1], wide, [2], method, "chebyshev", groups=groups, window=1)


def test_samples_in_units_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_ksg_pairs, "by_all_keys", SEARCH_AGAIN)
    x, y = sample("normal", 70, 9, 1), sample("normal", 70, 9, 2)
    for scale in (1e9, 1e25):  # the last: no common unit in float32
        same(x[:40] * scale, y[:40], [3])
        same(x, y * scale, [3])


def test_rows_whose_list_overflows_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows but one at nearly one distance of it; and a constant sample beside a normal one."""
    monkeypatch.setattr(triton_ksg_pairs, "_LIST", 8)
    monkeypatch.setattr(triton_ksg_pairs, "splits_of", lambda *_: 1)  # one list a row
    again: list[int] = []

    def counted(*arguments: Any) -> Any:
        again.append(len(arguments[2]))
        return SEARCH_AGAIN(*arguments)

    monkeypatch.setattr(triton_ksg_pairs, "by_all_keys", counted)
    x = sample("normal", 150, 9, 1)
    same(torch.zeros(150, 9), x.round() * 0, [1, 2], "ksg2")
    assert again == [150]
    sphere = x / x.norm(dim=1, keepdim=True)
    sphere[0] = 0
    same(sphere, sphere, [1])
    assert 0 < again[1] < 150


@pytest.mark.parametrize(("times", "whole"), [(0.99, True), (8.0, False)])
def test_any_error_within_the_bound_changes_nothing(times: float, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product with a column is off by `times` the least declared margin of that column, up or down."""
    monkeypatch.setattr(triton_ksg_pairs, "by_all_keys", SEARCH_AGAIN)
    x, y = (((3 * sample("normal", 150, 12, seed)).round() / 10) for seed in (1, 2))  # hardly a key without near ties
    rest = [2], "ksg1", "euclidean", None, 0
    wanted, changed, ready = ops.ksg(KEYS, x, y, *rest), 0, triton_ksg_pairs.ready
    for seed in range(5):
        random = np.random.default_rng(seed)

        def moved(*problem: Any, random: Any = random) -> Any:
            found = ready(*problem)
            points = found.y
            pairwise = found.x.near[:150, None] * points.side.near + found.x.far[:150, None] * points.side.far
            margin = (pairwise + points.col).amin(0)
            sign = torch.from_numpy(np.sign(random.standard_normal(len(margin)))).float()
            return found._replace(y=points._replace(c=points.c + times * sign * margin))

        monkeypatch.setattr(triton_ksg_pairs, "ready", moved)
        found = triton_ksg.ksg(KEYS, x, y, *rest)
        changed += sum(not torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert (changed == 0) == whole


def test_margins_of_the_row_are_rounded_outwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pair loses in its row alone has to be on the right side of both bounds."""
    x, y = sample("shifted", 120, 9, 1), sample("lattice", 120, 9, 2)
    margin = triton_ksg_pairs.row_margin
    monkeypatch.setattr(triton_ksg_pairs, "row_margin", lambda screen, rows: margin(screen, rows) + 2.0 * screen.scale)
    same(x, y, [2])


def test_few_columns_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no two columns share a bin, the k nearest alone by canonical keys, and hardly more by the screen."""
    listed: list[int] = []
    choose = triton_ksg_pairs._thresholds

    def counted(*arguments: Any) -> Any:
        listed.append(len(arguments[2]))
        return choose(*arguments)

    monkeypatch.setattr(triton_ksg_pairs, "_thresholds", counted)
    same(sample("normal", 20, 3, 1), sample("normal", 20, 2, 2), [3], "ksg1", "chebyshev")
    same(sample("normal", 66, 20, 1), sample("normal", 66, 20, 2), [3])
    assert 60 <= listed[0] < 63  # what the lower half of a key's bits adds
    assert 3 * 66 <= listed[1] < 4 * 66
    same(sample("normal", 66, 19, 1), sample("normal", 66, 2, 2), [3], "ksg1", "chebyshev")
    assert 3 * 66 <= listed[2] < 3.1 * 66


@pytest.mark.parametrize("d", [2, 19])
def test_lists_that_are_full(d: int) -> None:
    """Every column is near; three words hold those of 70 rows, and a list of two is told to be short."""
    stack = ksg_exact.stacked([torch.zeros(70, d), torch.zeros(70, d)], [(0, 1)])
    pairs = ksg.Pairs(torch.tensor([[0, 1]], dtype=torch.int32), None, None, None, 0, 70)
    top = torch.full((1, ksg.height(range(70), ksg_exact.cuts(stack)[1].rows)), -1.0, dtype=torch.float64)
    top[:, :70] = 0.0
    words, count = ksg_exact.lists(stack, pairs, "chebyshev", 1, range(70), top, 2)
    assert count[0, :, 0].tolist() == [3] * 70 + [0] * (top.shape[1] - 70)
    which, column = ksg_exact.columns_of(words[0, :70, 0].reshape(-1))
    for row in (0, 33, 69):
        assert column[which // 2 == row].tolist() == [j for j in range(64) if j != row]


def layers(count: int, n: int, widths: tuple[int, ...] = (9, 20, 3)) -> list[Parted]:
    return [Parted((sample("normal", n, widths[t], t + 1),)) for t in range(count)]


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("batches", [1, 3])
def test_layer_matrix(method: str, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if batches > 1:
        monkeypatch.setattr(triton_ksg_pairs, "_LISTED", 1)
        monkeypatch.setattr(triton_ksg_pairs, "_THRESHOLDS", 2 * 2 * 30)
    for n, widths in ((30, (9, 20, 3)), (17, (2, 1))):
        groups = torch.arange(n, dtype=torch.int32) // 3
        permutation = torch.from_numpy(np.random.default_rng(3).permutation(n))
        plain, permuted = (None, 0, None), (groups, 1, permutation)
        for rule in {("ksg1", 1): (plain, permuted, (None, 2, permutation))}.get((method, batches), (permuted,)):
            stacked, rest = layers(len(widths), n, widths), ([1, 3], method, "euclidean", *rule)
            found, wanted = (op(KEYS, stacked, *rest) for op in (triton_ksg.ksg_matrix, ops.ksg_matrix))
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_a_sample_of_both_sides_has_one_width() -> None:
    """It lies once in memory, whichever side reads it."""
    samples = [torch.arange(60.0).reshape(20, 3), torch.arange(20.0).reshape(20, 1)]
    stack = ksg_exact.stacked(samples, [(1, 1), (1, 0)])
    assert stack.few == (3, 3)
    assert stack.width.tolist() == [3, 3]
    assert torch.equal(stack.rows[stack.start[1] :].reshape(-1, 3)[:20, 0], samples[1][:, 0].double())
    assert ksg_exact.stacked(samples, [(1, 0)]).few == (1, 3)


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows that the lists of one pair do not fit one launch."""
    monkeypatch.setattr(triton_ksg_pairs, "_LISTED", 256)
    monkeypatch.setattr(ksg_few, "TILES", (Configuration({"BLOCK": 128}, 4),))
    groups = torch.arange(300, dtype=torch.int32) // 4
    same(sample("normal", 300, 9, 1), sample("duplicates", 300, 3, 2), [1, 3], "ksg2", groups=groups, window=2)
    same(sample("normal", 260, 1, 1), sample("normal", 260, 1, 2), [2], "ksg1", window=3)
    # Neighbours in time are neighbours in space, so that those across the edge of a block have to be left out.
    walk = torch.arange(260, dtype=torch.float64)[:, None] ** 1.1
    same(walk, walk + torch.sin(walk), [1, 3], "ksg1", window=3)


@pytest.mark.parametrize("k", [3, 512])
@pytest.mark.parametrize("n", [2, 300, 2000, 50_000, 1_000_000])
def test_launches_fit_the_grid_and_bounded_memory(n: int, k: int) -> None:
    count = 131_328  # pairs of 512 samples
    screened, few = (Cut(64, 64, 64), Cut(64, 64, 1)), (Cut(1024, 4, 4), Cut(1024, 32, 32))
    for bins, lists in (screened, few, (Cut(16, 128, 128), Cut(16, 128, 32))):
        plan = triton_ksg_pairs.plan_of(n, count, k, bins, lists)
        rows = min(n, plan.rows)
        assert 1 <= plan.pairs <= 65535
        assert plan.rows >= n or (plan.rows % max(256, bins.rows) == 0 and plan.pairs == 1)
        assert plan.pairs * rows * (plan.bins * bins.held + 2 * plan.lists * plan.limit) <= triton_ksg_pairs._LISTED
        assert plan.bins * bins.held >= min(2 * k, n)
        assert plan.limit >= min(4 * k, n // plan.lists // lists.held)


def test_more_pairs_than_a_grid_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every launch over pairs asks for a grid that there is: here of two pairs."""
    grids: list[int] = []
    launch = ksg_exact._launch

    def recorded(kernel: Any, stack: Any, pairs: Any, *rest: Any) -> None:
        grids.append(pairs.samples.shape[0])
        launch(kernel, stack, pairs, *rest)

    monkeypatch.setattr(ksg_exact, "_launch", recorded)
    monkeypatch.setattr(ksg, "PAIRS", 2)
    singles = [Parted((sample("normal", 12, 1, seed),)) for seed in range(3)]
    rest = [2], "ksg1", "euclidean", None, 0, None
    found, wanted = (op(KEYS, singles, *rest) for op in (triton_ksg.ksg_matrix, ops.ksg_matrix))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    permutations = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(1)) for _ in range(3)])
    x, y = sample("normal", 12, 1, 1), sample("normal", 12, 1, 2)
    triton_ksg.ksg_permutations(KEYS, x, y, 2, "ksg1", "euclidean", None, permutations)
    assert max(grids) == 2
    assert len(grids) == 2 * (3 + 2)


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
def test_permutations(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 70 if metric == "euclidean" else 17
    x, y = (sample("normal", n, 10 if metric == "euclidean" else 2, seed) for seed in (1, 2))
    random = np.random.default_rng(3)
    permutations = torch.from_numpy(np.stack([random.permutation(n) for _ in range(2)]))
    for groups, method in ((None, "ksg2"), (torch.arange(n, dtype=torch.int32) // 4, "ksg1")):
        for listed in (1, 1 << 20):  # one permutation at a time, and all together
            monkeypatch.setattr(triton_ksg_pairs, "_LISTED", listed)
            rest = 3, method, metric, groups, permutations
            found, wanted = (op(KEYS, x, y, *rest) for op in (triton_ksg.ksg_permutations, ops.ksg_permutations))
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
            assert wanted.unique().numel() == 2


@pytest.mark.parametrize("fits", [True, False])
def test_a_layer_is_prepared_once_where_it_fits(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = Parted.whole

    def counted(layer: Parted) -> Tensor:
        read.append(id(layer.parts[0]))
        return whole(layer)

    stacked, rest = layers(3, 30, (2, 3, 1)), ([1, 3], "ksg2", "euclidean", None, 0, None)
    wanted = ops.ksg_matrix(KEYS, stacked, *rest)
    monkeypatch.setattr(Parted, "whole", counted)
    monkeypatch.setattr(triton_ksg, "_PREPARED", 1 << 20 if fits else 100)
    torch.testing.assert_close(triton_ksg.ksg_matrix(KEYS, stacked, *rest), wanted, rtol=0, atol=1e-12)
    assert (len(read) == 3) == fits


def test_a_provider_counts_once_for_all_partners_of_a_layer() -> None:
    asked: list[tuple[int, ...]] = []

    def within(kernel: Any, x: Any, y: Any, threshold: Tensor, admissible: Admissible) -> Tensor:
        asked.append(tuple(threshold.shape))
        return triton_ksg_pairs._within(KEYS, kernel, x, threshold, admissible)

    stacked, rest = layers(3, 40), ([1, 3], "ksg1", "euclidean", None, 0, None)
    keys = Keys(*KEYS[:3], within=within)
    found, wanted = triton_ksg.ksg_matrix(keys, stacked, *rest), ops.ksg_matrix(KEYS, stacked, *rest)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert sorted(asked) == [(40, 2), (40, 2), (40, 4), (40, 4), (40, 6), (40, 6)]


def test_public_functions_by_this_backend() -> None:
    """From strided halves and mixed dtypes to the estimates of the oracle."""
    x = sample("normal", 80, 24, 1, torch.bfloat16)[::2, ::2]
    y = sample("normal", 40, 9, 2, torch.float64)
    for metric, columns in (("euclidean", 12), ("chebyshev", 2)):
        u, v = x[:, :columns], y[:, : columns - 1]
        wanted = oracle(u.double().numpy(), v[:, :9].numpy(), 3, metric=metric, window=1)
        found = mf.ksg_mi(u, v, k=3, metric=metric, window=1, backend="triton", diagnostics=True)
        assert np.array_equal(found.n_x, wanted.n_x)
        assert np.array_equal(found.n_y, wanted.n_y)
        assert found.mi == pytest.approx(wanted.mi, abs=1e-12)
    half = x.to(torch.float16)
    matrix = mf.ksg_mi_matrix([half, y], 2, backend="triton")
    torch.testing.assert_close(matrix, mf.ksg_mi_matrix([half, y], 2, backend="torch"), rtol=0, atol=1e-12)
