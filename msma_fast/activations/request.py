"""What a collection was asked for, small enough to keep in the manifest, so that a folder is only ever
finished or reused by the request that began it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from msma_fast.activations.sampling import Encoded

# These change the last bits of a state, not what it is: they must match to finish a folder, not to reuse one.
ROUNDING = ("batch_size", "device", "attention", "torch")
_SAMPLES = 64
_VOLATILE = (
    "_name_or_path",
    "_commit_hash",
    "architectures",
    "transformers_version",
    "msma_fast_source",
    "dtype",
    "torch_dtype",
)


def digest(pieces: Iterable[bytes]) -> str:
    """SHA-256 of the pieces, each preceded by its length."""
    state = hashlib.sha256()
    for piece in pieces:
        state.update(len(piece).to_bytes(8, "little"))
        state.update(piece)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def texts_digest(texts: Sequence[str]) -> str:
    return digest(text.encode("utf-8", "surrogatepass") for text in texts)


def tokens_digest(encoded: Sequence[Encoded]) -> str:
    """Of the ids the tokenizer gave, which is what matters of a tokenizer."""
    return digest(torch.tensor(text.ids, dtype=torch.int64).numpy().tobytes() for text in encoded)


def model_fingerprint(model: Any) -> str:
    """Of the configuration, and of the name, shape, dtype and 64 evenly spaced values of every parameter.

    Training changes nearly every value, so another model or another checkpoint is told apart; an edit of a
    few single weights may not be.
    """
    config = {name: value for name, value in model.config.to_dict().items() if name not in _VOLATILE}
    pieces = [json.dumps(config, sort_keys=True, default=str).encode()]
    for name, weight in model.named_parameters():
        flat = weight.detach().reshape(-1)
        picks = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
        values = flat[picks.to(flat.device)].to("cpu", torch.float64).numpy().tobytes()
        pieces.append(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + values)
    return digest(pieces)


def check_same(path: Path, there: dict[str, Any], asked: dict[str, Any], *, complete: bool) -> None:
    """Raises ValueError that says what differs between the request in the folder and the one made now."""
    ignored = ROUNDING if complete else ()
    names = [name for name in dict.fromkeys([*there, *asked]) if name not in ignored]
    different = [name for name in names if there.get(name) != asked.get(name)]
    if different:
        listed = "; ".join(
            f"{name}: {_short(there.get(name))} there, {_short(asked.get(name))} asked" for name in different
        )
        state = "a finished" if complete else "an unfinished"
        raise ValueError(
            f"path: expected the request that began it, got a different one for {state} collection in {path} "
            f"({listed}); "
            "use another path, or delete the folder"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
