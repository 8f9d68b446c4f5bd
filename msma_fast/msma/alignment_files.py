"""A fitted MSMA on disk: maps.safetensors, and msma.json for what is not a tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msma_fast.activations.folder import open_tensors, write_tensors
from msma_fast.msma.fitting import Fitted, Map, Pair
from msma_fast.msma.maps import Linear
from msma_fast.msma.mlp_map import Learned, Residual
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.sides import Side
from msma_fast.msma.sound_metrics import Space

_FORMAT = "msma_fast.msma/1"
_FILE, _TENSORS = "msma.json", "maps.safetensors"


def write(folder: Path, settings: dict[str, Any], scales: Scales, sides: list[Side], maps: dict[Pair, Fitted]) -> None:
    """Raises FileExistsError where one is there already."""
    if (folder / _FILE).exists():
        raise FileExistsError(f"path: expected a folder without a saved MSMA, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for number, side in enumerate(sides):
        tensors |= {f"side.{number}.mean": side.mean, f"side.{number}.axes": side.space.axes}
    chosen: dict[str, Any] = {}
    for (source, target), fitted in maps.items():
        for name, each in fitted._asdict().items():
            if each is not None:
                key = f"map.{source}.{target}.{name}"
                chosen[key] = each.chosen
                parts = {"weight": each.weight} if isinstance(each, Linear) else each.module.state_dict()
                tensors |= {f"{key}.{part}": value for part, value in parts.items()}
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_tensors(folder / _TENSORS, kept)
    about = {
        "format": _FORMAT,
        "settings": settings,
        "scales": scales.to_dict(),
        "sides": [{"layers": list(side.layers), "size": side.size, "space": side.space.size} for side in sides],
        "maps": chosen,
    }
    (folder / _FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Any], Scales, list[Side], dict[Pair, Fitted]]:
    """What was written, on the CPU. Raises FileNotFoundError, and ValueError for another format."""
    about = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    if about.get("format") != _FORMAT:
        raise ValueError(f"path: expected the format {_FORMAT} in {folder}, got {about.get('format')!r}")
    with open_tensors(folder / _TENSORS) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    scales = Scales.from_dict(about["scales"])
    sides = [
        Side(tuple(one["layers"]), tensors[f"side.{number}.mean"], one["size"],
             Space(tensors[f"side.{number}.axes"], one["space"]))
        for number, one in enumerate(about["sides"])
    ]  # fmt: skip

    def restored(key: str) -> Map | None:
        if key not in about["maps"]:
            return None
        parts = {name.rpartition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{key}.")}
        if set(parts) == {"weight"}:
            return Linear(parts["weight"], about["maps"][key])
        module = Residual(parts["linear"], parts["bias"].shape[0], torch.Generator())
        module.load_state_dict(parts)
        return Learned(module, about["maps"][key])

    maps = {}
    for source, target in scales.pairs():
        each = {name: restored(f"map.{source}.{target}.{name}") for name in Fitted._fields}
        maps[source, target] = Fitted(**each)  # type: ignore[arg-type]
    return about["settings"], scales, sides, maps
