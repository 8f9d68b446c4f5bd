"""Running a collection: shards of consecutive texts, in memory or as files that are whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msma_fast.activations import attention, folder, request
from msma_fast.activations.blocks import Stack
from msma_fast.activations.forward import Capture, pad, run
from msma_fast.activations.layers import DTYPES
from msma_fast.activations.sampling import Sample

Progress = Callable[[int, int], None]
Tensors = dict[str, Tensor]

SHARD_BYTES = 64 << 20  # some seconds of work on a small model: the most a killed run can lose
_SPAN = "attention_span_sum."  # in a shard: float64 (heads,) beside the layer of that name


@dataclass(frozen=True)
class Job:
    """described: metadata["layers"] of the wanted layers; found: where attention weights are, or None."""

    model: Any
    stacks: Sequence[Stack]
    described: Sequence[Mapping[str, Any]]
    kept: Sample
    padding: int
    batch_size: int
    found: dict[str, tuple[nn.Module, int]] | None

    @property
    def names(self) -> list[str]:
        return [layer["name"] for layer in self.described]

    def in_memory(self, progress: Progress | None) -> tuple[Tensors, Tensors]:
        """Every layer (n, d), and the sums of attention spans."""
        layers = self._empty(self.kept.n_rows)
        spans: Tensors = {}
        for shard, start, stop in self._shards():
            out, sums = self._run(shard, progress)
            for name, values in out.items():
                layers[name][start:stop] = values
            spans = {name: spans.get(name, 0) + values for name, values in sums.items()}
        return layers, spans

    def on_disk(self, target: Path, progress: Progress | None) -> tuple[list[dict[str, Any]], Tensors]:
        """Write the shards that are missing; the manifest's list of all, and the sums of attention spans."""
        entries: list[dict[str, Any]] = []
        spans: Tensors = {}
        for number, (shard, start, stop) in enumerate(self._shards()):
            file = target / f"shard-{number:05d}.safetensors"
            sums = self._read_spans(file)
            if sums is None:
                out, sums = self._run(shard, progress)
                folder.write_tensors(file, out | {_SPAN + name: values for name, values in sums.items()})
            elif progress is not None:
                progress(shard.stop, len(self.kept.texts))
            entries.append({"file": file.name, "start": start, "stop": stop, "layers": self.names})
            spans = {name: spans.get(name, 0) + values for name, values in sums.items()}
        return entries, spans

    def _shards(self) -> Iterator[tuple[range, int, int]]:
        """(texts, first row, row after the last) of each shard: what fits in SHARD_BYTES, at least a text."""
        row_bytes = sum(layer["dim"] * DTYPES[layer["dtype"]].itemsize for layer in self.described)
        first, start, stop = 0, 0, 0
        for text, positions in enumerate(self.kept.positions):
            if text > first and (stop - start + len(positions)) * row_bytes > SHARD_BYTES:
                yield range(first, text), start, stop
                first, start = text, stop
            stop += len(positions)
        yield range(first, len(self.kept.positions)), start, stop

    def _run(self, shard: range, progress: Progress | None) -> tuple[Tensors, Tensors]:
        counts = [len(self.kept.positions[text]) for text in shard]
        starts = dict(zip(shard, torch.tensor([0, *counts]).cumsum(0).tolist(), strict=False))
        out = self._empty(sum(counts))
        sums: Tensors = {}
        by_length = sorted(shard, key=lambda text: (len(self.kept.texts[text].ids), text))
        done = shard.start
        for first in range(0, len(by_length), self.batch_size):
            batch = by_length[first : first + self.batch_size]
            self._batch(batch, starts, out, sums)
            done += len(batch)
            if progress is not None:
                progress(done, len(self.kept.texts))
        return out, sums

    def _batch(self, batch: list[int], starts: Mapping[int, int], out: Tensors, sums: Tensors) -> None:
        positions = [self.kept.positions[text] for text in batch]
        place = torch.tensor([index for index, kept in enumerate(positions) for _ in kept])
        position = torch.tensor([item for kept in positions for item in kept])
        row = torch.tensor(
            [starts[text] + offset for text, kept in zip(batch, positions, strict=True) for offset in range(len(kept))]
        )

        def keep_state(name: str, state: Tensor) -> None:
            out[name][row] = state[place.to(state.device), position.to(state.device)].to("cpu")

        def keep_weights(name: str, weights: Tensor) -> None:
            found = attention.spans(weights, place.to(weights.device), position.to(weights.device))
            sums[name] = sums.get(name, 0) + found

        device = self.model.get_input_embeddings().weight.device
        ids, mask = pad([self.kept.texts[text].ids for text in batch], self.padding, device)
        with ExitStack() as hooks:
            hooks.enter_context(Capture(self.stacks, self.names, keep_state))
            if self.found is not None:
                hooks.enter_context(attention.AttentionCapture(self.found, keep_weights))
            run(self.model, ids, mask)

    def _empty(self, rows: int) -> Tensors:
        return {
            layer["name"]: torch.empty(rows, layer["dim"], dtype=DTYPES[layer["dtype"]]) for layer in self.described
        }

    def _read_spans(self, file: Path) -> Tensors | None:
        """The sums of a shard that is there and whole; None where it has to be made."""
        if not file.is_file():
            return None
        try:
            with folder.open_tensors(file) as handle:
                keys = set(handle.keys())
                if not keys.issuperset(self.names):
                    return None
                return {name: handle.get_tensor(_SPAN + name) for name in self.found or {}}
        except ValueError:
            return None


def begin(target: Path, asked: dict[str, Any], n_rows: int, described: dict[str, Any]) -> bool:
    """Make the folder ready for this request; True when it is finished already.

    Raises ValueError where the folder holds something else.
    """
    if (target / folder.MANIFEST).is_file():
        manifest = folder.read_manifest(target)
        if "request" not in manifest:
            raise ValueError(
                f"path: expected a new folder or one of this collection, got {target}, which holds "
                "activations that were saved, not collected; load them with Activations.load"
            )
        request.check_same(target, manifest["request"], asked, complete=manifest["complete"])
        return bool(manifest["complete"])
    if not folder.is_free(target):
        raise ValueError(f"path: expected a new or empty folder, got {target}, which holds other files")
    target.mkdir(parents=True, exist_ok=True)
    manifest = {"complete": False, "request": asked, "n_tokens": n_rows, "shards": [], "metadata": described}
    folder.write_manifest(target, manifest)
    return False
