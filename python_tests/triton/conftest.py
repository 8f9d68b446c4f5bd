"""Kernels in Triton's interpreter: `TRITON_INTERPRET=1 pytest python_tests/triton`, as `make test` does. The variable is read
when a kernel is defined, so that a process either interprets or compiles."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py", "hardened_interpreter.py"]


@pytest.fixture
def watched() -> None:
    """For a test that opens its own `hardened` block."""


@pytest.fixture(autouse=True)
def _hardened(request: pytest.FixtureRequest) -> Iterator[None]:
    from hardened_interpreter import hardened

    if "watched" in request.fixturenames:
        yield
        return
    with hardened(seed=0):
        yield
