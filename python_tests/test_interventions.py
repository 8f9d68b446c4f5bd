"""Interventions on tiny random models: what is planted is found, what changes nothing shows nothing, sizes are matched."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import intervention_models
import numpy as np
import pytest
import torch
from intervention_models import FAMILIES

import msma_fast as mf
from msma_fast import cli, intervention_command
from msma_fast.msma.decoding import decode, text
from msma_fast.msma.hooks import KINDS, watch
from msma_fast.msma.intervention_bench import Bench, Change, divergence
from msma_fast.msma.intervention_results import Condition, compare_all, interaction
from msma_fast.msma.intervention_scales import places
from msma_fast.msma.interventions import intervene
from msma_fast.msma.language import Language, evaluating
from msma_fast.msma.text_measures import measure_texts

pytest.importorskip("transformers")
RANGES = {"t5": [(0, 1), (2, 3), (4, 5), (6, 6)]}
THREE = [(0, 1), (2, 2), (3, 3)]


def run(family: str, count: int = 6, **options: Any) -> mf.InterventionResult:
    options = {"scale": 1, "new_tokens": 10, **options}
    ranges = options.pop("ranges", RANGES.get(family, THREE))
    model = options.pop("model", None) or intervention_models.model(family)
    prompts = intervention_models.prompts(family, count)
    return intervene(model, intervention_models.tokenizer(family), prompts, ranges, **options)


def kl_of(condition: Condition) -> float:
    return sum(condition.kl) / len(condition.kl)


def by_measure(result: mf.InterventionResult, condition: str) -> dict[str, Any]:
    return {one.measure: one for one in result.comparisons if one.condition == condition}


def test_a_token_that_the_states_are_pushed_towards_is_found() -> None:
    model = intervention_models.model("gpt2")
    row = model.lm_head.weight[20].detach().numpy()
    result = run("gpt2", 14, model=model, scale="global", strength=2.0, direction=row, new_tokens=16, controls=())
    word = intervention_models.tokenizer("gpt2").decode([20])
    shares = [np.mean([one.split().count(word) / 16 for one in condition.texts]) for condition in result.conditions]
    assert shares[1] > shares[0] + 0.2
    found = by_measure(result, "translate at global")
    for measure in ("ttr", "distinct_2"):
        assert found[measure].q_value < 0.02
        assert found[measure].mean_difference < 0
        assert found[measure].rank_biserial < -0.9
    assert found["perplexity"].rank_biserial > 0.8
    assert result.interaction is None
    assert len(result.conditions) == 2


def test_where_there_is_no_effect_one_is_found_at_the_stated_rate() -> None:
    """The untouched model's texts of one seed against its texts of another: nothing is behind any difference."""
    model, tokenizer = intervention_models.model("gpt2"), intervention_models.tokenizer("gpt2")
    language = Language(model, tokenizer)
    prompts = language.encode(intervention_models.prompts("gpt2", 14, (8,)))
    p_values, families = [], []
    with evaluating(model):
        for seed in range(100):
            conditions = []
            for part in range(2):
                texts, perplexities = Bench(language, prompts, [], 2 * seed + part).write(12, None, 0.0)
                measures = measure_texts(texts)[0] | {"perplexity": perplexities}
                conditions.append(Condition(str(part), "untouched", None, None, None, 0.0, 0.0, [], texts, measures))
            found = [one for one in compare_all(conditions, seed) if one.mean_difference]
            p_values += [one.p_value for one in found]
            families.append(min(one.q_value for one in found) <= 0.05)
    assert len(p_values) > 350
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.08)
    assert np.mean(families) <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_strength_that_changes_nothing_shows_nothing(family: str, kind: str) -> None:
    result = run(family, kind=kind, strength=1e-9)
    untouched, touched = result.conditions
    assert untouched.texts == touched.texts
    assert all(one.p_value == one.q_value == 1.0 and one.mean_difference == 0 for one in result.comparisons)
    assert result.interaction is None
    assert "too small to be matched" in result.skipped[next(iter(result.skipped))]
    assert len(result.skipped) == len(RANGES.get(family, THREE))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_condition_has_the_kl_that_was_asked_for(family: str, kind: str) -> None:
    model = intervention_models.model(family)
    state = torch.get_rng_state()
    steps: list[tuple[int, int]] = []
    result = run(family, model=model, kind=kind, kl=0.03, progress=lambda *step: steps.append(step))
    assert torch.equal(state, torch.get_rng_state())
    intervention = result.intervention
    assert intervention.name.startswith(f"{kind} at ")
    assert kl_of(intervention) == pytest.approx(0.03, rel=0.02)
    for control in result.conditions[2:]:
        assert kl_of(control) == pytest.approx(0.03, rel=0.02)
    ranges = len(RANGES.get(family, THREE))
    # A final norm undoes what is all that amplifying the last layer does.
    assert len(result.skipped) <= (1 if kind == "amplify" else 0)
    assert len(result.conditions) + len(result.skipped) == 2 + ranges
    assert any(one.texts != result.conditions[0].texts for one in result.conditions)
    for reason in result.skipped.values():
        assert "kl: expected a target within reach, got " in reason
    assert result.interaction is not None
    assert 0 < result.interaction.p_value <= 1
    assert steps == [(step, 2 + ranges) for step in range(1, 3 + ranges)]
    assert all(module.training for module in model.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["settings"]["kl"] == 0.03


def test_the_kl_is_that_of_a_hand_made_change() -> None:
    model = intervention_models.model("gpt2").eval()
    u = torch.linspace(-1, 2, 32)
    result = run("gpt2", model=model, scale="global", strength=0.4, direction=u, controls=())

    def change(module: Any, args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        h = h + 0.4 * h.norm(dim=-1, keepdim=True) * u / u.norm()
        return (h, *output[1:]) if isinstance(output, tuple) else h

    for number, ids in enumerate(intervention_models.prompts("gpt2", 6)):
        with torch.inference_mode():
            p = model(torch.tensor([ids])).logits[0, 1:].double().numpy()
            handle = model.transformer.h[2].register_forward_hook(change)
            q = model(torch.tensor([ids])).logits[0, 1:].double().numpy()
            handle.remove()
        p, q = (one - np.log(np.exp(one).sum(-1, keepdims=True)) for one in (p, q))
        assert result.intervention.kl[number] == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-4)
    assert result.intervention.norm == pytest.approx(0.4, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_direction_is_the_leading_one_of_the_prompts_states(family: str) -> None:
    model = intervention_models.model(family).eval()
    language = Language(model, intervention_models.tokenizer(family))
    prompts = intervention_models.prompts(family, 6)
    place = places(RANGES.get(family, [(0, 2), (3, 3)]), language.stacks)[-1 if family == "t5" else 0]
    states = []
    for ids in prompts:
        row = torch.tensor([ids])
        decoder = {"decoder_input_ids": row} if family == "t5" else {}
        with torch.inference_mode():
            output = model(input_ids=row, **decoder, output_hidden_states=True)
            if family == "t5":  # the last is after the decoder's final norm: take that from its block's own run
                with watch(language.stacks[1], 2) as seen:
                    model(input_ids=row, **decoder)
                states.append(seen[0][0, 1:])
            else:
                states.append(output.hidden_states[1][0, 1:])
    x = torch.cat(states).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(x.T))
    expected = vectors[:, -1] * np.sign(vectors[:, -1] @ x.mean(0))
    with evaluating(model):
        bench = Bench(language, prompts, [place], 3)
        found, drawn = bench.principal_direction(place), bench.random_direction()
        again = Bench(language, prompts[:1], [place], 3).random_direction()
    assert values[-1] > 1.05 * values[-2]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)
    assert float(drawn.norm()) == pytest.approx(1)
    assert torch.equal(drawn, again)


