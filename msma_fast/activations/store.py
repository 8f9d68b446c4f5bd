"""`Activations`: the hidden states of many tokens at many layers, with what is known about each token.

L layers; layer l is an (n, d_l) array; row i of every layer is the same token. Values stay where they are (in
memory, or on disk) until a layer is asked for, and then only that layer is read.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import Parted, from_array
from msma_fast.activations import doors, folder
from msma_fast.activations.layers import DiskLayer, Layer, dtype_name
from msma_fast.activations.row_text import RowText

ID_FIELDS = ("text_ids", "token_ids", "positions", "next_token_ids")


class Activations:
    """Layers x tokens x d, made by the doors below; attributes, each None where it is not known:

    text_ids, token_ids, positions, next_token_ids -- int64 (n,): which text, which token of the vocabulary,
        where in the sequence the model saw, and the token after it (-1 where there is none)
    tokens, before, after -- n strings: the token's text, and about ten tokens of text on either side;
        before + token + after reads as the text does, with runs of white space made one space
    names -- L strings; dims -- L integers
    metadata -- a JSON-able dict. metadata["layers"][l] has name, kind ("embedding" | "block" | "unknown"),
        dim, dtype and norm_applied (whether the values come out of a normalisation; None when unknown);
        metadata["attention_span"][l], where collected, is the mean span of each head of the block that ends
        in layer l (None for an embedding), over all the rows collected, also after `select`
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        names: Sequence[str],
        *,
        ids: Mapping[str, Tensor | None] | None = None,
        row_text: RowText | None = None,
        metadata: dict[str, Any] | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """For the doors, which check; `rows` (m,) picks and orders rows of the layers."""
        self._layers = list(layers)
        self._rows = rows
        self._row_text = row_text
        self.names = list(names)
        ids = ids or {}
        self.text_ids = ids.get("text_ids")
        self.token_ids = ids.get("token_ids")
        self.positions = ids.get("positions")
        self.next_token_ids = ids.get("next_token_ids")
        self.metadata = metadata or {}

    # -- doors --------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        layers: Any,
        *,
        text_ids: Any = None,
        token_ids: Any = None,
        positions: Any = None,
        names: Sequence[str] | None = None,
    ) -> Activations:
        """From a sequence of (n, d_l) arrays or one (L, n, d) array: torch, numpy or DLPack.

        Memory is shared where possible.
        The labels are integers (n,); names are L distinct strings ("layer.0", ... by default).
        Raises TypeError for data that is not float16, bfloat16, float32 or float64 and for labels that are
        not integers, ValueError for wrong shapes, empty layers, and names that are missing or repeated.
        """
        stored, checked_names, metadata = doors.arrays(layers, names)
        given = {"text_ids": text_ids, "token_ids": token_ids, "positions": positions}
        ids = {name: doors.labels(name, value, stored[0].n) for name, value in given.items() if value is not None}
        return cls(stored, checked_names, ids=ids, metadata=metadata)

    @classmethod
    def from_safetensors(cls, path: str | os.PathLike[str]) -> Activations:
        """From one safetensors file, or a folder that `save` or `collect_activations` wrote; nothing is read.

        In a file of another tool each two-dimensional float tensor is a layer, in the natural order of the
        names ("h.2" before "h.10"); one-dimensional integer tensors called text_ids, token_ids, positions or
        next_token_ids are those labels. Any other tensor is a ValueError.
        """
        target = Path(path)
        if target.is_dir():
            return cls.load(target)
        layers, names, metadata, ids = doors.safetensors_file(target)
        return cls(layers, names, ids=ids, metadata=metadata)

    @classmethod
    def from_transformer_lens(cls, cache: Any) -> Activations:
        """From a TransformerLens `ActivationCache`, or a dict with its keys.

        Tensors are (batch, pos, d) or (pos, d).

        The embedding is blocks.0.hook_resid_pre, or hook_embed (plus hook_pos_embed); layer l is
        blocks.{l-1}.hook_resid_post. Batch and position are flattened: text_ids is the index in the batch,
        positions the index in the sequence. A cache does not say what was padding, so no row is dropped; give
        the cache of unpadded prompts, or `select` the rows you mean.
        """
        layers, names, metadata, ids = doors.transformer_lens(cache)
        return cls(layers, names, ids=ids, metadata=metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Activations:
        """From a folder that `save` or `collect_activations` wrote; each layer is read when it is asked for.

        Raises FileNotFoundError where there is no manifest, ValueError for an unfinished or damaged folder.
        """
        layers, names, metadata, ids, row_text = doors.finished_folder(Path(path))
        return cls(layers, names, ids=ids, metadata=metadata, row_text=row_text)

    # -- reading --------------------------------------------------

    def __len__(self) -> int:
        """The number of layers, so that an Activations and a list of arrays are used alike."""
        return len(self._layers)

    @property
    def n_layers(self) -> int:
        return len(self._layers)

    @property
    def n_tokens(self) -> int:
        return self._layers[0].n if self._rows is None else len(self._rows)

    @property
    def dims(self) -> list[int]:
        return [layer.dim for layer in self._layers]

    @property
    def tokens(self) -> list[str] | None:
        return self._text("token")

    @property
    def before(self) -> list[str] | None:
        return self._text("before")

    @property
    def after(self) -> list[str] | None:
        return self._text("after")

    def layer(self, layer: int | str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """One layer (n, d) by index (negative from the end) or name; dtype=None keeps the stored dtype.

        May share memory with the store: treat it as read-only.
        """
        values = self.parted(layer).whole()
        return values if dtype is None else values.to(dtype)

    def parted(self, layer: int | str) -> Parted:
        """One layer where it lies, in the stored dtype: its parts, mapped where it is on disk, and the rows selected.
        Functions that can stream ask for it. Nothing is read or copied."""
        return self._layers[self._index(layer)].parted(self._rows)

    def __iter__(self) -> Iterator[Tensor]:
        """The layers in order, float32, one read at a time."""
        return (self.layer(index) for index in range(len(self)))

    def __repr__(self) -> str:
        dims = sorted(set(self.dims))
        width = f"d = {dims[0]}" if len(dims) == 1 else f"d = {dims[0]} to {dims[-1]}"
        dtypes = ", ".join(sorted({dtype_name(layer.dtype) for layer in self._layers}))
        where = "on disk" if isinstance(self._layers[0], DiskLayer) else "in memory"
        texts = "" if self.text_ids is None else f" of {len(torch.unique(self.text_ids))} texts"
        model = f", model {self.metadata['model']}" if self.metadata.get("model") else ""
        return (
            f"Activations({self.n_layers} layers {self.names[0]} to {self.names[-1]}, "
            f"{self.n_tokens} tokens{texts}, {width}, {dtypes}, {where}{model})"
        )

    # -- selecting and writing --------------------------------------------------

    def select(self, layers: Any = None, rows: Any = None, texts: Any = None) -> Activations:
        """A view of some layers (index, name, or a sequence of them), rows (integers (m,), or a boolean mask
        (n,)) and texts (values of text_ids); rows keep the order given, texts then keep the rows of those
        texts. Nothing is read.

        Raises IndexError, KeyError, TypeError or ValueError naming the argument.
        """
        chosen = range(len(self)) if layers is None else [self._index(item) for item in doors.sequence(layers)]
        if len(chosen) == 0 or len(set(chosen)) != len(chosen):
            raise ValueError(f"layers: expected at least one layer and none twice, got {layers!r}")
        keep = self._row_index(rows)
        if texts is not None:
            keep = self._rows_of_texts(keep, texts)
        if keep is not None and len(keep) == 0:
            raise ValueError("rows, texts: expected to keep at least one row, got none")
        metadata = copy.deepcopy(self.metadata)
        for key in ("layers", "attention_span"):
            if key in metadata:
                metadata[key] = [metadata[key][index] for index in chosen]
        rows_of_layers = self._rows if keep is None else keep if self._rows is None else self._rows[keep]
        return Activations(
            [self._layers[index] for index in chosen],
            [self.names[index] for index in chosen],
            ids={
                name: values if keep is None or values is None else values[keep] for name, values in self._ids().items()
            },
            row_text=self._row_text if keep is None or self._row_text is None else self._row_text.select(keep),
            metadata=metadata,
            rows=rows_of_layers,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to a new folder, one safetensors file a layer, one layer in memory at a time.

        The folder appears under its name when it is whole. Raises FileExistsError where something is there
        already.
        """
        target = Path(path)
        if not folder.is_free(target):
            raise FileExistsError(f"path: expected a new or empty folder, got {target}, which holds files already")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.draft-{os.getpid()}")
        draft.mkdir()
        try:
            self._write(draft)
            if target.exists():
                folder.remove_leftovers(target)
                target.rmdir()
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        folder.sync(target.parent)
        return target

    def _write(self, target: Path) -> None:
        shards = []
        for index, name in enumerate(self.names):
            file = f"layer-{index:04d}.safetensors"
            folder.write_tensors(target / file, {name: self.layer(index, dtype=None)})
            shards.append({"file": file, "start": 0, "stop": self.n_tokens, "layers": [name]})
        ids = {name: values for name, values in self._ids().items() if values is not None}
        if ids:
            folder.write_tensors(target / folder.ROWS, ids)
        if self._row_text is not None:
            folder.write_row_text(target, self._row_text.rows())
        manifest = {"complete": True, "n_tokens": self.n_tokens, "shards": shards, "metadata": self.metadata}
        folder.write_manifest(target, manifest)

    # -- helpers --------------------------------------------------

    def _ids(self) -> dict[str, Tensor | None]:
        return {name: getattr(self, name) for name in ID_FIELDS}

    def _text(self, field: str) -> list[str] | None:
        return None if self._row_text is None else self._row_text.column(field)

    def _index(self, layer: Any) -> int:
        if isinstance(layer, str):
            if layer not in self.names:
                raise KeyError(f"layer: expected one of {', '.join(self.names)}, got {layer!r}")
            return self.names.index(layer)
        return doors.index("layer", layer, len(self))

    def _row_index(self, rows: Any) -> Tensor | None:
        if rows is None:
            return None
        picked = from_array("rows", rows if hasattr(rows, "__dlpack__") else torch.as_tensor(rows)).cpu()
        if picked.ndim != 1 or picked.is_floating_point() or picked.is_complex():
            raise TypeError(f"rows: expected integers (m,) or booleans (n,), got {picked.dtype} {tuple(picked.shape)}")
        if picked.dtype == torch.bool:
            if len(picked) != self.n_tokens:
                raise ValueError(f"rows: expected a mask of {self.n_tokens} booleans, got {len(picked)}")
            return picked.nonzero().flatten()
        picked = picked.to(torch.int64)
        if len(picked) and not (-self.n_tokens <= int(picked.min()) and int(picked.max()) < self.n_tokens):
            raise IndexError(
                f"rows: expected integers from {-self.n_tokens} to {self.n_tokens - 1}, "
                f"got {int(picked.min())} to {int(picked.max())}"
            )
        return torch.where(picked < 0, picked + self.n_tokens, picked)

    def _rows_of_texts(self, keep: Tensor | None, texts: Any) -> Tensor:
        if self.text_ids is None:
            raise ValueError("texts: expected activations with text_ids, got activations without")
        wanted = torch.as_tensor(doors.sequence(texts), dtype=torch.int64)
        missing = wanted[~torch.isin(wanted, self.text_ids)].tolist()
        if missing:
            raise ValueError(f"texts: expected values of text_ids, got {missing[:5]}, which no row has")
        keep = torch.arange(self.n_tokens) if keep is None else keep
        return keep[torch.isin(self.text_ids[keep], wanted)]
