"""The ways into `Activations`: arrays, a foreign safetensors file, a TransformerLens cache, our own folder.

Each door checks what came and returns the layers unread where it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import float_tensor, from_array
from msma_fast.activations import folder
from msma_fast.activations.layers import DTYPES, DiskLayer, Layer, MemoryLayer, Shard, dtype_name
from msma_fast.activations.row_text import RowText

LABELS = ("text_ids", "token_ids", "positions", "next_token_ids")
_SAFETENSORS_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_RESID_POST = re.compile(r"blocks\.(\d+)\.hook_resid_post")

Opened = tuple[list[Layer], list[str], dict[str, Any], dict[str, Tensor]]


def arrays(layers: Any, names: Sequence[str] | None) -> tuple[list[Layer], list[str], dict[str, Any]]:
    """Layers in memory, their names, and metadata that says nothing more is known."""
    if isinstance(layers, (str, bytes, Mapping)) or not (hasattr(layers, "__dlpack__") or isinstance(layers, Iterable)):
        raise TypeError(
            f"layers: expected a sequence of (n, d) arrays or one (L, n, d) array, got {type(layers).__name__}"
        )
    if hasattr(layers, "__dlpack__"):
        stacked = float_tensor("layers", layers)
        if stacked.ndim != 3:
            raise ValueError(
                f"layers: expected a sequence of (n, d) arrays or one (L, n, d) array, got one array of "
                f"shape {tuple(stacked.shape)}"
            )
        layers = list(stacked)
    tensors = [float_tensor(f"layers[{index}]", layer) for index, layer in enumerate(layers)]
    if not tensors:
        raise ValueError("layers: expected at least one layer, got none")
    for index, tensor in enumerate(tensors):
        if tensor.ndim != 2 or tensor.numel() == 0:
            raise ValueError(f"layers[{index}]: expected shape (n, d) with n, d >= 1, got {tuple(tensor.shape)}")
        if len(tensor) != len(tensors[0]):
            raise ValueError(f"layers[{index}]: expected n = {len(tensors[0])} rows as in layers[0], got {len(tensor)}")
    checked = _names(names, len(tensors))
    stored: list[Layer] = [MemoryLayer(tensor.detach()) for tensor in tensors]
    return (
        stored,
        checked,
        {"layers": [describe(name, layer) for name, layer in zip(checked, stored, strict=True)]},
    )


def describe(name: str, layer: Layer, kind: str = "unknown", norm_applied: bool | None = None) -> dict[str, Any]:
    """The entry of metadata["layers"]."""
    return {
        "name": name,
        "kind": kind,
        "norm_applied": norm_applied,
        "dim": layer.dim,
        "dtype": dtype_name(layer.dtype),
    }


def labels(name: str, value: Any, n: int) -> Tensor:
    """int64 (n,) in memory."""
    tensor = from_array(name, value if hasattr(value, "__dlpack__") else torch.as_tensor(value))
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, got {tensor.dtype}")
    if tuple(tensor.shape) != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one for each row, got {tuple(tensor.shape)}")
    return tensor.detach().cpu().to(torch.int64)


def sequence(value: Any) -> list[Any]:
    """One item or many, as a list of Python values."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [value] if isinstance(value, (str, int)) else list(value)


def index(name: str, value: Any, count: int) -> int:
    """A Python or numpy integer with -count <= value < count, as a non-negative one."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer or a name, got {value!r} ({type(value).__name__})")
    position = value.__index__()
    if not -count <= position < count:
        raise IndexError(f"{name}: expected an integer from {-count} to {count - 1}, got {position}")
    return position % count


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key that reads runs of digits as numbers: "h.2" before "h.10"."""
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", text)]


def safetensors_file(path: Path) -> Opened:
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a safetensors file or a folder of activations, got {path}")
    layers: dict[str, Layer] = {}
    ids: dict[str, Tensor] = {}
    with folder.open_tensors(path) as handle:
        for name in sorted(handle.keys(), key=natural):
            part = handle.get_slice(name)
            shape, dtype = tuple(part.get_shape()), _SAFETENSORS_DTYPES.get(part.get_dtype())
            if name in LABELS:
                ids[name] = handle.get_tensor(name)
            elif len(shape) == 2 and 0 not in shape and dtype is not None:
                layers[name] = DiskLayer((Shard(path, name, 0, shape[0]),), shape[1], dtype)
            else:
                raise ValueError(
                    f"{path}: expected float tensors (n, d), one a layer, and integer labels called "
                    f"{', '.join(LABELS)}; "
                    f"got {name!r} of shape {shape} and dtype {part.get_dtype()}"
                )
    if not layers:
        raise ValueError(f"{path}: expected at least one float tensor (n, d), got none")
    n = next(iter(layers.values())).n
    for name, layer in layers.items():
        if layer.n != n:
            raise ValueError(f"{path}: expected n = {n} rows in every layer, got {layer.n} in {name!r}")
    metadata = {"source": path.name, "layers": [describe(name, layer) for name, layer in layers.items()]}
    return list(layers.values()), list(layers), metadata, {name: labels(name, ids[name], n) for name in ids}


