"""Shared fixtures. A test that asks for `backend` runs once per backend that can serve CPU tensors here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from msma_fast.backends.triton import interpreted

CPU_BACKENDS = ("native", "torch")
# Kernels in Triton's interpreter have a process of their own, `TRITON_INTERPRET=1 pytest python_tests/triton`: the variable is
# read when a kernel is defined, so that a process either interprets or compiles, and what compiles needs a GPU.
INTERPRETED = interpreted()
collect_ignore_glob = [] if INTERPRETED or torch.cuda.is_available() else ["triton/*"]
TRITON_TESTS = Path(__file__).parent / "triton"

settings.register_profile(
    "msma", deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("msma")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", available_backends())


def available_backends() -> list[str]:
    import msma_fast as mf

    return [entry.name for entry in mf.backends() if entry.available and entry.name in CPU_BACKENDS]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240611)


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Engine tests are many and tiny: a second thread would only spin. Tests about threads set their own number."""
    if "backend" not in request.fixturenames or request.node.get_closest_marker("slow"):
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For a module whose tests and fixtures make thousands of calls on a few hundred rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def emulated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernels over the emulator, built once a process."""
    from cuda_emulated import built

    return built(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Put the thread count and the matrix product precision back after a test that changes them."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(params=["searches", "blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a provider brings searches, every key by blocks has to give the same."""
    from msma_fast.backends.torch import joint

    if request.param == "blocks":
        monkeypatch.setattr(joint, "searchable", lambda keys, kernel: False)


@pytest.fixture
def strict() -> Iterator[None]:
    """Triton's interpreter made strict; a GPU is as strict as it is."""
    if not INTERPRETED:
        yield
        return
    from hardened_interpreter import hardened

    with hardened(seed=0):
        yield


@pytest.fixture(autouse=True)
def _kernels_on_the_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where kernels are not interpreted, their tests launch them on the GPU, checked before a test breaks anything."""
    if INTERPRETED or TRITON_TESTS not in request.path.parents:
        yield
        return
    from gpu_launches import checked, on

    checked(torch.device("cuda"))
    with on(torch.device("cuda")):
        yield
