"""mi_interval and mi_matrix_interval: standard errors by their definitions, and intervals that cover what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from scipy.stats import t as student

import msma_fast as mf
from msma_fast import intervals

DRAWS = 200
# 95 % intervals of 200 draws: three binomial standard errors below 0.95 (0.904); nothing is said against wide ones here.
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / DRAWS)


def pair(rng: np.random.Generator, rho: float = 0.6, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    z = rng.standard_normal((n, 2))
    return z[:, 0], rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]


def samples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return x, x[:, :1] + 0.5 * rng.standard_normal((n, 3))


# ---- the definitions -----------------------------------------------------------------------------------


def dealt(n_units: int, n_blocks: int, seed: int) -> list[list[int]]:
    """The units each resample keeps: a random order of them is dealt in turn, and each block is left out once."""
    order = torch.randperm(n_units, generator=torch.Generator().manual_seed(seed)).tolist()
    return [sorted(set(range(n_units)) - set(order[block::n_blocks])) for block in range(n_blocks)]


def drawn(n_units: int, n_resamples: int, size: int, seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [sorted(torch.randperm(n_units, generator=generator).tolist()[:size]) for _ in range(n_resamples)]


def jackknife_error(theta: float, without: np.ndarray, sizes: list[int]) -> float:
    """Of a total of n units, block j of m_j left out: pseudo-values, their weighted mean, their weighted square."""
    n, groups = sum(sizes), len(sizes)
    pseudo = [n / m * theta - (n / m - 1) * value for m, value in zip(sizes, without, strict=True)]
    centre = math.fsum(m / n * value for m, value in zip(sizes, pseudo, strict=True))
    squares = [(value - centre) ** 2 / (n / m - 1) for m, value in zip(sizes, pseudo, strict=True)]
    return math.sqrt(math.fsum(squares) / groups)


def subsample_error(found: np.ndarray, size: int, n_units: int) -> float:
    mean = math.fsum(found) / len(found)
    variance = math.fsum((found - mean) ** 2) / (len(found) - 1)
    return math.sqrt(variance * size / (n_units - size))


TEXTS = np.array([7, 7, 3, 9, 9, 9, 1, 1, 4, 4, 4, 4, 5, 8, 8, 2, 2, 6, 6, 6]).repeat(4)  # nine texts, unequal
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("rows", {}, np.arange(80)),
    ("rows that do not divide", {"n_resamples": 7}, np.arange(80)),
    ("texts of unequal length", {"groups": TEXTS}, TEXTS),
    ("fewer blocks than texts", {"groups": TEXTS, "n_resamples": 4}, TEXTS),
    ("units beside groups", {"groups": TEXTS, "units": TEXTS // 2, "n_resamples": 3}, TEXTS // 2),
    ("units alone", {"units": np.arange(80) % 11}, np.arange(80) % 11),
    ("five units", {"units": np.arange(80) // 16, "n_resamples": 5}, np.arange(80) // 16),
    ("two units", {"units": np.arange(80) % 2, "n_resamples": 2}, np.arange(80) % 2),
    ("window", {"units": np.arange(80) // 6, "window": 3}, np.arange(80) // 6),
    ("window and texts", {"groups": TEXTS, "window": 2}, TEXTS),
    ("euclidean ksg2", {"metric": "euclidean", "method": "ksg2"}, np.arange(80)),
]


@pytest.mark.parametrize("resampling", ["jackknife", "subsample"])
@pytest.mark.parametrize(("options", "labels"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_definition(resampling: str, options: dict[str, Any], labels: np.ndarray, dtype: Any, backend: str) -> None:
    x, y = (z.astype(dtype) for z in samples(80))
    k, seed, fraction, level = 4, 5, 0.6, 0.9
    found = mf.mi_interval(
        x, y, k, resampling=resampling, level=level, fraction=fraction, seed=seed, backend=backend, **options
    )
    unit = np.unique(labels, return_inverse=True)[1].ravel()
    n_units, n_resamples = unit.max() + 1, options.get("n_resamples", 20)
    kept = (
        dealt(n_units, min(n_resamples, n_units), seed)
        if resampling == "jackknife"
        else drawn(n_units, n_resamples, round(fraction * n_units), seed)
    )
    method, metric = options.get("method", "ksg1"), options.get("metric", "chebyshev")
    groups, window = options.get("groups"), options.get("window", 0)

    def oracle(rows: np.ndarray) -> float:
        texts = None if groups is None else groups[rows]
        return information_oracles.ksg_mi(x[rows], y[rows], k, method, metric, texts, window).mi

    theta = oracle(np.arange(80))
    resamples = np.array([oracle(np.flatnonzero(np.isin(unit, units))) for units in kept])
    np.testing.assert_allclose(found.resamples, resamples, atol=1e-12, rtol=0)
    if resampling == "jackknife":
        error = jackknife_error(theta, resamples, [n_units - len(units) for units in kept])
        freedom = len(kept) - 1
    else:
        error = subsample_error(resamples, len(kept[0]), n_units)
        freedom = max(1, math.floor(1 / (1 / (n_units - 1) + 1 / (n_resamples - 1))))
    reach = student.ppf((1 + level) / 2, freedom) * error
    expected = (theta, theta - reach, theta + reach, error)
    assert all(type(value) is float for value in found[:4])
    np.testing.assert_allclose(found[:4], expected, atol=1e-11, rtol=0)
    assert found.standard_error == pytest.approx(error, abs=1e-12)


def test_equal_blocks_give_the_plain_jackknife(backend: str) -> None:
    x, y = samples(60)
    found = mf.mi_interval(x, y, n_resamples=12, backend=backend)
    plain = 11 / 12 * ((found.resamples - found.resamples.mean()) ** 2).sum()
    assert found.standard_error == pytest.approx(math.sqrt(plain), abs=1e-12)


def plan(resampling: str, kept: list[list[int]], unit: list[int]) -> Any:
    table = torch.zeros(len(kept), max(unit) + 1, dtype=torch.bool)
    for resample, units in zip(table, kept, strict=True):
        resample[units] = True
    return intervals._Plan(resampling, torch.tensor(unit), None, table, 1.0)


def test_for_a_mean_both_are_the_textbook_error() -> None:
    """S^2 / n: by leaving out each number, and by all ways to draw three of seven."""
    values = torch.from_numpy(np.random.default_rng(0).standard_normal(7))
    textbook = float(values.var()) / 7

    def mean(rows: Any, labels: Any) -> torch.Tensor:
        return values[rows].mean()

    each = [[i for i in range(7) if i != out] for out in range(7)]
    assert float(intervals._interval(mean, plan("jackknife", each, list(range(7))))[3]) ** 2 == pytest.approx(textbook)
    ways = [list(units) for units in itertools.combinations(range(7), 3)]
    found = float(intervals._interval(mean, plan("subsample", ways, list(range(7))))[3]) ** 2
    assert found * (len(ways) - 1) / len(ways) == pytest.approx(textbook)  # all ways are a population, not a sample


def test_for_a_mean_unequal_blocks_are_unbiased() -> None:
    """Blocks of 1, 2 and 5 of 8 independent numbers of variance 1: the expected square is 1/8, each number by itself."""
    blocks = [[0], [1, 2], [3, 4, 5, 6, 7]]
    kept = [[i for i in range(8) if i not in block] for block in blocks]
    expected = 0.0
    for values in torch.eye(8, dtype=torch.float64):  # of a quadratic form the expectation is the trace

        def mean(rows: Any, labels: Any, values: torch.Tensor = values) -> torch.Tensor:
            return values[rows].mean()

        expected += float(intervals._interval(mean, plan("jackknife", kept, list(range(8))))[3]) ** 2
    assert expected == pytest.approx(1 / 8)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 19, 20, 301, 2000])
def test_students_quantile(freedom: int) -> None:
    for level in (0.1, 0.5, 0.95, 0.999):
        assert intervals._student(level, freedom) == pytest.approx(student.ppf((1 + level) / 2, freedom), rel=1e-9)


# ---- what the interval promises --------------------------------------------------------------------------


def cover(
    draw: Callable[[np.random.Generator], Any], groups: Any = None, draws: int = DRAWS, **options: Any
) -> tuple[float, float]:
    """The share of intervals that hold the estimator's mean, and the root mean square error / the true one."""
    many = [mf.ksg_mi(*draw(np.random.default_rng(10_000 + seed)), groups=groups) for seed in range(1000)]
    found = [
        mf.mi_interval(*draw(np.random.default_rng(seed)), groups=groups, seed=seed, **options) for seed in range(draws)
    ]
    inside = np.mean([one.low <= np.mean(many) <= one.high for one in found])
    return float(inside), float(np.sqrt(np.mean([one.standard_error**2 for one in found])) / np.std(many))


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_many_small_estimates() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("resampling", "widest"), [("jackknife", 1.7), ("subsample", 1.3)])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_independent_rows_are_covered(rho: float, resampling: str, widest: float) -> None:
    """At least 0.904 of 200 intervals hold the mean; the standard error is not too small, nor wider than the docs say."""
    inside, width = cover(lambda rng: pair(rng, rho), resampling=resampling)
    assert inside >= LEAST
    assert 0.95 < width < widest


