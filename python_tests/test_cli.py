"""The command line: what is printed where, exit statuses, and runs that go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
from planted import planted

from msma_fast import cli, commands
from msma_fast.activations import TextSet


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return planted(private=1.0).save(tmp_path / "acts")


def test_analyze_activations(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    status = cli.main(["analyze", "--activations", str(saved), "--out", str(out), "--mi-tokens", "300", "--json"])
    printed = capsys.readouterr()
    assert status == 0
    results = json.loads(printed.out)
    assert results["schema"] == "msma_fast.analysis/1"
    assert results["command"].startswith("msma-fast analyze --activations")
    for name in ("report.html", "results.json", "methods.txt", "figures/overlap.svg", "figures/mi.svg"):
        assert (out / name).stat().st_size > 0
    assert results["summary"][0].split()[0] in printed.err
    assert results["fisher"] == {"skipped": "No read-out: the model is not at hand."}


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_analyze_reads_the_layers_of_a_model_with_a_read_out(family: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tiny_models.model(family).save_pretrained(tmp_path / "model")
    tiny_models.tokenizer(family).save_pretrained(tmp_path / "model")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(tiny_models.texts(20, shortest=20, longest=30)), encoding="utf-8")
    out = tmp_path / "run"
    arguments = ["--model", str(tmp_path / "model"), "--texts", str(texts), "--tokens", "120", "--tokens-per-text", "8"]
    assert cli.main(["analyze", *arguments, "--out", str(out), "--attention-span"]) == 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    fisher, other = results["fisher"], results["scales"]["untrained"]
    assert other["model"].endswith("untrained")
    assert all("attention_span" in one["agrees"] for one in results["scales"]["boundaries"])
    assert results["scales"]["boundaries"]
    assert other["cka"][-1] < 0.99
    if family == "bert":  # loaded without a head
        assert fisher["skipped"].startswith(
            "No read-out: model: expected a transformers model with a language-model head"
        )
        return
    assert fisher["metric"] == ["embedding", "logit lens", "logit lens", "Fisher"]
    assert None not in fisher["trace"]["median"]
    assert (out / "figures" / "fisher-steps.svg").exists()
    assert len(list(out.glob("work/*/fisher-*.pt"))) == 3


def test_an_interrupt_says_how_to_go_on(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "analyze", interrupted)
    assert cli.main(["analyze", "--activations", str(saved), "--out", str(tmp_path / "run")]) == 130
    assert "continues" in capsys.readouterr().err


def test_dry_run_of_activations(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "--activations", str(saved), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("4 layers x 960 tokens x 24 coordinates")
    for word in ("time", "Fisher geometry 0", "memory", "disk"):
        assert word in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyze", "--activations", "/nowhere/at/all"], "/nowhere/at/all"),
        (["analyze", "--texts", "/nowhere/texts.txt"], "/nowhere/texts.txt"),
        (["collect", "--texts", "texts.pdf"], "texts.pdf"),
    ],
)
def test_a_users_error_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr().err
    assert message in printed.replace("\n", "")
    assert "Traceback" not in printed


def test_a_wrong_number_is_refused_by_the_parser() -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["analyze", "--k", "0"])
    assert stop.value.code == 2


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("cpu", "memory", "threads", "native", "triton", "cuda", "torch", "flush_denormal", "transformers"):
        assert word in printed


class _Words:
    """A tokenizer of words."""

    def __call__(self, text: str, truncation: bool, max_length: int) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))[:max_length]}


def test_texts_are_chosen_long_enough_and_by_seed() -> None:
    texts = TextSet([" ".join(["w"] * length) for length in range(1, 60)], "counts", "made here")
    chosen, rejected = commands.choose_texts(texts, _Words(), tokens=100, per_text=10, max_length=40, seed=0)
    assert len(chosen) == 10
    assert rejected > 0
    everything, short = commands.choose_texts(texts, _Words(), tokens=9999, per_text=10, max_length=40, seed=0)
    assert (len(everything), short) == (46, 13)
    assert min(len(text.split()) for text in chosen) >= 14
    again, _ = commands.choose_texts(texts, _Words(), tokens=100, per_text=10, max_length=40, seed=0)
    other, _ = commands.choose_texts(texts, _Words(), tokens=100, per_text=10, max_length=40, seed=1)
    assert chosen == again != other
    with pytest.raises(ValueError, match="at least 64 tokens, got none in 59 texts"):
        commands.choose_texts(texts, _Words(), tokens=100, per_text=60, max_length=100, seed=0)
