"""What a result dict of schema msma_fast.analysis/1 must hold, checked before anything is drawn.

`health`, `overlap`, `model`, `data` and the lists of texts are required. `cka`, `dimension`, `information`,
`fisher`, `scales` and `explorer` may be None or {"skipped": "why"}: the report then says why the section is empty. A float
that is not finite counts as null everywhere, and `clean` writes it so.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

SCHEMA = "msma_fast.analysis/1"
_SIGNIFICANT = 6

_MODEL_NUMBERS = ("n_layers", "d", "vocabulary", "parameters")
_MODEL_TEXTS = ("name", "source", "revision", "architecture", "dtype", "quantisation")
_DATA_NUMBERS = ("n_texts", "n_texts_skipped", "tokens_per_text", "n_tokens", "n_tokens_mi", "max_length")
_DATA_TEXTS = ("name", "source", "sampling")
_HEALTH = (
    "norm_median", "norm_p95", "norm_max", "top_coordinate", "top_coordinate_share", "massive_rows",
    "distinct_rows",
)  # fmt: skip


def clean(value: Any) -> Any:
    """A copy in which floats have six significant digits and whatever is not finite is None; numbers of other
    libraries become plain int and float.

    :raises TypeError: a value that JSON cannot hold.
    """
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return float(f"{number:.{_SIGNIFICANT}g}") if math.isfinite(number) else None
    raise TypeError(f"results: expected numbers, text, lists, dicts or None, got {type(value).__name__}")


def skipped(section: Any) -> str | None:
    """Why an optional section holds nothing, or None when it holds something."""
    if section is None:
        return "This part of the analysis was not computed."
    return str(section["skipped"]) if isinstance(section, dict) and "skipped" in section else None


def validate(results: dict[str, Any]) -> None:
    """Checks a result dict of schema msma_fast.analysis/1.

    :raises ValueError: the first missing or odd field, with what was expected and what came.
    """
    _is(isinstance(results, dict), "results", "a dict", results)
    _is(results.get("schema") == SCHEMA, "schema", repr(SCHEMA), results.get("schema"))
    for name in ("created", "command"):
        _text(name, _get(results, name))
    _number("seed", _get(results, "seed"))
    for name in ("versions", "hardware", "timings"):
        _is(isinstance(_get(results, name), dict), name, "a dict", results[name])
    _fields("model", _get(results, "model"), texts=_MODEL_TEXTS, counts=_MODEL_NUMBERS)
    _fields("data", _get(results, "data"), texts=_DATA_TEXTS, counts=_DATA_NUMBERS)
    _number("data.n_tokens", results["data"]["n_tokens"])
    _fields("spaces", _get(results, "spaces"), texts=("geometry", "information", "neighbours"))
    summary = _list("summary", _get(results, "summary"), 3)
    for i, sentence in enumerate(summary):
        _text(f"summary[{i}]", sentence)
    for i, warning in enumerate(_list("warnings", _get(results, "warnings"))):
        _fields(f"warnings[{i}]", warning, texts=("level", "subject", "text"))
        level = warning["level"]
        _is(level in ("warning", "note"), f"warnings[{i}].level", "'warning' or 'note'", level)
    validate_overlap(results)
    layers = len(results["layers"])
    health = _get(results, "health")
    for name in _HEALTH:
        _vector(f"health.{name}", _get(health, name, "health"), layers)
    _optional(results, "cka", _cka, layers)
    _optional(results, "dimension", _dimension, layers)
    _optional(results, "information", _information, layers)
    _optional(results, "fisher", _fisher, layers)
    _optional(results, "scales", _scales, layers)
    _optional(results, "explorer", _explorer, layers)


def validate_overlap(results: dict[str, Any]) -> None:
    """The part that a first figure needs: the layers and the overlap matrix."""
    layers = _list("layers", _get(results, "layers"))
    _is(len(layers) > 0, "layers", "at least one layer", "an empty list")
    for i, layer in enumerate(layers):
        _fields(f"layers[{i}]", layer, texts=("name", "kind"), counts=("index",))
    overlap = _get(results, "overlap")
    _number("overlap.k", _get(overlap, "k", "overlap"))
    _matrix("overlap.matrix", _get(overlap, "matrix", "overlap"), len(layers))


def _cka(cka: dict[str, Any], layers: int) -> None:
    _text("cka.kernel", _get(cka, "kernel", "cka"))
    _matrix("cka.matrix", _get(cka, "matrix", "cka"), layers)


def _dimension(dimension: dict[str, Any], layers: int) -> None:
    _text("dimension.method", _get(dimension, "method", "dimension"))
    scales = _list("dimension.scales", _get(dimension, "scales", "dimension"))
    _is(len(scales) > 0, "dimension.scales", "at least one scale", "an empty list")
    _vector("dimension.scales", scales, len(scales), null=False)
    for name in ("estimates", "standard_error"):
        path = f"dimension.{name}"
        for i, row in enumerate(_list(path, _get(dimension, name, "dimension"), layers)):
            _vector(f"{path}[{i}]", row, len(scales))
    if dimension.get("mle") is not None:
        _vector("dimension.mle", dimension["mle"], layers)


def _information(information: dict[str, Any], layers: int) -> None:
    for name in ("k", "dimensions", "n", "n_nulls", "ceiling"):
        _number(f"information.{name}", _get(information, name, "information"))
    _matrix("information.mi", _get(information, "mi", "information"), layers)
    for name in ("null", "excess"):
        if _get(information, name, "information") is not None:
            _matrix(f"information.{name}", information[name], layers)
    for name, kinds, wanted in (
        ("unreliable", (bool,), "true or false"),
        ("reasons", (str, type(None)), "text or null"),
    ):
        path = f"information.{name}"
        for i, row in enumerate(_list(path, _get(information, name, "information"), layers)):
            for j, item in enumerate(_list(f"{path}[{i}]", row, layers)):
                _is(isinstance(item, kinds), f"{path}[{i}][{j}]", wanted, item)
    known = _get(information, "knowledge", "information")
    _is(isinstance(known, dict), "information.knowledge", "a dict", known)
    for name, one in known.items():
        path = f"information.knowledge.{name}"
        _is(name in ("token_id", "next_token", "position"), path, "'token_id', 'next_token' or 'position'", name)
        _vector(f"{path}.value", _get(one, "value", path), layers)
        if _get(one, "null", path) is not None:
            _vector(f"{path}.null", one["null"], layers)
        for count in ("most", "n"):
            _number(f"{path}.{count}", _get(one, count, path))


def _fisher(fisher: dict[str, Any], layers: int) -> None:
    for name in ("n", "n_searched", "k"):
        _number(f"fisher.{name}", _get(fisher, name, "fisher"))
    for i, kind in enumerate(_list("fisher.metric", _get(fisher, "metric", "fisher"), layers)):
        known = (None, "embedding", "logit lens", "Fisher")
        _is(kind in known, f"fisher.metric[{i}]", "'embedding', 'logit lens', 'Fisher' or null", kind)
    _is(any(kind is not None for kind in fisher["metric"]), "fisher.metric", "at least one layer", fisher["metric"])
    for name in ("lower", "median", "upper"):
        _vector(f"fisher.trace.{name}", _get(_get(fisher, "trace", "fisher"), name, "fisher.trace"), layers)
        _is_number_or_null(f"fisher.path.{name}", _get(_get(fisher, "path", "fisher"), name, "fisher.path"))
    for name in ("top_tenth", "effective_rank", "steps"):
        _vector(f"fisher.{name}", _get(fisher, name, "fisher"), layers)
    for i, one in enumerate(_list("fisher.overlap", _get(fisher, "overlap", "fisher"))):
        path = f"fisher.overlap[{i}]"
        _layer(f"{path}.layer", _get(one, "layer", path), layers)
        _is_number_or_null(f"{path}.shared", _get(one, "shared", path))
    rows = _rows("fisher.rows", _get(fisher, "rows", "fisher"))
    for i, one in enumerate(_list("fisher.shown", _get(fisher, "shown", "fisher"))):
        path = f"fisher.shown[{i}]"
        _layer(f"{path}.layer", _get(one, "layer", path), layers)
        _number(f"{path}.shared", _get(one, "shared", path))
        _is(str(_get(one, "token", path)) in rows, f"{path}.token", "a row that fisher.rows holds", one["token"])
        for name in ("fisher", "euclidean"):
            _near(f"{path}.{name}", _get(one, name, path), rows, "fisher.rows")


def _scales(scales: dict[str, Any], layers: int) -> None:
    for name in ("told", "robust"):
        _is(isinstance(_get(scales, name, "scales"), bool), f"scales.{name}", "true or false", scales[name])
    for name in ("n", "k", "resamples", "count"):
        _number(f"scales.{name}", _get(scales, name, "scales"))
    for i, (first, last) in enumerate(_list("scales.ranges", _get(scales, "ranges", "scales"))):
        _layer(f"scales.ranges[{i}]", first, layers)
        _layer(f"scales.ranges[{i}]", last, layers)
    for i, one in enumerate(_list("scales.boundaries", _get(scales, "boundaries", "scales"))):
        path = f"scales.boundaries[{i}]"
        _layer(f"{path}.layer", _get(one, "layer", path), layers)
        _number(f"{path}.p_value", _get(one, "p_value", path))
        for name in ("supported", "interval", "found", "agrees", "without_massive", "rescaled", "untrained"):
            _get(one, name, path)
    for name in ("value", "p_value", "untrained"):
        _is_number_or_null(f"scales.gain.{name}", _get(_get(scales, "gain", "scales"), name, "scales.gain"))
    spaces = _get(scales, "spaces", "scales")
    _is(isinstance(spaces, dict) and len(spaces) == 3, "scales.spaces", "three spaces", spaces)
    for name, one in spaces.items():
        for measure in ("overlap", "cka"):
            path = f"scales.spaces.{name}"
            _vector(f"{path}.{measure}", _get(one, measure, path), layers)
        for layer in _list(f"scales.spaces.{name}.boundaries", _get(one, "boundaries", f"scales.spaces.{name}")):
            _layer(f"scales.spaces.{name}.boundaries", layer, layers)
    for width, values in (_get(scales, "projections", "scales") or {}).items():
        _vector(f"scales.projections.{width}", values, layers)
    if _get(scales, "untrained", "scales") is not None:
        _untrained(scales["untrained"], layers)


def _untrained(other: dict[str, Any], layers: int) -> None:
    path = "scales.untrained"
    _vector(f"{path}.cka", _get(other, "cka", path), layers)
    known = _get(other, "knowledge", path)
    _is(isinstance(known, dict), f"{path}.knowledge", "a dict", known)
    for name, sides in {"dimension": _get(other, "dimension", path), **known}.items():
        for i, side in enumerate(_list(f"{path}.{name}", sides, 2)):
            _vector(f"{path}.{name}[{i}]", side, layers)


def _explorer(explorer: dict[str, Any], layers: int) -> None:
    _number("explorer.k", _get(explorer, "k", "explorer"))
    tokens = _list("explorer.tokens", _get(explorer, "tokens", "explorer"))
    _is(len(tokens) > 0, "explorer.tokens", "at least one token", "an empty list")
    rows = _rows("explorer.rows", _get(explorer, "rows", "explorer"))
    for i, token in enumerate(tokens):
        _is(str(token) in rows, f"explorer.tokens[{i}]", "a row that explorer.rows holds", token)
    path = "explorer.neighbors"
    for i, layer in enumerate(_list(path, _get(explorer, "neighbors", "explorer"), layers)):
        for j, near in enumerate(_list(f"{path}[{i}]", layer, len(tokens))):
            _near(f"{path}[{i}][{j}]", near, rows, "explorer.rows")


def _rows(path: str, rows: Any) -> dict[str, Any]:
    """{row: [before, token, after, text id] or with a token id}."""
    _is(isinstance(rows, dict), path, "a dict of rows", rows)
    for key, row in rows.items():
        one = f"{path}[{key!r}]"
        _is(len(_list(one, row)) in (4, 5), one, "[before, token, after, text id] or with a token id", row)
        for part in row[:3]:
            _text(one, part)
    return dict(rows)


def _near(path: str, near: Any, rows: dict[str, Any], held: str) -> None:
    """[[row, distance]] of rows whose text is held."""
    for pair in _list(path, near):
        _is(isinstance(pair, (list, tuple)) and len(pair) == 2, path, "[row, distance]", pair)
        _is(str(pair[0]) in rows, path, f"a row that {held} holds", pair[0])
        _number(f"{path} distance", pair[1])


def _layer(path: str, value: Any, layers: int) -> None:
    _is(_finite(value) and value in range(layers), path, f"a layer from 0 to {layers - 1}", value)


def _optional(results: dict[str, Any], name: str, check: Callable[[dict[str, Any], int], None], layers: int) -> None:
    section = _get(results, name)
    _is(section is None or isinstance(section, dict), name, "a dict, {'skipped': reason} or null", section)
    if skipped(section) is None:
        check(section, layers)


def _is(right: bool, path: str, wanted: str, got: Any) -> None:
    if not right:
        shown = repr(got)
        raise ValueError(f"results: {path}: expected {wanted}, got {shown[:80]}{'...' if len(shown) > 80 else ''}")


def _get(section: Any, name: str, path: str = "") -> Any:
    _is(isinstance(section, dict), path or "results", "a dict", section)
    full = f"{path}.{name}" if path else name
    if name not in section:
        raise ValueError(f"results: {full}: expected a value, got nothing (the field is missing)")
    return section[name]


def _fields(path: str, section: Any, *, texts: tuple[str, ...] = (), counts: tuple[str, ...] = ()) -> None:
    for name in texts:
        value = _get(section, name, path)
        _is(value is None or isinstance(value, str), f"{path}.{name}", "text or null", value)
    for name in counts:
        value = _get(section, name, path)
        _is(value is None or _finite(value), f"{path}.{name}", "a number or null", value)


def _text(path: str, value: Any) -> None:
    _is(isinstance(value, str), path, "text", value)


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and value is not True and value is not False and math.isfinite(value)


def _number(path: str, value: Any) -> None:
    _is(_finite(value), path, "a finite number", value)


def _is_number_or_null(path: str, value: Any) -> None:
    _vector(path, [value], 1)


def _list(path: str, value: Any, length: int | None = None) -> list[Any]:
    _is(isinstance(value, (list, tuple)), path, "a list", value)
    if length is not None:
        _is(len(value) == length, path, f"{length} entries", f"{len(value)} entries")
    return list(value)


def _vector(path: str, value: Any, length: int, *, null: bool = True) -> None:
    for i, item in enumerate(_list(path, value, length)):
        # A float that is not finite counts as null.
        fine = _finite(item) or (null and (item is None or isinstance(item, float)))
        _is(fine, f"{path}[{i}]", "a number or null" if null else "a finite number", item)


def _matrix(path: str, value: Any, size: int) -> None:
    for i, row in enumerate(_list(path, value, size)):
        _vector(f"{path}[{i}]", row, size)
