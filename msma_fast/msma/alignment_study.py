"""How well scales map onto each other, over repeated splits of the texts, beside what nulls do.

Every split: maps fitted to 70 % of the texts, measured on the rest.

maps        procrustes, ridge, low-rank and mlp (published weights), of RMS-normalised rows: `sound` metrics
published   the mlp and the transport of moments of rows as they are: the authors' measures
random      ridge maps between three layers of the stack drawn anew for every split
untrained   ridge maps of the same model with random weights
ablations   mlp with terms of the loss left out, or alone, on the first splits: `sound` and published measures

A gain is `after - before`, or its negative where less is better. Each is tested against zero and against each null, paired
by split (split_statistics.py); Benjamini and Hochberg over all of these tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from msma_fast.activations import Activations
from msma_fast.msma.alignment import MSMA, MapEvaluation
from msma_fast.msma.mlp_map import PAPER, Weights
from msma_fast.msma.paired_statistics import benjamini_hochberg
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sound_metrics import HIGHER_IS_BETTER, INVARIANT
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.split_statistics import repeated

MAPS = ("procrustes", "ridge", "low-rank", "mlp")
TESTED = tuple(name for name in HIGHER_IS_BETTER if name not in INVARIANT)
_FIT = 0.7  # of the texts
_ABLATED = 2  # splits
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
    for number in range(splits):
        order = texts[torch.randperm(len(texts), generator=generator)]
        parts = order[:n_fit].tolist(), order[n_fit:].tolist()

        def run(name: str, rows: Activations, ranges: Any = partition, parts: Any = parts, **options: Any) -> None:
            fit, held = (rows.select(texts=part) for part in parts)
            nulls = options.pop("nulls", True)
            fitted = MSMA(seed=seed, **options).fit(fit, ranges, nulls=nulls)
            found.setdefault(name, []).append(fitted.evaluate(held))
            step()

        for name in MAPS:
            run(name, even, map=name)
        run("published", acts, map="mlp", nulls=False)
        layers = _drawn(partition, generator)
        names = [f"{even.names[layer].rpartition('.')[0]}.{place}" for place, layer in enumerate(layers)]
        apart = Activations.from_arrays([even.layer(layer) for layer in layers], text_ids=even.text_ids, names=names)
        run("random", apart, [(place, place) for place in range(len(layers))], map="ridge", nulls=False)
        if other is not None:
            run("untrained", other, map="ridge", nulls=False)
        if number < _ABLATED:
            for name, weights in list(ABLATIONS.items())[1:]:
                run(f"ablation: {name}", even, map="mlp", nulls=False, **weights._asdict())
    sizes = n_fit, len(texts) - n_fit
    return _told(found, sizes, splits, acts)


def normalized(acts: Activations) -> Activations:
    """Every row divided by its root mean square."""
    return Activations.from_arrays(
        [rms_normalized(acts.layer(layer)) for layer in range(len(acts))], text_ids=acts.text_ids, names=acts.names
    )


def _drawn(partition: ScalePartition, generator: torch.Generator) -> list[int]:
    """As many different layers of every stack as it has scales, in order."""
    layers: list[int] = []
    for first, last in partition.stacks:
        count = sum(first <= start <= last for start, _ in partition.ranges)
        drawn = torch.randperm(last - first + 1, generator=generator)[:count].sort().values
        layers += (first + drawn).tolist()
    return layers


def _told(
    found: dict[str, list[list[MapEvaluation]]], sizes: tuple[int, int], splits: int, acts: Activations
) -> Record:
    pairs = [(one.source, one.target) for one in found[MAPS[0]][0]]
    maps: list[Record] = []
    for place, (source, target) in enumerate(pairs):
        for name in MAPS:
            each = [split[place] for split in found[name]]
            random, bare = ([split[place] for split in found.get(null, [])] for null in ("random", "untrained"))
            metrics = {
                metric: _metric(metric, each, random, bare, sizes)
                for metric in HIGHER_IS_BETTER
                if metric in each[0].sound
            }
            bent = {key: _mean([one.curvature[key][0] for one in each]) for key in each[0].curvature}
            maps.append(
                {"source": source, "target": target, "map": name, "metrics": metrics, "curvature": bent,
                 "mi_source": _mean([one.mi_source for one in each])}
            )  # fmt: skip
    _corrected(maps)
    published = [
        {"source": source, "target": target,
         "metrics": {metric: {part: _mean([getattr(split[place].published[metric], part) for split in found["published"]])
                              for part in ("before", "after", "moments")}
                     for metric in found["published"][0][place].published}}
        for place, (source, target) in enumerate(pairs)
    ]  # fmt: skip
    full = {"ablation: all terms": found["mlp"][: min(splits, _ABLATED)]}
    ablations = [
        {"source": source, "target": target, "terms": name,
         "sound": {metric: _mean([split[place].sound[metric].after for split in (full | found)[f"ablation: {name}"]])
                   for metric in TESTED},
         "published": {metric: _mean([split[place].published[metric].after for split in (full | found)[f"ablation: {name}"]])
                       for metric in ("kl", "mi", "distance_correlation")}}
        for place, (source, target) in enumerate(pairs)
        for name in ABLATIONS
    ]  # fmt: skip
    return {
        "n": acts.n_tokens, "texts": sum(sizes), "texts_fit": sizes[0], "texts_held": sizes[1], "splits": splits,
        "ablated_splits": min(splits, _ABLATED), "family": sum(len(_tests(one)) for one in maps),
        "maps": maps, "published": published, "ablations": ablations,
    }  # fmt: skip


def _metric(
    name: str,
    each: Sequence[MapEvaluation],
    random: Sequence[MapEvaluation],
    untrained: Sequence[MapEvaluation],
    sizes: tuple[int, int],
) -> Record:
    """Means over splits, and the gain with its standard error, beside zero and the nulls."""
    sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
    values = [one.sound[name] for one in each]
    told: Record = {part: _mean([getattr(value, part) for value in values]) for part in values[0]._fields}
    told |= {"random": _mean([one.sound[name].after for one in random])}
    told |= {"untrained": _mean([one.sound[name].after for one in untrained])}
    if name not in TESTED or values[0].before is None:
        return told
    against: dict[str, list[float | None]] = {
        "before": [value.before for value in values],
        "shuffled": [value.shuffled for value in values],
        "moments": [value.moments for value in values],
        "random": [one.sound[name].after for one in random],
        "untrained": [one.sound[name].after for one in untrained],
    }
    told["gains"] = {}
    for null, theirs in against.items():
        if theirs and None not in theirs:
            gains = [sign * (value.after - other) for value, other in zip(values, theirs, strict=True)]  # type: ignore[operator]
            told["gains"][null] = repeated(gains, *sizes)._asdict()
    return told


def _tests(one: Record) -> list[Record]:
    gains = [gain for metric in one["metrics"].values() for gain in metric.get("gains", {}).values()]
    return [gain for gain in gains if gain["p_value"] is not None]


def _corrected(maps: list[Record]) -> None:
    """Writes q_value and survives, whether the gain is positive at 5 % of false discoveries, into every gain."""
    tests = [gain for one in maps for gain in _tests(one)]
    for gain, q in zip(tests, benjamini_hochberg([gain["p_value"] for gain in tests]), strict=True):
        gain |= {"q_value": float(q), "survives": bool(q <= _LEVEL and gain["mean"] > 0)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
