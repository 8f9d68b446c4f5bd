"""The doors: arrays, files of other tools, TransformerLens caches; and every error they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from msma_fast.activations import Activations


class OnlyDLPack:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("kind", ["numpy", "torch", "dlpack", "stacked numpy", "stacked torch", "generator"])
def test_arrays_of_every_kind(kind: str) -> None:
    values = torch.arange(24.0).reshape(2, 4, 3)
    given: Any = {
        "numpy": [layer.numpy() for layer in values],
        "torch": list(values),
        "dlpack": [OnlyDLPack(layer) for layer in values],
        "stacked numpy": values.numpy(),
        "stacked torch": values,
        "generator": (layer for layer in values),
    }[kind]
    acts = Activations.from_arrays(given)
    assert acts.names == ["layer.0", "layer.1"]
    assert torch.equal(torch.stack(list(acts)), values)
    assert acts.text_ids is None
    assert [layer["kind"] for layer in acts.metadata["layers"]] == ["unknown", "unknown"]


ONES = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("layers", "options", "error", "message"),
    [
        ([], {}, ValueError, "layers: expected at least one layer, got none"),
        ("abc", {}, TypeError, "layers: expected a sequence of"),
        (7, {}, TypeError, "layers: expected a sequence of .* got int"),
        ({"a": ONES}, {}, TypeError, "layers: expected a sequence of .* got dict"),
        (ONES, {}, ValueError, r"layers: expected .* got one array of shape \(4, 3\)"),
        ([ONES, ONES[:3]], {}, ValueError, r"layers\[1\]: expected n = 4 rows as in layers\[0\], got 3"),
        ([ONES[0]], {}, ValueError, r"layers\[0\]: expected shape \(n, d\)"),
        ([ONES[:0]], {}, ValueError, r"layers\[0\]: expected shape \(n, d\) with n, d >= 1, got \(0, 3\)"),
        ([ONES[:, :0]], {}, ValueError, r"layers\[0\]: .* got \(4, 0\)"),
        ([ONES.astype(int)], {}, TypeError, r"layers\[0\]: .* integer"),
        ([ONES.astype(complex)], {}, TypeError, r"layers\[0\]: .* complex"),
        ([[1.0, 2.0]], {}, TypeError, r"layers\[0\]: expected a torch tensor"),
        ([ONES], {"text_ids": [0, 1]}, ValueError, r"text_ids: expected shape \(4,\), one for each row, got \(2,\)"),
        ([ONES], {"token_ids": np.ones(4)}, TypeError, "token_ids: expected integers, got torch.float64"),
        ([ONES], {"positions": [True] * 4}, TypeError, "positions: expected integers, got torch.bool"),
        ([ONES], {"names": ["a", "b"]}, ValueError, "names: expected 1 different names"),
        ([ONES, ONES], {"names": ["a", "a"]}, ValueError, "names: expected 2 different names"),
        ([ONES], {"names": "a"}, TypeError, "names: expected a sequence of 1 strings"),
        ([ONES], {"names": [1]}, TypeError, "names: expected a sequence of 1 strings"),
    ],
)
def test_array_errors(layers: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Activations.from_arrays(layers, **options)


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    file = tmp_path / "h.safetensors"
    layers = {f"h.{index}": torch.full((3, 2), float(index)).half() for index in (10, 2, 1)}
    save_file(layers | {"text_ids": torch.tensor([0, 0, 5]), "token_ids": torch.arange(3, dtype=torch.int32)}, file)
    acts = Activations.from_safetensors(file)
    assert acts.names == ["h.1", "h.2", "h.10"]
    assert [float(layer[0, 0]) for layer in acts] == [1, 2, 10]
    assert acts.layer(0, dtype=None).dtype == torch.float16
    assert acts.text_ids is not None
    assert acts.text_ids.tolist() == [0, 0, 5]
    assert acts.token_ids is not None
    assert acts.token_ids.dtype == torch.int64
    assert torch.equal(acts.select(rows=[2], layers="h.2").layer(0), torch.full((1, 2), 2.0))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(2, 3, 4)}, r"got 'a' of shape \(2, 3, 4\)"),
        ({"a": torch.ones(2, 3, dtype=torch.int64)}, r"got 'a' of shape \(2, 3\) and dtype I64"),
        ({"a": torch.ones(2, 3), "b": torch.ones(4, 3)}, "expected n = 2 rows in every layer, got 4 in 'b'"),
        ({"text_ids": torch.arange(3)}, "expected at least one float tensor"),
        ({"a": torch.ones(2, 3), "text_ids": torch.arange(3)}, r"text_ids: expected shape \(2,\)"),
    ],
)
def test_foreign_file_errors(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        Activations.from_safetensors(tmp_path / "a.safetensors")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path: expected a safetensors file or a folder"):
        Activations.from_safetensors(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not one")
    with pytest.raises(ValueError, match="expected a whole safetensors file"):
        Activations.from_safetensors(tmp_path / "bad.safetensors")


def cache(batch: int = 2, length: int = 3, d: int = 4, blocks: int = 12) -> dict[str, torch.Tensor]:
    states = torch.arange(float((blocks + 1) * batch * length * d)).reshape(blocks + 1, batch, length, d)
    found = {f"blocks.{block}.hook_resid_post": states[block + 1] for block in reversed(range(blocks))}
    found |= {"blocks.0.hook_resid_pre": states[0], "hook_embed": states[0] - 7, "blocks.0.attn.hook_q": states[0]}
    return found


def test_transformer_lens_cache() -> None:
    given = cache()
    acts = Activations.from_transformer_lens(given)
    assert acts.names == [f"layer.{index}" for index in range(13)]
    assert torch.equal(acts.layer(0), given["blocks.0.hook_resid_pre"].reshape(6, 4))
    assert torch.equal(acts.layer(11), given["blocks.10.hook_resid_post"].reshape(6, 4))
    assert acts.text_ids is not None
    assert acts.text_ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert acts.positions is not None
    assert acts.positions.tolist() == [0, 1, 2, 0, 1, 2]
    assert [layer["kind"] for layer in acts.metadata["layers"]] == ["embedding"] + ["block"] * 12


def test_transformer_lens_cache_object_without_batch_and_embedding_parts() -> None:
    class ActivationCache:  # what TransformerLens' own class shows of itself: keys and items, but not a dict
        def __init__(self, states: dict[str, torch.Tensor]) -> None:
            self.cache_dict = states

        def keys(self) -> Any:
            return self.cache_dict.keys()

        def __getitem__(self, key: str) -> torch.Tensor:
            return self.cache_dict[key]

    embed, position, post = torch.ones(3, 4), torch.full((3, 4), 2.0), torch.zeros(3, 4)
    states = {"hook_embed": embed, "hook_pos_embed": position, "blocks.5.hook_resid_post": post}
    acts = Activations.from_transformer_lens(ActivationCache(states))
    assert acts.names == ["layer.0", "layer.6"]
    assert torch.equal(acts.layer(0), torch.full((3, 4), 3.0))
    assert acts.text_ids is not None
    assert acts.text_ids.tolist() == [0, 0, 0]


def test_transformer_lens_errors() -> None:
    with pytest.raises(TypeError, match="cache: expected an ActivationCache or a dict of tensors, got list"):
        Activations.from_transformer_lens([])
    with pytest.raises(ValueError, match=r"cache: expected keys .* got \['blocks.0.hook_q'\]"):
        Activations.from_transformer_lens({"blocks.0.hook_q": torch.ones(1, 2, 3)})
    uneven = cache() | {"blocks.3.hook_resid_post": torch.ones(2, 5, 4)}
    with pytest.raises(ValueError, match=r"cache\[layer.4\]: .* the same in every layer, got \(2, 5, 4\)"):
        Activations.from_transformer_lens(uneven)
