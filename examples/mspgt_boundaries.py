"""The boundaries of MSPGT beside those of find_scales: on a walk without features, on one with a jump, on a real model.

    span rule           the first layer whose attention span s_l exceeds a threshold t, for two thresholds t
    information rule    the layers l where c_l = |I_l - I_{l-1}| has a peak, I_l = I(X_{l-1}; X_l); the two highest
    find_scales         the boundaries of a cut into three, each with the p-value of a stack that only drifts

The first two are of Multi-Scale Probabilistic Generation Theory (MSPGT, arXiv 2505.18244, version 1): three scales, local,
intermediate and global, between them boundaries at thresholds of the attention span and at peaks of the change of the
information between neighbouring layers. What follows is our reading where the paper, as we read it, fixes no detail. The
span of a layer is the mean over heads and tokens i of sum_j a_ij |i - j|. The thresholds lie at a third and two thirds of the
model's own range, since spans grow with the length of the texts. The information is the KSG estimate (k = 5) between rows
divided by their root mean square and projected on the 8 leading components of other texts. A peak is higher than its
neighbours, and the boundary is before its layer l; a jump is a change on its way in and on its way out, so that the rule
finds it within a layer. The embedding, which has no attention and repeats rows, is left out of both rules.

Both rules answer for every stack: spans that spread over a range cross its thirds, and changes have a highest one. So they
say nothing about whether there is a boundary; that is what the p-value is for (docs/scales.md).

    python examples/mspgt_boundaries.py [MODEL]      of one stack: minilm (the default), smollm2, a folder, a name on the hub
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

import msma_fast as mf
from msma_fast.activations import collect_activations, read_texts
from msma_fast.msma.spaces import information_space, rms_normalized

K, DIMENSIONS, SCALES = 5, 8, 3
WALKS = 10


class Rules(NamedTuple):
    """Layers that begin a scale by MSPGT's two rules, and what they rest on: spans (L,) tokens, information (L,) nats of
    layer l and the one before, nan where there is none."""

    span: list[int]
    information: list[int]
    spans: np.ndarray
    shared: np.ndarray


class Boundaries(NamedTuple):
    """forced: the three scales of find_scales, supported or not; chosen: as many as it supports."""

    rules: Rules
    forced: mf.ScalePartition
    chosen: mf.ScalePartition


def walk(jump: int | None = None, layers: int = 13, seed: int = 0) -> mf.Activations:
    """40 texts of 12 tokens, each layer a step of one size from the one before, six times as long into the jump; spans that
    rise by about a token a layer."""
    rng = np.random.default_rng(seed)
    states, rows = rng.standard_normal((480, 32)), []
    for layer in range(layers):
        states = states + (1.5 if layer == jump else 0.25) * rng.standard_normal(states.shape)
        rows.append(states)
    acts = mf.Activations.from_arrays(rows, text_ids=np.repeat(np.arange(40), 12))
    spans = 5.0 + np.arange(layers) + 0.3 * rng.standard_normal(layers)
    acts.metadata["attention_span"] = [None, *([span] for span in spans[1:].tolist())]
    return acts


def of_model(model: str, texts: int) -> mf.Activations:
    given = read_texts("commons").texts[:texts]
    return collect_activations(model, None, given, tokens_per_text=16, max_length=64, attention_span=True)


def crossings(values: np.ndarray, first: int = 1) -> list[int]:
    """Layers that are the first above a third, and above two thirds, of the range of values[first:]."""
    low, high = values[first:].min(), values[first:].max()
    found = {first + int((values[first:] > low + share * (high - low)).argmax()) for share in (1 / 3, 2 / 3)}
    return sorted(found - {first})  # where the first is above already, nothing is before the boundary


def peaks(values: np.ndarray, count: int) -> list[int]:
    """Places of the `count` highest values above their neighbours; nan and the ends are below everything."""
    known = np.pad(np.where(np.isnan(values), -np.inf, values), 1, constant_values=-np.inf)
    inner = known[1:-1]
    at = np.flatnonzero((inner > known[:-2]) & (inner >= known[2:]))
    return sorted(at[np.argsort(-inner[at], kind="stable")[:count]].tolist())


def layer_spans(acts: mf.Activations) -> np.ndarray:
    return np.array([np.nan if heads is None else np.mean(heads) for heads in acts.metadata["attention_span"]])


def neighbour_information(acts: mf.Activations) -> np.ndarray:
    """(L,) nats: I(X_{l-1}; X_l) of layers l >= 2, of every second text; the others fit the projection."""
    assert acts.text_ids is not None
    fitted = acts.text_ids % 2 == 1
    layers = (rms_normalized(acts.layer(index)) for index in range(1, len(acts)))
    spaces = [information_space(rows[~fitted], rows[fitted], DIMENSIONS).numpy() for rows in layers]
    mi = mf.ksg_mi_matrix(spaces, K, groups=acts.text_ids[~fitted].numpy())
    return np.concatenate([[np.nan, np.nan], np.diagonal(mi, 1)])


def rules(acts: mf.Activations) -> Rules:
    spans, information = layer_spans(acts), neighbour_information(acts)
    changes = np.abs(np.diff(information, prepend=np.nan))
    return Rules(crossings(spans), peaks(changes, SCALES - 1), spans, information)


def boundaries(acts: mf.Activations, n_resamples: int = 10) -> Boundaries:
    signals = ("overlap", "cka", "attention_span")
    forced = mf.find_scales(acts, signals=signals, n_scales=SCALES, n_resamples=n_resamples)
    return Boundaries(rules(acts), forced, mf.find_scales(acts, n_resamples=0))


def show(title: str, found: Boundaries) -> None:
    by_rule, tested = found.rules, {one.layer: one for one in found.forced.boundaries}
    print(f"{title}\n{'layer':>8}{'span':>8}{'MI before':>11}   a scale begins here, by")
    for layer, (span, shared) in enumerate(zip(by_rule.spans, by_rule.shared, strict=True)):
        said = ["span"] * (layer in by_rule.span) + ["information"] * (layer in by_rule.information)
        if layer in tested:
            verdict = "supported" if tested[layer].supported else "not supported"
            said.append(f"find_scales: {verdict} (p = {tested[layer].p_value:.2g} under drift)")
        numbers = ("" if np.isnan(number) else f"{number:.2f}" for number in (span, shared))
        print("{:>8}{:>8}{:>11}   {}".format(layer, *numbers, ", ".join(said)))
    count = len(found.chosen.ranges)
    print(f"find_scales, left to choose: {count} scale{'s' * (count > 1)}\n")


def main(model: str = "minilm", texts: int = 60) -> dict[str, Boundaries]:
    answers = {}
    for title, acts in (("walk", walk()), ("walk with a jump at 6", walk(jump=6)), (model, of_model(model, texts))):
        answers[title] = boundaries(acts)
        show(title, answers[title])
    walks = [walk(seed=seed) for seed in range(1, 1 + WALKS)]
    cut = [(bool(found.span), bool(found.information)) for found in map(rules, walks)]
    by_span, by_information = np.sum(cut, 0)
    ours = sum(len(mf.find_scales(acts, n_resamples=0).boundaries) > 0 for acts in walks)
    print(
        f"Of {WALKS} walks without features {by_span} are cut by the span rule, {by_information} by the information rule,"
    )
    print(f"{ours} by find_scales, which is meant to be wrong once in twenty.")
    return answers


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "minilm")
