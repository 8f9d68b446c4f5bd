"""Maps over splits beside their nulls: what is planted survives them, what is not does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.msma import alignment_split, mlp_map
from msma_fast.msma.alignment_split import ABLATIONS, _random
from msma_fast.msma.alignment_study import TESTED, _metric, normalized, steps, study
from msma_fast.msma.experiment_summary import summary
from msma_fast.msma.fitting import MAPS
from msma_fast.msma.mlp_map import PAPER
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.stages import Stages

N, PER_TEXT, D = 480, 12, 8


def stack(kind: str, seed: int = 0) -> mf.Activations:
    """Six layers in three pairs, each pair larger than the one before. "paired": all share a signal, each layer in axes of its
    own; "alone": nothing is shared."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((N, D)) * np.linspace(0.3, 2.0, D)
    layers = []
    for pair in range(3):
        turn = np.linalg.qr(rng.standard_normal((D, D)))[0]
        own = signal if kind == "paired" else rng.standard_normal((N, D))
        for _ in range(2):
            layers.append(4.0**pair * (own @ turn + 0.5 * rng.standard_normal((N, D))))
    names = [f"layer.{layer}" for layer in range(6)]
    return mf.Activations.from_arrays(layers, text_ids=np.arange(N) // PER_TEXT, names=names)


def partition(acts: mf.Activations) -> ScalePartition:
    return ScalePartition((), (), tuple(acts.names), ((0, 5),)).thirds()


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_map, "_EPOCHS", 5)
        yield measured()


def measured() -> dict[str, dict[str, Any]]:
    acts, other = stack("paired"), stack("alone", 1)
    calls: list[int] = []
    found = study(acts, other, partition(acts), 5, 0, lambda: calls.append(1), Stages(None, None))
    assert len(calls) == steps(5, True)
    return {"paired": found, "alone": study(other, None, partition(other), 3, 0, lambda: None, Stages(None, None))}


def gains(found: dict[str, Any], name: str, metric: str) -> list[dict[str, Any]]:
    return [one["metrics"][metric]["gains"] for one in found["maps"] if one["map"] == name]


@pytest.mark.parametrize("name", MAPS)
def test_a_shared_signal_survives_the_nulls_that_do_not_have_it(name: str, told: dict[str, dict[str, Any]]) -> None:
    for metric in ("r2", "retrieval"):
        for gain in gains(told["paired"], name, metric):
            assert gain["moments"]["survives"]
            assert ("untrained" in gain) == (name == "ridge")
            if name == "ridge":
                assert gain["untrained"]["survives"]
                assert "survives" not in gain["random"]  # a stack of six has few other layers


@pytest.mark.parametrize("name", MAPS)
def test_layers_that_share_nothing_gain_nothing(name: str, told: dict[str, dict[str, Any]]) -> None:
    for one in told["alone"]["maps"]:
        if one["map"] == name:
            metrics = one["metrics"]
            assert metrics["r2"]["after"] < 0.02
            assert metrics["retrieval"]["after"] < 0.05
            assert not metrics["retrieval"]["gains"]["moments"].get("survives", False)
            assert abs(metrics["mi"]["before"]) < 0.15


def test_no_map_has_more_information_after_than_before_within_error(told: dict[str, dict[str, Any]]) -> None:
    for found in told.values():
        for one in found["maps"]:
            change = one["metrics"]["mi"]["change"]
            if one["map"] in ("procrustes", "ridge"):
                assert abs(change["mean"]) < 1e-6
            assert change["mean"] <= 0.05 + 2 * (change["standard_error"] or 0.0)


def test_a_tie_in_every_split_is_no_gain_and_a_map_has_to_beat_its_source() -> None:
    def metric(after: list[float], before: list[float], moments: list[float]) -> dict[str, Any]:
        values: list[dict[str, float | None]] = [
            {"before": b, "after": a, "shuffled": -0.1 - a / 9, "moments": m}
            for a, b, m in zip(after, before, moments, strict=True)
        ]
        gains: dict[str, Any] = _metric("r2", values, [], [], (28, 12))["gains"]
        return gains

    tied = metric([0.9, 0.8, 0.85], [0.1, 0.2, 0.1], [0.9, 0.8, 0.85])
    assert tied["moments"]["p_value"] == 1.0
    assert metric([0.9, 0.8, 0.85], [0.1, 0.0, 0.05], [0.4, 0.5, 0.4])["before"]["p_value"] is None  # 0.8 more in each
    assert metric([0.90, 0.81, 0.85], [0.95, 0.9, 0.91], [0.4, 0.5, 0.4])["before"]["p_value"] > 0.9


