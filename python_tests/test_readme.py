"""The README's first example prints what the README says it prints, and the version is written once."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import tomllib

import msma_fast as mf

ROOT = Path(__file__).resolve().parents[1]


def test_the_first_example_prints_what_stands_below_it() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\s*```text\n(.*?)```", text, re.DOTALL)
    assert found is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1], {})
    assert printed.getvalue() == found[2]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == mf.__version__
    assert f"## {mf.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_linked_files_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