def test_a_shift_of_the_states_is_matched_too() -> None:
    result = run("llama", kind="noise", scale=0, norm=0.2, controls=("random", "scales"))
    assert len(result.conditions) == 5 - len(result.skipped) > 3
    for condition in result.conditions[1:]:
        assert condition.norm == pytest.approx(0.2, rel=0.02)


def test_texts_and_values_stand_in_the_order_of_the_prompts() -> None:
    model = intervention_models.model("gpt2")
    result = run("gpt2", model=model, strength=0.3, controls=())
    language = Language(model, intervention_models.tokenizer("gpt2"))
    with evaluating(model):
        for group in language.groups(intervention_models.prompts("gpt2", 6)):
            written = text(language, decode(language, group, 10, 0))
            assert [result.conditions[0].texts[number] for number in group.numbers] == written
    lengths = {len(one) for one in intervention_models.prompts("gpt2", 6)}
    assert result.settings["prompt_tokens"] == [min(lengths), max(lengths)] == [8, 11]
    again = run("gpt2", strength=0.3, controls=())
    assert again.to_dict() == result.to_dict()


def test_scales_of_two_stacks_and_of_partitions() -> None:
    result = run("t5", kind="ablate", scale="decoder local", kl=0.02)
    assert result.intervention.layers == (4, 5)
    assert result.settings["model_kind"] == "encoder-decoder"
    assert {one.scale for one in result.conditions[3:]} | {result.intervention.scale} <= {
        "encoder local", "encoder global", "decoder local", "decoder global",
    }  # fmt: skip
    names = tuple(f"layer.{layer}" for layer in range(4))
    partition = mf.ScalePartition((), (), names, ((0, 3),)).thirds()
    result = run("gpt2", ranges=partition, scale="local", strength=0.1, controls=())
    assert result.intervention.layers == (0, 1)


