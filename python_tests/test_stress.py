"""stress: the direct sum, isometries, gradients, and what it does not hold in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from conftest import available_backends
from strategies import KINDS, cloud

import msma_fast as mf


def gradient(rows: torch.Tensor) -> np.ndarray:
    assert rows.grad is not None
    return rows.grad.numpy()


@pytest.mark.parametrize(("n", "dx", "dy"), [(2, 1, 1), (3, 5, 2), (131, 7, 13), (257, 1, 600), (500, 12, 12)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stress_is_the_direct_sum(n: int, dx: int, dy: int, dtype: Any, backend: str) -> None:
    x, y = cloud("normal", n, dx, 0).astype(dtype), cloud("normal", n, dy, 1).astype(dtype)
    found = mf.stress(x, y, backend=backend)
    assert isinstance(found, float)
    assert found == pytest.approx(oracles.stress(x, y), rel=1e-12)
    scale = (oracles.pair_distances(x) ** 2).sum()
    relative = mf.stress(x, y, normalized=True, backend=backend)
    assert relative == pytest.approx((oracles.stress(x, y) / scale) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_points(kind: str, backend: str) -> None:
    x, y = cloud(kind, 150, 6, 2), cloud("normal", 150, 4, 3)
    a, b = (torch.from_numpy(z).requires_grad_() for z in (x, y))
    value = mf.stress(a, b, backend=backend)
    assert float(value.detach()) == pytest.approx(oracles.stress(x, y), rel=1e-12)
    value.backward()
    for found, wanted in ((gradient(a), oracles.stress_gradient(x, y)), (gradient(b), oracles.stress_gradient(y, x))):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11 * np.abs(wanted).max())


def test_an_isometry_has_no_stress(rng: np.random.Generator, backend: str) -> None:
    x = rng.standard_normal((150, 9))
    rotation, _ = np.linalg.qr(rng.standard_normal((9, 9)))
    moved = x @ rotation + 3
    assert mf.stress(x, moved, backend=backend) < 1e-24
    assert mf.stress(x, x.copy(), backend=backend) == 0.0
    assert mf.stress(x, x[:, ::-1].copy(), normalized=True, backend=backend) < 1e-15
    assert mf.stress(x, 3 * moved, normalized=True, backend=backend) == pytest.approx(2.0, rel=1e-12)
    assert mf.stress(x + 1e6, moved, backend=backend) < 1e-12


def test_gradcheck_and_opcheck(backend: str) -> None:
    x, y = (torch.from_numpy(cloud("normal", 7, d, 4 + d)).requires_grad_() for d in (3, 2))
    for normalized in (False, True):
        assert torch.autograd.gradcheck(
            lambda a, b, how=normalized: mf.stress(a, b, normalized=how, backend=backend), (x, y)
        )
    for needs in ((True, True), (True, False), (False, True)):
        inputs = [z if need else z.detach() for z, need in zip((x, y), needs, strict=True)]
        torch.library.opcheck(torch.ops.msma_fast.stress.default, (*inputs, *needs, backend))


def test_the_gradient_at_distance_zero_is_zero(backend: str) -> None:
    x = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.from_numpy(cloud("normal", 5, 2, 5)).requires_grad_()
    mf.stress(x, y, backend=backend).backward()
    assert not gradient(x).any()
    z = y.detach().clone().requires_grad_()
    mf.stress(z, z.detach().clone(), normalized=True, backend=backend).backward()
    assert not gradient(z).any()


def test_one_side_and_no_side(backend: str) -> None:
    x, y = (torch.from_numpy(cloud("normal", 40, 3, seed)) for seed in (6, 7))
    wanted = oracles.stress_gradient(y.numpy(), x.numpy())
    y.requires_grad_()
    mf.stress(x, y, backend=backend).backward()
    np.testing.assert_allclose(gradient(y), wanted, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert not mf.stress(x, y, backend=backend).requires_grad
    half = x.to(torch.float16).requires_grad_()
    value = mf.stress(half, y.detach(), backend=backend)
    assert value.dtype == torch.float64
    value.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.float16


MEMORY = """
import resource, sys
import torch
import msma_fast as mf
torch.set_num_threads(2)
x, y = torch.randn(8192, 4), torch.randn(8192, 3)
x.requires_grad_()
mf.stress(x[:300], y[:300]).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with mf.use_backend(sys.argv[1]):
    mf.stress(x, y).backward()
    mf.gaussian_kernel_sums(x, None, [1.0, 2.0]).sum().backward()
    mf.distance_histogram(x.detach(), [0.0, 1.0, 9.0])
    mf.distance_correlation(x.detach(), y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("name", "limit"), [("native", 32), pytest.param("torch", 400, marks=pytest.mark.slow)])
def test_no_square_matrix_is_held(name: str, limit: int) -> None:
    """8192 points: one float64 matrix would be 512 MiB; limits in MiB."""
    if name not in available_backends():
        pytest.skip(f"{name} is not available here")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, name], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < limit * 2**20
