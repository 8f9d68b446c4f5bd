"""The data inside the page: as small as it can be without losing what a reader can see, and safe inside a
script tag.
"""

from __future__ import annotations

import json
from typing import Any

from msma_fast.report.maps import matrices
from msma_fast.report.schema import skipped

# Characters of context kept on each side of a token; the page shows no more, and 8,000 rows must stay small.
_CONTEXT = 110


def page_data(results: dict[str, Any], hover: dict[str, Any], copy: dict[str, str]) -> str:
    """JSON for the script tag: no character in it can end the tag or start markup."""
    information = results["information"]
    data = {
        "layers": [layer["name"] for layer in results["layers"]],
        "figures": hover,
        "heat": {name: _rounded(matrix) for name, matrix in matrices(results).items()},
        "reasons": information["reasons"] if skipped(information) is None else None,
        "explorer": pack_explorer(results["explorer"]) if skipped(results["explorer"]) is None else None,
        "copy": copy,
    }
    return safe_json(data)


def safe_json(value: Any) -> str:
    """Compact JSON in which <, > and & are written as escapes; NaN is an error, never a word that JSON
    does not know.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return "".join(c if not 0xD800 <= ord(c) <= 0xDFFF else "\ufffd" for c in text)


def pack_explorer(explorer: dict[str, Any]) -> dict[str, Any]:
    """Rows renumbered from zero, neighbours flat as [row, distance, row, distance, ...], distances to four
    digits.
    """
    used: dict[str, int] = {}

    def place(row: Any) -> int:
        return used.setdefault(str(row), len(used))

    tokens = [place(row) for row in explorer["tokens"]]
    near = [
        [[part for row, distance in one for part in (place(row), _significant(distance))] for one in layer]
        for layer in explorer["neighbors"]
    ]
    rows = []
    for row in used:
        before, token, after, *rest = explorer["rows"][row]
        rows.append([before[-_CONTEXT:], token, after[:_CONTEXT], *rest])
    return {"tokens": tokens, "rows": rows, "near": near}


def _rounded(matrix: list[list[float | None]]) -> list[list[float | None]]:
    return [[None if v is None else round(v, 4) for v in row] for row in matrix]


def _significant(value: float) -> float:
    number = float(f"{value:.4g}")
    return int(number) if number.is_integer() else number