def test_comparisons_leave_out_what_a_text_has_not() -> None:
    def condition(name: str, role: str, scale: str | None, values: list[float | None]) -> Condition:
        measures: dict[str, list[float | None]] = {
            "a": values,
            "b": [None, None, 1.0],
            "c": [4.0, 5.0, 6.0],
            "d": [float(len(name)), 2.0, 1.0],
            "none": [None] * 3,
        }
        return Condition(name, role, None, scale, None, 0.0, 0.0, [0.0] * 3, [""] * 3, measures)

    found = compare_all(
        [
            condition("untouched", "untouched", None, [1.0, None, 2.0]),
            condition("x", "intervention", "local", [3.0, 1.0, 2.5]),
        ],
        0,
    )
    assert [(one.measure, one.n_prompts) for one in found] == [("a", 2), ("b", 1), ("c", 3), ("d", 3)]
    a = found[0]
    assert (a.mean_untouched, a.mean_difference, a.relative_difference, a.rank_biserial) == (1.5, 1.25, 1.25 / 1.5, 1.0)
    assert a.p_value == 0.5  # both of two flips agree in two of four ways
    assert a.q_value == 1.0
    conditions = [
        condition("untouched", "untouched", None, [1.0, None, 2.0]),
        condition("x", "intervention", "local", [3.0, 1.0, 2.5]),
        condition("y", "scales", "global", [2.0, 1.0, 4.0]),
    ]
    test = interaction(conditions, 0)
    assert test is not None
    assert (test.scales, test.measures, test.n_prompts) == (["local", "global"], ["c", "d"], 3)


