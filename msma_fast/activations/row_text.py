"""The text of each row and around it, in memory, or in a file that is read when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from msma_fast.activations.folder import TEXT_FIELDS, read_row_text


class RowText:
    """Columns "token", "before" and "after" of n strings, from lists or from the file in `folder`."""

    def __init__(
        self,
        columns: dict[str, list[str]] | None = None,
        folder: Path | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self._columns = columns
        self._folder = folder
        self._picked = rows

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, str]]) -> RowText:
        listed = list(rows)
        return cls({field: [row[field] for row in listed] for field in TEXT_FIELDS})

    def column(self, field: str) -> list[str]:
        values = self._all()[field]
        return values if self._picked is None else [values[row] for row in self._picked.tolist()]

    def rows(self) -> Iterator[dict[str, str]]:
        columns = [self.column(field) for field in TEXT_FIELDS]
        return (dict(zip(TEXT_FIELDS, row, strict=True)) for row in zip(*columns, strict=True))

    def select(self, rows: Tensor) -> RowText:
        return RowText(self._columns, self._folder, rows if self._picked is None else self._picked[rows])

    def _all(self) -> dict[str, list[str]]:
        if self._columns is None:
            if self._folder is None:
                raise RuntimeError("RowText holds neither columns nor a folder")
            self._columns = read_row_text(self._folder)
        return self._columns
