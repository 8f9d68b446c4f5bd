"""The layer analysis on planted activations: what was put in is found, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import PER_TEXT, TEXTS, D, planted

import msma_fast as mf
from msma_fast.msma import Settings, analyze
from msma_fast.msma.explorer import choose_tokens
from msma_fast.msma.health import layer_health
from msma_fast.msma.layer_information import InformationSettings, layer_information, split
from msma_fast.msma.spaces import information_space, rms_normalized
from msma_fast.msma.stages import Stages
from msma_fast.report import validate, write_report

SETTINGS = Settings(k=5, dimension_tokens=400, mi_tokens=400, mi_dimensions=6, explorer_tokens=20, explorer_k=4)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return analyze(planted(private=1.0), SETTINGS)


def test_the_results_fit_the_report(results: dict[str, Any], tmp_path: Path) -> None:
    validate(results)
    page = write_report(results, tmp_path)
    assert "planted" in page.read_text(encoding="utf-8")


def test_overlap_and_cka_are_the_engines(results: dict[str, Any]) -> None:
    acts = planted(private=1.0)
    rows = [rms_normalized(layer) for layer in acts]
    for a, b in ((0, 1), (1, 2), (2, 3)):
        expected = mf.neighborhood_overlap(rows[a], rows[b], SETTINGS.k, groups=acts.text_ids)
        assert results["overlap"]["matrix"][a][b] == expected
        assert results["cka"]["matrix"][b][a] == pytest.approx(mf.cka(rows[a], rows[b]), rel=1e-4)


def test_information_beyond_the_token_is_where_it_was_planted(results: dict[str, Any]) -> None:
    excess = results["information"]["excess"]
    assert excess[1][2] > 0.15
    assert abs(excess[1][3]) < 0.1
    assert abs(excess[2][3]) < 0.1


def test_what_many_dimensions_hide_is_said() -> None:
    """Layers 1 and 2 share 20 coordinates, more than 400 rows show; layer 3 shares none, and nothing is saturated there."""
    information = analyze(planted(private=3.0), SETTINGS._replace(mi_dimensions=20))["information"]
    assert "biased low: the trend" in information["reasons"][1][2]
    assert "saturated" in information["reasons"][1][2]
    assert "saturated" not in information["reasons"][1][3]


def test_token_identity_alone_leaves_no_excess() -> None:
    information = analyze(planted(private=0.0, seed=1), SETTINGS)["information"]
    for a, b in ((1, 2), (1, 3), (2, 3)):
        assert information["mi"][a][b] > 0.5
        assert abs(information["excess"][a][b]) < 0.12


def test_the_embedding_gets_label_estimators_only(results: dict[str, Any]) -> None:
    information = results["information"]
    assert all(cell is None for cell in information["mi"][0])
    known = information["knowledge"]["token_id"]
    assert known["value"][0] == pytest.approx(known["most"], abs=0.05)
    assert results["dimension"]["estimates"][0] == [None] * 4
    assert results["health"]["distinct_rows"][0] == 12


def test_layer_names_become_words(results: dict[str, Any]) -> None:
    assert [layer["name"] for layer in results["layers"]] == ["embedding", "block 1", "block 2", "block 3"]


def test_explorer_lists_the_exact_neighbours(results: dict[str, Any]) -> None:
    acts = planted(private=1.0)
    explorer = results["explorer"]
    found = mf.knn(rms_normalized(acts.layer(2)), 4, groups=acts.text_ids)
    for place, row in enumerate(explorer["tokens"]):
        assert [j for j, _ in explorer["neighbors"][2][place]] == found.indices[row].tolist()
        assert str(row) in explorer["rows"]


def test_without_token_ids_the_information_is_skipped() -> None:
    rng = np.random.default_rng(0)
    acts = mf.Activations.from_arrays(rng.standard_normal((2, 100, 5)).astype(np.float32))
    found = analyze(acts, SETTINGS)
    assert "token_ids" in found["information"]["skipped"]
    assert found["explorer"] is None
    validate(found)


def test_too_little_data_is_an_error() -> None:
    one = mf.Activations.from_arrays(np.ones((1, 50, 3), np.float32))
    with pytest.raises(ValueError, match="two layers, got 1"):
        analyze(one)
    few = mf.Activations.from_arrays(np.random.default_rng(0).random((2, 4, 3)))
    with pytest.raises(ValueError, match=r"more than 24 tokens \(k = 5\), got 4"):
        analyze(few, SETTINGS)


def test_an_interrupted_analysis_continues(tmp_path: Path) -> None:
    acts = planted(private=1.0)
    seen: list[tuple[str, int]] = []

    def stop(stage: str, done: int, total: int) -> None:
        seen.append((stage, done))
        if (stage, done) == ("layers", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(acts, SETTINGS, work=tmp_path, progress=stop)
    kept = sorted(path.name for path in tmp_path.glob("*/layer-*.pt"))
    assert kept == ["layer-000.pt", "layer-001.pt"]
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.pt")}
    again = analyze(acts, SETTINGS, work=tmp_path)
    assert {name: next(tmp_path.glob(f"*/{name}")).stat().st_mtime_ns for name in stamps} == stamps
    fresh = analyze(acts, SETTINGS)
    for section in ("overlap", "cka", "dimension", "information", "health", "explorer"):
        assert again[section] == fresh[section]


def test_other_data_of_the_same_shape_is_analyzed_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = (mf.Activations.from_arrays(rng.standard_normal((2, 100, 5)).astype(np.float32)) for _ in range(2))
    first = analyze(one, SETTINGS, work=tmp_path)["overlap"]
    second = analyze(two, SETTINGS, work=tmp_path)["overlap"]
    assert second == analyze(two, SETTINGS)["overlap"] != first


def test_odd_layers_leave_gaps_and_no_crash() -> None:
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(range(20), range(20)), -1).reshape(-1, 2).astype(np.float32) + 1
    layers = [rng.standard_normal((400, d)).astype(np.float32) for d in (3, 30)] + [lattice]
    ids: dict[str, Any] = {"text_ids": np.arange(400) // 10, "token_ids": np.arange(400) % 2}
    validate(analyze(mf.Activations.from_arrays(layers, **ids), SETTINGS))
    disjoint: dict[str, Any] = {"text_ids": np.arange(400) // 10, "token_ids": np.arange(400) // 10}
    found = analyze(mf.Activations.from_arrays(layers, **disjoint), SETTINGS)
    validate(found)
    assert found["information"]["knowledge"]["token_id"]["value"] == [None] * 3


def test_one_text_has_no_scales_and_two_layers_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((200, 8)).astype(np.float32) for _ in range(8)]
    one = analyze(mf.Activations.from_arrays(layers, text_ids=np.zeros(200, int)), SETTINGS)
    validate(one)
    assert one["scales"]["skipped"].startswith("Scales need at least two texts")
    two = analyze(mf.Activations.from_arrays(layers[:2]), SETTINGS)
    validate(two)
    assert any("too few layers to tell" in warning["text"] for warning in two["warnings"])


def test_stages_of_other_settings_are_not_mixed_up(tmp_path: Path) -> None:
    one, two = Stages(tmp_path, {"k": 1}), Stages(tmp_path, {"k": 2})
    assert one.run("a", lambda: {"v": torch.tensor(1)})["v"] == 1
    assert two.run("a", lambda: {"v": torch.tensor(2)})["v"] == 2
    assert one.run("a", lambda: {"v": torch.tensor(3)})["v"] == 1


def test_information_space_is_the_projection_on_other_texts() -> None:
    rng = np.random.default_rng(0)
    fit = rng.standard_normal((200, 7)) * np.arange(1, 8)
    rows = rng.standard_normal((30, 7))
    found = information_space(torch.from_numpy(rows), torch.from_numpy(fit), 3).numpy()
    mean = fit.mean(0)
    leading = np.linalg.svd(fit - mean, full_matrices=False)[2][:3].T
    expected = (rows - mean) @ leading / np.sqrt((((fit - mean) @ leading) ** 2).mean())
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6, atol=1e-9)


def test_split_takes_equally_many_rows_of_half_of_the_texts() -> None:
    acts = planted(private=1.0)
    assert acts.text_ids is not None
    assert acts.token_ids is not None
    parts = split(acts.text_ids, acts.token_ids, 240, seed=3)
    counts = torch.bincount(acts.text_ids[parts.rows], minlength=TEXTS)
    assert sorted(counts.tolist()) == [0] * 30 + [8] * 30
    assert not set(acts.text_ids[parts.rows].tolist()) & set(acts.text_ids[parts.fit].tolist())
    assert parts.fit.shape[0] == 30 * PER_TEXT
    assert parts.moved == 1 - 12 / 240
    alone = split(acts.text_ids, torch.arange(acts.n_tokens), 240, seed=3)
    assert alone.rows.shape[0] == 0  # a token that occurs once cannot be exchanged


def test_layer_health() -> None:
    x = np.random.default_rng(0).standard_normal((101, D)).astype(np.float32)
    x[:, 5] = 50.0
    x[7] *= 40.0
    x[8] = x[9]
    found = layer_health(torch.from_numpy(x))
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    assert found["norm_median"] == pytest.approx(np.median(norms), rel=1e-6)
    assert found["norm_max"] == pytest.approx(norms.max(), rel=1e-6)
    assert (found["top_coordinate"], found["massive_rows"], found["distinct_rows"]) == (5, 1, 100)
    assert found["top_coordinate_share"] == pytest.approx(np.median(x[:, 5] ** 2 / norms**2), rel=1e-5)


def test_chosen_tokens_are_spread_over_texts() -> None:
    acts = planted(private=1.0)
    assert acts.text_ids is not None
    chosen = choose_tokens(acts, TEXTS, seed=0)
    assert len(set(acts.text_ids[chosen].tolist())) == TEXTS
    assert len(set(chosen.tolist())) == TEXTS


@pytest.mark.parametrize("texts", [16, 4, 2])
def test_independent_layers_share_nothing(texts: int) -> None:
    """However few the texts are: 30 draws, whose mean excess is 0 within its error, and each within its own."""
    n, found = 320, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        layers = [rng.standard_normal((2 * n, 3)).astype(np.float32) for _ in range(3)]
        ids: dict[str, Any] = {"text_ids": np.arange(2 * n) % texts, "token_ids": rng.integers(0, 6, 2 * n)}
        acts = mf.Activations.from_arrays(layers, **ids)
        assert acts.text_ids is not None
        assert acts.token_ids is not None
        parts = split(acts.text_ids, acts.token_ids, n, seed)
        blocks, settings = [0, 1, 2], InformationSettings(k=3, dimensions=3, n_nulls=3, seed=seed)
        excess = layer_information(acts, Stages(None, None), parts, blocks, settings, lambda: None)["excess"]
        found.append(np.mean([excess[0][1], excess[0][2], excess[1][2]]))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3.5 * error
    assert np.abs(found).max() < 0.12