def test_nothing_is_measured_or_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = intervention_models.model("gpt2"), intervention_models.tokenizer("gpt2")
    language = Language(model, tokenizer)
    found = places(THREE, language.stacks)
    passes: list[int] = []
    forward = model.forward

    def counted(*given: Any, **named: Any) -> Any:
        passes.append(1)
        return forward(*given, **named)

    monkeypatch.setattr(model, "forward", functools.wraps(forward)(counted))
    with evaluating(model):
        bench = Bench(language, language.encode(intervention_models.prompts("gpt2", 3, (8,))), found, 0)
        seen: dict[tuple[str, str, float], Any] = {}
        for again in range(2):
            for kind in ("noise", "ablate"):
                for place in found[1:]:
                    for strength in (0.1, 0.3):
                        before = len(passes)
                        change = Change(kind, place, None, 0)
                        told = bench.size(change, strength), bench.write(4, change, strength)
                        assert (len(passes) > before) is (not again)
                        assert seen.setdefault((kind, place.name, strength), told) == told
        sizes = [size.mean_kl for size, _ in seen.values()]
        assert len(set(sizes)) == len(sizes) == 8
        assert bench.write(4, None, 0.0) != bench.write(5, None, 0.0)


def test_the_divergence_of_logits_is_never_negative_and_ignores_a_constant() -> None:
    p = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert divergence(p, p) == 0
    assert divergence(p, p + 1e3) == pytest.approx(0, abs=1e-6)
    assert divergence(p, p.flip(-1)) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "strength, kl, norm: expected exactly one of them, got none"),
        ({"kl": 0.1, "norm": 0.1}, "strength, kl, norm: expected exactly one of them, got kl, norm"),
        ({"kl": 0.0}, "kl: expected a number > 0, got 0.0"),
        ({"strength": float("inf")}, "strength: expected a finite number, got inf"),
        ({"strength": 1.5, "kind": "ablate"}, "strength: expected a number from 0 to 1 for 'ablate', got 1.5"),
        ({"strength": 0.1, "kind": "rotate"}, "kind: expected one of 'translate', .*got 'rotate'"),
        (
            {"strength": 0.1, "scale": "middle"},
            "scale: expected one of 'local', 'intermediate', 'global', got 'middle'",
        ),
        ({"strength": 0.1, "scale": 3}, "scale: expected an index below 3, got 3"),
        ({"strength": 0.1, "scale": 1.0}, "scale: expected a scale's name or a range's index, got float"),
        ({"strength": 0.1, "controls": "random"}, "controls: expected a sequence of names"),
        ({"strength": 0.1, "controls": ["shuffled"]}, "controls: expected some of 'random', 'scales', got 'shuffled'"),
        ({"strength": 0.1, "direction": np.zeros(32)}, "direction: expected a vector other than zero"),
        ({"strength": 0.1, "direction": np.ones(5)}, r"direction: expected shape \(32,\), got \(5,\)"),
        ({"strength": 0.1, "kind": "noise", "direction": np.ones(32)}, "direction: expected None for kind 'noise'"),
        ({"strength": 0.1, "new_tokens": 0}, "new_tokens: expected an integer >= 1, got 0"),
        ({"strength": 0.1, "new_tokens": 60}, "new_tokens: expected prompt and new tokens within the 64 positions"),
        ({"strength": 0.1, "ranges": [(0, 4)]}, r"partition\[0\]: expected layers 0 <= first <= last <= 3"),
        ({"strength": 0.1, "ranges": [(0, 2), (2, 3)]}, r"partition\[1\]: expected layers 3 <= first"),
        ({"strength": 0.1, "ranges": []}, "partition: expected at least one range"),
        ({"strength": 0.1, "ranges": "0-3"}, "partition: expected a ScalePartition or a list"),
        ({"strength": 0.1, "ranges": [3]}, r"partition\[0\]: expected a pair of integers"),
        ({"kl": 1e3}, "kl: expected a target within reach, got 1000; the most found is "),
        (
            {"strength": 0.5, "kind": "ablate", "ranges": [(0, 0), (1, 3)], "scale": 0},
            "got layer 0 alone, the embedding",
        ),
        ({"strength": 1e38, "kind": "amplify", "scale": 0}, "strength: expected one that leaves states finite, got 1e"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    model = intervention_models.model("gpt2")
    with pytest.raises((ValueError, TypeError), match=message):
        run("gpt2", 2, model=model, **options)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("w1 w2", "prompts: expected a sequence of strings or of token ids, got str"),
        ([], "prompts: expected at least one, got none"),
        (["w1 w2", "w3"], r"prompts\[1\]: expected at least 2 tokens and at most 64, got 1"),
        ([[1, 99]], r"prompts\[0\]: expected ids from 0 to 63, got 1 to 99"),
    ],
)
def test_errors_of_prompts(prompts: Any, message: str) -> None:
    model, tokenizer = intervention_models.model("gpt2"), intervention_models.tokenizer("gpt2")
    with pytest.raises((ValueError, TypeError), match=message):
        intervene(model, tokenizer, prompts, THREE, scale=0, strength=0.1)


