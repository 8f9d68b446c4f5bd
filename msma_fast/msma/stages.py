"""Named stages of a run, each kept on disk when it is done, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msma_fast._version import __version__
from msma_fast.activations import Activations


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def content_digest(acts: Activations) -> str:
    """SHA-256 of every stored value and id: a work folder must never serve other data."""
    digest = hashlib.sha256()
    for index in range(len(acts)):
        digest.update(acts.layer(index, dtype=None).contiguous().view(torch.uint8).numpy().data)
    for ids in (acts.text_ids, acts.token_ids, acts.positions, acts.next_token_ids):
        digest.update(b"none" if ids is None else ids.contiguous().numpy().tobytes())
    return digest.hexdigest()


def code_digest() -> str:
    """Of the version, and of the whole package but the report: what other code has computed is not to be served."""
    digest = hashlib.sha256(__version__.encode())
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        if package / "report" not in path.parents:
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Stages:
    """Results of stages, as tensors, under folder/<fingerprint>; without a folder nothing is kept. resumed: whether one was
    there already."""

    def __init__(self, folder: Path | None, settings: Any) -> None:
        self.resumed = False
        self._folder = None if folder is None else folder / fingerprint(settings)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def run_json(self, name: str, compute: Callable[[], Any]) -> Any:
        """The same for a JSON-able result."""

        def as_bytes() -> dict[str, Tensor]:
            return {"json": torch.tensor(list(json.dumps(compute()).encode()), dtype=torch.uint8)}

        return json.loads(bytes(self.run(name, as_bytes)["json"].tolist()))

    def run(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The kept result of the stage, or a new one, kept whole or not at all."""
        if self._folder is None:
            return compute()
        path = self._folder / f"{name}.pt"
        if path.exists():
            self.resumed = True
            kept: dict[str, Tensor] = torch.load(path, weights_only=True)
            return kept
        result = compute()
        draft = path.with_name(f".{name}.{os.getpid()}.part")
        torch.save(result, draft)
        os.replace(draft, path)
        return result
