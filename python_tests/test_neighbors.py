"""knn and radius_count against the float64 oracles: identical indices, distances equal to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
import torch
from compare import check_knn_oracle
from strategies import KINDS, cloud, probabilities

import msma_fast as mf


def points_for(metric: str, n: int, d: int, seed: int = 0) -> np.ndarray:
    return probabilities(n, d, seed) if metric in oracles.PROBABILITY_METRICS else cloud("normal", n, d, seed)


def extra(metric: str, d: int) -> dict[str, Any]:
    if metric != "mahalanobis":
        return {"p": 3.0} if metric == "minkowski" else {}
    a = np.random.default_rng(8).standard_normal((d, d))
    return {"metric_tensor": a @ a.T + np.eye(d) + 0.1 * np.triu(a, 1)}


def tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.as_tensor(v) if name == "metric_tensor" else v for name, v in options.items()}


def both(x: np.ndarray, k: int, y: np.ndarray | None = None, *, backend: str, **options: Any) -> None:
    """Run and check in one go."""
    found = mf.knn(x, k, y, backend=backend, **options)
    check_knn_oracle((found.distances, found.indices, found.valid), x, k, y, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_every_metric(metric: str, separate: bool, dtype: Any, backend: str) -> None:
    x, y = points_for(metric, 97, 13).astype(dtype), points_for(metric, 61, 13, seed=1).astype(dtype)
    both(x, 7, y if separate else None, metric=metric, backend=backend, **extra(metric, 13))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 7.0, 16.0, 1.5, 2.5])
def test_minkowski_orders(p: float, backend: str) -> None:
    both(cloud("normal", 53, 11, 2), 5, metric="minkowski", p=p, backend=backend)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_against_the_plain_formula(metric: str, backend: str) -> None:
    x = points_for(metric, 43, 9, seed=3)
    found = mf.knn(x, 6, metric=metric, backend=backend, **extra(metric, 9))
    check_knn_oracle(tuple(found), x, 6, metric=metric, plain=True, **extra(metric, 9))


SHAPES = [
    (2, 1, 1),
    (3, 2, 2),
    (7, 3, 6),
    (31, 1, 5),
    (113, 17, 112),
    (67, 64, 66),
    (257, 8, 1),
    (131, 101, 30),
]


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
@pytest.mark.parametrize("metric", ["euclidean", "chebyshev", "inner_product"])
def test_shapes(n: int, d: int, k: int, metric: str, backend: str) -> None:
    both(cloud("normal", n, d, n).astype(np.float32), k, metric=metric, backend=backend)


@pytest.mark.parametrize(("n", "m", "d", "k"), [(1, 1, 1, 1), (1, 5, 3, 5), (9, 1, 4, 1), (5, 127, 2, 127)])
def test_shapes_with_separate_points(n: int, m: int, d: int, k: int, backend: str) -> None:
    both(cloud("normal", n, d, 1), k, cloud("normal", m, d, 2), backend=backend)


def test_points_that_are_the_queries_are_not_self(backend: str) -> None:
    x = cloud("duplicates", 29, 3, 0)
    found = mf.knn(x, 3, x, backend=backend)
    check_knn_oracle(tuple(found), x, 3, x)
    assert np.all(found.distances[:, 0] == 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_dtypes(dtype: torch.dtype, metric: str, backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 83, 12, 5)).to(dtype)
    found = mf.knn(x, 6, metric=metric, backend=backend)
    wanted = np.float64 if dtype == torch.float64 else np.float32
    check_knn_oracle(tuple(found), x.to(torch.float64).numpy(), 6, metric=metric, dtype=wanted)


class Lender:
    """An object known only by the DLPack protocol."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def test_numpy_in_numpy_out_torch_in_torch_out_and_dlpack_in(backend: str) -> None:
    x = cloud("normal", 31, 5, 6)
    in_numpy = mf.knn(x, 4, backend=backend)
    assert all(isinstance(part, np.ndarray) for part in in_numpy)
    for source in (torch.from_numpy(x), Lender(torch.from_numpy(x))):
        other = mf.knn(source, 4, backend=backend)
        for mine, theirs in zip(in_numpy, other, strict=True):
            assert isinstance(theirs, torch.Tensor) or not isinstance(source, torch.Tensor)
            assert np.array_equal(mine, np.asarray(theirs))


