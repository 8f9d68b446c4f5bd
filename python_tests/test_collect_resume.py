"""A collection on disk: killed at any moment it goes on, to the same bytes; and a folder belongs to one request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from msma_fast.activations import Activations, collect_activations, job

# Each case runs in a fork of one process that has imported everything and computed nothing: it collects with shards of
# six texts in two batches, and kills itself at the n-th event. "sync": a file is written, but not under its own name;
# "half": the same for the second shard, half of it lost; "batch": a batch has run.
SCRIPT = """
import json, os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import tiny_models, transformers
transformers.GPT2LMHeadModel, transformers.PreTrainedTokenizerFast  # these are imported when they are first named
from msma_fast.activations import folder
from test_collect_resume import collect

def child(path, event, count):
    left = [count]

    def tick():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def spy(target):
        if event == "sync":
            tick()
        if event == "half" and "shard-00001" in target.name:
            os.truncate(target, target.stat().st_size // 2)
            tick()
        sync(target)

    sync, folder.sync = folder.sync, spy
    collect(path, lambda done, total: tick() if event == "batch" else None)
    os._exit(0)

statuses = []
for path, event, count in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        child(path, event, count)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(statuses))
"""
CASES = {
    "whole": ("never", 0, 7),
    "manifest without its name": ("sync", 1, 0),
    "no text of the rows": ("sync", 5, 0),
    "in the first shard": ("batch", 1, 0),
    "in the third shard": ("batch", 5, 2),
    "second shard without its name": ("sync", 9, 1),
    "half a shard": ("half", 1, 1),
    "before the last manifest": ("sync", 21, 7),
}


def collect(path: Path | str, progress: Any = None) -> Activations:
    job.SHARD_BYTES, before = 20_000, job.SHARD_BYTES
    try:
        return collect_activations(
            tiny_models.model("gpt2"),
            tiny_models.tokenizer("gpt2"),
            tiny_models.texts(40, shortest=10),
            path=path,
            tokens_per_text=6,
            batch_size=3,
            attention_span=True,
            progress=progress,
        )
    finally:
        job.SHARD_BYTES = before


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def shards(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in path.glob("shard-*")}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one interrupted collection for each case."""
    path = tmp_path_factory.mktemp("killed")
    cases = json.dumps([(str(path / name), event, count) for name, (event, count, _) in CASES.items()])
    command = [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent)), cases]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [0] + [-signal.SIGKILL] * (len(CASES) - 1)
    return path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("name", CASES)
def test_killed_and_continued(killed: Path, name: str) -> None:
    torch.set_num_threads(1)
    path, (_, _, expected) = killed / name, CASES[name]
    made = shards(path)
    assert len(made) == expected
    if name != "whole":
        assert any(file.startswith(".tmp-") for file in contents(path)) == (CASES[name][0] != "batch")
        with pytest.raises((ValueError, FileNotFoundError)):
            Activations.load(path)
    acts = collect(path)
    assert contents(path) == contents(killed / "whole")
    assert made.items() <= shards(path).items()  # nothing that was there is made again
    assert [heads is None for heads in acts.metadata["attention_span"]] == [True, False, False, False]


def arguments(**changes: Any) -> dict[str, Any]:
    return {
        "model": tiny_models.model("gpt2"),
        "tokenizer": tiny_models.tokenizer("gpt2"),
        "texts": tiny_models.texts(12, shortest=10),
        "tokens_per_text": 4,
        "batch_size": 3,
    } | changes


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"texts": [*tiny_models.texts(11, shortest=10), "w1 w2 w3 w4 w5 w6"]}, "texts: .* token_ids: "),
    ({"seed": 1}, "seed: 0 there, 1 asked"),
    ({"tokens_per_text": 5}, "tokens_per_text: 4 there, 5 asked"),
    ({"max_length": 20}, "max_length: 256 there, 20 asked"),
    ({"layers": [1]}, "layers: .* there, .*'layer.1'.* asked"),
    ({"drop_special": False}, "drop_special: True there, False asked"),
    ({"attention_span": True}, "attention_span: False there, True asked"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_another_request_is_refused(tmp_path: Path, change: dict[str, Any], message: str, finished: bool) -> None:
    collect_activations(**arguments(), path=tmp_path)
    if not finished:
        unfinish(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"path: expected the request that began it, .*{message}"):
        collect_activations(**arguments(**change), path=tmp_path)
    assert contents(tmp_path) == before


def unfinish(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))


def test_other_weights_are_another_request(tmp_path: Path) -> None:
    collect_activations(**arguments(), path=tmp_path)
    with pytest.raises(ValueError, match=r"model: .* there, .* asked"):
        collect_activations(**arguments(model=tiny_models.model("gpt2", seed=1)), path=tmp_path)
    tuned = tiny_models.model("gpt2")
    with torch.no_grad():
        tuned.transformer.h[2].mlp.c_proj.weight.mul_(1.001)
    with pytest.raises(ValueError, match=r"model: .* there, .* asked"):
        collect_activations(**arguments(model=tuned), path=tmp_path)


def test_the_batch_size_matters_only_to_an_unfinished_folder(tmp_path: Path) -> None:
    acts = collect_activations(**arguments(), path=tmp_path)
    again = collect_activations(**arguments(batch_size=5), path=tmp_path)
    assert torch.equal(acts.layer(2), again.layer(2))
    unfinish(tmp_path)
    with pytest.raises(ValueError, match=r"an unfinished collection .* \(batch_size: 3 there, 5 asked\)"):
        collect_activations(**arguments(batch_size=5), path=tmp_path)


def test_a_finished_folder_is_loaded_without_a_batch(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = collect_activations(**arguments(), path=tmp_path)
    times = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = collect_activations(**arguments(), path=tmp_path, progress=lambda *counts: seen.append(counts))
    assert seen == [(12, 12)]
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == times
    assert torch.equal(first.layer(3), again.layer(3))


def test_on_disk_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SHARD_BYTES", 5000)
    kept = collect_activations(**arguments())
    stored = collect_activations(**arguments(), path=tmp_path)
    assert len(list(tmp_path.glob("shard-*"))) > 2
    for one, other in zip(kept, stored, strict=True):
        assert torch.equal(one, other)
    assert (kept.tokens, kept.before, kept.after) == (stored.tokens, stored.before, stored.after)
    for name in ("text_ids", "token_ids", "positions", "next_token_ids"):
        assert torch.equal(getattr(kept, name), getattr(stored, name))
    assert kept.metadata == stored.metadata


def test_a_damaged_shard_of_an_unfinished_folder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SHARD_BYTES", 5000)
    collect_activations(**arguments(), path=tmp_path)
    before = contents(tmp_path)
    unfinish(tmp_path)
    shard = tmp_path / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    collect_activations(**arguments(), path=tmp_path)
    assert contents(tmp_path) == before


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"path: expected a new or empty folder, .* which holds other files"):
        collect_activations(**arguments(), path=tmp_path)
    Activations.from_arrays([torch.ones(3, 2)]).save(tmp_path / "saved")
    with pytest.raises(ValueError, match="which holds activations that were saved, not collected"):
        collect_activations(**arguments(), path=tmp_path / "saved")
