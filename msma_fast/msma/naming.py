"""What layers are called in reports."""

from __future__ import annotations

from typing import Any

from msma_fast.activations import Activations


def stack_of(name: str) -> str:
    """What comes before the number of a layer's name: "encoder" of "encoder.3"; empty where there is none."""
    stack, _, number = name.rpartition(".")
    return stack if number.isdigit() else ""


def layer_names(acts: Activations) -> list[dict[str, Any]]:
    """[{index, name, kind}]; the names `layer.0`, `layer.7`, `encoder.3` of a collection become words."""
    known = acts.metadata.get("layers") or [{}] * len(acts)
    found = []
    for index, (name, about) in enumerate(zip(acts.names, known, strict=True)):
        kind = about.get("kind", "unknown")
        stack, dot, number = name.rpartition(".")
        if dot and number.isdigit() and kind in ("embedding", "block"):
            words = "embedding" if kind == "embedding" else f"block {number}"
            name = words if stack == "layer" else f"{stack} {words}"
        found.append({"index": index, "name": name, "kind": kind})
    return found