def test_memory_layouts(backend: str) -> None:
    wide = cloud("normal", 74, 26, 7)
    views = [wide[::2], wide[:, ::2], wide[::-1], wide[:, ::-1], np.asfortranarray(wide), wide.T]
    frozen = wide.copy()
    frozen.setflags(write=False)
    for x in [*views, frozen]:
        both(x, 5, backend=backend)
    transposed = torch.from_numpy(wide).T
    found = mf.knn(transposed, 5, backend=backend)
    check_knn_oracle(tuple(found), wide.T.copy(), 5)
    expanded = torch.from_numpy(wide[:1]).expand(9, -1)
    check_knn_oracle(tuple(mf.knn(expanded, 3, backend=backend)), expanded.numpy(), 3)


@pytest.mark.parametrize("per_batch", [False, True])
def test_batches_are_separate_problems(per_batch: bool, rng: np.random.Generator, backend: str) -> None:
    x, y = rng.standard_normal((3, 23, 4)), rng.standard_normal((3, 17, 4))
    labels = rng.integers(0, 3, (3, 23) if per_batch else 23)
    alone, apart = mf.knn(x, 5, groups=labels, window=1, backend=backend), mf.knn(x, 5, y, backend=backend)
    for b in range(3):
        label = labels[b] if per_batch else labels
        check_knn_oracle(tuple(part[b] for part in alone), x[b], 5, groups=label, window=1)
        check_knn_oracle(tuple(part[b] for part in apart), x[b], 5, y[b])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev", "inner_product", "cosine"])
def test_adversarial_points(kind: str, metric: str, backend: str) -> None:
    both(cloud(kind, 240, 19, 9).astype(np.float32), 9, metric=metric, backend=backend)


