"""Training small models: batches by their definition, runs that repeat, folders that load, and refusals."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msma_fast import cli
from msma_fast.activations import (
    TextSet,
    collect_activations,
    load_model,
    objectives,
    read_texts,
    small_models,
    train_model,
    training,
    untrained,
)
from msma_fast.activations.held_out import held_out

pytest.importorskip("transformers")
ARCHITECTURES = ("gpt2", "t5")


def corpus(count: int = 60, seed: int = 0) -> list[str]:
    """Sentences of few words, whose next word follows from the one before."""
    source = random.Random(seed)
    words = ["and", "the", "river", "went", "to", "sea", "with", "stones", "of", "many", "colours"]
    texts = []
    for _ in range(count):
        start = source.randrange(len(words))
        texts.append(" ".join(words[(start + step) % len(words)] for step in range(source.randint(90, 150))))
    return texts


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "rivers.txt"
    path.write_text("\n\n".join(corpus()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: (folder / name, train_model(name, read_texts(file), folder / name, steps=3)) for name in ARCHITECTURES
    }


@pytest.mark.parametrize(("architecture", "layers"), [("gpt2", 7), ("t5", 14)])
def test_what_was_trained_loads_and_is_collected(architecture: str, layers: int, trained: Any, file: Path) -> None:
    folder, source = trained[architecture]
    model, tokenizer, info = load_model(folder)
    assert info["kind"] == ("decoder" if architecture == "gpt2" else "encoder-decoder")
    assert info["name"] == source["name"]
    assert "rivers.txt" in info["name"]
    assert info["source"].startswith("trained from random weights by msma_fast")
    assert info["training"] == source["training"]
    assert (folder / "model.safetensors").exists()
    text = "the river went to sea; naïve 東京 <tag>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert (ids[-1] == tokenizer.eos_token_id) is (architecture == "t5")
    acts = collect_activations(model, tokenizer, read_texts(file).texts[:3], tokens_per_text=4, max_length=128)
    assert (len(acts), acts.dims) == (layers, [128] * layers)
    assert acts.metadata["model"] == source["name"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_record_of_a_run(architecture: str, trained: Any) -> None:
    run = trained[architecture][1]["training"]
    assert (run["steps"], run["seed"], run["minutes"], run["texts"]) == (3, 0, None, "rivers.txt")
    assert run["architecture"] == architecture
    config = json.loads((trained[architecture][0] / "config.json").read_text(encoding="utf-8"))
    assert config["msma_fast_source"]["training"] == run
    assert run["heldout_loss_before"] == pytest.approx(
        math.log(config["vocab_size"]), abs=1.2
    )  # no better than a guess
    assert run["heldout_loss_after"] < run["heldout_loss_before"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_seed_and_steps_give_the_same_weights(
    architecture: str, trained: Any, file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train_model(architecture, read_texts(file), tmp_path / "again", steps=3)
    train_model(architecture, read_texts(file), tmp_path / "other", steps=3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    weights, again, other = (
        load_model(folder, dtype=torch.float32)[0].state_dict()
        for folder in (trained[architecture][0], tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not any(torch.equal(weights[name], other[name]) for name in weights if weights[name].ndim == 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_untrained_gives_the_weights_a_run_began_with(architecture: str, trained: Any) -> None:
    model, tokenizer, _ = load_model(trained[architecture][0], dtype=torch.float32)
    began = small_models.fresh_model(architecture, tokenizer, 0).state_dict()
    fresh = untrained(model, seed=0).state_dict()
    assert all(torch.equal(fresh[name], began[name]) for name in began)


def test_the_last_texts_are_never_trained_on(trained: Any, file: Path, tmp_path: Path) -> None:
    """Other held-out texts: the same tokenizer, the same weights, another held-out loss."""
    texts = read_texts(file)
    held = 3  # of 60
    changed = texts._replace(texts=[*texts.texts[:-held], *(text.upper() for text in texts.texts[-held:])])
    run = train_model("gpt2", changed, tmp_path / "changed", steps=3)["training"]
    assert run["heldout_loss_after"] != trained["gpt2"][1]["training"]["heldout_loss_after"]
    ours = load_model(tmp_path / "changed", dtype=torch.float32)[0].state_dict()
    theirs = load_model(trained["gpt2"][0], dtype=torch.float32)[0].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_some_steps_learn_what_follows_what(file: Path, tmp_path: Path) -> None:
    run = train_model("gpt2", read_texts(file), tmp_path / "learned", steps=18)["training"]
    assert run["heldout_loss_after"] < run["heldout_unigram_entropy"] - 0.2


def test_minutes_are_kept_to(file: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    run = train_model(
        "gpt2", read_texts(file), tmp_path / "brief", minutes=0.02, progress=lambda *call: calls.append(call)
    )["training"]
    assert run["steps"] >= 1
    assert run["seconds"] >= 1.2
    assert run["steps"] < 200
    assert run["minutes"] == pytest.approx(0.02)
    assert calls[-1] == (2, 2)


def test_span_corruption_takes_out_what_the_target_says() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = torch.arange(5 * 128).reshape(5, 128) + 1000
    removed, spans = objectives.span_sizes(128)
    assert (removed, spans) == (64, 8)
    batch = objectives.span_corruption(windows, torch.arange(spans), 999, generator)
    assert batch.input_ids.shape == (5, 128 - 64 + 8 + 1)
    assert batch.labels.shape == batch.scored.shape == (5, 64 + 8 + 1)
    for window, inputs, labels, scored in zip(windows.tolist(), *(part.tolist() for part in batch), strict=True):
        assert inputs[-1] == labels[-1] == 999
        taken: dict[int, list[int]] = {}
        for token in labels[:-1]:
            if token < 999:
                taken[token] = []
            else:
                taken[max(taken)].append(token)
        assert list(taken) == list(range(spans))
        assert all(taken.values())
        rebuilt = [piece for token in inputs[:-1] for piece in (taken[token] if token < 999 else [token])]
        assert rebuilt == window
        assert [token for token, counts in zip(labels, scored, strict=True) if counts] == [
            token for span in taken.values() for token in span
        ]


def test_every_way_to_cut_a_span_is_as_likely() -> None:
    generator = torch.Generator().manual_seed(1)
    seen = Counter(tuple(objectives._parts(5, 3, generator)) for _ in range(3000))
    assert set(seen) == {(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}
    assert max(seen.values()) < 1.3 * min(seen.values())


class _Table(torch.nn.Module):
    """A "decoder" whose logits are rows of a table: those of the token it reads."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.config = type("Config", (), {"is_encoder_decoder": False})()

    def forward(self, input_ids: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.table[input_ids]})()


