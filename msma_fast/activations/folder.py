"""The folder format of activations.

    manifest.json            what is there: layers, shards, metadata; `complete` is false while a collection
    runs rows.safetensors         text_ids, token_ids, positions, next_token_ids: int64 (n,), those that are
    known rows.jsonl               {"token", "before", "after"}, one object a row, where the text is known
    <shard>.safetensors      for a range of rows, one tensor (rows, d) for each layer it holds, keyed by the
    layer's name

Every file is written under a temporary name, synced and renamed, so a file that exists under its own name is
whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from msma_fast.activations.optional import require

MANIFEST = "manifest.json"
ROWS = "rows.safetensors"
ROW_TEXT = "rows.jsonl"
FORMAT = "msma_fast.activations"
SCHEMA_VERSION = 1
TEXT_FIELDS = ("token", "before", "after")
_TEMPORARY = ".tmp-"


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to disk, and rename it to `path`."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder (Windows opens no folders; a rename is durable there by itself)."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file = require("safetensors.torch", "writing activations").save_file
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(contiguous, temporary))


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """The open safetensors file; its tensors are mapped, not read, until they are touched."""
    safetensors = require("safetensors", "reading activations")
    try:
        with safetensors.safe_open(path, framework="pt") as handle:
            yield handle
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got {error}") from error


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, "schema_version": SCHEMA_VERSION, **manifest}, indent=1, allow_nan=False)
    write_atomic(folder / MANIFEST, lambda temporary: _write_text(temporary, [text, "\n"]))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest, complete or not. Raises FileNotFoundError or ValueError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a folder of activations with a {MANIFEST}, got {folder}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT!r}, got something else")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, got {manifest.get('schema_version')!r}; "
            "it was written by another version of msma_fast"
        )
    return manifest


def write_row_text(folder: Path, rows: Iterable[dict[str, str]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(folder / ROW_TEXT, lambda temporary: _write_text(temporary, lines))


def read_row_text(folder: Path) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {field: [] for field in TEXT_FIELDS}
    with open(folder / ROW_TEXT, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for field in TEXT_FIELDS:
                columns[field].append(row[field])
    return columns


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed while it wrote."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        path.unlink()


def is_free(folder: Path) -> bool:
    """Whether something new may be written here: no such folder, or nothing in it but our leftovers."""
    return not folder.exists() or all(child.name.startswith(_TEMPORARY) for child in folder.iterdir())


def _write_text(path: Path, pieces: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)
