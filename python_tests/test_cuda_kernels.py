"""The CUDA kernels: compiled by nvcc without spills, and run on the emulator against plain loops, under sanitizers, several
schedules and contents of untouched shared memory. A mistake planted in any of them is noticed."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("knn", "radius_count", "select_k", "finish", "collect", "ksg")
SANITIZERS = {"plain": [], "address": ["-fsanitize=address"], "thread": ["-fsanitize=thread"]}

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or platform.system() != "Linux", reason="the emulator takes g++ and Linux"
)


def built(folder: Path, flags: list[str], sources: Path = ROOT / "csrc") -> Path:
    """The program of emulator/kernels.cpp."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        "-std=c++17",
        "-O1",
        "-g",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-DMSMA_COLLECT_BLOCKS=2",
        *flags,
    ]
    emulator = ROOT / "python_tests" / "emulator"
    options += [f"-I{sources / 'include'}", f"-I{sources / 'cuda'}", f"-I{emulator}"]
    objects = []
    for name in SOURCES:
        objects.append(str(folder / f"{name}.o"))
        source = ["-x", "c++", "-c", str(sources / "cuda" / f"{name}.cu"), "-o", objects[-1]]
        subprocess.run(["g++", *options, *source], check=True)
    program = folder / "kernels"
    subprocess.run(["g++", *options, str(emulator / "kernels.cpp"), *objects, "-o", str(program)], check=True)
    return program


def ran(program: Path, seed: int, fill: str, *more: str) -> tuple[int, str]:
    """Its exit status and what it printed; the thread sanitizer needs addresses that it knows."""
    command = [str(program), str(seed), fill, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        done = subprocess.run(["setarch", "-R", *command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("plain"), [])


@pytest.mark.parametrize(("seed", "fill"), [(1, "ff"), (2, "01"), (3, "7f")])
def test_every_kernel_says_what_plain_loops_say(plain: Path, seed: int, fill: str) -> None:
    assert ran(plain, seed, fill) == (0, "0 wrong\n")


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_no_step_too_far_and_no_race(sanitizer: str, tmp_path: Path) -> None:
    program = built(tmp_path, SANITIZERS[sanitizer])
    assert ran(program, 1, "ff", "small") == (0, "0 wrong\n")


# (file, what stands there, what is put in its place)
MISTAKES = [
    ("knn.cuh", "j < y.count && admissible", "admissible"),
    ("queue.cuh", "id < other_id", "id > other_id"),
    ("queue.cuh", "filled_ + count > 2 * kept_", "filled_ + count > 2 * kept_ + 1"),
    ("tile.cuh", "sync_block();  // nobody reads", "//"),
    ("tile.cuh", "kDepth + l], y, p)", "kDepth], y, p)"),
    ("keys.cuh", "sums[0], sums[4]", "sums[0], sums[1]"),
    ("radius_count.cuh", "found[r] <= top", "found[r] < top"),
    ("select_k.cuh", "rank < static_cast<int64_t>(wanted)", "rank <= static_cast<int64_t>(wanted)"),
    ("select_k.cuh", "shift = 56", "shift = 48"),
    ("finish.cuh", "mask = kLanes / 2", "mask = kLanes / 4"),
    ("finish.cuh", "; c < d; c += kLanes) step(c)", "; c + kLanes < d; c += kLanes) step(c)"),
    ("ksg.cuh", "keys_x[r] < top_x", "keys_x[r] <= top_x"),
    ("ksg.cuh", "queue.id(k) != kNobody", "queue.id(k) == kNobody"),
    ("queue.cuh", "            sync_warp();\n", "\n"),
    ("select_k.cuh", "sync_block();  // nobody writes counts", "//"),
    ("collect.cuh", "sync_block();  // what others copied", "//"),
    ("collect.cuh", "queries_ -= static_cast<int64_t>(steps_) * kPanel;", ""),
    ("collect.cuh", "start + kDepth < problem.width || point + kTile < last", "start + kDepth < problem.width"),
    ("collect.cuh", "wait_copies<0>();", "wait_copies<1>();"),
    ("collect.cuh", "2 * t + matrix / 2", "2 * t + (matrix & 1)"),
    ("collect.cuh", "if (!any(!(least > edge))) continue;", "if (!any(least < edge)) continue;"),
    ("collect.cuh", "low = smaller(low, shuffle_xor(low, mask))", "low = smaller(low, low)"),
    ("collect.cuh", "to >= kWarp - 1 ? since", "to >= kWarp - 2 ? since"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "right", "wrong"), MISTAKES)
def test_a_mistake_is_noticed(file: str, right: str, wrong: str, tmp_path: Path) -> None:
    sources = tmp_path / "csrc"
    for folder in ("include", "cuda"):
        shutil.copytree(ROOT / "csrc" / folder, sources / folder)
    text = (sources / "cuda" / file).read_text(encoding="utf-8")
    assert text.count(right) >= 1, right
    (sources / "cuda" / file).write_text(text.replace(right, wrong), encoding="utf-8")
    sanitizer = ["-fsanitize=thread"] if "sync_" in right else []
    program = built(tmp_path / "build", [*sanitizer, "-Wno-error"], sources)
    found = [ran(program, seed, "ff", *(["small"] if sanitizer else [])) for seed in (1, 2)]
    assert any(status != 0 for status, _ in found), found


@pytest.mark.skipif(shutil.which("nvcc") is None or shutil.which("c++filt") is None, reason="nvcc is not here")
@pytest.mark.parametrize("source", SOURCES)
def test_nvcc_spills_nothing(source: str) -> None:
    pytest.importorskip("triton")  # whose wheel has the tools that read machine code
    from benchmarks.gpu import cuda

    assert set(cuda.sources()) == set(SOURCES)
    for architecture in cuda.ARCHITECTURES:
        found = cuda.functions(source, architecture)
        assert found
        for name, kernel in found.items():
            assert kernel.spilled == 0, (architecture, name)
            assert kernel.registers <= 255
        if source == "collect":
            own = [kernel for name, kernel in found.items() if re.fullmatch(r"collect_kernel<\w+>", name)]
            assert len(own) == 2
            assert all("HMMA.16816" in kernel.sass for kernel in own)