@pytest.mark.parametrize("metric", ["euclidean", "inner_product", "cosine"])
def test_points_where_the_screen_works(metric: str, backend: str) -> None:
    """Enough points for the low-precision screen, with a few rows of a hundred times the median norm."""
    x = cloud("normal", 1201, 48, 10)
    x[::150] *= 100
    x[:, 3] += 40
    x[600:605] = x[7]
    both(x.astype(np.float32), 15, metric=metric, backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product", "correlation"])
def test_many_points_of_a_model_like_shape(metric: str, rng: np.random.Generator, backend: str) -> None:
    """8,192 rows with a few of a hundred times the median norm and thousands of repeats, checked on 60 of them."""
    x = rng.standard_normal((8192, 144)) * 10.0 ** rng.uniform(-2, 1, 144) + rng.standard_normal(144)
    x = x.astype(np.float32)
    x[::900] *= 100
    x[4000:6000] = x[rng.integers(0, 300, 2000)]
    labels = np.arange(8192) // 32
    found = mf.knn(x, 15, metric=metric, groups=labels, backend=backend)
    some = rng.choice(8192, 60, replace=False)
    allowed = oracles.admissible(60, 8192, labels[some], labels)
    wanted = oracles.nearest(oracles.canonical_keys(x[some], x, metric), allowed, 15)
    assert np.array_equal(found.indices[some], wanted.indices)
    assert np.array_equal(found.distances[some], oracles.to_distance(wanted.keys, metric).astype(np.float32))


def test_subnormal_coordinates(backend: str) -> None:
    x = cloud("normal", 60, 5, 11)
    both((x * 1e-40).astype(np.float32), 4, backend=backend)
    both(x * 1e-310, 4, metric="manhattan", backend=backend)  # squares would all be zero
    both(x * 1e-160, 4, backend=backend)  # subnormal squares: ties and order by what is left of them


def test_large_coordinates_whose_float32_square_overflows(backend: str) -> None:
    both((cloud("normal", 80, 6, 12) * 1e30).astype(np.float32), 4, backend=backend)
    both(cloud("normal", 80, 6, 12) * 1e150, 4, backend=backend)


def test_thousands_of_equal_rows(backend: str) -> None:
    x = cloud("normal", 7, 3, 13)[np.random.default_rng(0).integers(0, 7, 2100)].astype(np.float32)
    both(x, 6, backend=backend)
    both(x, 6, groups=np.arange(2100) % 3, window=2, backend=backend)


def test_ties_at_the_kth_place_are_cut_by_index(backend: str) -> None:
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    for k in (1, 3, 6, 11):
        both(grid, k, backend=backend)
        both(grid, k, metric="chebyshev", backend=backend)


OPTIONS: list[dict[str, Any]] = [
    {"groups": np.arange(50) // 7},
    {"groups": -(np.arange(50) % 3) * 2**60},
    {"window": 5},
    {"window": 48},
    {"window": 10**6},
    {"groups": np.arange(50) // 20, "window": 4},
    {"groups": np.zeros(50, dtype=np.int64)},
    {"groups": np.arange(50) // 49},
    {"groups": (np.arange(50) % 5).astype(np.int32)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("k", [1, 8, 49])
def test_exclusions_and_padding(options: dict[str, Any], k: int, backend: str) -> None:
    both(cloud("normal", 50, 6, 14).astype(np.float32), k, backend=backend, **options)


def test_groups_with_separate_points(rng: np.random.Generator, backend: str) -> None:
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((21, 4))
    labels, point_labels = rng.integers(0, 3, 30), rng.integers(0, 2, 21)
    both(x, 15, y, groups=labels, point_groups=point_labels, backend=backend)


def test_stats_say_what_the_screen_did(backend: str) -> None:
    x = cloud("normal", 1500, 32, 15).astype(np.float32)
    found, stats = mf.knn(x, 5, return_stats=True, backend=backend)
    check_knn_oracle(tuple(found), x, 5)
    for part in (stats.candidates, stats.widened):
        assert part.shape == (1500,)
        assert part.dtype == np.int64
    assert stats.candidates.min() >= 5
    assert np.median(stats.candidates) < 300, "a screen that keeps everything is no screen"
    assert stats.widened.min() >= 0


def test_fast_is_nearly_right_and_still_canonical(backend: str) -> None:
    x = cloud("normal", 400, 24, 16)
    fast, exact = mf.knn(x, 8, precision="fast", backend=backend), mf.knn(x, 8, backend=backend)
    shared = [len(set(a) & set(b)) for a, b in zip(fast.indices, exact.indices, strict=True)]
    assert np.mean(shared) > 7.5
    keys = oracles.canonical_keys(x, x, "euclidean")
    np.testing.assert_allclose(fast.distances, np.sqrt(np.take_along_axis(keys, fast.indices, 1)), rtol=1e-12)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_backends_agree_to_the_last_bit(metric: str) -> None:
    from conftest import available_backends

    names = available_backends()
    x = points_for(metric, 150, 21, seed=17).astype(np.float32)
    labels = np.arange(150) // 4
    results = [mf.knn(x, 9, metric=metric, groups=labels, backend=b, **extra(metric, 21)) for b in names]
    counts = [
        mf.radius_count(x, results[0].distances[:, 4], metric=metric, backend=b, **extra(metric, 21)) for b in names
    ]
    ulp_allowed = metric in oracles.LIBRARY_ROOT_METRICS or metric in oracles.BAND_METRICS
    for other, count in zip(results[1:], counts[1:], strict=True):
        assert np.array_equal(results[0].valid, other.valid)
        if metric not in oracles.BAND_METRICS:
            assert np.array_equal(results[0].indices, other.indices)
        np.testing.assert_array_max_ulp(results[0].distances, other.distances, maxulp=1 if ulp_allowed else 0)
        if not ulp_allowed:
            assert np.array_equal(counts[0], count)


def test_the_answer_is_a_function_of_the_data_alone(torch_threads: None, backend: str) -> None:
    """Threads, the matrix product setting and autocast change nothing."""
    x = torch.from_numpy(cloud("normal", 700, 40, 18)).float()
    first = mf.knn(x, 10, backend=backend)
    for threads, precision in ((1, "highest"), (2, "medium"), (1, "high")):
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        assert all(torch.equal(a, b) for a, b in zip(first, mf.knn(x, 10, backend=backend), strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(first, mf.knn(x, 10, backend=backend), strict=True))
    check_knn_oracle(tuple(first), x.numpy(), 10)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_distances_are_differentiable(metric: str, backend: str) -> None:
    options = tensors(extra(metric, 4))
    raw = torch.from_numpy(cloud("normal", 7, 4, 19)).requires_grad_()
    other = torch.from_numpy(cloud("normal", 6, 4, 20)).requires_grad_()

    def distances(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        if metric in oracles.PROBABILITY_METRICS:
            x, y = x.softmax(-1), None if y is None else y.softmax(-1)
        return mf.knn(x, 3, y, metric=metric, backend=backend, **options).distances

    assert torch.autograd.gradcheck(distances, (raw,))
    assert torch.autograd.gradcheck(distances, (raw, other))


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_the_gradient_at_distance_zero_is_zero(metric: str, backend: str) -> None:
    options = tensors(extra(metric, 4))
    x = torch.from_numpy(points_for(metric, 1, 4)).repeat(5, 1).requires_grad_()
    found = mf.knn(x, 4, groups=torch.tensor([0, 0, 1, 1, 2]), metric=metric, backend=backend, **options)
    found.distances[found.valid].sum().backward()
    assert x.grad is not None
    if metric == "inner_product":
        assert torch.isfinite(x.grad).all()
    else:
        assert torch.equal(x.grad, torch.zeros_like(x)), x.grad


def test_batches_are_differentiable(backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 14, 3, 27).reshape(2, 7, 3)).requires_grad_()
    y = torch.from_numpy(cloud("normal", 10, 3, 28).reshape(2, 5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: mf.knn(a, 2, b, backend=backend).distances, (x, y))
    assert torch.autograd.gradcheck(lambda a, b: mf.pairwise_distances(a, b, backend=backend), (x, y))
    assert torch.autograd.gradcheck(lambda a: mf.knn(a, 2, window=1, backend=backend).distances, (x,))


def test_padding_does_not_poison_the_gradient(backend: str) -> None:
    x = torch.from_numpy(cloud("normal", 5, 3, 21)).requires_grad_()
    found = mf.knn(x, 4, groups=torch.tensor([0, 0, 0, 0, 1]), backend=backend)
    found.distances.where(found.valid, 0).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


# ---- radius_count -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("metric", [m for m in oracles.EXACT_METRICS if m != "fisher_rao"])
def test_radius_count_of_every_metric(metric: str, closed: bool, dtype: Any, backend: str) -> None:
    x = points_for(metric, 71, 9, seed=22).astype(dtype)
    options = extra(metric, 9)
    if metric == "minkowski":
        options["p"] = 2.0  # no library root, so the comparison is promised to the last bit
    distances = oracles.to_distance(oracles.canonical_keys(x, x, metric, **options), metric, 2.0).astype(dtype)
    radius = np.sort(distances, axis=1)[:, 6]  # a distance that occurs: open and closed differ
    exclusions: list[dict[str, Any]] = [{}, {"groups": np.arange(71) % 9, "window": 2}]
    for extras in exclusions:
        found = mf.radius_count(x, radius, metric=metric, closed=closed, backend=backend, **options, **extras)
        wanted = oracles.radius_counts(distances, radius, oracles.admissible(71, **extras), closed)
        assert np.array_equal(found, wanted)
        assert found.dtype == np.int64


@pytest.mark.parametrize("metric", ["fisher_rao", "jensen_shannon", "kl", "minkowski"])
def test_radius_count_between_distances(metric: str, backend: str) -> None:
    x = points_for(metric, 40, 6, seed=23)
    distances = oracles.to_distance(oracles.canonical_keys(x, x, metric, **extra(metric, 6)), metric, 3.0)
    gaps = np.sort(distances, axis=1)[:, 8:20]
    widest = np.argmax(np.diff(gaps, axis=1), axis=1)[:, None]
    radius = (np.take_along_axis(gaps, widest, 1) + np.take_along_axis(gaps, widest + 1, 1))[:, 0] / 2
    found = mf.radius_count(x, radius, metric=metric, backend=backend, **extra(metric, 6))
    assert np.array_equal(found, oracles.radius_counts(distances, radius, oracles.admissible(40), False))


@pytest.mark.parametrize("kind", KINDS)
def test_radius_count_of_adversarial_points(kind: str, backend: str) -> None:
    x, y = cloud(kind, 150, 7, 24).astype(np.float32), cloud(kind, 90, 7, 24).astype(np.float32)
    distances = np.sqrt(oracles.canonical_keys(x, y, "euclidean")).astype(np.float32)
    radius = float(np.median(distances))
    labels, point_labels = np.arange(150) % 4, np.arange(90) % 3
    for closed in (False, True):
        found = mf.radius_count(x, radius, y, closed=closed, groups=labels, point_groups=point_labels, backend=backend)
        wanted = oracles.radius_counts(distances, radius, oracles.admissible(150, 90, labels, point_labels), closed)
        assert np.array_equal(found, wanted)


def test_radius_compares_in_the_returned_precision(backend: str) -> None:
    x = cloud("normal", 90, 11, 25).astype(np.float32)
    found = mf.knn(x, 5, backend=backend)
    last = found.distances[:, -1]
    assert np.all(mf.radius_count(x, last, backend=backend) == 4)
    assert np.all(mf.radius_count(x, last, closed=True, backend=backend) == 5)
    nearly = last.astype(np.float64) * (1 + 1e-12)  # the same radius once it is a float32
    assert np.all(mf.radius_count(x, nearly, backend=backend) == 4)


def test_radius_zero_and_kinds(backend: str) -> None:
    x = cloud("duplicates", 40, 3, 26)
    same = (x[:, None] == x[None]).all(-1).sum(1) - 1
    assert np.array_equal(mf.radius_count(x, 0.0, closed=True, backend=backend), same)
    assert not mf.radius_count(x, 0.0, backend=backend).any()
    found = mf.radius_count(torch.from_numpy(x), 0.0, closed=True, backend=backend)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == same.tolist()
    negative = mf.radius_count(x, -1.0, metric="inner_product", backend=backend)
    assert np.array_equal(negative, ((-(x @ x.T) < -1) & oracles.admissible(40)).sum(1))