def transformer_lens(cache: Any) -> Opened:
    if not (hasattr(cache, "keys") and hasattr(cache, "__getitem__")):
        raise TypeError(f"cache: expected an ActivationCache or a dict of tensors, got {type(cache).__name__}")
    keys = list(cache.keys())
    states: dict[str, tuple[str, Tensor]] = {}
    if "blocks.0.hook_resid_pre" in keys:
        states["layer.0"] = ("embedding", cache["blocks.0.hook_resid_pre"])
    elif "hook_embed" in keys:
        embedded = cache["hook_embed"]
        states["layer.0"] = (
            "embedding",
            embedded + cache["hook_pos_embed"] if "hook_pos_embed" in keys else embedded,
        )
    matches = [match for match in map(_RESID_POST.fullmatch, keys) if match]
    for match in sorted(matches, key=lambda match: int(match[1])):
        states[f"layer.{int(match[1]) + 1}"] = ("block", cache[match[0]])
    if not states:
        raise ValueError(
            "cache: expected keys blocks.0.hook_resid_pre or hook_embed, and blocks.<l>.hook_resid_post, "
            f"got {keys[:8]}{' ...' if len(keys) > 8 else ''}"
        )
    checked = {name: (kind, float_tensor(f"cache[{name}]", state)) for name, (kind, state) in states.items()}
    shape = next(iter(checked.values()))[1].shape[:-1]
    for name, (_, state) in checked.items():
        if state.ndim not in (2, 3) or state.shape[:-1] != shape or state.numel() == 0:
            raise ValueError(
                f"cache[{name}]: expected (batch, pos, d) or (pos, d), the same in every layer, "
                f"got {tuple(state.shape)}"
            )
    batch, length = (1, *shape)[-2:]
    stored = [MemoryLayer(state.detach().reshape(-1, state.shape[-1])) for _, state in checked.values()]
    ids = {
        "text_ids": torch.arange(batch).repeat_interleave(length),
        "positions": torch.arange(length).repeat(batch),
    }
    described = [
        describe(name, layer, kind, norm_applied=False)
        for (name, (kind, _)), layer in zip(checked.items(), stored, strict=True)
    ]
    metadata = {"source": "TransformerLens cache", "layers": described}
    return list(stored), list(checked), metadata, ids


def finished_folder(
    path: Path,
) -> tuple[list[Layer], list[str], dict[str, Any], dict[str, Tensor], RowText | None]:
    """The layers of a complete folder, unread, after a check that every file of the manifest is there."""
    manifest = folder.read_manifest(path)
    if not manifest["complete"]:
        raise ValueError(
            f"path: expected a finished collection, got one that was interrupted ({path}); "
            "call collect_activations again with the same arguments to finish it"
        )
    shards: dict[str, list[Shard]] = {}
    for entry in manifest["shards"]:
        file = path / Path(entry["file"]).name
        if not file.is_file():
            raise ValueError(f"{path}: expected the file {file.name} that {folder.MANIFEST} names, got none")
        for name in entry["layers"]:
            shards.setdefault(name, []).append(Shard(file, name, entry["start"], entry["stop"]))
    described = manifest["metadata"]["layers"]
    layers: list[Layer] = []
    for entry in described:
        parts = sorted(shards.get(entry["name"], []), key=lambda shard: shard.start)
        edges = [0, *(part.stop for part in parts)]
        if edges[-1] != manifest["n_tokens"] or [part.start for part in parts] != edges[:-1]:
            raise ValueError(
                f"{path}: expected shards that cover rows 0 to {manifest['n_tokens']} of "
                f"{entry['name']!r}, got {[(part.start, part.stop) for part in parts]}"
            )
        layers.append(DiskLayer(tuple(parts), entry["dim"], DTYPES[entry["dtype"]]))
    ids: dict[str, Tensor] = {}
    if (path / folder.ROWS).is_file():
        with folder.open_tensors(path / folder.ROWS) as handle:
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                ids[name] = labels(name, handle.get_tensor(name), manifest["n_tokens"])
    row_text = RowText(folder=path) if (path / folder.ROW_TEXT).is_file() else None
    return layers, [entry["name"] for entry in described], manifest["metadata"], ids, row_text


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [f"layer.{index}" for index in range(count)]
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"names: expected a sequence of {count} strings, got {names!r}")
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"names: expected {count} different names, one a layer, got {list(names)}")
    return list(names)
