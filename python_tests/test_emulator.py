"""The emulator of the CUDA kernels' execution model finds planted mistakes, and finds none in their correct twins.

python_tests/emulator/planted holds small kernels with a mistake each. They are compiled here, with a sanitizer for those that
one finds.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANTED = ROOT / "python_tests" / "emulator" / "planted"
FLAGS = {
    "plain": [],
    "native": ["-march=native", "-O2"],
    "address": ["-fsanitize=address"],
    "thread": ["-fsanitize=thread"],
}
RUN, THROWN, WRONG = 0, 2, 3  # how planted/cases.hpp ends
ADDRESS, RACE = 1, 66  # how the sanitizers end

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a case of a planted program, built on first use: its exit status, and all it wrote."""
    if not (ROOT / "csrc" / "cuda" / "device.cuh").exists():
        pytest.skip("the sources are not here")
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here")
    if platform.system() != "Linux":
        pytest.skip("the emulator asks Linux for memory")
    folder = tmp_path_factory.mktemp("planted")

    def run(program: str, case: str, build: str = "plain", **environment: str) -> tuple[int, str]:
        binary = folder / f"{program}_{build}"
        if not binary.exists():
            includes = [f"-I{path}" for path in (PLANTED, PLANTED.parent, ROOT / "csrc" / "cuda")]
            warnings = ["-Wall", "-Wextra", "-Werror"]
            command = [compiler, "-std=c++17", "-O1", "-g1", *warnings, *FLAGS[build], *includes]
            done = written([*command, str(PLANTED / f"{program}.cpp"), "-o", str(binary)])
            assert done[0] == 0, done[1]
        status, text = written([str(binary), case], **environment)
        if "unexpected memory mapping" in text:  # ThreadSanitizer under much randomness of addresses
            if shutil.which("setarch") is None:
                pytest.skip("ThreadSanitizer does not start here, and there is no setarch")
            status, text = written(["setarch", "-R", str(binary), case], **environment)
        return status, text

    return run


def expect(done: tuple[int, str], status: int, *words: str) -> None:
    assert done[0] == status, done[1]
    for word in words:
        assert word in done[1]