def test_held_out_loss_and_entropy_by_definition() -> None:
    source = np.random.default_rng(0)
    table, windows = source.normal(size=(7, 7)), source.integers(0, 7, size=(6, 9))
    batches = [objectives.next_token(torch.from_numpy(part)) for part in (windows[:4], windows[4:])]
    loss, entropy, tokens = held_out(_Table(torch.from_numpy(table)), batches)
    losses = [
        math.log(sum(math.exp(value) for value in table[before])) - table[before, after]
        for window in windows
        for before, after in pairwise(window)
    ]
    shares = [count / 48 for count in Counter(windows[:, 1:].ravel().tolist()).values()]
    assert tokens == len(losses) == 48
    assert loss == pytest.approx(sum(losses) / 48, rel=1e-12)
    assert entropy == pytest.approx(-sum(share * math.log(share) for share in shares), rel=1e-12)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [training.rate(part) for part in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[5] == max(rates) > 0.99
    assert rates[50] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, "architecture: expected one of gpt2, t5, got 'mamba'"),
        ({"minutes": 0}, "minutes: expected a finite number > 0, got 0"),
        ({"minutes": -1.5}, "minutes: expected a finite number > 0, got -1.5"),
        ({"minutes": math.inf}, "minutes: expected a finite number > 0, got inf"),
        ({"minutes": math.nan}, "minutes: expected a number"),
        ({"steps": 0}, "steps: expected an integer >= 1, got 0"),
        ({"minutes": 1, "steps": 1}, "steps: expected either minutes or steps"),
        ({"seed": -1}, "seed: expected an integer >= 0, got -1"),
        ({"texts": TextSet(corpus(1), "one", "")}, "texts: expected at least 128 tokens before the last 5%"),
        ({"texts": TextSet([*corpus(5), "short"], "six", "")}, "texts: expected at least 128 tokens in the last 5%"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str, file: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"architecture": "gpt2", "texts": read_texts(file), "out": tmp_path / "model", **changes}
    with pytest.raises(ValueError, match=message):
        train_model(asked.pop("architecture"), asked.pop("texts"), asked.pop("out"), **asked)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    for taken in (tmp_path, tmp_path / "notes"):
        with pytest.raises(ValueError, match="out: expected a new or an empty folder, got"):
            train_model("gpt2", read_texts(file), taken, steps=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


def test_the_command_trains(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    assert cli.main(["train", "gpt2", "--texts", str(file), "--out", str(out), "--steps", "3", "--seed", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    said = " ".join(printed.err.split())
    run = load_model(out)[2]["training"]
    assert (
        f"held-out loss {run['heldout_loss_before']:.2f} before, {run['heldout_loss_after']:.2f} after 3 steps" in said
    )
    assert "msma-fast analyze --model" in said
    assert run["seed"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mamba", "--steps", "1"], "architecture: expected one of gpt2, t5, got 'mamba'"),
        (["gpt2", "--minutes", "0"], "minutes: expected a finite number > 0, got 0.0"),
        (["t5", "--minutes", "1", "--steps", "1"], "steps: expected either minutes or steps"),
    ],
)
def test_a_users_error_is_one_line(
    arguments: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *arguments, "--texts", str(file), "--out", str(tmp_path / "model")]) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert message in printed
    assert "Traceback" not in printed


def test_an_interrupt_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(part: float) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "rate", interrupted)
    assert cli.main(["train", "gpt2", "--texts", str(file), "--out", str(tmp_path / "model"), "--steps", "1"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
