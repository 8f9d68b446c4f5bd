"""The scales of a report: planted boundaries, what depends on choices, and the untrained model beside the trained one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.msma import Settings, analyze
from msma_fast.msma.scale_analysis import PROJECTIONS, RMS, STEPS, _robust, first_texts, scale_analysis, z_scores
from msma_fast.report import validate

TEXTS, PER_TEXT, D, LAYERS, CUT = 100, 8, 36, 9, 5


def stack(cut: int | None, seed: int, corners: float = 3.0, words: int = 0) -> mf.Activations:
    """A walk from the corners of tokens; a step six times as long before the layer `cut`."""
    rng = np.random.default_rng(seed)
    n = TEXTS * PER_TEXT
    tokens, positions = np.random.default_rng(words).integers(0, 12, n), np.tile(np.arange(PER_TEXT), TEXTS)
    x = corners * np.random.default_rng(7).standard_normal((12, D))[tokens] + rng.standard_normal((n, D))
    layers = [x]
    for layer in range(1, LAYERS):
        x = x + (2.4 if layer == cut else 0.4) * rng.standard_normal((n, D))
        layers.append(x)
    return mf.Activations.from_arrays(layers, text_ids=np.arange(n) // PER_TEXT, token_ids=tokens, positions=positions)


@pytest.fixture(scope="module")
def section() -> dict[str, Any]:
    calls: list[None] = []
    found = scale_analysis(stack(CUT, 0), stack(None, 1, corners=0.0), None, 8, 4, 0, lambda: calls.append(None))
    assert len(calls) == STEPS
    return found


def test_the_planted_boundary_is_found_in_every_space(section: dict[str, Any]) -> None:
    assert section["count"] == 3
    assert section["told"]
    (boundary,) = (one for one in section["boundaries"] if one["supported"])
    assert boundary["layer"] == CUT
    assert boundary["rescaled"]
    assert list(boundary["agrees"]) == ["overlap", "cka", "dimension", "information", "token_id", "position"]
    assert boundary["interval"][0] - 1 <= CUT <= boundary["interval"][1] + 1
    assert section["ranges"] == [[0, CUT - 1], [CUT, LAYERS - 1]]
    assert len(section["spaces"]) == 3
    assert section["robust"]
    for one in section["spaces"].values():
        assert one["boundaries"] == [CUT]
        assert one["overlap"][0] is None
        assert int(np.argmax(one["overlap"][1:])) + 1 == CUT
    p_values = {one["layer"]: one["p_value"] for one in section["boundaries"]}
    assert len(p_values) == 2
    assert p_values[CUT] <= 0.05 < max(p_values.values())


def test_turnover_is_minus_the_logarithm_of_the_similarity(section: dict[str, Any]) -> None:
    acts = stack(CUT, 0)
    assert acts.text_ids is not None
    one, two = (acts.layer(index) / acts.layer(index).square().mean(1, keepdim=True).sqrt() for index in (2, 3))
    shared = mf.neighborhood_overlap(one, two, 8, groups=acts.text_ids)
    assert section["spaces"][RMS]["overlap"][3] == pytest.approx(-np.log(shared), rel=1e-6)
    assert section["spaces"][RMS]["cka"][3] == pytest.approx(-np.log(mf.cka(one, two)), rel=1e-3)


def test_excess_by_projection_falls_where_the_step_is_long(section: dict[str, Any]) -> None:
    assert list(section["projections"]) == [str(width) for width in PROJECTIONS]
    for values in section["projections"].values():
        assert values[0] is None
        assert int(np.argmin(values[1:])) + 1 == CUT


def test_the_untrained_model_stands_beside_it(section: dict[str, Any]) -> None:
    other = section["untrained"]
    assert len(other["cka"]) == LAYERS
    assert set(other["knowledge"]) == {"token_id", "position"}
    trained, random = other["knowledge"]["token_id"]
    assert trained == pytest.approx([np.log(12)] * LAYERS, abs=0.2)
    assert random == pytest.approx([0.0] * LAYERS, abs=0.2)
    for side in other["knowledge"]["position"]:
        assert side == pytest.approx([0.0] * LAYERS, abs=0.2)


def test_robust_is_the_same_boundaries_everywhere() -> None:
    assert _robust([[], [], []])
    assert _robust([[5], [6], [5]])
    assert not _robust([[5], [7], [5]])
    assert not _robust([[5], [], [5]])
    assert not _robust([[5], [5], [5, 9]])


def test_first_texts() -> None:
    acts = stack(None, 0)
    few = first_texts(acts, 41)
    assert few.n_tokens == 48
    assert torch.equal(few.layer(3), acts.layer(3)[:48])
    assert first_texts(acts, 10_000).n_tokens == acts.n_tokens
    bare = mf.Activations.from_arrays([np.eye(9), np.eye(9)])
    assert first_texts(bare, 4).n_tokens == 4


def test_z_scores_of_a_constant_coordinate_are_zero() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert z_scores(x).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_the_analysis_has_the_section_and_asks_for_the_same_tokens() -> None:
    settings = Settings(k=5, scale_tokens=400, scale_resamples=2, mi_tokens=200, mi_dimensions=6, n_nulls=1)
    acts = stack(CUT, 0)
    other = first_texts(stack(None, 0), 400)
    results = analyze(acts, settings, untrained=other)
    validate(results)
    assert results["scales"]["n"] == 400
    assert results["scales"]["untrained"]["cka"][0] == pytest.approx(1.0, abs=1e-5)
    assert not any(
        warning["subject"] == "scales" and "No boundary" in warning["text"] for warning in results["warnings"]
    )
    with pytest.raises(ValueError, match="untrained: expected 9 layers of 400 tokens, got 9 of 392"):
        analyze(acts, settings, untrained=first_texts(other, 385))
    with pytest.raises(ValueError, match="untrained: expected the token_ids of the first texts"):
        analyze(acts, settings, untrained=first_texts(stack(None, 0, words=5), 400))