def test_rounding_is_no_gain(told: dict[str, dict[str, Any]]) -> None:
    """A rotation's distances are the source's: nothing is tested there, and no error is told."""
    for found in told.values():
        for one in found["maps"]:
            if one["map"] == "procrustes":
                assert one["metrics"]["distortion"]["change"]["standard_error"] is None


def test_a_rotation_changes_no_invariant_in_any_split(told: dict[str, dict[str, Any]]) -> None:
    for one in told["paired"]["maps"]:
        if one["map"] == "procrustes":
            for name in ("distance_correlation", "cka", "overlap"):
                assert one["metrics"][name]["after"] == pytest.approx(one["metrics"][name]["before"], abs=1e-9)


def test_every_term_of_the_loss_is_left_out_with_and_without_the_pairs(told: dict[str, dict[str, Any]]) -> None:
    assert ABLATIONS["with pairs"] == PAPER
    assert ABLATIONS["published terms"] == (*PAPER[:3], 0.0)
    bare = [weights.count(0.0) for weights in ABLATIONS.values() if not weights.pairs]
    with_pairs = [weights.count(0.0) for weights in ABLATIONS.values() if weights.pairs]
    assert bare == [1, 2, 2, 2, 3, 3, 3]
    assert with_pairs == [0, 1, 1, 1, 3]
    rows = told["paired"]["ablations"]
    assert [one["terms"] for one in rows] == [*ABLATIONS, *ABLATIONS]
    figures = {one["terms"]: one["sound"]["r2"] for one in rows[: len(ABLATIONS)]}
    telling = [name for name, weights in ABLATIONS.items() if weights.pairs or weights.information]
    assert len({round(figures[name], 6) for name in telling}) == len(telling) == 9
    assert figures["pairs alone"] > figures["published terms"] > figures["curvature alone"]


def test_a_loss_that_sees_no_pair_and_is_zero_at_the_identity_keeps_it() -> None:
    acts = stack("paired")
    untouched = mf.MSMA(map="mlp", geometry=0.0, information=0.0, pairs=0.0).fit(acts, partition(acts))
    x = acts.layer(untouched.representatives["global"][0]).double()
    mapped = untouched.transform(x, source="global", target="local")
    source, target = (acts.layer(untouched.representatives[name][0]).double() for name in ("global", "local"))
    sizes = [(rows - rows.mean(0)).square().mean().sqrt() for rows in (source, target)]
    assert torch.allclose(mapped, (x - source.mean(0)) / sizes[0] * sizes[1] + target.mean(0), atol=1e-4)


def test_q_values_are_those_of_one_family(told: dict[str, dict[str, Any]]) -> None:
    found = told["paired"]
    tests = [
        gain
        for one in found["maps"]
        for metric in one["metrics"].values()
        for gain in metric["gains"].values()
        if gain["p_value"] is not None
    ]
    assert found["family"] == len(tests) > 24  # 2 pairs, 3 metrics, 4 maps, 2 nulls, less what does not vary
    p = np.sort([gain["p_value"] for gain in tests])
    q = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1].clip(max=1)
    assert np.sort([gain["q_value"] for gain in tests]) == pytest.approx(q)


