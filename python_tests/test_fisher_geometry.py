"""The Fisher section of the analysis: against its definition on a tiny model, its sample, its stages, when it is left out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from fisher_oracles import fisher_rao, metrics, probabilities
from planted import planted
from scipy.special import logsumexp

import msma_fast as mf
from msma_fast import fisher
from msma_fast.fisher import LayerNorm, Readout, RMSNorm
from msma_fast.msma import Settings, analyze
from msma_fast.msma.fisher_geometry import fisher_geometry, lens_layers, readout_digest, sample_rows
from msma_fast.msma.stages import Stages
from msma_fast.report import validate, write_report

SETTINGS = Settings(
    k=5, dimension_tokens=200, mi_tokens=200, explorer_tokens=10, fisher_tokens=36, fisher_searched=48, fisher_k=4
)


def collected(family: str) -> tuple[Any, mf.Activations]:
    pytest.importorskip("transformers")
    model = tiny_models.model(family)
    texts = tiny_models.texts(12, shortest=14)
    return model, mf.collect_activations(model, tiny_models.tokenizer(family), texts, tokens_per_text=6)


@pytest.fixture(scope="module")
def llama() -> tuple[Any, mf.Activations]:
    return collected("llama")


@pytest.fixture(scope="module")
def section(llama: tuple[Any, mf.Activations]) -> dict[str, Any]:
    model, acts = llama
    found: dict[str, Any] = analyze(acts, SETTINGS, readout=fisher.readout(model))["fisher"]
    return found


def rms(h: np.ndarray, model: Any) -> np.ndarray:
    """The final norm of a Llama, written again."""
    norm = model.model.norm
    gamma = norm.weight.detach().double().numpy()
    return np.asarray(gamma * h / np.sqrt((h * h).mean(1, keepdims=True) + norm.variance_epsilon))


def pulled_back(h: np.ndarray, model: Any) -> np.ndarray:
    """G in the space of h by the Jacobian of the norm, each by differences."""
    weight = model.lm_head.weight.detach().double().numpy()
    inner = metrics(rms(h, model), weight)
    found, step = [], 1e-6
    for row, g in zip(h, inner, strict=True):
        shifts = step * np.eye(row.shape[0])
        jacobian = (rms(row + shifts, model) - rms(row - shifts, model)).T / (2 * step)
        found.append(jacobian.T @ g @ jacobian)
    return np.stack(found)


def sampled(acts: mf.Activations, layer: int, count: int = SETTINGS.fisher_tokens) -> tuple[np.ndarray, torch.Tensor]:
    rows = sample_rows(acts.text_ids, acts.n_tokens, count, SETTINGS.seed)
    return acts.layer(layer)[rows].double().numpy(), rows


def test_trace_and_effective_rank_are_those_of_the_metric(
    llama: tuple[Any, mf.Activations], section: dict[str, Any]
) -> None:
    model, acts = llama
    assert (section["n"], section["n_searched"]) == (36, 48)
    for layer in range(len(acts)):
        g = pulled_back(sampled(acts, layer)[0], model)
        traces = np.trace(g, axis1=1, axis2=2)
        quartiles = np.quantile(traces, [0.25, 0.5, 0.75])
        found = [section["trace"][name][layer] for name in ("lower", "median", "upper")]
        np.testing.assert_allclose(found, quartiles, rtol=2e-4)
        assert section["top_tenth"][layer] == pytest.approx(np.sort(traces)[-4:].sum() / traces.sum(), rel=1e-3)
        shares = np.linalg.eigvalsh(g.mean(0)).clip(1e-300)
        shares /= shares.sum()
        assert section["effective_rank"][layer] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)


def test_steps_and_the_path_are_fisher_rao_distances(
    llama: tuple[Any, mf.Activations], section: dict[str, Any]
) -> None:
    model, acts = llama
    weight = model.lm_head.weight.detach().double().numpy()
    p = [probabilities(rms(sampled(acts, layer)[0], model), weight) for layer in range(len(acts))]
    steps = np.stack([np.diagonal(fisher_rao(a, b)) for a, b in pairwise(p)])
    assert section["steps"][0] is None
    np.testing.assert_allclose(section["steps"][1:], np.median(steps, axis=1), rtol=1e-4)
    found = [section["path"][name] for name in ("lower", "median", "upper")]
    np.testing.assert_allclose(found, np.quantile(steps.sum(0), [0.25, 0.5, 0.75]), rtol=1e-4)


def nearest(distances: np.ndarray, texts: np.ndarray, k: int) -> np.ndarray:
    barred = np.where(texts[:, None] == texts[None], np.inf, distances)
    return np.argsort(barred, axis=1, kind="stable")[:, :k]


def test_neighbours_overlap_and_the_tokens_shown(llama: tuple[Any, mf.Activations], section: dict[str, Any]) -> None:
    model, acts = llama
    assert acts.text_ids is not None
    weight = model.lm_head.weight.detach().double().numpy()
    assert [one["layer"] for one in section["overlap"]] == [2, 3]
    for one in section["overlap"]:
        h, rows = sampled(acts, one["layer"], SETTINGS.fisher_searched)
        texts = acts.text_ids[rows].numpy()
        p = probabilities(rms(h, model), weight)
        plain = h / np.sqrt((h * h).mean(1, keepdims=True))
        near = nearest(fisher_rao(p, p), texts, 4)
        far = nearest(np.linalg.norm(plain[:, None] - plain[None], axis=2), texts, 4)
        shared = np.array([len(set(a) & set(b)) for a, b in zip(near.tolist(), far.tolist(), strict=True)])
        assert one["shared"] == pytest.approx(shared.mean() / 4)
        shown = [token for token in section["shown"] if token["layer"] == one["layer"]]
        assert len(shown) == 3
        for token in shown:
            i = rows.tolist().index(token["token"])
            assert [row for row, _ in token["fisher"]] == rows[near[i]].tolist()
            assert [row for row, _ in token["euclidean"]] == rows[far[i]].tolist()
            assert token["shared"] == shared[i]
        if one["layer"] == 2:  # chosen first
            assert [token["shared"] for token in shown] == sorted(shared.tolist())[:3]
    assert len({token["token"] for token in section["shown"]}) == 6
    assert acts.tokens is not None
    assert all(acts.tokens[int(row)] == held[1] for row, held in section["rows"].items())


def test_the_embedding_and_the_lens_are_marked(section: dict[str, Any]) -> None:
    assert section["metric"] == ["embedding", "logit lens", "logit lens", "Fisher"]


def test_the_report_is_written_with_it(llama: tuple[Any, mf.Activations], tmp_path: Path) -> None:
    model, acts = llama
    seen: list[tuple[str, int, int]] = []
    results = analyze(
        acts,
        SETTINGS,
        readout=fisher.readout(model),
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert [one for one in seen if one[0] == "fisher"] == [("fisher", done, 3) for done in range(1, 4)]
    assert results["timings"]["fisher"] > 0
    validate(results)
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    for name in ("fisher-trace", "fisher-rank", "fisher-steps"):
        assert f'id="figure-{name}"' in page
    warned = [warning["text"] for warning in results["warnings"] if warning["subject"] == "logit lens"]
    assert warned
    assert warned[0].startswith("Only the tokens of block 3 are the model's own.")


def test_a_decoder_s_read_out_leaves_the_encoder_out() -> None:
    model, acts = collected("t5")
    assert lens_layers(acts) == [4, 5, 6]
    results = analyze(acts, SETTINGS, readout=fisher.readout(model))
    section = results["fisher"]
    assert section["metric"] == [None] * 4 + ["embedding", "logit lens", "Fisher"]
    assert section["trace"]["median"][:4] == [None] * 4
    assert section["steps"][:5] == [None] * 5
    assert None not in section["steps"][5:]
    validate(results)


def test_a_finished_stage_is_kept_for_its_own_read_out(llama: tuple[Any, mf.Activations], tmp_path: Path) -> None:
    model, acts = llama
    read = fisher.readout(model)
    first = analyze(acts, SETTINGS, readout=read, work=tmp_path)["fisher"]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fisher-*.pt")}
    assert sorted(path.name for path in stamps) == ["fisher-000.pt", "fisher-near-002.pt", "fisher-near-003.pt"]
    assert analyze(acts, SETTINGS, readout=read, work=tmp_path)["fisher"] == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    other = read._replace(weight=2 * read.weight)
    assert analyze(acts, SETTINGS, readout=other, work=tmp_path)["fisher"]["trace"] != first["trace"]


def test_layers_of_several_stages_are_one_chain(
    llama: tuple[Any, mf.Activations], section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, acts = llama
    monkeypatch.setattr("msma_fast.msma.fisher_geometry._TOGETHER", 2)
    found = analyze(acts, SETTINGS, readout=fisher.readout(model))["fisher"]
    for name in ("metric", "overlap", "shown"):
        assert found[name] == section[name]
    for name in ("trace", "path"):
        for quartile, values in section[name].items():
            assert found[name][quartile] == pytest.approx(values, rel=1e-4)
    for name in ("effective_rank", "steps"):
        assert found[name][1:] == pytest.approx(section[name][1:], rel=1e-4)


def test_every_part_of_a_read_out_counts_in_its_digest() -> None:
    weight, ones = torch.eye(4), torch.ones(4)
    base = Readout(weight, None, RMSNorm(ones))
    different = [
        Readout(2 * weight, None, RMSNorm(ones)),
        Readout(weight, ones, RMSNorm(ones)),
        Readout(weight, None, RMSNorm(2 * ones)),
        Readout(weight, None, RMSNorm(ones, 1e-3)),
        Readout(weight, None, LayerNorm(ones, None, 1e-6)),
        Readout(weight.bfloat16(), None, RMSNorm(ones)),
        Readout(weight, None, None),
    ]
    assert len({readout_digest(read) for read in [base, *different]}) == 8
    assert readout_digest(base) == readout_digest(Readout(weight.clone(), None, RMSNorm(ones.clone())))


def test_a_sample_takes_equally_many_of_each_text() -> None:
    texts = torch.arange(10).repeat_interleave(6)
    rows = sample_rows(texts, 60, 36, seed=1)
    assert torch.bincount(texts[rows]).tolist() == [3] * 10
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(sample_rows(texts, 60, 24, seed=1).tolist()) < set(rows.tolist())
    few = sample_rows(texts, 60, 4, seed=1)
    assert len(few) == len(set(texts[few].tolist())) == 4
    assert sample_rows(texts, 60, 36, seed=2).tolist() != rows.tolist()
    assert len(sample_rows(None, 60, 36, seed=1)) == 36
    assert sample_rows(None, 20, 36, seed=1).tolist() == list(range(20))


def test_without_a_read_out_the_section_says_so(tmp_path: Path) -> None:
    results = analyze(planted(private=1.0), SETTINGS)
    assert results["fisher"] == {"skipped": "No read-out: the model is not at hand."}
    assert {"level": "note", "subject": "Fisher geometry", "text": results["fisher"]["skipped"]} in results["warnings"]
    assert "the model is not at hand" in write_report(results, tmp_path).read_text(encoding="utf-8")
    why = analyze(planted(private=1.0), SETTINGS, about={"no_readout": "No read-out: capped logits."})["fisher"]
    assert why == {"skipped": "No read-out: capped logits."}


def small(read: Readout, texts: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ids = np.arange(16) * texts // 16
    acts = mf.Activations.from_arrays(rng.standard_normal((2, 16, 4)).astype(np.float32), text_ids=ids)
    return fisher_geometry(acts, read, Stages(None, None), torch.arange(16), torch.arange(16), 4, lambda: None)


def test_a_norm_without_a_closed_form_has_steps_alone_and_too_few_tokens_are_said() -> None:
    weight = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = small(Readout(weight, None, torch.nn.Tanh()))
    assert found["trace"] == {name: [None, None] for name in ("lower", "median", "upper")}
    assert found["effective_rank"] == found["top_tenth"] == [None, None]
    states = np.tanh(np.random.default_rng(0).standard_normal((2, 16, 4)).astype(np.float32).astype(np.float64))
    logits = states @ weight.double().numpy().T
    p, q = np.exp(logits - logsumexp(logits, axis=2, keepdims=True))
    assert found["steps"][1] == pytest.approx(np.median(2 * np.arccos(np.sqrt(p * q).sum(1))), rel=1e-5)
    assert [one["layer"] for one in found["overlap"]] == [1]
    assert "a token has 0 of other texts, k = 4" in small(Readout(weight, None, None), texts=1)["skipped"]
    with pytest.raises(ValueError, match=r"readout: expected a weight \(V, 4\) for layer 'layer.0', got \(9, 5\)"):
        small(Readout(torch.ones(9, 5), None, None))


def test_settled_tokens_and_activations_without_text_leave_gaps() -> None:
    """Logits so far apart that every distribution is one token: no trace, no rank, and no step where the token stays."""
    found = small(Readout(torch.diag(torch.full((4,), 1e5)), None, None))
    assert found["trace"]["median"] == [0.0, 0.0]
    assert found["effective_rank"] == [None, None]
    assert found["top_tenth"] == [None, None]
    assert found["shown"] == []
    assert found["rows"] == {}
