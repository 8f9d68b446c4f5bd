"""How well scales map onto each other, over repeated splits of the texts, beside what nulls do.

Every split: maps fitted to 70 % of the texts, measured on the rest.

maps        procrustes, ridge, low-rank and mlp (published weights), of RMS-normalised rows: `sound` metrics
published   the mlp with and without the error of the pairs, of rows as they are, and the transport of moments: the authors'
            measures
random      ridge maps between other layers as far apart as those that stand for the scales, anywhere in the stack: all there
            are, or twenty, on the first splits
untrained   ridge maps between the same layers of the same model with random weights
ablations   mlp with terms of the loss left out or alone, on the first splits, of RMS-normalised rows: some `sound` measures
            and the authors', not tested

What stands for a scale is chosen once, without a map, on the fitting texts of the first split.

Tested, paired by split and one-sided (split_statistics.py), Benjamini and Hochberg over all: variance explained, retrieval and
kNN divergence of every map against the source itself, the transport of moments and the same kind of map of shuffled pairs, all
of which a gain has to beat (a map to nearly nothing explains more than a transport of moments does), and of the ridge map,
whose null they are, against random weights. Of the ridge map also its rank among random layers, by means over splits: it
survives where at most one in twenty does as well, itself among them; fewer than 19 others are not enough to tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from msma_fast.activations import Activations
from msma_fast.msma.alignment_split import ABLATIONS, LOSSES, Halves, Rows, Split, Step, drawn, measured, named
from msma_fast.msma.fitting import MAPS, representatives
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
_ABLATED, _RANKED = 2, 3  # splits with ablations, and with other layers
_ENOUGH = 19  # other pairs of layers, for a rank to tell anything at the level
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
    scales = Scales.of(partition, acts.names)
    orders = [texts[torch.randperm(len(texts), generator=generator)] for _ in range(splits)]
    layers = representatives(even.select(texts=orders[0][:n_fit].tolist()), scales, "medoid")
    others = {(source, target): drawn(partition, (layers[target][0], layers[source][0]), generator)
              for source, target in scales.pairs()}  # fmt: skip
    found: list[Split] = []
    for number, order in enumerate(orders):

        def halves(each: Activations, order: torch.Tensor = order) -> Halves:
            return each.select(texts=order[:n_fit].tolist()), each.select(texts=order[n_fit:].tolist())

        def one(halves: Any = halves, number: int = number) -> Record:
            rows = Rows(halves(acts), halves(even), None if other is None else halves(other))
            ablated = number < _ABLATED
            beside = others if number < _RANKED else {}
            return measured(rows, scales, layers, beside, seed + number, ablated=ablated, step=step)._asdict()

        found.append(Split(**stages.run_json(f"split-{number}", one)))
    told = _told(found, scales, (n_fit, len(texts) - n_fit), acts)
    return told | {"layers": {name: layer for name, (layer,) in zip(scales.names, layers, strict=True)}}


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
            others = [one.random[key] for one in splits if one.random] if name == "ridge" else []
            bare = [one.untrained[key] for one in splits if one.untrained] if name == "ridge" else []
            metrics = {
                metric: _metric(metric, [one[metric] for one in each], others, bare, sizes) for metric in each[0]
            }
            bent = [one.curvature[name][key] for one in splits]
            curvature = {key: _mean([one[key] for one in bent]) for key in bent[0]}
            maps.append(who | {"map": name, "metrics": metrics, "curvature": curvature})
        for name in LOSSES:
            values = [one.published[name][key] for one in splits]
            measures = {metric: _published(metric, [one[metric] for one in values], sizes) for metric in PUBLISHED}
            published.append(who | {"loss": name, "metrics": measures})
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
    others: list[list[dict[str, float]]],
    untrained: list[dict[str, float]],
    sizes: tuple[int, int],
) -> Record:
    """Means over splits, the standard error of the gain over the source, the gains that are tested, and how many of the other
    layers do at least as well."""
    told: Record = {part: _mean([value[part] for value in values]) for part in values[0]}
    sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
    after, before = [value["after"] for value in values], [value["before"] for value in values]
    change = _gain(after, before, 1.0, sizes)
    told["change"] = change and {key: change[key] for key in ("mean", "standard_error")}
    told["gains"] = {}
    if name not in TESTED:
        return told
    against: dict[str, Sequence[float | None]] = {
        null: [value[null] for value in values] for null in ("before", "moments", "shuffled")
    }
    if untrained:
        against["untrained"] = [one[name] for one in untrained]
        told["untrained"] = _mean(against["untrained"])
    gains = {null: _gain(after, theirs, sign, sizes) for null, theirs in against.items()}
    told["gains"] = {null: gain for null, gain in gains.items() if gain is not None}
    if others and others[0]:
        means = [math.fsum(split[place][name] for split in others) / len(others) for place in range(len(others[0]))]
        own = math.fsum(each or 0.0 for each in after[: len(others)]) / len(others)  # of the same splits
        as_good = sum(sign * (each - own) >= 0 for each in means)
        told |= {"random": _mean(means), "random_as_good": as_good, "random_pairs": len(means)}
        told["gains"]["random"] = {"mean": sign * (own - math.fsum(means) / len(means)), "p_value": None}
        if len(means) >= _ENOUGH:
            told["gains"]["random"]["survives"] = (1 + as_good) / (1 + len(means)) <= _LEVEL
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
    """None where one side is not known. p_value: one-sided, of no gain; 1 of a tie in every split, None of another difference
    that does not vary."""
    both = [(a, b) for a, b in zip(after, other, strict=False) if a is not None and b is not None]
    if not both or len(both) < len(after):
        return None
    found = repeated([sign * (a - b) for a, b in both], *sizes, size=max(max(abs(a), abs(b)) for a, b in both))
    p = found.p_value
    one_sided = None if p is None else p / 2 if found.mean > 0 else 1 - p / 2
    if p is None and len(both) > 1 and found.mean <= 1e-9:
        one_sided = 1.0
    return found._asdict() | {"p_value": one_sided}


def _corrected(family: Sequence[Record]) -> None:
    """Writes q_value and survives, whether the gain is one at 5 % of false discoveries, into every gain that is tested."""
    tests = [gain for gain in family if gain["p_value"] is not None]
    for gain, q in zip(tests, benjamini_hochberg([gain["p_value"] for gain in tests]), strict=True):
        gain |= {"q_value": float(q), "survives": bool(q <= _LEVEL)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
