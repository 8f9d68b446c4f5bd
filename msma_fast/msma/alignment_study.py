"""How well scales map onto each other, over repeated splits of the texts, beside what nulls do.

Every split: maps fitted to 70 % of the texts, measured on the rest.

maps        procrustes, ridge, low-rank and mlp (published weights), of RMS-normalised rows: `sound` metrics
published   the mlp and the transport of moments of rows as they are: the authors' measures
random      ridge maps between layers as far apart as those that stand for the scales, anywhere in the stack, three a split
untrained   ridge maps of the same model with random weights
ablations   mlp with terms of the loss left out, or alone, on the first splits: `sound` and published measures, not tested

Tested, paired by split and one-sided (split_statistics.py), Benjamini and Hochberg over all: variance explained, retrieval and
kNN divergence of every map against the transport of moments, and of the ridge map, which they are, against random layers and
random weights. Other comparisons are shown: that a map of pairs beats one of shuffled pairs is no finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from msma_fast.activations import Activations
from msma_fast.msma.alignment import MSMA, MapEvaluation
from msma_fast.msma.mlp_map import PAPER, Weights
from msma_fast.msma.paired_statistics import benjamini_hochberg
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sound_metrics import HIGHER_IS_BETTER
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.split_statistics import repeated

MAPS = ("procrustes", "ridge", "low-rank", "mlp")
SHOWN = ("r2", "retrieval", "knn_kl", "distortion", "mi")  # of ablations
TESTED = ("r2", "retrieval", "knn_kl")
PUBLISHED = {"kl": -1.0, "mi": 1.0, "distance_correlation": 1.0}  # and which way is better
_FIT = 0.7  # of the texts
_ABLATED = 2  # splits
_RANDOM = 3  # pairs of layers a split
_LEVEL = 0.05

ABLATIONS = {
    "all terms": PAPER,
    "no geometry": PAPER._replace(geometry=0.0),
    "no information": PAPER._replace(information=0.0),
    "no curvature": PAPER._replace(curvature=0.0),
    "geometry alone": Weights(PAPER.geometry, 0.0, 0.0),
    "information alone": Weights(0.0, PAPER.information, 0.0),
    "curvature alone": Weights(0.0, 0.0, PAPER.curvature),
    "the pairs' error alone": Weights(0.0, 0.0, 0.0),
}

Step = Callable[[], None]
Record = dict[str, Any]


def steps(splits: int, untrained: bool) -> int:
    """How often `study` calls step."""
    return splits * (len(MAPS) + 2 + untrained) + min(splits, _ABLATED) * (len(ABLATIONS) - 1)


def study(
    acts: Activations, untrained: Activations | None, partition: ScalePartition, splits: int, seed: int, step: Step
) -> Record:
    """The `alignment` part of an experiment's results, JSON-able. acts and untrained: the same tokens, with text ids.

    Raises ValueError for fewer than 10 texts.
    """
    if acts.text_ids is None or len(acts.text_ids.unique()) < 10:
        raise ValueError("acts: expected activations of at least 10 texts, with text_ids")
    texts, generator = acts.text_ids.unique(), torch.Generator().manual_seed(seed)
    n_fit = int(_FIT * len(texts))
    even, other = normalized(acts), None if untrained is None else normalized(untrained)
    found: dict[str, list[list[MapEvaluation]]] = {}
    random: dict[int, list[list[MapEvaluation]]] = {}  # by split and map
    for number in range(splits):
        order = texts[torch.randperm(len(texts), generator=generator)]
        parts = order[:n_fit].tolist(), order[n_fit:].tolist()

        def run(name: str, rows: Activations, ranges: Any = partition, parts: Any = parts, **options: Any) -> MSMA:
            fit, held = (rows.select(texts=part) for part in parts)
            nulls = options.pop("nulls", True)
            fitted = MSMA(seed=seed, **options).fit(fit, ranges, nulls=nulls)
            found.setdefault(name, []).append(fitted.evaluate(held))
            step()
            return fitted

        for name in MAPS:
            scales = run(name, even, map=name)
        run("published", acts, map="mlp", nulls=False)
        for span in _spans(scales):
            drawn = []
            for _ in range(_RANDOM):
                layers = _drawn(partition, span, generator)
                fit, held = (even.select(layers=layers, texts=part) for part in parts)
                fitted = MSMA(map="ridge", seed=seed).fit(fit, [(0, 0), (1, 1)], nulls=False)
                drawn += fitted.evaluate(held)
            random.setdefault(number, []).append(drawn)
        step()
        if other is not None:
            run("untrained", other, map="ridge", nulls=False)
        if number < _ABLATED:
            for name, weights in list(ABLATIONS.items())[1:]:
                run(f"ablation: {name}", even, map="mlp", nulls=False, **weights._asdict())
    sizes = n_fit, len(texts) - n_fit
    return _told(found, random, sizes, splits, acts)


def normalized(acts: Activations) -> Activations:
    """Every row divided by its root mean square."""
    return Activations.from_arrays(
        [rms_normalized(acts.layer(layer)) for layer in range(len(acts))], text_ids=acts.text_ids, names=acts.names
    )


def _spans(fitted: MSMA) -> list[tuple[int, int]]:
    """(target, source): the layers that stand for the scales of every map; of means of layers the first ones."""
    stand = {name: layers[0] for name, layers in fitted.representatives.items()}
    return [(stand[target], stand[source]) for source, target in fitted.pairs]


def _drawn(partition: ScalePartition, span: tuple[int, int], generator: torch.Generator) -> list[int]:
    """Two layers of the span's stack as far apart as it."""
    first, last = next((first, last) for first, last in partition.stacks if first <= span[0] <= last)
    apart = span[1] - span[0]
    start = first + int(torch.randint(last - apart - first + 1, (1,), generator=generator))
    return [start, start + apart]


