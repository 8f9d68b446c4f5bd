"""KSG in few dimensions by the compiled module: counts and terms equal those of comparing all pairs, to the bit."""

from __future__ import annotations

import hashlib
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from subprocesses import printed

from msma_fast._arrays import Parted
from msma_fast.backends import native, native_ksg_low, registry

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

CPU = torch.device("cpu")
RULES = ["all", "groups", "window", "both"]
HARD = ["normal", "lattice", "constant", "mostly equal", "huge", "shifted"]


def sample(name: str, n: int, d: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    if name == "lattice":
        x = np.round(2 * x)
    elif name == "constant":
        x[:] = 1.5
    elif name == "mostly equal":
        x[rng.random(n) < 0.9] = 0.25
    elif name == "huge":
        x[n // 2] = 1e30
    elif name == "shifted":
        x += 1e6
    return x


def rule(name: str, n: int) -> tuple[torch.Tensor | None, int]:
    groups = torch.from_numpy(np.random.default_rng(n).integers(-3, 3, n).astype(np.int32))
    return (groups if name in ("groups", "both") else None), (3 if name in ("window", "both") else 0)


def refuse(*_: Any) -> Any:
    raise AssertionError("expected the compiled module to serve")


def check(x: Any, y: Any, ks: list[int], method: str, metric: str, name: str) -> None:
    rules = rule(name, len(x))
    found = native_ksg_low.ksg(refuse, x, y, ks, method, metric, *rules)
    for mine, theirs in zip(found, registry.run("ksg", CPU, "torch", x, y, ks, method, metric, *rules), strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("dx", [1, 2, 3])
@pytest.mark.parametrize("dy", [1, 2, 3])
def test_same_as_all_pairs(dx: int, dy: int, method: str, metric: str) -> None:
    for name in HARD:
        x, y = torch.from_numpy(sample(name, 331, dx, 1)), torch.from_numpy(sample("normal", 331, dy, 2))
        for rules in RULES:
            check(x, y + x[:, :1] / 2, [3, 1, 20], method, metric, rules)
        check(x, torch.from_numpy(sample(name, 331, dy, 3)), [5], method, metric, "all")


@pytest.mark.parametrize("n", [2, 3, 8, 9, 65])
@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
def test_small(n: int, method: str) -> None:
    for k in {1, n - 1}:
        check(torch.from_numpy(sample("normal", n, 1, 1)), torch.from_numpy(sample("lattice", n, 2, 2)), [k], method,
              "euclidean", "all")  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    x, y = (torch.from_numpy(sample("normal", 400, 1, seed)).to(dtype) for seed in (1, 2))
    for method in ("ksg1", "ksg2"):
        check(x, y, [4], method, "euclidean", "all")
        check(x, y.double(), [4], method, "chebyshev", "all")


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
def test_oracle(method: str, metric: str) -> None:
    x, y = sample("lattice", 300, 1, 1), sample("normal", 300, 2, 2)
    found = native_ksg_low.ksg(refuse, torch.from_numpy(x), torch.from_numpy(y), [3], method, metric, None, 0)
    truth = information_oracles.ksg_mi(x, y, 3, method, metric)
    np.testing.assert_array_equal(found[1][:, 0], truth.n_x)
    np.testing.assert_array_equal(found[2][:, 0], truth.n_y)
    np.testing.assert_allclose(found[0][:, 0], truth.local, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("permuted", [False, True])
def test_matrix(permuted: bool, rules: str) -> None:
    shapes = (("normal", 1), ("lattice", 1), ("normal", 2), ("lattice", 3))
    layers = [Parted((torch.from_numpy(sample(name, 200, d, d)),)) for name, d in shapes]
    order = torch.from_numpy(np.random.default_rng(0).permutation(200)) if permuted else None
    given = (layers, [3, 2], "ksg1", "chebyshev", *rule(rules, 200), order)
    found = registry.run("ksg_matrix", CPU, "native", *given)
    torch.testing.assert_close(found, registry.run("ksg_matrix", CPU, "torch", *given), rtol=0, atol=1e-12)


def test_what_is_not_served() -> None:
    assert not native_ksg_low.serves(torch.ones(5, 4), torch.ones(5, 1))
    x = torch.ones(50, 1, dtype=torch.float64)
    asked = (torch.ones(1),)
    for bad in (float("nan"), float("inf"), 1e200):
        x[3] = bad
        assert native_ksg_low.ksg(lambda *_: asked, x, x, [1], "ksg1", "euclidean", None, 0) is asked


def digest() -> str:
    state = hashlib.sha256()
    for dx, dy in ((1, 1), (1, 3), (2, 2)):
        for name in HARD:
            x, y = torch.from_numpy(sample(name, 300, dx, 1)), torch.from_numpy(sample("lattice", 300, dy, 2))
            for method in ("ksg1", "ksg2"):
                for metric in ("chebyshev", "euclidean"):
                    found = native_ksg_low.ksg(refuse, x, y, [3, 7], method, metric, *rule("both", 300))
                    for part in found:
                        state.update(part.numpy().tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("cap", ["scalar", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_bits(cap: str) -> None:
    out = printed("import test_native_ksg_low as t; print(t.digest())", MSMA_FAST_CPU=cap)
    assert out.split() == [digest()]


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    x, y = (torch.from_numpy(sample("normal", 40_000, 1, seed)) for seed in (1, 2))
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(native_ksg_low.ksg(refuse, x, y, [3], "ksg1", "chebyshev", None, 0))
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
