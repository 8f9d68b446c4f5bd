"""Two sets of layers beside each other: what is the same, what is turned, what is other, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from msma_fast import cli
from msma_fast.msma import comparison
from msma_fast.msma.comparison import MEASURES, compare, table

TEXTS = np.arange(240) // 8


def layers(count: int = 8, seed: int = 0, cut: int | None = None) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((240, 20))
    stack = [x]
    for layer in range(1, count):
        x = x + (2.0 if layer == cut else 0.3) * rng.standard_normal((240, 20))
        stack.append(x)
    return stack


def acts(stack: list[np.ndarray], texts: np.ndarray = TEXTS) -> mf.Activations:
    return mf.Activations.from_arrays(stack, text_ids=texts)


def test_a_rotation_changes_nothing_and_another_sample_everything() -> None:
    one = layers()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((20, 20)))[0]
    same = compare(acts(one), acts([x @ turn for x in one]), k=6, n_resamples=3)["measures"]
    assert np.allclose(same["cka"]["value"], 1.0, atol=1e-5)
    assert np.mean(same["overlap"]["value"]) > 0.99
    assert np.allclose(same["dimension_difference"]["value"], 0.0, atol=0.05)
    other = compare(acts(one), acts(layers(seed=5)), k=6, n_resamples=3)["measures"]
    chance = 6 / 239
    assert np.allclose(other["overlap"]["value"], chance, atol=0.02)
    mi, error = (np.array(other["mi"][name]) for name in ("value", "standard_error"))
    assert (np.abs(mi) < 4 * error + 0.1).all()
    assert min(same["mi"]["value"]) > max(other["mi"]["value"]) + 0.5


def test_one_changed_layer_is_seen_where_it_is() -> None:
    one = layers()
    two = [x.copy() for x in one]
    two[5] = two[5] + 1.5 * np.random.default_rng(2).standard_normal((240, 20))
    found = compare(acts(one), acts(two), k=6, n_resamples=4)["measures"]
    for name in ("overlap", "cka", "mi"):
        value = np.array(found[name]["value"])
        assert value.argmin() == 5
        assert value[5] < value[[0, 1, 2, 3, 4, 6, 7]].min() - 4 * found[name]["standard_error"][5]


def test_boundaries_shift() -> None:
    found = compare(acts(layers(14, cut=5)), acts(layers(14, seed=3, cut=8)), k=8, n_resamples=2)
    assert [[one["layer"] for one in side] for side in found["boundaries"]] == [[5], [8]]
    assert found["shifts"] == [{"layers": 3, "interval": [3, 3]}]
    text = table(found)
    assert "shifts of A's boundaries to B's nearest, in layers: +3 (+3 to +3)" in text
    assert len(text.splitlines()) == 1 + 14 + 3
    none = compare(acts(layers(14, cut=5)), acts(layers(14, seed=3)), k=8, n_resamples=0)
    assert none["shifts"] == [None]
    assert none["measures"]["cka"]["standard_error"] is None
    assert "boundaries of B: none beyond drift" in table(none)


def test_standard_errors_are_of_the_right_size() -> None:
    """Of a mean over texts, whose spread between fresh samples is known: CKA of x and x + noise."""

    def pair(seed: int) -> tuple[mf.Activations, mf.Activations]:
        one = layers(2, seed)
        rng = np.random.default_rng(100 + seed)
        return acts(one), acts([x + rng.standard_normal(x.shape) for x in one])

    found = [compare(*pair(seed), k=6, n_resamples=8)["measures"]["cka"] for seed in range(12)]
    spread = np.std([each["value"] for each in found], axis=0, ddof=1)
    told = np.mean([each["standard_error"] for each in found], axis=0)
    assert (told / spread > 0.5).all()
    assert (told / spread < 2.0).all()


def test_halves_have_half_of_the_rows_of_every_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_INFORMED", 100)  # of 240
    seen: list[tuple[int, int]] = []
    measured = comparison._measured

    def noted(one: Any, two: Any, ids: Any, tokens: Any, samples: Any, k: int) -> Any:
        seen.extend((len(some), len(informed)) for some, informed in samples)
        return measured(one, two, ids, tokens, samples, k)

    monkeypatch.setattr(comparison, "_measured", noted)
    compare(acts(layers(2)), acts(layers(2)), k=4, n_resamples=2)
    assert seen[0] == (240, 80)
    assert [rows for rows, _ in seen[1:]] == [120, 120]
    assert all(36 <= informed <= 44 for _, informed in seen[1:])


def test_few_texts_have_no_errors_and_short_stacks_no_boundaries() -> None:
    two = np.arange(240) // 120
    found = compare(acts(layers(3), two), acts(layers(3), two), k=4, n_resamples=3)
    assert found["resamples"] == 0
    assert found["measures"]["cka"]["standard_error"] is None
    assert found["boundaries"] == [None, None]
    assert "boundaries of A: too few layers to tell" in table(found)


def test_what_cannot_be_compared_is_said() -> None:
    one = acts(layers())
    for other, what in (
        (acts(layers(7)), "b: expected 8 layers as a, got 7"),
        (acts([x[:200] for x in layers()], TEXTS[:200]), "b: expected the 240 tokens of a, got 200"),
        (acts(layers(), TEXTS[::-1].copy()), "b: expected the same text_ids as a"),
    ):
        with pytest.raises(ValueError, match=what):
            compare(one, other)


def test_repeated_rows_have_no_information_and_no_dimension() -> None:
    one = layers(3)
    for side in one:
        side[:] = side[np.arange(240) % 20]
    found = compare(acts(one), acts(one), k=4, n_resamples=0)["measures"]
    assert found["mi"]["value"] == found["dimension_a"]["value"] == [None] * 3
    assert "-" in table(compare(acts(one), acts(one), k=4, n_resamples=0))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = acts(layers(seed=0)).save(tmp_path / "a")
    acts(layers(seed=1)).save(tmp_path / "run/activations")
    out = tmp_path / "out"
    assert (
        cli.main(["compare", str(one), str(tmp_path / "run"), "--out", str(out), "--resamples", "2", "--k", "5"]) == 0
    )
    printed = capsys.readouterr()
    assert printed.out.startswith("layer")
    results = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert set(results["measures"]) == set(MEASURES)
    assert results["command"].startswith("msma-fast compare")
    assert cli.main(["compare", str(one), str(tmp_path / "nothing"), "--out", str(out)]) == 1
    assert "msma-fast: " in capsys.readouterr().err


def test_one_text_has_no_information_and_ids_of_one_side_serve_both() -> None:
    a, b = layers(seed=0), layers(seed=1)
    texts = np.arange(a[0].shape[0]) // 4
    shared = compare(mf.Activations.from_arrays(a, text_ids=texts), mf.Activations.from_arrays(b), n_resamples=0)
    both = (mf.Activations.from_arrays(each, text_ids=texts) for each in (a, b))
    assert compare(*both, n_resamples=0) == shared
    other = compare(mf.Activations.from_arrays(b), mf.Activations.from_arrays(a, text_ids=texts), n_resamples=0)
    assert other["boundaries"] == shared["boundaries"][::-1]


def test_models_that_share_the_token_alone_have_no_excess() -> None:
    rng = np.random.default_rng(0)
    tokens, texts = rng.integers(0, 4, 960), np.arange(960) // 8
    corners, private = 8 * rng.standard_normal((4, 6)), rng.standard_normal((960, 6))
    one, apart = ([corners[tokens] + rng.standard_normal((960, 6)) for _ in range(2)] for _ in range(2))
    near = [x + 0.05 * private for x in one]
    first, other, like = (
        mf.Activations.from_arrays(stack, text_ids=texts, token_ids=tokens) for stack in (one, apart, near)
    )
    found = compare(first, other, n_resamples=0)["measures"]
    assert found["mi"]["value"] == pytest.approx([np.log(4)] * 2, abs=0.25)
    assert found["excess"]["value"] == pytest.approx([0.0] * 2, abs=0.15)
    assert min(compare(first, like, n_resamples=0)["measures"]["excess"]["value"]) > 1.0
    bare = compare(one, apart, n_resamples=0)["measures"]
    assert bare["excess"]["value"] == [None] * 2
