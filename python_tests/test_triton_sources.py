"""What the kernels' sources say out loud, because Triton's defaults change between releases and GPUs."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = sorted((Path(__file__).parents[1] / "triton_kernels").glob("*.py"))


def test_every_product_of_tiles_names_its_precision() -> None:
    """Triton's own default for float32 is TF32, and what a sum is kept in depends on the operands."""
    found = 0
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "tl.dot":
                found += 1
                assert {"input_precision", "out_dtype"} <= {each.arg for each in call.keywords}, f"{path}:{call.lineno}"
    assert found >= 3
