"""ksg_mi_matrix of layers that stay on disk: the numbers of layers in memory, without their memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from subprocesses import printed
from torch import Tensor

import msma_fast as mf
from msma_fast.activations import folder
from msma_fast.activations.layers import DiskLayer, Shard
from msma_fast.backends import native

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
N = 131


def layers_of(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(N, 7, generator=generator)
    wide = [base + layer * torch.randn(N, 7, generator=generator) for layer in (0.0, 0.5, 1.0)]
    return [layer.to(dtype) for layer in (*wide, torch.randn(N, 3, generator=generator).round())]


def on_disk(path: Path, layers: list[Tensor], cuts: list[int]) -> mf.Activations:
    """Each layer in shards that begin at 0 and the cuts, a file a shard, as a collection writes them."""
    edges, names = [0, *cuts, N], [f"layer.{i}" for i in range(len(layers))]
    for start, stop in pairwise(edges):
        tensors = {name: layer[start:stop].contiguous() for name, layer in zip(names, layers, strict=True)}
        folder.write_tensors(path / f"{start}.safetensors", tensors)
    stored = []
    for name, layer in zip(names, layers, strict=True):
        shards = [Shard(path / f"{start}.safetensors", name, start, stop) for start, stop in pairwise(edges)]
        stored.append(DiskLayer(tuple(shards), layer.shape[1], layer.dtype))
    return mf.Activations(stored, names)


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
@pytest.mark.parametrize("cuts", [[], [1, 40, 97]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_as_from_memory(tmp_path: Path, dtype: torch.dtype, cuts: list[int], backend: str, metric: str) -> None:
    layers = layers_of(dtype)
    acts = on_disk(tmp_path, layers, cuts)
    chosen, order = torch.randperm(N, generator=torch.Generator().manual_seed(1)), torch.arange(N).flip(0)
    groups = torch.arange(N) // 5
    for given in ({}, {"permutation": order}, {"groups": groups, "method": "ksg2"}):
        found = mf.ksg_mi_matrix(acts, [1, 4], metric=metric, backend=backend, **given)
        assert torch.equal(found, mf.ksg_mi_matrix(layers, [1, 4], metric=metric, backend=backend, **given))
    # The float32 values of the same rows, already in their order: what a half or a row number stands for.
    plain = [layer[chosen].to(torch.promote_types(dtype, torch.float32)) for layer in layers]
    found = mf.ksg_mi_matrix(acts.select(rows=chosen), 3, metric=metric, backend=backend, permutation=order)
    assert torch.equal(found, mf.ksg_mi_matrix(plain, 3, metric=metric, backend=backend, permutation=order))


def test_values_that_leave_float32_squares(tmp_path: Path, backend: str) -> None:
    """Keys of all pairs instead of float32 differences."""
    layers = [layer * 1e25 for layer in layers_of(torch.float32)]
    acts = on_disk(tmp_path, layers, [50])
    found = mf.ksg_mi_matrix(acts, 3, backend=backend)
    assert torch.equal(found, mf.ksg_mi_matrix(layers, 3, backend=backend))
    assert float(found.diagonal().min()) > 2


def test_few_dimensions_and_cka(tmp_path: Path) -> None:
    layers = [layer[:, :2] for layer in layers_of(torch.float32)]
    acts = on_disk(tmp_path, layers, [50])
    assert torch.equal(mf.ksg_mi_matrix(acts), mf.ksg_mi_matrix(layers))
    assert torch.equal(mf.cka_matrix(acts), mf.cka_matrix(layers))
    assert mf.explain_backend("ksg_mi_matrix", acts).startswith("ksg_mi_matrix on cpu")


def test_errors_name_the_layer(tmp_path: Path) -> None:
    layers = layers_of(torch.float32)
    layers[2][77, 1] = float("nan")
    acts: Any = on_disk(tmp_path, layers, [50])
    with pytest.raises(ValueError, match=r"layers\[2\]: expected finite values, got NaN"):
        mf.ksg_mi_matrix(acts)


# Eight layers of 300 MB in float32, stored as bfloat16. MiB of anonymous memory are watched: pages of mapped files are the
# system's to drop.
STREAM = """
import threading, time, torch
import msma_fast as mf

def anonymous():
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))["RssAnon"].split()[0]) / 1024

n, d, count = 400, 24_000, 8
acts = mf.Activations.load({path!r})
mf.ksg_mi_matrix(torch.randn(3, 50, 20), backend="native")
start, most, done = anonymous(), [0.0], threading.Event()
def watch():
    while not done.wait(0.001):
        most[0] = max(most[0], anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
matrix = mf.ksg_mi_matrix(acts, 3, metric={metric!r}, backend="native")
done.set()
watcher.join()
# Two layers at a time are kept whole.
for pair in ([0, 1], [2, 7]):
    kept = mf.ksg_mi_matrix([acts.layer(i) for i in pair], 3, metric={metric!r}, backend="native")
    assert torch.equal(kept, matrix[pair][:, pair]), (kept, matrix)
print(most[0] - start)
"""


@pytest.mark.skipif(not native.available()[0], reason=native.available()[1])
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="/proc tells of the memory")
@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
def test_one_layer_at_a_time(tmp_path: Path, metric: str) -> None:
    """Less than three times a layer in float32 (37 MiB), where all layers are 293 MiB: one layer made ready, a block of
    values of all."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(400, 24_000, generator=generator)
    layers = [(base + 0.3 * layer * base.roll(layer, 0)).to(torch.bfloat16) for layer in range(8)]
    mf.Activations.from_arrays(layers).save(tmp_path / "layers")
    assert float(printed(STREAM.format(path=str(tmp_path / "layers"), metric=metric))) < 3 * 400 * 24_000 * 4 / 2**20