TEXT = np.arange(800) // 20


def texts(rng: np.random.Generator) -> np.ndarray:
    """Two samples, (2, 800): 40 texts of 20 rows, a text's level common to its rows; only 40 levels are independent."""
    level = np.stack(pair(rng, 0.8, 40)).repeat(20, 1)
    return level + 0.3 * rng.standard_normal(level.shape)


@pytest.mark.parametrize("resampling", ["jackknife", "subsample"])
def test_rows_of_a_text_need_texts_as_units(resampling: str) -> None:
    inside, width = cover(texts, TEXT, resampling=resampling)
    assert inside >= LEAST
    assert 0.95 < width < 1.35
    naive, too_narrow = cover(texts, TEXT, resampling=resampling, units=np.arange(800))
    assert naive < 0.8
    assert too_narrow < 0.6


def test_stretches_of_a_series_as_units() -> None:
    """Two series that depend on their own pasts and not on each other; stretches of 50 rows, a window of 10."""

    def series(rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((2, 650))
        for i in range(1, 650):
            noise[:, i] += 0.8 * noise[:, i - 1]
        return noise[:, 50:]

    many = [mf.ksg_mi(*series(np.random.default_rng(10_000 + seed)), window=10) for seed in range(300)]
    inside = 0
    for seed in range(100):
        found = mf.mi_interval(
            *series(np.random.default_rng(seed)),
            units=np.arange(600) // 50,
            window=10,
            seed=seed,
            resampling="subsample",
        )
        inside += found.low <= np.mean(many) <= found.high
    assert inside >= 100 * (0.95 - 3 * math.sqrt(0.95 * 0.05 / 100))


@pytest.mark.parametrize("resampling", ["jackknife", "subsample"])
def test_the_error_falls_with_the_root_of_n(resampling: str) -> None:
    def error(n: int) -> float:
        found = [
            mf.mi_interval(*pair(np.random.default_rng(seed), n=n), resampling=resampling, seed=seed).standard_error
            for seed in range(60)
        ]
        return float(np.sqrt(np.mean(np.square(found))))

    # 60 errors of 19 degrees of freedom each: 3 % either way, 4 % for the ratio, three of these
    assert error(300) / error(2700) == pytest.approx(3, rel=0.13)


# ---- all pairs of layers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("resampling", ["jackknife", "subsample"])
def test_the_matrix_is_every_pair(resampling: str, backend: str) -> None:
    x, y = samples(90)
    layers = [x, y, x[:, :1] + y]
    options: dict[str, Any] = {"groups": np.arange(90) // 6, "resampling": resampling, "seed": 3, "backend": backend}
    found = mf.mi_matrix_interval(layers, **options)
    assert found.mi.shape == found.low.shape == found.high.shape == found.standard_error.shape == (3, 3)
    assert found.resamples.shape == (15 if resampling == "jackknife" else 20, 3, 3)
    for i, j in itertools.product(range(3), repeat=2):
        alone = mf.mi_interval(layers[i], layers[j], metric="euclidean", **options)
        for whole, one in zip(found, alone, strict=True):
            np.testing.assert_allclose(whole[..., i, j], one, atol=1e-11, rtol=0)
    several = mf.mi_matrix_interval(np.stack([x, x + y[:, :1]]), (3, 5), **options)
    assert several.mi.shape == (2, 2, 2)
    single = mf.mi_matrix_interval(np.stack([x, x + y[:, :1]]), 5, **options)
    for whole, one in zip(several, single, strict=True):
        np.testing.assert_allclose(whole[..., 1], one, atol=1e-12, rtol=0)


# ---- kinds, seeds, errors --------------------------------------------------------------------------------


def test_several_k_at_once(backend: str) -> None:
    x, y = samples(70)
    found = mf.mi_interval(x, y, (2, 5), backend=backend)
    assert found.mi.shape == (2,)
    assert found.resamples.shape == (20, 2)
    for i, k in enumerate((2, 5)):
        alone = mf.mi_interval(x, y, k, backend=backend)
        for whole, one in zip(found, alone, strict=True):
            np.testing.assert_allclose(whole[..., i], one, atol=1e-12, rtol=0)


def test_arrays_in_and_the_same_kind_out(backend: str) -> None:
    x, y = (z.astype(np.float32) for z in samples(70))
    found = mf.mi_interval(x, y, backend=backend)
    tensors = mf.mi_interval(torch.from_numpy(x), torch.from_numpy(y), units=torch.arange(70), backend=backend)
    assert isinstance(found.resamples, np.ndarray)
    assert isinstance(tensors.resamples, torch.Tensor)
    assert found.resamples.dtype == np.float64
    assert tensors.resamples.dtype == torch.float64
    assert np.array_equal(found.resamples, tensors.resamples.numpy())
    assert found[:4] == tensors[:4]
    layers = mf.mi_matrix_interval(torch.from_numpy(np.stack([x, x])), backend=backend)
    assert all(isinstance(value, torch.Tensor) for value in layers)


@pytest.mark.parametrize("resampling", ["jackknife", "subsample"])
def test_a_seed_gives_the_same_bits(resampling: str, backend: str) -> None:
    x, y = samples(70)
    first, again, other = (mf.mi_interval(x, y, resampling=resampling, seed=s, backend=backend) for s in (4, 4, 5))
    assert np.array_equal(first.resamples, again.resamples)
    assert first[:4] == again[:4]
    assert not np.array_equal(first.resamples, other.resamples)
    assert first.mi == other.mi == mf.ksg_mi(x, y, backend=backend)


def test_the_order_of_labels_says_nothing(backend: str) -> None:
    """Labels are names: ranks decide, and rows may lie in any order."""
    x, y = samples(80)
    found = mf.mi_interval(x, y, units=TEXTS, backend=backend)
    renamed = mf.mi_interval(x, y, units=TEXTS * 1000 - 10**12, backend=backend)
    assert np.array_equal(found.resamples, renamed.resamples)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"resampling": "bootstrap"}, ValueError, r"resampling: .*'jackknife'.*bootstrap"),
    ({"level": 0.0}, ValueError, r"level: .*0\.0"),
    ({"level": 1.0}, ValueError, r"level: .*1\.0"),
    ({"level": 95}, ValueError, r"level: .*95"),
    ({"level": float("nan")}, ValueError, r"level: .*nan"),
    ({"level": "0.95"}, TypeError, r"level: .*str"),
    ({"fraction": 0.0}, ValueError, r"fraction: .*0\.0"),
    ({"fraction": 1.0}, ValueError, r"fraction: .*1\.0"),
    ({"fraction": 0.01, "resampling": "subsample"}, ValueError, r"fraction: .*1 to 29 of 30 .*0\.01.*0$"),
    ({"fraction": 0.99, "resampling": "subsample"}, ValueError, r"fraction: .*1 to 29 of 30 .*0\.99.*30$"),
    ({"n_resamples": 1}, ValueError, r"n_resamples: .*2.*1"),
    ({"n_resamples": 2.5}, TypeError, r"n_resamples: .*2\.5"),
    ({"seed": -1}, ValueError, r"seed: .*-1"),
    ({"units": np.zeros(30, dtype=int)}, ValueError, r"units: .*at least 2 .*got 1"),
    ({"units": np.arange(29)}, ValueError, r"units: .*30.*29"),
    ({"units": np.ones(30)}, TypeError, r"units: .*integer"),
    ({"window": 2}, ValueError, r"units: .*consecutive.*None"),
    ({"window": 2, "units": np.arange(30) % 5}, ValueError, r"units: .*consecutive.*5 labels in 30 runs"),
    ({"window": 2, "groups": np.arange(30) % 5}, ValueError, r"units: .*consecutive.*5 labels in 30 runs"),
    ({"k": 20, "n_resamples": 2}, ValueError, r"k: .*at most 13, .*resample, got 20"),
    ({"k": 5, "fraction": 0.1, "resampling": "subsample"}, ValueError, r"k: .*at most 1, .*resample, got 5"),
    ({"k": 21, "groups": np.arange(30) // 10}, ValueError, r"k: .*at most 20, .*groups and window, got 21"),
    ({"k": 11, "groups": np.arange(30) // 10}, ValueError, r"k: .*at most 9, .*resample, got 11"),
    ({"k": 30}, ValueError, r"k: .*n - 1 = 29.*30"),
    ({"metric": "cosine"}, ValueError, r"metric: .*cosine"),
    ({"method": "ksg3"}, ValueError, r"method: .*ksg3"),
    ({"backend": "tpu"}, ValueError, r"backend: .*tpu"),
]


@pytest.mark.parametrize(("options", "error", "says"), BAD, ids=range(len(BAD)))
def test_what_is_refused(options: dict[str, Any], error: type[Exception], says: str, backend: str) -> None:
    x, y = samples(30)
    options = {"backend": backend, **options}
    with pytest.raises(error, match=says):
        mf.mi_interval(x, y, **options)
    with pytest.raises(error, match=says):
        mf.mi_matrix_interval([x, y], **options)


def test_a_batch_is_refused(backend: str) -> None:
    with pytest.raises(ValueError, match=r"x: .*\(2, 9, 3\)"):
        mf.mi_interval(np.ones((2, 9, 3)), np.ones((2, 9, 3)), backend=backend)


def test_a_resample_of_k_plus_1_rows_is_refused() -> None:
    """Its estimate would be one number whatever the data, and the interval of width zero."""
    x = np.random.default_rng(0).standard_normal((5, 1))
    with pytest.raises(ValueError, match=r"k: expected at most 2, .*resample, got 3"):
        mf.mi_interval(x, x**2, 3)
