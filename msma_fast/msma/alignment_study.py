"""How well scales map onto each other, over repeated splits of the texts, beside what nulls do.

Every split: maps fitted to 70 % of the texts, measured on the rest.

maps        procrustes, ridge, low-rank and mlp (published weights), of RMS-normalised rows: `sound` metrics
published   the mlp of rows as they are, and the transport of moments: the authors' measures
random      ridge maps between layers as far apart as those that stand for the scales, anywhere in the stack: all there are, or
            eight drawn for each split
untrained   ridge maps of the same model with random weights
ablations   mlp with terms of the loss left out or alone, on the first splits, of RMS-normalised rows: some `sound` measures
            and the authors', not tested

Tested, paired by split and one-sided (split_statistics.py), Benjamini and Hochberg over all: variance explained, retrieval and
kNN divergence of every map against the transport of moments, and of the ridge map, which they are, against random layers and
random weights. Other comparisons are shown: that a map of pairs beats one of shuffled pairs is no finding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from msma_fast.activations import Activations
from msma_fast.msma.alignment_split import ABLATIONS, Halves, Rows, Split, Step, measured, named
from msma_fast.msma.fitting import MAPS
from msma_fast.msma.paired_statistics import benjamini_hochberg
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sound_metrics import HIGHER_IS_BETTER
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.split_statistics import repeated
from msma_fast.msma.stages import Stages

SHOWN = ("r2", "retrieval", "knn_kl", "distortion", "mi")  # of ablations
TESTED = ("r2", "retrieval", "knn_kl")
PUBLISHED = {"kl": -1.0, "mi": 1.0, "distance_correlation": 1.0}  # and which way is better
_FIT = 0.7  # of the texts
_ABLATED = 2  # splits
_LEVEL = 0.05

Record = dict[str, Any]


def steps(splits: int, untrained: bool) -> int:
    """How often `study` calls step."""
    return splits * (len(MAPS) + 2 + untrained) + min(splits, _ABLATED) * (len(ABLATIONS) - 1)


def study(
    acts: Activations,
    untrained: Activations | None,
    partition: ScalePartition,
    splits: int,
    seed: int,
    step: Step,
    stages: Stages,
) -> Record:
    """The `alignment` part of an experiment's results, JSON-able. acts and untrained: the same tokens, with text ids; stages:
    where splits that are done are kept. Raises ValueError for fewer than 10 texts.
    """
    if acts.text_ids is None or len(acts.text_ids.unique()) < 10:
        raise ValueError("acts: expected activations of at least 10 texts, with text_ids")
    texts, generator = acts.text_ids.unique(), torch.Generator().manual_seed(seed)
    n_fit = int(_FIT * len(texts))
    even, other = normalized(acts), None if untrained is None else normalized(untrained)
    found: list[Split] = []
    for number in range(splits):
        order = texts[torch.randperm(len(texts), generator=generator)]
        parts = order[:n_fit].tolist(), order[n_fit:].tolist()

        def halves(each: Activations, parts: Any = parts) -> Halves:
            return each.select(texts=parts[0]), each.select(texts=parts[1])

        def told(halves: Any = halves, number: int = number) -> Record:
            rows = Rows(halves(acts), halves(even), None if other is None else halves(other))
            return measured(rows, partition, seed + number, ablated=number < _ABLATED, step=step)._asdict()

        found.append(Split(**stages.run_json(f"split-{number}", told)))
    return _told(found, Scales.of(partition, acts.names), (n_fit, len(texts) - n_fit), acts)


def normalized(acts: Activations) -> Activations:
    """Every row divided by its root mean square."""
    return Activations.from_arrays(
        [rms_normalized(acts.layer(layer)) for layer in range(len(acts))], text_ids=acts.text_ids, names=acts.names
    )


def _told(splits: list[Split], scales: Scales, sizes: tuple[int, int], acts: Activations) -> Record:
    ablated = [one for one in splits if one.ablations]
    maps: list[Record] = []
    published: list[Record] = []
    ablations: list[Record] = []
    for pair in scales.pairs():
        key, who = named(pair), {"source": scales.names[pair[0]], "target": scales.names[pair[1]]}
        for name in MAPS:
            each = [one.maps[name][key] for one in splits]
            # The nulls of a ridge map are ridge maps.
            others = {} if name != "ridge" else {
                "random": [one.random[key] for one in splits],
                "untrained": [[one.untrained[key]] for one in splits if one.untrained],
            }  # fmt: skip
            metrics = {metric: _metric(metric, [one[metric] for one in each], others, sizes) for metric in each[0]}
            bent = [one.curvature[name][key] for one in splits]
            curvature = {key: _mean([one[key] for one in bent]) for key in bent[0]}
            maps.append(who | {"map": name, "metrics": metrics, "curvature": curvature})
        values = [one.published[key] for one in splits]
        measures = {name: _published(name, [one[name] for one in values], sizes) for name in PUBLISHED}
        published.append(who | {"metrics": measures})
        for name in ABLATIONS if ablated else ():
            both = [one.ablations[name][key] for one in ablated]
            ablations.append(who | {
                "terms": name,
                "sound": {metric: _mean([sound[metric]["after"] for sound, _ in both]) for metric in SHOWN},
                "published": {metric: _mean([told[metric]["after"] for _, told in both]) for metric in PUBLISHED},
            })  # fmt: skip
    family = [gain for one in maps for metric in one["metrics"].values() for gain in metric["gains"].values()]
    _corrected(family)
    _corrected([each["gain"] for one in published for each in one["metrics"].values() if each["gain"] is not None])
    return {
        "n": acts.n_tokens, "texts": sum(sizes), "texts_fit": sizes[0], "texts_held": sizes[1], "splits": len(splits),
        "ablated_splits": len(ablated), "family": sum(one["p_value"] is not None for one in family),
        "maps": maps, "published": published, "ablations": ablations,
    }  # fmt: skip


def _metric(
    name: str,
    values: Sequence[dict[str, float | None]],
    others: dict[str, list[list[dict[str, float]]]],
    sizes: tuple[int, int],
) -> Record:
    """Means over splits, the standard error of the gain over the source, the gains that are tested, and of `random` how large
    a share of the drawn layers does at least as well."""
    told: Record = {part: _mean([value[part] for value in values]) for part in values[0]}
    against: dict[str, list[float | None]] = {"moments": [value["moments"] for value in values]}
    for null, theirs in others.items() if name in TESTED else ():
        against[null] = [_mean([one[name] for one in split]) for split in theirs]
        told[null] = _mean(against[null])
    sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
    after, before = [value["after"] for value in values], [value["before"] for value in values]
    told["change"] = _gain(after, before, 1.0, sizes)
    gains = {null: _gain(after, theirs, sign, sizes) for null, theirs in against.items() if name in TESTED}
    if name in TESTED and others.get("random"):
        drawn = [sign * (one[name] - (value or 0.0)) >= 0 for value, split in zip(after, others["random"], strict=True)
                 for one in split]  # fmt: skip
        told["random_at_least"] = sum(drawn) / len(drawn) if drawn else None
    told["gains"] = {null: gain for null, gain in gains.items() if gain is not None}
    return told


def _published(name: str, values: Sequence[dict[str, float | None]], sizes: tuple[int, int]) -> Record:
    """Means over splits, and the gain over moments alone; of the divergence in logarithms, as it falls by orders."""
    told: Record = {part: _mean([value[part] for value in values]) for part in ("before", "after", "moments")}
    after, moments = ([_log(value[part]) if name == "kl" else value[part] for value in values]
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
