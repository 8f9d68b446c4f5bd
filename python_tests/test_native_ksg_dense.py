"""KSG over dense blocks against full float64 matrices (oracles.py) and the torch backend: counts equal, estimates to 1e-12."""

from __future__ import annotations

import hashlib
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from subprocesses import printed

import msma_fast as mf
from msma_fast.backends import native, registry

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

Array = np.ndarray[Any, Any]
METRICS, METHODS, DTYPES = ["euclidean", "chebyshev"], ["ksg1", "ksg2"], [np.float32, np.float64]
NAMES = ["normal", "lattice", "duplicates", "shifted", "one huge coordinate", "constant", "all equal", "tiny", "vast"]
NAMES += ["bfloat16", "scales apart"]


def samples(name: str, n: int, d: int, dtype: Any) -> tuple[Array, Array]:
    """Two dependent samples (n, d) and (n, d + 1)."""
    rng = np.random.default_rng([len(name), n, d])
    x = rng.standard_normal((n, d))
    y = np.concatenate([x + rng.standard_normal((n, d)), rng.standard_normal((n, 1))], 1)
    if name == "lattice":
        x, y = np.round(1.5 * x), np.round(1.5 * y)
    elif name == "duplicates":
        x, y = x[rng.integers(0, min(n, 25), n)], y[rng.integers(0, n // 2 + 1, n)]
    elif name == "shifted":
        x, y = x + 1e6, y - 1e6
    elif name == "one huge coordinate":
        x[n // 2, d - 1] = 1e30
    elif name == "constant":
        x[:] = x[0]
    elif name == "all equal":
        x[:], y[:] = x[0], y[0]
    elif name == "tiny":
        x, y = x * 1e-30, y * 1e-30
    elif name == "vast":
        x, y = x * 1e25, y * 1e25
    elif name == "bfloat16":
        x[:, 0], y[:, 1] = 30 * x[:, 0], 50 * y[:, 1]
        x, y = (torch.from_numpy(z).to(torch.bfloat16).to(torch.float64).numpy() for z in (x, y))
    elif name == "scales apart":
        y = 1e6 * y
    return x.astype(dtype), y.astype(dtype)


def ksg(backend: str, x: Array, y: Array, ks: list[int], method: str, metric: str, groups: Any, window: int) -> Any:
    labels = None if groups is None else torch.from_numpy(groups.astype(np.int32))
    rows = torch.from_numpy(x), torch.from_numpy(y)
    return registry.run("ksg", rows[0].device, backend, *rows, ks, method, metric, labels, window)


def check(x: Array, y: Array, ks: list[int], method: str, metric: str, groups: Any = None, window: int = 0) -> None:
    """Counts against both, ties against torch."""
    found = ksg("native", x, y, ks, method, metric, groups, window)
    plain = ksg("torch", x, y, ks, method, metric, groups, window)
    for ours, theirs in zip(found[1:], plain[1:], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(found[0], plain[0])
    for t, k in enumerate(ks):
        oracle = information_oracles.ksg_mi(x, y, k, method, metric, groups, window)
        np.testing.assert_array_equal(found[1][:, t].numpy(), oracle.n_x)
        np.testing.assert_array_equal(found[2][:, t].numpy(), oracle.n_y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_counts(name: str, metric: str, method: str, dtype: Any) -> None:
    x, y = samples(name, 211, 5, dtype)
    check(x, y, [1, 3, 16, 17, 210], method, metric)
    groups = np.arange(211) * 7 % 40
    check(x, y, [3], method, metric, groups)
    check(x, y, [2, 4], method, metric, groups, 9)
    check(x, y, [4, 2], method, metric, None, 30)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d"), [(2, 3), (4, 1), (17, 2), (96, 8), (97, 31), (193, 7), (300, 193), (130, 400)])
def test_odd_sizes(n: int, d: int, metric: str) -> None:
    for dtype in DTYPES:
        x, y = samples("normal", n, d, dtype)
        check(x, y, sorted({1, min(3, n - 1), n - 1}), "ksg1", metric)


@pytest.mark.parametrize("metric", METRICS)
def test_types_may_differ(metric: str) -> None:
    x, y = samples("lattice", 150, 4, np.float64)
    y = (y + 1e-3).astype(np.float32)
    ours = mf.ksg_mi_matrix([x, y, x.astype(np.float16)], 3, metric=metric, backend="native")
    expected = information_oracles.ksg_matrix([x, y.astype(np.float64), x], 3, metric=metric)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_matrix(name: str, metric: str, method: str) -> None:
    x, y = samples(name, 163, 4, np.float32)
    layers = [x, y, x + y[:, :4], samples("normal", 163, 9, np.float32)[0]]
    shuffle = np.random.default_rng(5).permutation(163)
    for groups, window in ((None, 0), (np.arange(163) // 4, 6)):
        for permutation in (None, shuffle):
            given: dict[str, Any] = {"method": method, "metric": metric, "groups": groups, "window": window}
            ours, theirs = (
                mf.ksg_mi_matrix(layers, [1, 5], permutation=permutation, backend=backend, **given)
                for backend in ("native", "torch")
            )
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
            if permutation is None:
                np.testing.assert_allclose(
                    ours[..., 1], information_oracles.ksg_matrix(layers, 5, **given), rtol=0, atol=1e-12
                )


@pytest.mark.parametrize("n", [700, pytest.param(2101, marks=pytest.mark.slow)])
def test_many_blocks(n: int) -> None:
    """64 layers of 700 rows are cut into blocks of 96 rows, with what waits for later blocks; 2101 keep nothing."""
    rng = np.random.default_rng(n)
    layers = rng.standard_normal((64, n, 128)).astype(np.float32)
    layers[5, ::7] = layers[5, 3]
    matrix = mf.ksg_mi_matrix(layers, 3, backend="native")
    np.testing.assert_array_equal(matrix, matrix.T)
    for a, b in ((0, 0), (5, 5), (5, 60), (63, 2), (17, 40)):
        expected = mf.ksg_mi(layers[a], layers[b], 3, metric="euclidean", backend="torch")
        assert abs(matrix[a, b] - expected) < 1e-12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_permutations(name: str, metric: str, method: str) -> None:
    for dtype in DTYPES:
        x, y = samples(name, 173, 6, dtype)
        for groups in (None, np.arange(173) * 5 % 31):
            for k in (1, 4, 20):
                ours, theirs = (
                    mf.mi_permutation_test(x, y, k, 6, method=method, metric=metric, groups=groups, backend=backend)
                    for backend in ("native", "torch")
                )
                np.testing.assert_allclose(ours.null, theirs.null, rtol=0, atol=1e-12)
                assert abs(ours.mi - theirs.mi) < 1e-12


def test_a_permutation_is_an_estimate_of_reordered_rows() -> None:
    x, y = samples("normal", 140, 5, np.float32)
    orders = torch.stack([torch.from_numpy(np.random.default_rng(s).permutation(140)) for s in range(3)])
    rows = torch.from_numpy(x), torch.from_numpy(y)
    found = registry.run("ksg_permutations", rows[0].device, "native", *rows, 3, "ksg1", "euclidean", None, orders)
    expected = [information_oracles.ksg_mi(x, y[order], 3, "ksg1", "euclidean").mi for order in orders.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_too_few_neighbours() -> None:
    x, y = samples("normal", 12, 3, np.float32)
    groups = np.arange(12) % 2
    for backend in ("native", "torch"):
        with pytest.raises(ValueError, match="k: expected at most 6, the fewest neighbours"):
            mf.ksg_mi_matrix([x, y], 7, groups=groups, backend=backend)
        with pytest.raises(ValueError, match="neighbours a row has left in a permuted sample, got 6"):
            mf.mi_permutation_test(x, y, 6, 20, groups=groups, backend=backend)


def digest() -> str:
    """A fingerprint of counts and sums, ties and open comparisons among them."""
    state = hashlib.sha256()
    for name in NAMES:
        for dtype in DTYPES:
            x, y = samples(name, 230, 11, dtype)
            for metric in METRICS:
                for method in METHODS:
                    for part in ksg("native", x, y, [2, 5, 30], method, metric, np.arange(230) // 3, 4):
                        state.update(part.numpy().tobytes())
                    state.update(mf.ksg_mi_matrix([x, y], 3, method=method, metric=metric, backend="native").tobytes())
                    test = mf.mi_permutation_test(x, y, 3, 4, method=method, metric=metric, backend="native")
                    state.update(np.asarray(test.null).tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("cap", ["scalar", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_bits(cap: str) -> None:
    code = "import test_native_ksg_dense as t; print(t.native.instruction_set(), t.digest())"
    out = printed(code, MSMA_FAST_CPU=cap)
    used, found = out.split()
    assert used in (cap, native.instruction_set())  # a machine may have less than the cap allows
    assert found == digest()


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    layers = [*samples("bfloat16", 900, 40, np.float32), *samples("normal", 900, 20, np.float32)]
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        test = mf.mi_permutation_test(layers[0], layers[1], 3, 8, backend="native")
        found.append((mf.ksg_mi_matrix(layers, [1, 3], backend="native"), np.asarray(test.null)))
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_nan_and_inf_end() -> None:
    """No promise but an end without a crash."""
    x, y = samples("normal", 200, 5, np.float32)
    x[7, 2], y[9, 1], y[50] = np.nan, np.inf, np.nan
    for method in METHODS:
        for metric in METRICS:
            given: dict[str, Any] = {"method": method, "metric": metric, "check_finite": False, "backend": "native"}
            mf.ksg_mi(x, y, [3, 30], **given)
            mf.mi_permutation_test(x, y, 3, 3, **given)


ROWS = [np.ones((4, 2))], None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "manhattan"}, "kind: expected sqeuclidean or chebyshev, got 'manhattan'"),
        ({"samples": [ROWS]}, "samples: expected 2, got 1"),
        ({"samples": [ROWS, ([np.ones((5, 2))], None)]}, r"samples\[1\]: expected 4 rows as in samples\[0\], got 5"),
        ({"samples": [ROWS, ([np.ones((4, 2), np.int32)], None)]}, r"samples\[1\]: expected a contiguous float16"),
        ({"samples": [ROWS, ([np.ones((2, 4), np.float16).T], None)]}, r"samples\[1\]: .* not contiguous"),
        ({"samples": [([], None), ROWS]}, r"samples\[0\]: expected at least one part, got none"),
        ({"samples": [ROWS, ([np.ones((2, 2)), np.ones((2, 3))], None)]}, r"samples\[1\]: expected parts of one type"),
        ({"samples": [ROWS, (ROWS[0], np.array([0, 1, 2, 4]))]}, r"samples\[1\]: expected row numbers in \[0, 4\)"),
        ({"samples": [ROWS, (ROWS[0], np.array([0, -1, 2, 3]))]}, r"samples\[1\]: expected row numbers in \[0, 4\)"),
        ({"ks": []}, "ks: expected at least one k, got none"),
        ({"ks": [0]}, "ks: expected k >= 1, got 0"),
        ({"window": -1}, "window: expected at least 0, got -1"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"groups": np.ones(3, np.int32)}, r"groups: expected a contiguous int32 array of shape \(4,\)"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"kind": "chebyshev", "samples": [ROWS, ([np.ones((4, 3))], None)], "ks": [1]}
    given |= {"second": False, "groups": None, "window": 0, "threads": 1}
    from msma_fast import _native

    with pytest.raises(ValueError, match=message):
        _native.ksg_counts(**(given | changes))
