"""precision="fast": nearly all neighbours, canonical distances, and nothing in it that a CUDA graph could not capture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

import msma_fast as mf
from msma_fast import ops
from msma_fast.backends import triton as backend
from msma_fast.triton_kernels import keys as key_kernels
from msma_fast.triton_kernels import knn as kernels


def recall(x: np.ndarray, k: int, y: np.ndarray | None = None, **options: Any) -> float:
    found = mf.knn(x, k, y, precision="fast", backend="triton", **options)
    right = mf.knn(x, k, y, backend="torch", **options)
    for row in range(len(x)):  # whatever is listed has its true distance, in order
        for distance, index in zip(found.distances[row], found.indices[row], strict=True):
            at = np.flatnonzero(right.indices[row] == index)
            if len(at):
                assert right.distances[row][at[0]] == distance
    assert (np.diff(found.distances, axis=1) >= 0).all()
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found.indices, right.indices, strict=True)]))


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_recall(metric: str) -> None:
    x = np.random.default_rng(0).standard_normal((400, 24)).astype(np.float32)
    assert 0.95 < recall(x, 4, metric=metric) <= 1
    assert recall(x + 100, 4, metric="euclidean") > 0.95


@pytest.mark.usefixtures("strict")
def test_rules_hold() -> None:
    x = np.random.default_rng(1).standard_normal((300, 8))
    groups = np.arange(300) // 4
    found = mf.knn(x, 3, groups=groups, window=6, precision="fast", backend="triton")
    assert (groups[found.indices] != groups[:, None]).all()
    assert (np.abs(found.indices - np.arange(300)[:, None]) > 6).all()
    assert recall(x, 3, groups=groups, window=6) > 0.95
    assert recall(x[:50] + 0.1, 3, x) > 0.95


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are not run, and no tensors made of Python numbers, which a capture would have to copy to the GPU."""

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> object:
            assert all(isinstance(size, int) for size in grid)
            return lambda *args, **named: None

    def copied(*_: object, **__: object) -> None:
        raise AssertionError("a tensor made of a Python number")

    monkeypatch.setattr(kernels, "bounds_kernel", Kernel())
    monkeypatch.setattr(key_kernels, "pair_keys_kernel", Kernel())
    for maker in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, maker, copied)


@pytest.mark.usefixtures("unlaunched")
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "inner_product"])
def test_no_value_decides_what_is_launched(metric: str) -> None:
    """Fake tensors have no values: whatever waits for one, or has a shape that depends on one, raises."""
    knn = backend.operations()["knn"]
    rest = (metric, 2.0, None, None, None, 2)
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(40_000, 64)
        distances, indices, *_ = knn(x, None, 15, *rest, False, torch.float32)
        assert distances.shape == indices.shape == (40_000, 15)
        with pytest.raises(DataDependentOutputException):
            knn(x, None, 15, *rest, True, torch.float32)  # the exact search does wait


@pytest.mark.usefixtures("unlaunched")
def test_no_value_decides_from_the_public_function_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """check_finite=False looks at no value either; labels are ranked first, and that waits."""
    monkeypatch.setattr(ops, "knn", ops.knn._init_fn)  # the function itself: fake tensors would get its shapes alone
    options: dict[str, Any] = {"window": 2, "precision": "fast", "check_finite": False, "backend": "triton"}
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(40_000, 64)
        assert mf.knn(x, 15, **options).indices.shape == (40_000, 15)
        assert mf.knn(x[:100], 15, x, **options | {"window": 0}).indices.shape == (100, 15)
        with pytest.raises(DynamicOutputShapeException):
            mf.knn(x, 15, groups=torch.zeros(40_000, dtype=torch.int64), **options)
        with mf.use_backend("torch"), pytest.raises(DataDependentOutputException):  # whose scan reads no memory itself
            mf.knn(x, 15, **options | {"check_finite": True})


@pytest.mark.skipif(backend.interpreted(), reason="about a GPU")
@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_a_cuda_graph_captures_it(metric: str) -> None:
    options: dict[str, Any] = {"metric": metric, "precision": "fast", "check_finite": False, "window": 2}
    one, two = (torch.randn(2000, 40, generator=torch.Generator().manual_seed(seed)).cuda() for seed in (0, 1))
    wanted = [mf.knn(x, 15, **options).indices for x in (one, two)]  # compiles and checks first
    x, graph = one.clone(), torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        mf.knn(x, 15, **options)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        found = mf.knn(x, 15, **options).indices
    for rows, indices in zip((one, two), wanted, strict=True):
        x.copy_(rows)
        graph.replay()
        assert torch.equal(found, indices)
