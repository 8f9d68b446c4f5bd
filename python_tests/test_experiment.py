"""`msma-fast experiment paper` from end to end on small models, and what its page and tables say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import intervention_models
import pytest
import tiny_models
import torch

from msma_fast import experiment_command
from msma_fast.activations.embedded import save_folder
from msma_fast.cli import main
from msma_fast.msma import alignment_study, experiment, mlp_map
from msma_fast.msma.experiment import partition_of, prompt_ids
from msma_fast.msma.masked_head import fit_masked_head
from msma_fast.report.experiment_tables import figure, markdown, tables

KINDS = ["translate", "ablate"]


@pytest.fixture(autouse=True, scope="module")
def _short_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_map, "_EPOCHS", 3)
        yield


def ran(family: str, folder: Path, *more: str, model: Any = None, tokenizer: Any = None) -> dict[str, Any]:
    """The results of a run on 60 texts with a random model."""
    model = tiny_models.model(family).eval() if model is None else model.eval()
    tokenizer = tokenizer or tiny_models.tokenizer(family)
    if not (folder / "model").exists():  # a run goes on from its own folder
        save_folder(model, tokenizer, folder / "model")
    (folder / "texts.txt").write_text("\n\n".join(tiny_models.texts(60, 70, 90)))
    options = ["--texts", str(folder / "texts.txt"), "--tokens", "480", "--tokens-per-text", "8", "--max-length", "64"]
    options += ["--splits", "2", "--prompts", "4", "--new-tokens", "5", "--kl", "0.002", "--out", str(folder / "run")]
    status = main(["experiment", "paper", "--model", str(folder / "model"), *options, "--kinds", *(more or KINDS)])
    if status:
        return {"status": status}
    found: dict[str, Any] = json.loads((folder / "run" / "experiment.json").read_text())
    return found


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("gpt2")
    return ran("gpt2", folder), folder / "run"


def test_a_decoder_has_all_three_tables(gpt2: tuple[dict[str, Any], Path]) -> None:
    results, folder = gpt2
    page = (folder / "experiment.html").read_text()
    for table in tables(results):
        assert len({len(row) for row in [table.head, *table.rows]}) == 1
        assert table.title in page
    names = [table.name for table in tables(results)]
    assert names == ["scales", "published", "map-0", "map-1", "ablations", "interventions"]
    assert page.count("<svg") == 3  # a dose curve for each scale
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "$" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    assert (folder / "tables.md").read_text() == markdown(results)
    assert sorted(each.name for each in (folder / "figures").iterdir()) == ["dose-0.svg", "dose-1.svg", "dose-2.svg"]


def test_the_sentences_come_first_and_are_those_of_the_results(gpt2: tuple[dict[str, Any], Path]) -> None:
    results, folder = gpt2
    page, text = (folder / "experiment.html").read_text(), (folder / "tables.md").read_text()
    first = results["summary"][0]
    assert first.startswith("No gain over their nulls, of what alignment changes on held-out texts: ")
    assert results["summary"][1].startswith("global to intermediate, as the paper measures it (")
    assert page.index(first.replace("'", "&#x27;")) < page.index('id="scales-title"')
    assert text.index(first) < text.index("## Table 1")


def test_a_random_model_has_no_supported_boundary_and_says_so(gpt2: tuple[dict[str, Any], Path]) -> None:
    """Its stack is too short for any to be told."""
    results, _ = gpt2
    assert any("2 boundaries between the scales used here none lies" in each for each in results["summary"])


def test_a_boundary_speaks_for_one_start_only() -> None:
    assert experiment._near([3, 5], [4]) == 1
    assert experiment._near([3, 5], [2, 6]) == 2
    assert experiment._near([3, 5], []) == 0


def test_interventions_are_matched_and_corrected_together(gpt2: tuple[dict[str, Any], Path]) -> None:
    results, _ = gpt2
    assert [one["settings"]["kind"] for one in results["interventions"]] == KINDS
    p, q = [], []
    for kind in results["interventions"]:
        for condition in kind["conditions"][1:]:
            assert sum(condition["kl"]) / len(condition["kl"]) == pytest.approx(0.002, rel=0.05)
        for one in kind["comparisons"]:
            p.append(one["p_value"])
            q.append(one["q_value"])
    assert min(q) == pytest.approx(min(min(value * len(p) / (rank + 1), 1.0) for rank, value in enumerate(sorted(p))))
    for curve in results["dose"]:
        assert all(value >= 0 for value in curve["kl"])
        assert len(curve["kl"]) == len(experiment.STRENGTHS)


def test_an_interrupted_run_goes_on_where_it_stopped(
    gpt2: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, _ = gpt2
    plain, calls = experiment.run, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(experiment, "run", interrupted)
    assert ran("gpt2", tmp_path) == {"status": 130}
    kept = sorted(path.stem for path in (tmp_path / "run" / "work").rglob("*.pt"))
    assert kept == ["scales", "split-0", "split-1"]
    monkeypatch.setattr(experiment, "run", plain)
    monkeypatch.setattr(alignment_study, "measured", None)  # not asked for again
    again = ran("gpt2", tmp_path)
    for part in ("scales", "alignment", "interventions", "dose", "summary"):
        assert again[part] == results[part]


def test_other_code_is_not_served_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        monkeypatch.setattr(experiment, "code_digest", lambda number=number: str(number))
        ran("gpt2", tmp_path, "ablate")
    assert len(list((tmp_path / "run" / "work").rglob("split-0.pt"))) == 2


@pytest.mark.parametrize("kl", ["0", "-1", "nan", "inf"])
def test_a_dose_is_checked_before_anything_is_read(kl: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["experiment", "paper", "--kl", kl])
    assert "expected a number > 0" in capsys.readouterr().err


def test_too_few_texts_for_a_head_leave_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(experiment_command, "LEAST", 1000)
    model = transformers.BertModel(intervention_models.model("bert").config)
    found = ran("bert", tmp_path, "noise", model=model, tokenizer=intervention_models.tokenizer("bert"))
    assert found["summary"][-1].startswith("No interventions: a masked-language head needs 1000 texts, and 5")
    assert found["alignment"]["maps"]


@pytest.mark.slow
def test_the_same_run_again_gives_the_same_numbers(gpt2: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    results, _ = gpt2
    again = ran("gpt2", tmp_path)
    for part in ("scales", "alignment", "interventions", "dose", "summary"):
        assert again[part] == results[part]


def test_a_fitted_head_is_no_worse_than_the_tokens_frequencies() -> None:
    import transformers

    whole = tiny_models.model("bert")
    bare = transformers.BertModel(whole.config).eval()
    head = fit_masked_head(bare, _with_mask(tiny_models.tokenizer("bert")), tiny_models.texts(60, 20, 40))
    assert head.about["held_out"] > 30
    assert head.about["loss"] <= head.about["loss_of_frequencies"] + 0.05
    logits = head(torch.zeros(2, 3, bare.config.hidden_size))
    assert logits.shape == (2, 3, bare.config.vocab_size)


@pytest.mark.parametrize("headed", [True, False])
def test_an_encoder_is_asked_for_its_masked_tokens(headed: bool, tmp_path: Path) -> None:
    """By its own head where its folder has one, else by one that is fitted to it, and the page says which."""
    import transformers

    whole, tokenizer = intervention_models.model("bert"), intervention_models.tokenizer("bert")
    model = whole if headed else transformers.BertModel(whole.config)
    found = ran("bert", tmp_path, "translate", model=model, tokenizer=tokenizer)
    assert ("a masked-language head: one was fitted" in found["head"]) is not headed
    conditions = found["interventions"][0]["conditions"]
    assert [one["role"] for one in conditions] == ["untouched", "intervention", "random", "scales", "scales"]
    assert all(sum(one["kl"]) / 4 == pytest.approx(0.002, rel=0.03) for one in conditions[1:])
    assert all(len(text.split()) > 50 for one in conditions for text in one["texts"])
    assert (found["head"] or "Table 3") in (tmp_path / "run" / "tables.md").read_text()


def test_a_planted_masked_token_is_read_out() -> None:
    """A model whose state is the embedding of the token before it: the head learns which one that is from the state alone."""
    import transformers

    bare = transformers.BertModel(tiny_models.model("bert").config).eval()
    texts = [" ".join([word] * 20) for word in ("w7", "w9")] * 30
    head = fit_masked_head(_Repeats(bare), _with_mask(tiny_models.tokenizer("bert")), texts)
    assert head.about["accuracy"] > 0.95


def test_an_embedding_that_is_a_scale_of_its_own_has_no_attention_to_take(tmp_path: Path) -> None:
    """Thirds of two blocks: layer 0 alone is the local scale."""
    found = ran("gpt2", tmp_path, "ablate", "noise", model=tiny_models.model("llama", num_hidden_layers=2),
                tokenizer=tiny_models.tokenizer("llama"))  # fmt: skip
    assert found["scales"]["ranges"][0] == [0, 0]
    kinds = {one["settings"]["kind"]: one for one in found["interventions"]}
    assert "layer 0 alone, the embedding" in kinds["ablate"]["skipped"]["ablate at local"]
    assert "noise at local" in {one["name"] for one in kinds["noise"]["conditions"]}


@pytest.mark.slow
def test_two_stacks_have_maps_for_each(tmp_path: Path) -> None:
    results = ran("t5", tmp_path, "noise")
    assert {one["source"] for one in results["alignment"]["maps"]} >= {"encoder global", "decoder global"}
    assert results["interventions"]


def test_no_kinds_no_text(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.model("llama").eval(), tiny_models.tokenizer("llama")
    save_folder(model, tokenizer, tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n\n".join(tiny_models.texts(60, 70, 90)))
    assert main(["experiment", "paper", "--model", str(tmp_path / "model"), "--texts", str(tmp_path / "texts.txt"), "--tokens",
                 "480", "--tokens-per-text", "8", "--max-length", "64", "--splits", "1", "--out", str(tmp_path / "run"),
                 "--kinds"]) == 0  # fmt: skip
    results = json.loads((tmp_path / "run" / "experiment.json").read_text())
    assert results["summary"][-1] == "No interventions: none were asked for."
    assert any("not tested with a single split" in each for each in results["summary"])
    assert "Table 3" not in (tmp_path / "run" / "experiment.html").read_text()


def test_the_paper_s_ranges_are_used_at_its_depth_and_thirds_elsewhere() -> None:
    names = [f"layer.{layer}" for layer in range(13)]
    assert partition_of(names, "gpt2")[0].ranges == ((0, 2), (3, 8), (9, 12))
    assert partition_of(names, "bert")[0].ranges == ((0, 4), (5, 8), (9, 12))
    ranges, why = partition_of(names, "llama")
    assert ranges.ranges == ((0, 4), (5, 8), (9, 12))
    assert why.startswith("thirds")
    assert partition_of(names[:7], "gpt2")[0].ranges == ((0, 2), (3, 4), (5, 6))


def test_prompts_are_of_one_length() -> None:
    tokenizer = tiny_models.tokenizer("gpt2")
    found, looked = prompt_ids(tokenizer, ["w1 w2", "w1 w2 w3 w4", "w5 w6 w7", "w8 w9 w10"], 2, 3)
    assert [tokenizer.decode(ids) for ids in found] == ["w1 w2 w3", "w5 w6 w7"]
    assert looked == 3


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "n/a"), (0.0, "0"), (12345.6, "12,346"), (0.12345, "0.123"), (-2.5, "-2.5"), (0.00001234, "1e-05")],
)
def test_figures(value: float | None, told: str) -> None:
    assert figure(value) == told


def _with_mask(tokenizer: Any) -> Any:
    tokenizer.add_special_tokens({"mask_token": "<unk>"})
    return tokenizer


class _Repeats(torch.nn.Module):
    """The states of a place are the mean embedding of its text."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.device = torch.device("cpu")

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        from types import SimpleNamespace

        states = self.get_input_embeddings()(input_ids).mean(1, keepdim=True).expand(-1, input_ids.shape[1], -1)
        return SimpleNamespace(last_hidden_state=states)
