"""The mutations of kernels: their tables fit the sources, and the runner tells what a test notices from what it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations_runner", HERE / "mutations" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_fit_their_sources(runner: ModuleType) -> None:
    found = runner.mutations()
    assert len({each.name for each in found}) == len(found)
    assert {each.path.parent.name for each in found} == {"triton_kernels", "backends"}
    for each in found:
        assert (HERE.parent / each.test).exists(), each.name


def test_what_is_noticed_missed_and_red(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "module_of_one.py").write_text("one, two = 1, 2\n", encoding="utf-8")
    (tree / "test_one.py").write_text(
        "import module_of_one as code\ndef test_one(): assert code.one == 1\n", encoding="utf-8"
    )
    (tree / "test_red.py").write_text("def test_red(): assert False\n", encoding="utf-8")
    source = Path("module_of_one.py")
    table = [
        runner.Mutation("one", source, "1, 2", "3, 2", Path("test_one.py")),
        runner.Mutation("two", source, "1, 2", "1, 3", Path("test_one.py")),
        runner.Mutation("syntax", source, "1, 2", "1, 2)", Path("test_one.py")),
        runner.Mutation("red", source, "1, 2", "3, 2", Path("test_red.py")),
    ]
    monkeypatch.setattr(runner, "mutations", lambda: table)
    monkeypatch.setattr(runner, "copied", lambda _: tree)
    assert runner.main([]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == ["noticed  one", "MISSED   two", "MISSED   syntax", "RED      test_red.py without red"]
    assert (tree / "module_of_one.py").read_text(encoding="utf-8") == "one, two = 1, 2\n"
    assert runner.main(["one"]) == 0


def test_a_copy_of_the_tree_is_imported(runner: ModuleType, tmp_path: Path) -> None:
    tree = runner.copied(tmp_path)
    (tree / "test_where.py").write_text(
        "from msma_fast.backends import triton_search as backend\n"
        "from msma_fast.triton_kernels import screen as kernel\n"
        "def test_where():\n"
        f"    assert kernel.__file__.startswith({str(tree)!r})\n"
        f"    assert backend.__file__.startswith({str(tree)!r})\n",
        encoding="utf-8",
    )
    assert runner.status(tree, Path("test_where.py")) == 0
