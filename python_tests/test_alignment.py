"""mf.MSMA on planted scales: what is known is found again, what is not there is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.msma import alignment, sound_metrics
from msma_fast.msma.alignment import MapEvaluation

RANGES = [(0, 0), (1, 1), (2, 2)]
CLOSED = ("procrustes", "ridge", "low-rank")


def turned(n: int = 400, d: int = 12, seed: int = 0) -> tuple[mf.Activations, list[np.ndarray]]:
    """Three layers, each a rotation of the one behind it, of another size and elsewhere."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.linspace(0.5, 2.0, d)
    q, r = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    layers = [7.0 * x @ q @ r + 3.0, 2.0 * x @ q - 5.0, x]
    return mf.Activations.from_arrays(layers, text_ids=np.arange(n) // 8), layers


def correlated(rho: float, n: int = 1000, d: int = 4, seed: int = 0) -> mf.Activations:
    """Three layers of which neighbours share -d/2 log(1 - rho^2) nats."""
    rng = np.random.default_rng(seed)
    layers = [rng.standard_normal((n, d))]
    for _ in range(2):
        layers.append(rho * layers[-1] + np.sqrt(1 - rho**2) * rng.standard_normal((n, d)))
    return mf.Activations.from_arrays(layers, text_ids=np.arange(n) // 10)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_known_rotations_are_recovered(name: str, offset: float) -> None:
    _, layers = turned()
    moved = [layer + offset for layer in layers]
    acts = mf.Activations.from_arrays(moved, text_ids=np.arange(400) // 8)
    fitted = mf.MSMA(map=name).fit(acts, RANGES)
    assert fitted.scales == ("local", "intermediate", "global")
    for source, target, layer in (("global", "intermediate", 1), ("intermediate", "local", 0), ("global", "local", 0)):
        found = fitted.transform(moved[fitted.scales.index(source)], source=source, target=target)
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float64
        assert np.abs(found - moved[layer]).max() < 1e-6 * max(1.0, offset * 1e-3)


def test_transform_keeps_kind_and_dtype() -> None:
    acts, layers = turned()
    fitted = mf.MSMA().fit(acts, RANGES)
    numpy_number: Any = np.int64(1)
    found = fitted.transform(torch.from_numpy(layers[2]).float(), source="global", target=numpy_number)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    assert float((found - torch.from_numpy(layers[1])).abs().max()) < 1e-4


def test_a_rotation_is_measured_as_one() -> None:
    acts, _ = turned()
    one, other = mf.MSMA().fit(acts, RANGES).evaluate(acts)
    assert (one.source, one.target, other.source, other.target) == ("global", "intermediate", "intermediate", "local")
    for found in (one, other):
        assert found.sound["r2"].after == pytest.approx(1.0, abs=1e-9)
        assert found.sound["retrieval"].after == 1.0
        assert found.sound["retrieval"].shuffled is not None
        assert found.sound["retrieval"].shuffled < 0.05
        assert found.sound["retrieval"].before is not None
        assert found.sound["retrieval"].before < 0.2
        assert found.sound["distortion"].after == pytest.approx(0.0, abs=1e-9)
        for name in sound_metrics.INVARIANT:
            before, after, shuffled, _ = found.sound[name]
            assert before is not None
            assert before == pytest.approx(after, abs=1e-9)
            assert before == pytest.approx(shuffled, abs=1e-9)
        assert found.curvature["isometry_deviation"][0] < 1e-9


@pytest.mark.parametrize("name", [*CLOSED, "mlp"])
@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_no_map_adds_information(name: str, rho: float) -> None:
    """The truth is known: both estimates are near it, and after is at most before within error."""
    truth = -np.log(1 - rho**2)
    found = mf.MSMA(map=name).fit(correlated(rho, d=2, seed=1), RANGES).evaluate(correlated(rho, d=2, seed=2))
    for one in found:
        before, after, _, _ = one.sound["mi"]
        assert before == pytest.approx(truth, abs=0.1)
        assert before is not None
        assert after is not None
        assert after <= before + 0.05
        if name in ("procrustes", "ridge"):
            assert after == pytest.approx(before, abs=1e-9)  # invertible: the image has all of it


def test_a_map_fitted_to_shuffled_pairs_is_invertible_too() -> None:
    """It explains nothing, and what it makes of a row still tells all that the row does."""
    found = mf.MSMA(map="ridge").fit(correlated(0.7, d=2, seed=1), RANGES).evaluate(correlated(0.7, d=2, seed=2))
    for one in found:
        before, _, shuffled, _ = one.sound["mi"]
        assert shuffled == pytest.approx(before, abs=1e-6)
        assert one.sound["r2"].shuffled == pytest.approx(0.0, abs=0.05)


def test_what_a_learned_map_bends_into_view_is_the_source_s_too() -> None:
    """The shallower layer has the sizes of four coordinates of the deeper one, and not their signs."""
    rng = np.random.default_rng(8)
    z = rng.standard_normal((2400, 8))
    t = np.hstack([np.abs(z[:, :4]) - np.abs(z[:, :4]).mean(0), 0.1 * rng.standard_normal((2400, 4))])
    layers = [t + 0.05 * rng.standard_normal(t.shape), z]
    texts = np.arange(2400) // 8
    acts = mf.Activations.from_arrays(layers, text_ids=texts)
    train, test = acts.select(texts=range(200)), acts.select(texts=range(200, 300))
    (found,) = (
        mf.MSMA(map="mlp", geometry=0.0, information=0.0, curvature=0.0).fit(train, [(0, 0), (1, 1)]).evaluate(test)
    )
    (plain,) = mf.MSMA(map="ridge").fit(train, [(0, 0), (1, 1)]).evaluate(test)
    before, after, _, _ = found.sound["mi"]
    blind = plain.sound["mi"].before
    assert before is not None
    assert after is not None
    assert blind is not None
    assert after > blind + 0.2  # more than is seen of the source alone
    assert after <= before + 0.05


def test_layers_that_share_nothing_gain_nothing() -> None:
    for name in CLOSED:
        found = mf.MSMA(map=name).fit(correlated(0.0, seed=3), RANGES).evaluate(correlated(0.0, seed=4))
        for one in found:
            assert one.sound["r2"].after is not None
            assert one.sound["r2"].after < 0.02
            assert one.sound["mi"].after == pytest.approx(0.0, abs=0.1)
            assert one.sound["retrieval"].after is not None
            assert one.sound["retrieval"].after < 0.01


def test_moments_alone_make_the_published_kl_fall() -> None:
    """No pair is a pair here, and the published measure still calls it alignment."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((600, 10)) * size + shift for size, shift in ((1.0, 0.0), (5.0, 3.0), (40.0, 9.0))]
    acts = mf.Activations.from_arrays(layers, text_ids=np.arange(600) // 10)
    for one in mf.MSMA().fit(acts, RANGES).evaluate(acts):
        before, after, _, by_moments = one.published["kl"]
        assert before is not None
        assert by_moments is not None
        assert before > 50.0
        assert by_moments < 0.01 * before
        assert after is not None
        assert after < 0.05 * before
        assert one.sound["r2"].after is not None
        assert one.sound["r2"].after < 0.0


@pytest.mark.parametrize("representative", alignment.REPRESENTATIVES)
def test_representatives(representative: str) -> None:
    rng = np.random.default_rng(0)
    core, other = rng.standard_normal((2, 300, 8))
    layers = [core, core + 0.5 * other, core + rng.standard_normal((300, 8)), other, other + 0.1 * core]
    acts = mf.Activations.from_arrays(layers, text_ids=np.arange(300) // 6)
    fitted = mf.MSMA(representative=representative).fit(acts, [(0, 2), (3, 4)])
    wanted = {"medoid": (0,), "last": (2,), "mean": (0, 1, 2)}[representative]
    assert fitted.representatives["local"] == wanted
    rows = np.mean([layers[layer] for layer in fitted.representatives["global"]], axis=0)
    target = np.mean([layers[layer] for layer in wanted], axis=0)
    assert fitted.transform(rows, source="global", target="local").shape == target.shape
    alike = [[mf.cka(a, b) for b in layers[:3]] for a in layers[:3]]
    assert int(np.argmax(np.sum(alike, 1))) == 0


def test_scales_of_different_width_have_maps_but_no_moments() -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((300, 9))
    acts = mf.Activations.from_arrays([wide[:, :4], wide], text_ids=np.arange(300) // 6)
    (found,) = mf.MSMA(map="ridge").fit(acts, [(0, 0), (1, 1)]).evaluate(acts)
    assert found.sound["r2"].after == pytest.approx(1.0, abs=1e-6)
    assert found.sound["r2"].before is None
    assert found.sound["r2"].moments is None
    assert found.sound["cka"].before is not None
    assert found.published["kl"] == (
        None,
        pytest.approx(0.0, abs=1e-3),
        pytest.approx(found.published["kl"].shuffled),
        None,
    )


def test_two_stacks_have_maps_of_their_own() -> None:
    rng = np.random.default_rng(0)
    names = [f"{stack}.{layer}" for stack in ("encoder", "decoder") for layer in range(3)]
    acts = mf.Activations.from_arrays(list(rng.standard_normal((6, 200, 5))), text_ids=np.arange(200) // 5, names=names)
    fitted = mf.MSMA().fit(acts, [(layer, layer) for layer in range(6)])
    assert fitted.scales[0] == "encoder local"
    assert fitted.scales[5] == "decoder global"
    assert [(one.source, one.target) for one in fitted.evaluate(acts)] == [
        ("decoder global", "decoder intermediate"), ("decoder intermediate", "decoder local"),
        ("encoder global", "encoder intermediate"), ("encoder intermediate", "encoder local"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="in its stack, got encoder local"):
        fitted.transform(np.zeros((3, 5)), source="decoder global", target="encoder local")


@pytest.mark.parametrize("name", ["procrustes", "low-rank", "mlp"])
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    acts = correlated(0.8, n=300)
    fitted = mf.MSMA(map=name, seed=5).fit(acts, RANGES)
    folder = fitted.save(tmp_path / "maps")
    again = mf.MSMA.load(folder)
    x = np.random.default_rng(0).standard_normal((7, 4))
    assert np.array_equal(
        fitted.transform(x, source="global", target="local"), again.transform(x, source="global", target="local")
    )
    assert again.representatives == fitted.representatives
    for ours, theirs in zip(again.evaluate(acts), fitted.evaluate(acts), strict=True):
        for told in ("sound", "published", "curvature"):
            for key, values in getattr(ours, told).items():
                assert values == pytest.approx(getattr(theirs, told)[key], rel=1e-9, abs=1e-12)
    with pytest.raises(FileExistsError):
        fitted.save(folder)
    about = json.loads((folder / "msma.json").read_text())
    (folder / "msma.json").write_text(json.dumps(about | {"format": "other/9"}))
    with pytest.raises(ValueError, match="other/9"):
        mf.MSMA.load(folder)


def test_an_evaluation_is_json(tmp_path: Path) -> None:
    (found, _) = mf.MSMA().fit(correlated(0.5), RANGES).evaluate(correlated(0.5, seed=1))
    assert isinstance(found, MapEvaluation)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["sound"]["r2"]["after"] == found.sound["r2"].after
    assert set(told["published"]) == {"kl", "mi", "distance_correlation"}


def test_the_same_seed_fits_the_same_maps() -> None:
    acts = correlated(0.6, n=300)
    one, same, other = (mf.MSMA(map="mlp", seed=seed).fit(acts, RANGES) for seed in (1, 1, 2))
    x = np.ones((2, 4))
    ours, again, apart = (each.transform(x, source=2, target=0) for each in (one, same, other))
    assert np.array_equal(ours, again)
    assert not np.array_equal(ours, apart)


def test_interrupted_fitting_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts = correlated(0.6, n=300)
    whole = mf.MSMA(map="mlp").fit(acts, RANGES)
    plain, calls = torch.save, []

    def interrupted(*arguments: Any) -> None:
        plain(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mf.MSMA(map="mlp").fit(acts, RANGES, checkpoint=tmp_path)
    monkeypatch.setattr(torch, "save", plain)
    again = mf.MSMA(map="mlp").fit(acts, RANGES, checkpoint=tmp_path)
    x = np.ones((2, 4))
    ours, theirs = (each.transform(x, source=2, target=0) for each in (whole, again))
    assert np.array_equal(ours, theirs)
    same_rows = [acts.layer(layer, dtype=torch.float64) for layer in range(3)]
    other_texts = mf.Activations.from_arrays(same_rows, text_ids=np.arange(300) // 6)
    for geometry, rows in ((0.5, acts), (None, other_texts)):
        with pytest.raises(ValueError, match="checkpoint: expected"):
            mf.MSMA(map="mlp", geometry=geometry).fit(rows, RANGES, checkpoint=tmp_path)


def test_a_list_of_arrays_and_a_partition_will_do() -> None:
    _, layers = turned()
    whole = mf.find_scales(layers, n_scales=1, n_resamples=0)
    fitted = mf.MSMA().fit(layers, whole.thirds())
    assert fitted.transform(layers[2], source="global", target="local") == pytest.approx(layers[0], abs=1e-6)


def test_progress_is_told() -> None:
    seen: list[tuple[str, int, int]] = []
    mf.MSMA().fit(turned()[0], RANGES, progress=lambda *told: seen.append(told))
    assert seen == [("maps", 0, 2), ("maps", 1, 2), ("maps", 2, 2)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"map": "linear"}, "map: expected"),
        ({"representative": "first"}, "representative: expected"),
        ({"geometry": 0.1}, "geometry: expected None, as the map 'procrustes'"),
        ({"map": "ridge", "curvature": 0.0}, "curvature: expected None"),
        ({"information_loss": "mine"}, "information_loss: expected the map 'mlp'"),
        ({"map": "mlp", "information": -1.0}, "information: expected"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mf.MSMA(**options)


def test_wrong_data() -> None:
    acts, layers = turned()
    with pytest.raises(ValueError, match="before fit"):
        mf.MSMA().transform(layers[0], source="global", target="local")
    with pytest.raises(ValueError, match="two scales in a stack"):
        mf.MSMA().fit(acts, [(0, 2)])
    with pytest.raises(ValueError, match="ranges: expected every one of 3 layers"):
        mf.MSMA().fit(acts, [(0, 1)])
    with pytest.raises(ValueError, match="at least 10 rows, got 9"):
        mf.MSMA().fit([layer[:9] for layer in layers], RANGES)
    fitted = mf.MSMA().fit(acts, RANGES)
    with pytest.raises(ValueError, match="expected 3 layers as fitted, got 2"):
        fitted.evaluate(layers[:2])
    with pytest.raises(ValueError, match="at least 50 rows"):
        fitted.evaluate([layer[:20] for layer in layers])
    for x, told in (
        (layers[2][:, :5], r"x: expected rows \(n, 12\) of global"),
        (np.full((2, 12), np.nan), "NaN or inf"),
        (np.full((2, 12), np.inf), "NaN or inf"),
    ):
        with pytest.raises(ValueError, match=told):
            fitted.transform(x, source="global", target="local")
    for source, target in (("local", "global"), ("global", "global")):
        with pytest.raises(ValueError, match="deeper scales to shallower"):
            fitted.transform(layers[2], source=source, target=target)
    with pytest.raises(ValueError, match="source: expected one of"):
        fitted.transform(layers[2], source="deep", target="local")
    bad = [layer.copy() for layer in layers]
    bad[1][5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or inf"):
        mf.MSMA().fit(bad, RANGES)
    with pytest.raises(ValueError, match="rows that differ"):
        mf.MSMA().fit([layers[0], np.ones((400, 12)), layers[2]], RANGES)


@pytest.mark.parametrize("kind", ["duplicates", "huge coordinate"])
def test_adversarial_rows(kind: str) -> None:
    _, layers = turned()
    for layer in layers:
        if kind == "duplicates":
            layer[:] = layer[np.arange(400) % 40]
        else:
            layer[0, 0] = 1e12
    acts = mf.Activations.from_arrays(layers, text_ids=np.arange(400) // 8)
    for name in CLOSED:
        for one in mf.MSMA(map=name).fit(acts, RANGES).evaluate(acts):
            assert all(value is None or np.isfinite(value) for values in one.sound.values() for value in values[:2])
