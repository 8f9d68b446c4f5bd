"""The store: what goes in comes out, on disk and in memory, and only what was asked for is read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msma_fast.activations import Activations
from msma_fast.activations import folder as folders


def example(dtype: torch.dtype = torch.float32) -> Activations:
    generator = torch.Generator().manual_seed(3)
    layers = [torch.randn(7, d, generator=generator).to(dtype) for d in (5, 3, 4)]
    return Activations.from_arrays(
        layers,
        text_ids=[0, 0, 1, 1, 1, 4, 4],
        token_ids=np.arange(10, 17),
        positions=torch.arange(7, dtype=torch.int32),
        names=["embed", "one", "two"],
    )


def same(one: Activations, other: Activations) -> None:
    assert one.names == other.names
    for name in ("text_ids", "token_ids", "positions", "next_token_ids"):
        values, others = getattr(one, name), getattr(other, name)
        assert (values is None) == (others is None), name
        assert values is None or torch.equal(values, others), name
    for index in range(len(one)):
        a, b = one.layer(index, dtype=None), other.layer(index, dtype=None)
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert one.metadata == other.metadata
    assert one.tokens == other.tokens


def test_reading() -> None:
    acts = example(torch.bfloat16)
    assert (len(acts), acts.n_layers, acts.n_tokens, acts.dims) == (3, 3, 7, [5, 3, 4])
    assert acts.text_ids is not None
    assert acts.text_ids.dtype == torch.int64
    assert acts.positions is not None
    assert acts.positions.dtype == torch.int64
    assert acts.next_token_ids is None
    assert acts.tokens is None
    assert acts.layer(1).dtype == torch.float32
    assert acts.layer(1, dtype=None).dtype == torch.bfloat16
    assert acts.layer(1, dtype=torch.float64).dtype == torch.float64
    assert torch.equal(acts.layer(-1), acts.layer("two"))
    assert [tuple(layer.shape) for layer in acts] == [(7, 5), (7, 3), (7, 4)]
    assert repr(acts) == ("Activations(3 layers embed to two, 7 tokens of 3 texts, d = 3 to 5, bfloat16, in memory)")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_save_and_load(tmp_path: Path, dtype: torch.dtype) -> None:
    acts = example(dtype)
    assert acts.save(tmp_path / "a" / "acts") == tmp_path / "a" / "acts"
    loaded = Activations.load(tmp_path / "a" / "acts")
    same(acts, loaded)
    same(acts, Activations.from_safetensors(str(tmp_path / "a" / "acts")))
    assert "on disk" in repr(loaded)
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "acts"]  # no draft is left


def test_save_of_a_selection_of_a_loaded_folder(tmp_path: Path) -> None:
    example().save(tmp_path / "one")
    part = Activations.load(tmp_path / "one").select(layers=["two", "embed"], rows=[5, 0, 3])
    part.save(tmp_path / "two")
    loaded = Activations.load(tmp_path / "two")
    same(part, loaded)
    assert loaded.names == ["two", "embed"]
    assert loaded.token_ids is not None
    assert loaded.token_ids.tolist() == [15, 10, 13]


@pytest.mark.parametrize("on_disk", [False, True])
def test_select(tmp_path: Path, on_disk: bool) -> None:
    acts = full = example()
    if on_disk:
        full.save(tmp_path / "acts")
        acts = Activations.load(tmp_path / "acts")
    by_rows = acts.select(rows=np.array([6, -7, 2, 2]))
    assert torch.equal(by_rows.layer(0), full.layer(0)[[6, 0, 2, 2]])
    again = by_rows.select(rows=[False, True, True, False])
    assert torch.equal(again.layer(2), full.layer(2)[[0, 2]])
    assert again.token_ids is not None
    assert again.token_ids.tolist() == [10, 12]
    by_text = acts.select(texts=[4, 1], layers=1)
    assert by_text.names == ["one"]
    assert by_text.metadata["layers"] == [acts.metadata["layers"][1]]
    assert torch.equal(by_text.layer(0), full.layer(1)[2:])
    both = acts.select(rows=[6, 1, 3], texts=4)
    assert torch.equal(both.layer(0), full.layer(0)[[6]])
    nothing_left_out = acts.select()
    same(nothing_left_out, full)


def test_select_takes_the_spans_of_its_layers() -> None:
    acts = example()
    acts.metadata["attention_span"] = [None, [1.0, 2.0], [3.0, 4.0]]
    assert acts.select(layers=[2, 0]).metadata["attention_span"] == [[3.0, 4.0], None]


def test_select_errors() -> None:
    acts = example()
    with pytest.raises(IndexError, match=r"rows: expected integers from -7 to 6, got 0 to 7"):
        acts.select(rows=[0, 7])
    with pytest.raises(TypeError, match=r"rows: expected integers"):
        acts.select(rows=[0.5])
    with pytest.raises(ValueError, match=r"rows: expected a mask of 7 booleans, got 2"):
        acts.select(rows=[True, False])
    with pytest.raises(ValueError, match=r"at least one row"):
        acts.select(rows=np.zeros(7, bool))
    with pytest.raises(ValueError, match=r"texts: expected values of text_ids, got \[2\]"):
        acts.select(texts=[0, 2])
    with pytest.raises(ValueError, match=r"texts: expected activations with text_ids"):
        Activations.from_arrays([np.ones((2, 2))]).select(texts=[0])
    with pytest.raises(ValueError, match=r"layers: expected at least one layer and none twice"):
        acts.select(layers=[0, -3])
    with pytest.raises(KeyError, match=r"expected one of embed, one, two, got 'three'"):
        acts.layer("three")
    with pytest.raises(IndexError, match=r"layer: expected an integer from -3 to 2, got 3"):
        acts.layer(3)
    with pytest.raises(TypeError, match=r"layer: expected an integer or a name, got 1.0"):
        acts.layer(1.0)  # type: ignore[arg-type]


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder of activations"):
        Activations.load(tmp_path)
    acts, path = example(), tmp_path / "acts"
    acts.save(path)
    with pytest.raises(FileExistsError, match=r"path: expected a new or empty folder"):
        acts.save(path)
    manifest = json.loads((path / "manifest.json").read_text())

    def write(**changes: object) -> None:
        (path / "manifest.json").write_text(json.dumps(manifest | changes))

    write(schema_version=99)
    with pytest.raises(ValueError, match=r"expected schema_version 1, got 99"):
        Activations.load(path)
    write(format="other")
    with pytest.raises(ValueError, match=r"expected format"):
        Activations.load(path)
    write(complete=False)
    with pytest.raises(ValueError, match=r"got one that was interrupted"):
        Activations.load(path)
    write(n_tokens=8)
    with pytest.raises(ValueError, match=r"expected shards that cover rows 0 to 8 of 'embed', got \[\(0, 7\)\]"):
        Activations.load(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"expected JSON"):
        Activations.load(path)
    write()
    shard = path / "layer-0001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"expected a whole safetensors file"):
        Activations.load(path).layer(1)
    assert Activations.load(path).layer(0).shape == (7, 5)
    shard.unlink()
    with pytest.raises(ValueError, match=r"expected the file layer-0001.safetensors"):
        Activations.load(path)


def test_shards_of_rows_are_put_together(tmp_path: Path) -> None:
    full = torch.arange(24.0).reshape(8, 3)
    entries = []
    for number, (start, stop) in enumerate([(0, 3), (3, 4), (4, 8)]):
        file = f"shard-{number}.safetensors"
        folders.write_tensors(tmp_path / file, {"layer.0": full[start:stop]})
        entries.append({"file": file, "start": start, "stop": stop, "layers": ["layer.0"]})
    described = [{"name": "layer.0", "kind": "block", "norm_applied": False, "dim": 3, "dtype": "float32"}]
    manifest = {"complete": True, "n_tokens": 8, "shards": entries[::-1], "metadata": {"layers": described}}
    folders.write_manifest(tmp_path, manifest)
    acts = Activations.load(tmp_path)
    assert torch.equal(acts.layer(0), full)
    assert torch.equal(acts.select(rows=[7, 3, 0, 2, 4]).layer(0), full[[7, 3, 0, 2, 4]])


def test_a_layer_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with many layers only the tensor that is asked for is mapped, and opening maps none."""
    asked: list[str] = []

    class Spy:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def get_tensor(self, name: str) -> torch.Tensor:
            asked.append(name)
            return self.handle.get_tensor(name)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.handle, name)

    @contextlib.contextmanager
    def spy(path: Path) -> Iterator[Spy]:
        with folders.open_tensors(path) as handle:
            yield Spy(handle)

    monkeypatch.setattr("msma_fast.activations.layers.open_tensors", spy)
    folders.write_tensors(tmp_path / "h.safetensors", {f"h.{i}": torch.full((5, 2), float(i)) for i in range(40)})
    acts = Activations.from_safetensors(tmp_path / "h.safetensors")
    assert asked == []
    assert float(acts.layer(17)[4, 1]) == 17
    assert float(acts.select(layers=[3, 5], rows=[2]).layer("h.5")[0, 0]) == 5
    assert asked == ["h.17", "h.5"]


def test_importing_brings_no_optional_package() -> None:
    script = (
        "import sys, msma_fast.activations; print([m for m in ('transformers', 'safetensors') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