def written(command: list[str], **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_arrays_end_where_they_end(planted: Run) -> None:
    assert planted("bounds", "global_twin", "address") == (RUN, "")
    assert planted("bounds", "shared_twin", "address") == (RUN, "")
    expect(
        planted("bounds", "global_read", "address"), ADDRESS, "heap-buffer-overflow", "READ of size 4", "bounds.cpp:8"
    )
    for case, access in (("shared_read", "READ"), ("shared_write", "WRITE"), ("shared_write_before", "WRITE")):
        expect(planted("bounds", case, "address"), ADDRESS, "use-after-poison", f"{access} of size 4", "bounds.cpp:")


def test_writes_past_shared_arrays_are_found_without_a_sanitizer(planted: Run) -> None:
    assert planted("bounds", "shared_twin") == (RUN, "")
    expect(planted("bounds", "shared_write"), THROWN, "written beyond what was taken, 0 bytes after the end of take 0")
    expect(planted("bounds", "shared_write_before"), THROWN, "4 bytes before the first take")


@pytest.mark.parametrize("seed", ["0", "1"])
def test_races_are_found(planted: Run, seed: str) -> None:
    for case in ("barrier_twin", "shared_blocks_twin", "warp_twin", "copy_twin", "blocks_twin"):
        assert planted("races", case, "thread", MSMA_EMULATOR_SEED=seed) == (RUN, ""), case
    for case in (
        "no_barrier_before_read",
        "no_barrier_before_write",
        "no_warp_barrier",
        "vote_for_barrier",
        "copy_over_read_rows",
        "two_blocks_write",
        "blocks_without_atomic",
    ):
        expect(planted("races", case, "thread", MSMA_EMULATOR_SEED=seed), RACE, "data race", "races.cpp:")


def test_reads_of_unwritten_shared_memory_differ_between_fills(planted: Run) -> None:
    assert planted("fills", "twin") == (RUN, "")
    assert planted("fills", "unwritten") == (WRONG, "wrong result\n")


@pytest.mark.parametrize(("build", "seed"), [("plain", "0"), ("plain", "1"), ("plain", "2"), ("address", "3")])
def test_divergence_names_both_places(planted: Run, build: str, seed: str) -> None:
    assert planted("divergence", "twin", build, MSMA_EMULATOR_SEED=seed) == (RUN, "")
    for case, words in (
        ("barrier_in_branch", ["barrier divergence: thread", "waits at sync_block", "has ended"]),
        ("barrier_after_return", ["barrier divergence: thread", "waits at sync_block", "thread 63 has ended"]),
        ("late_return", ["barrier divergence: thread", "waits at sync_block", "thread 63 has ended"]),
        ("two_barriers", ["barrier divergence: thread", "divergence.cpp:29", "divergence.cpp:31"]),
        ("vote_in_branch", ["warp divergence: thread", "waits at ballot", "has ended"]),
        ("vote_or_shuffle", ["warp divergence: thread", "waits at ballot", "waits at shuffle"]),
        ("vote_or_barrier", ["divergence: thread", "thread 5 waits at sync_block", "waits at ballot"]),
    ):
        expect(planted("divergence", case, build, MSMA_EMULATOR_SEED=seed), THROWN, *words)


@pytest.mark.parametrize("build", ["plain", "address"])
def test_copies_arrive_at_their_wait(planted: Run, build: str) -> None:
    assert planted("copies", "twin", build) == (RUN, "")
    expect(planted("copies", "no_wait", build), THROWN, "ended with 1 copies that it never waited for")
    early = planted("copies", "early_read", build)
    if build == "address":
        expect(early, ADDRESS, "use-after-poison", "READ of size 4", "copies.cpp:")
    else:
        assert early == (WRONG, "wrong result\n")


@pytest.mark.parametrize("build", ["plain", "address"])
def test_copies_lie_in_shared_memory_and_are_aligned(planted: Run, build: str) -> None:
    expect(planted("copies", "misaligned_destination", build), THROWN, "destination is not aligned")
    expect(planted("copies", "misaligned_source", build), THROWN, "source is not aligned")
    expect(planted("copies", "past_the_end", build), THROWN, "does not lie in shared memory")
    expect(planted("copies", "to_global", build), THROWN, "does not lie in shared memory")


@pytest.mark.parametrize("build", ["plain", "thread"])
def test_products_of_tiles(planted: Run, build: str) -> None:
    expect(planted("products", "twin", build), RUN)
    expect(planted("products", "wrong_layout", build), WRONG)


def test_errors_of_products_stay_within_their_bound_at_every_seed(planted: Run) -> None:
    results = {planted("products", "twin", MSMA_EMULATOR_SEED=str(seed)) for seed in range(8)}
    assert len(results) == 8  # another order, another rounding
    assert {status for status, _ in results} == {RUN}
    expect(planted("products", "error_within_bound"), RUN)
    expect(planted("products", "error_beyond_bound"), WRONG)


def test_products_round_to_nearest_or_towards_zero(planted: Run) -> None:
    results = {planted("products", "of_positive", MSMA_EMULATOR_SEED=str(seed)) for seed in range(8)}
    assert results == {(RUN, "none above\n"), (RUN, "some above\n")}


def test_schedules_follow_the_seed(planted: Run) -> None:
    seeds = [str(seed) for seed in range(6)]
    first = [planted("schedules", "environment", MSMA_EMULATOR_SEED=seed) for seed in seeds]
    again = [planted("schedules", "environment", MSMA_EMULATOR_SEED=seed) for seed in seeds]
    assert first == again
    assert len(set(first)) == len(seeds)
    for status, text in first:
        assert status == RUN
        assert sorted(map(int, text.split())) == list(range(192))
    by_call = planted("schedules", "seed_7", MSMA_EMULATOR_SEED="3")
    assert by_call == planted("schedules", "environment", MSMA_EMULATOR_SEED="7")


def test_limits_of_a_launch(planted: Run) -> None:
    for case in ("enough", "empty_grid", "goes_on_after_an_error"):
        assert planted("limits", case) == (RUN, ""), case
    for case, words in (
        ("too_much_taken", "takes 20 bytes after 16, the launch gives 32"),
        ("takes_differ", "bytes where thread"),
        ("far_lane", "asks for lane 32 of 0 to 31"),
        ("wide_grid", "expected a grid of at most 2147483647 x 65535 blocks, got 2147483648 x 1"),
        ("high_grid", "expected a grid of at most 2147483647 x 65535 blocks, got 1 x 65536"),
        ("part_of_a_warp", "expected a multiple of 32 threads, at most 1024, got 48"),
        ("many_threads", "expected a multiple of 32 threads, at most 1024, got 1056"),
        ("too_much_given", "expected at most 232448 bytes of shared memory, got 300000"),
    ):
        expect(planted("limits", case), THROWN, words)


def test_operations_are_rounded_one_by_one(planted: Run) -> None:
    assert planted("arithmetic", "twin", "native") == (RUN, "")