def test_strings_are_prompts_as_their_ids_are() -> None:
    model, tokenizer = intervention_models.model("t5"), intervention_models.tokenizer("t5")
    words = ["w1 w2 w3", "w9 w8 w7 w6"]
    options: dict[str, Any] = {"scale": 0, "strength": 0.1, "new_tokens": 5, "controls": ()}
    from_text = intervene(model, tokenizer, words, RANGES["t5"], **options)
    ids = [tokenizer(one)["input_ids"] for one in words]
    assert from_text.to_dict() == intervene(model, tokenizer, ids, RANGES["t5"], **options).to_dict()


def saved(family: str, folder: Path) -> Path:
    intervention_models.model(family).save_pretrained(folder / "model")
    intervention_models.tokenizer(family).save_pretrained(folder / "model")
    import tiny_models

    (folder / "texts.txt").write_text("\n\n".join(tiny_models.texts(12, 30, 40)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command_writes_a_file_and_a_table(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(family, tmp_path)
    sizes = ["--kl", "0.05"] if family == "gpt2" else []
    scale = {"t5": "decoder global", "llama": "local"}.get(family, "global")
    arguments = ["--model", str(folder / "model"), "--texts", str(folder / "texts.txt"), "--prompts", "5", *sizes]
    arguments += ["--scale", scale] if family == "llama" else []  # the last by default
    arguments += ["--new-tokens", "8", "--out", str(tmp_path / "run")]
    assert cli.main(["intervene", *arguments]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "intervention.json").read_text(encoding="utf-8"))
    assert results["settings"]["prompts"] == len(results["about"]["prompts"]) == 5
    assert results["settings"]["prompt_tokens"] == [24, 24]
    assert results["settings"]["kl"] == (0.05 if family == "gpt2" else 0.1)
    assert results["about"]["command"].startswith("msma-fast intervene --model")
    assert [one["name"] for one in results["conditions"][:2]] == ["untouched", f"translate at {scale}"]
    assert "scales differ in what they change: p = " in printed
    assert "sentiment: the package vaderSentiment is not installed" in printed or "sentiment  " in printed
    assert results["conditions"][1]["texts"][0][:20] in printed
    rows = [line for line in printed.splitlines() if line.startswith("ttr ")]
    assert len(rows) == len(results["conditions"]) - 1
    assert len({len(row) for row in rows}) == 1


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved("gpt2", tmp_path)
    given = ["intervene", "--model", str(folder / "model"), "--texts", str(folder / "texts.txt"), "--prompts", "2"]
    for wrong, message in (
        (["--ranges", "0-1;2"], '--ranges: expected ranges like "0-9,10-20,21-30"'),
        (["--ranges", "0-9"], "partition[0]: expected layers 0 <= first <= last <= 3"),
        (["--scale", "7"], "scale: expected an index below 3, got 7"),
        (["--kind", "swap"], "kind: expected one of"),
    ):
        assert cli.main([*given, *wrong, "--out", str(tmp_path / "run")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert intervention_command.parse_ranges("0-9, 10-20,21") == [(0, 9), (10, 20), (21, 21)]
