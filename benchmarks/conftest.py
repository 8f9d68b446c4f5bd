"""The suite on pytest-benchmark: it times us, with a round of the peers before each of our rounds, and writes the JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks import machine
from benchmarks.case import Case
from benchmarks.measure import RedGate
from benchmarks.measure import measure as measure_case
from benchmarks.peers import same_threads


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "capped: also run with an older instruction set")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["msma_fast"] = machine.describe()


@pytest.fixture(scope="session")
def _threads() -> int:
    return same_threads()


@pytest.fixture
def measure(benchmark: Any, _threads: int) -> Callable[[Case], None]:
    """measure(case): the gate, then the race; the record goes into the benchmark's extra_info."""

    def drive(
        run: Callable[..., Any], inputs: tuple[Any, ...], before: Callable[[], None], rounds: int
    ) -> Sequence[float]:
        benchmark.pedantic(run, args=inputs, setup=before, rounds=rounds)
        return list(benchmark.stats.stats.data)

    def measured(case: Case) -> None:
        benchmark.group = case.op
        try:
            benchmark.extra_info["record"] = measure_case(case, drive)
        except RedGate as red:
            pytest.fail(str(red), pytrace=False)

    return measured