def test_it_is_json_and_the_first_sentences_name_what_does_not_survive(told: dict[str, dict[str, Any]]) -> None:
    json.dumps(told)
    scales = {"near": 0, "boundaries": 2, "supported": [], "untrained": []}
    sentences = {
        name: summary({"alignment": found, "scales": scales, "interventions": [], "no_text": "no prompts"})
        for name, found in told.items()
    }
    for name, found in told.items():
        for loss, words in (
            ("published terms", "the published loss"),
            ("with pairs", "the published loss with the error of the pairs"),
        ):
            stated = [each["gain"]["survives"] for one in found["published"] if one["loss"] == loss
                      for each in one["metrics"].values()]  # fmt: skip
            assert f"{stated.count(False)} of 6 by the paper's measures, {words}" in sentences[name][0]
        sound = [all(gain.get("survives", True) for gain in each.values())
                 for metric in TESTED for each in gains(found, "ridge", metric)]  # fmt: skip
        assert f"{sound.count(False)} of 6 by sound measures" in sentences[name][0]
    assert sentences["alone"][0].count("6 of 6") == 3
    assert "2 of 6 by sound measures" in sentences["paired"][0]
    assert "as the paper measures it (with the error of the pairs; moments alone): KL" in sentences["alone"][1]
    assert "etter than moments alone" not in sentences["alone"][1].replace("o better than moments alone", "")
    assert "o better than" in " ".join(sentences["alone"])
    assert "unpaired transport of moments" in " ".join(sentences["alone"])
    assert "the share of variance explained" in " ".join(sentences["paired"])
    assert sentences["paired"][-1] == "No interventions: no prompts."


def test_random_layers_are_others_as_far_apart_and_of_the_same_stack() -> None:
    names = [f"{one}.{layer}" for one in ("encoder", "decoder") for layer in range(12)]
    whole = ScalePartition((), (), tuple(names), ((0, 11), (12, 23))).thirds()
    generator = torch.Generator().manual_seed(0)
    for span, starts in (((1, 3), set(range(10)) - {1}), ((13, 18), set(range(12, 19)) - {13}), ((12, 23), set())):
        drawn = [alignment_split.drawn(whole, span, generator) for _ in range(50)]
        assert {b - a for one in drawn for a, b in one} <= {span[1] - span[0]}
        assert {a for one in drawn for a, _ in one} == starts
        assert all(len(set(one)) == len(starts) for one in drawn)


def test_a_rank_among_other_layers_takes_nineteen_of_them() -> None:
    """Twenty-four layers of noise, of which two share a signal: their map is the first of its kind, and with one better it is
    not told from others."""
    for better in (0, 2):
        rng = np.random.default_rng(0)
        layers = list(rng.standard_normal((24, N, D)))
        for first, noise in ((0, 0.3), *(((1 + place), 0.1) for place in range(better))):
            layers[first + 2] = layers[first] + noise * rng.standard_normal((N, D))
        acts = mf.Activations.from_arrays(layers, text_ids=np.arange(N) // PER_TEXT)
        splits = [
            _random((acts.select(texts=range(28)), acts.select(texts=range(28, 40))),
                    {(1, 0): [(start, start + 2) for start in range(22)]}, seed)["1-0"]
            for seed in range(2)
        ]  # fmt: skip
        others = [split[1:] for split in splits]
        values: list[dict[str, float | None]] = [
            {"before": 0.0, "after": split[0]["r2"], "shuffled": 0.0, "moments": 0.0} for split in splits
        ]
        told = _metric("r2", values, others, [], (28, 12))
        assert (told["random_as_good"], told["random_pairs"]) == (better, 21)
        assert told["gains"]["random"]["survives"] is (better == 0)


def test_rows_are_normalised_one_by_one() -> None:
    acts = normalized(stack("paired"))
    assert float((acts.layer(2).square().mean(1) - 1).abs().max()) < 1e-5


def test_splits_that_are_done_are_kept(tmp_path: Path) -> None:
    acts, calls = stack("paired"), []
    whole = study(acts, None, partition(acts), 2, 0, lambda: None, Stages(None, None))

    def interrupted() -> None:
        calls.append(1)
        if len(calls) == steps(2, False) - 3:  # within the second split
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(acts, None, partition(acts), 2, 0, interrupted, Stages(tmp_path, "run"))
    assert [path.name for path in tmp_path.rglob("*.pt")] == ["split-0.pt"]
    calls.clear()
    again = study(acts, None, partition(acts), 2, 0, lambda: calls.append(1), Stages(tmp_path, "run"))
    assert again == whole
    assert len(calls) == steps(2, False) // 2


def test_few_texts_are_an_error() -> None:
    acts = mf.Activations.from_arrays(list(np.ones((3, 90, 4))), text_ids=np.arange(90) // 10)
    with pytest.raises(ValueError, match="at least 10 texts"):
        study(
            acts,
            None,
            ScalePartition((), (), tuple(acts.names), ((0, 2),)).thirds(),
            2,
            0,
            lambda: None,
            Stages(None, None),
        )
