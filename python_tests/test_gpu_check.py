"""The check of a real GPU, on the CPU: its cases tell right answers from wrong ones, and its report is complete."""

from __future__ import annotations

import json
import sys
import time
import types
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from torch.utils._pytree import tree_map

from benchmarks.gpu import cases, check
from msma_fast.backends.triton_check import planted


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[cases.Case]:
    monkeypatch.setattr(cases, "SIZES", ((600, 20), (600, 4)))
    monkeypatch.setattr(cases, "PAIRED", (100, 5))
    monkeypatch.setattr(cases, "CHECKED", 100)
    monkeypatch.setattr(cases, "PERMUTATIONS", 3)
    monkeypatch.setattr(cases, "READ_OUT", (20, 6, 50))
    return list(cases.cases(torch.device("cpu"), {"torch": check.torch_knn}))


def wrong(number: Any) -> Any:
    """Another answer: rows in another order, or a number that is off by a millionth of the largest."""
    if not isinstance(number, torch.Tensor):
        return number * (1 + 1e-3) + 1e-6
    if number.is_floating_point():
        return number + 1e-3 * (number.abs().max() + 1)
    return number.roll(1, 0) if number.ndim else number + 1


def test_right_answers_are_right_and_wrong_ones_wrong(small: list[cases.Case]) -> None:
    for case in small:
        answer = case.ours(*case.inputs)
        assert case.right(answer), case.name
        assert not case.right(tree_map(wrong, answer)), case.name
        for name, peer in case.peers.items():
            assert peer(*case.inputs) is not None, f"{case.name}: {name}"


def test_every_op_with_kernels_is_asked(small: list[cases.Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the Triton backend has and that are not its torch parts."""
    from msma_fast.backends import registry

    asked: set[str] = set()
    run = registry.run

    def recorded(op: str, *rest: Any) -> Any:
        asked.add(op)
        return run(op, *rest)

    monkeypatch.setattr(registry, "run", recorded)
    for case in small:
        case.ours(*case.inputs)
    assert asked >= KERNELS


# Those that have no case of their own go through the kernels of the others.
KERNELS = set(planted()) - {"radius_neighbors", "ksg_cmi", "mixed_mi", "ross"}


def test_what_is_not_answered_is_named_and_not_timed(small: list[cases.Case]) -> None:
    def broken(x: torch.Tensor) -> None:
        raise RuntimeError("no such kernel")

    found = check.answered(small[0]._replace(ours=broken))
    assert found == {"case": small[0].name, "right": False, "error": "RuntimeError: no such kernel"}
    found = check.answered(small[0]._replace(right=lambda _: False))
    assert found == {"case": small[0].name, "right": False}


def test_faiss_makes_its_resources_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faiss(types.ModuleType):
        StandardGpuResources = object
        knn_gpu = staticmethod(lambda resources, *_: (None, resources))

    faiss = Faiss("faiss")
    for name in ("faiss", "faiss.contrib", "faiss.contrib.torch_utils"):
        monkeypatch.setitem(sys.modules, name, faiss)
    check.faiss_resources.cache_clear()
    assert check.faiss_knn(torch.zeros(1)) is check.faiss_knn(torch.zeros(1))
    check.faiss_resources.cache_clear()


def test_a_race_times_everybody_and_names_who_failed(small: list[cases.Case], monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(run: Any, inputs: tuple[torch.Tensor, ...]) -> float:
        start = time.perf_counter()
        run(*inputs)
        return time.perf_counter() - start

    monkeypatch.setattr(check, "seconds", seconds)

    def broken(x: torch.Tensor) -> None:
        raise RuntimeError("no such device")

    case = small[0]._replace(peers={"torch": check.torch_knn, "broken": broken})
    found = check.raced(case)
    assert set(found["seconds"]) == {"msma_fast", "torch"}
    assert found["share_right"] == {"msma_fast": 1, "torch": 1}
    assert found["failed"] == {"broken": "RuntimeError: no such device"}
    assert found["peer_over_ours"]["msma_fast"] == 1


def test_failed_tests_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "RESULTS", tmp_path / "gpu-check.json")
    (tmp_path / "test_one.py").write_text(
        "import os, pytest\n"
        "def test_right(): assert os.environ['TRITON_INTERPRET'] == '0'\n"
        "def test_wrong(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise RuntimeError\n"
        "def test_error(broken): pass\n"
        "@pytest.mark.skip\n"
        "def test_skipped(): pass\n",
        encoding="utf-8",
    )
    found = check.tested(tmp_path)
    assert (found["passed"], found["skipped"], found["exit_status"]) == (1, 1, 1)
    assert [name.split("::")[1] for name in found["failed"]] == ["test_wrong", "test_error"]
    (tmp_path / "test_one.py").write_text("def broken(:\n", encoding="utf-8")
    assert check.tested(tmp_path)["exit_status"] == 2  # nothing could be collected


def test_the_report_is_written(small: list[cases.Case], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of main, on the CPU with one op that is wrong; a report is there after every case."""
    monkeypatch.setattr(check, "RESULTS", tmp_path / "build" / "gpu-check.json")
    monkeypatch.setattr(check, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(check, "tested", lambda folder: {"passed": 3, "failed": [], "exit_status": 0})
    monkeypatch.setattr(check, "planted", lambda: {})
    monkeypatch.setattr(check, "seconds", lambda run, inputs: 1.0)
    monkeypatch.setattr(check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(check.torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(check.torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(check.mf, "use_backend", lambda name: nullcontext())

    def answer(right: bool, _: Any) -> bool:
        return right

    for wrong_case in (False, True):
        asked = [small[0], small[-1]._replace(right=partial(answer, not wrong_case))]
        monkeypatch.setattr(check, "cases", partial(lambda asked, device, rivals: iter(asked), asked))
        assert check.main() == wrong_case
        report = json.loads(check.RESULTS.read_text(encoding="utf-8"))
        assert (report["gpu"], report["capability"], report["tests"]["passed"]) == ("a GPU", "sm_90", 3)
        assert [case["case"] for case in report["cases"]] == [case.name for case in asked]
        assert [case["right"] for case in report["cases"]] == [True, not wrong_case]
        assert report["cases"][0]["peer_over_ours"]["torch"] == 1.0


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert check.main() == 2
    assert "expected a CUDA GPU" in capsys.readouterr().out
