"""The check of a real GPU, on the CPU: its cases tell right answers from wrong ones, and its report is complete."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import msma_fast as mf
from benchmarks.gpu import check


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[check.Case]:
    monkeypatch.setattr(check, "SIZES", ((600, 20), (600, 4)))
    monkeypatch.setattr(check, "PAIRED", (200, 5))
    monkeypatch.setattr(check, "CHECKED", 100)
    return list(check.cases(torch.device("cpu"), {"torch": check.torch_knn}))


def test_right_answers_are_right_and_wrong_ones_wrong(small: list[check.Case]) -> None:
    assert len(small) == 6
    for case in small:
        answer = case.ours(*case.inputs)
        assert case.right(answer), case.name
        mixed = isinstance(answer, mf.Neighbors)
        assert not case.right(answer._replace(indices=answer.indices.roll(1, 0)) if mixed else answer + 1), case.name


def test_a_race_times_everybody_and_names_who_failed(small: list[check.Case], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert check.main() == 2
    assert "expected a CUDA GPU" in capsys.readouterr().out
