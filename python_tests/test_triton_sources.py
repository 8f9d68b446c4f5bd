"""What the kernels' sources say out loud, because Triton's defaults change between releases and GPUs."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "triton_kernels").glob("*.py"))


def test_every_product_of_tiles_names_its_precision() -> None:
    """Triton's own default for float32 is TF32, and what a sum is kept in depends on the operands."""
    found = 0
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "tl.dot":
                found += 1
                assert {"input_precision", "out_dtype"} <= {each.arg for each in call.keywords}, f"{path}:{call.lineno}"
    assert found >= 3


def test_the_oldest_triton_that_is_promised_is_tested() -> None:
    if not (ROOT / "Makefile").exists():
        pytest.skip("the sources are not here")
    promised = re.findall(r'"triton>=([0-9.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(promised) == 1
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = f"test-triton-{promised[0]}"
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)
    assert re.search(rf"^OLDEST_TRITON := {re.escape(promised[0])}\b", makefile, re.MULTILINE)
    assert f"make {target}" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("On", True), ("0", False), ("", False)])
def test_a_process_interprets_where_triton_does(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", value)
    assert runpy.run_path(str(ROOT / "python_tests" / "conftest.py"))["INTERPRETED"] is expected


def test_one_place_reads_the_variable() -> None:
    """`interpreted()` knows every spelling that Triton knows."""
    reads = re.compile(r"environ\.get\([\"']TRITON_INTERPRET")
    places = [
        path.name for path in (ROOT / "python_tests").rglob("*.py") if reads.search(path.read_text(encoding="utf-8"))
    ]
    assert not places