def _told(
    found: dict[str, list[list[MapEvaluation]]],
    random: dict[int, list[list[MapEvaluation]]],
    sizes: tuple[int, int],
    splits: int,
    acts: Activations,
) -> Record:
    pairs = [(one.source, one.target) for one in found[MAPS[0]][0]]
    maps: list[Record] = []
    for place, (source, target) in enumerate(pairs):
        for name in MAPS:
            each = [split[place] for split in found[name]]
            # The nulls of a ridge map are ridge maps.
            others = {} if name != "ridge" else {
                "random": [random[number][place] for number in range(splits)],
                "untrained": [[split[place]] for split in found.get("untrained", [])],
            }  # fmt: skip
            metrics = {metric: _metric(metric, each, others, sizes) for metric in each[0].sound}
            bent = {key: _mean([one.curvature[key][0] for one in each]) for key in each[0].curvature}
            maps.append({"source": source, "target": target, "map": name, "metrics": metrics, "curvature": bent})
    published: list[Record] = [
        {"source": source, "target": target,
         "metrics": {metric: _published(metric, [split[place] for split in found["published"]], sizes)
                     for metric in PUBLISHED}}
        for place, (source, target) in enumerate(pairs)
    ]  # fmt: skip
    family = [gain for one in maps for metric in one["metrics"].values() for gain in metric["gains"].values()]
    _corrected(family)
    _corrected([each["gain"] for one in published for each in one["metrics"].values() if each["gain"] is not None])
    whole = found | {"ablation: all terms": found["mlp"][: min(splits, _ABLATED)]}
    ablations = [
        {"source": source, "target": target, "terms": name,
         "sound": {metric: _mean([split[place].sound[metric].after for split in whole[f"ablation: {name}"]])
                   for metric in SHOWN},
         "published": {metric: _mean([split[place].published[metric].after for split in whole[f"ablation: {name}"]])
                       for metric in PUBLISHED}}
        for place, (source, target) in enumerate(pairs)
        for name in ABLATIONS
    ]  # fmt: skip
    return {
        "n": acts.n_tokens, "texts": sum(sizes), "texts_fit": sizes[0], "texts_held": sizes[1], "splits": splits,
        "ablated_splits": min(splits, _ABLATED), "family": sum(one["p_value"] is not None for one in family),
        "maps": maps, "published": published, "ablations": ablations,
    }  # fmt: skip


def _metric(
    name: str, each: Sequence[MapEvaluation], others: dict[str, list[list[MapEvaluation]]], sizes: tuple[int, int]
) -> Record:
    """Means over splits, the standard error of the gain over the source, and the gains that are tested."""
    values = [one.sound[name] for one in each]
    told: Record = {part: _mean([getattr(value, part) for value in values]) for part in values[0]._fields}
    against: dict[str, list[float | None]] = {"moments": [value.moments for value in values]}
    for null, theirs in others.items():
        against[null] = [_mean([one.sound[name].after for one in split]) for split in theirs]
        told[null] = _mean(against[null])
    sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
    after, before = [value.after for value in values], [value.before for value in values]
    told["change"] = _gain(after, before, 1.0, sizes)
    gains = {null: _gain(after, theirs, sign, sizes) for null, theirs in against.items() if name in TESTED}
    told["gains"] = {null: gain for null, gain in gains.items() if gain is not None}
    return told


def _published(name: str, each: Sequence[MapEvaluation], sizes: tuple[int, int]) -> Record:
    """Means over splits, and the gain over moments alone; of the divergence in logarithms, as it falls by orders."""
    values = [one.published[name] for one in each]
    told: Record = {part: _mean([getattr(value, part) for value in values]) for part in ("before", "after", "moments")}
    after, moments = ([_log(getattr(value, part)) if name == "kl" else getattr(value, part) for value in values]
                      for part in ("after", "moments"))  # fmt: skip
    return told | {"gain": _gain(after, moments, PUBLISHED[name], sizes)}


def _log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else math.log(value)


def _gain(
    after: Sequence[float | None], other: Sequence[float | None], sign: float, sizes: tuple[int, int]
) -> Record | None:
    """None where one side is not known. p_value: one-sided, of no gain."""
    both = [(a, b) for a, b in zip(after, other, strict=False) if a is not None and b is not None]
    if not both or len(both) < len(after):
        return None
    found = repeated([sign * (a - b) for a, b in both], *sizes, size=max(max(abs(a), abs(b)) for a, b in both))
    p = found.p_value
    one_sided = None if p is None else p / 2 if found.mean > 0 else 1 - p / 2
    return found._asdict() | {"p_value": one_sided}


def _corrected(family: Sequence[Record]) -> None:
    """Writes q_value and survives, whether the gain is one at 5 % of false discoveries, into every gain that is tested."""
    tests = [gain for gain in family if gain["p_value"] is not None]
    for gain, q in zip(tests, benjamini_hochberg([gain["p_value"] for gain in tests]), strict=True):
        gain |= {"q_value": float(q), "survives": bool(q <= _LEVEL)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
