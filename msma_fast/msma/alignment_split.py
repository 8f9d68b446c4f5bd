"""One split of the texts: every map and null of alignment_study.py, fitted to one part and measured on the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch

from msma_fast.activations import Activations
from msma_fast.msma.evaluation import Ground, Values
from msma_fast.msma.fitting import MAPS, Fitted, Frame, Pair, Recipe, held_out
from msma_fast.msma.maps import ridge
from msma_fast.msma.mlp_map import PAPER, Weights
from msma_fast.msma.scale_names import Scales
from msma_fast.msma.scales import ScalePartition
from msma_fast.msma.sides import Side

_RANDOM = 20  # pairs of layers

PUBLISHED_LOSS = PAPER._replace(pairs=0.0)  # ours has the error of the pairs as well
ABLATIONS = {
    "published terms": PUBLISHED_LOSS,
    "published terms, no geometry": PUBLISHED_LOSS._replace(geometry=0.0),
    "published terms, no information": PUBLISHED_LOSS._replace(information=0.0),
    "published terms, no curvature": PUBLISHED_LOSS._replace(curvature=0.0),
    "geometry alone": Weights(PAPER.geometry, 0.0, 0.0, 0.0),
    "information alone": Weights(0.0, PAPER.information, 0.0, 0.0),
    "curvature alone": Weights(0.0, 0.0, PAPER.curvature, 0.0),
    "with pairs": PAPER,
    "with pairs, no geometry": PAPER._replace(geometry=0.0),
    "with pairs, no information": PAPER._replace(information=0.0),
    "with pairs, no curvature": PAPER._replace(curvature=0.0),
    "pairs alone": Weights(0.0, 0.0, 0.0),
}

LOSSES = {"with pairs": PAPER, "published terms": PUBLISHED_LOSS}  # of rows as they are

Step = Callable[[], None]
Halves = tuple[Activations, Activations]  # to fit, and to measure on
Layers = Sequence[tuple[int, ...]]  # by scale
Others = dict[Pair, list[tuple[int, int]]]


class Rows(NamedTuple):
    """As they are; divided by their root mean square; those of random weights, likewise."""

    plain: Halves
    even: Halves
    untrained: Halves | None


Told = dict[str, dict[str, float | None]]  # Values by metric


class Split(NamedTuple):
    """What one split says, JSON-able, by pair of scales, whose key is `named`: maps and curvature by kind of map; published by
    loss; random: pair metrics of every drawn pair of layers, none after the first splits; untrained: those of random weights;
    ablations: [sound, published] by terms, none after the first splits."""

    maps: dict[str, dict[str, Told]]
    curvature: dict[str, dict[str, dict[str, float]]]
    published: dict[str, dict[str, Told]]
    random: dict[str, list[dict[str, float]]]
    untrained: dict[str, dict[str, float]]
    ablations: dict[str, dict[str, list[Told]]]


def named(pair: Pair) -> str:
    return f"{pair[0]}-{pair[1]}"


def measured(
    rows: Rows, scales: Scales, layers: Layers, others: Others, seed: int, *, ablated: bool, step: Step
) -> Split:
    """layers: what stands for each scale; others: pairs of layers (shallow, deep) beside each pair of scales; seed: of the
    training and of the texts held out for it."""
    frame, ground = _framed(rows.even, scales, layers, seed)

    def fitted(recipe: Recipe, nulls: bool = False, frame: Frame = frame) -> dict[Pair, Fitted]:
        return {pair: frame.fit(pair, recipe, nulls=nulls) for pair in scales.pairs()}

    found = Split({}, {}, {}, {}, {}, {})
    learned: dict[Pair, Fitted] = {}
    for name in MAPS:
        learned = fitted(Recipe(name, seed=seed), nulls=True)
        found.maps[name] = {named(pair): _told(ground[pair].sound(each)) for pair, each in learned.items()}
        found.curvature[name] = {
            named(pair): {key: own for key, (own, _) in ground[pair].curvature(each, seed).items()}
            for pair, each in learned.items()
        }
        step()
    raw, beside = _framed(rows.plain, scales, layers, seed)
    for name, weights in LOSSES.items():
        own = fitted(Recipe("mlp", weights, seed=seed), frame=raw)
        found.published[name] = {named(pair): _told(beside[pair].published(each)) for pair, each in own.items()}
    step()
    if others:
        found.random.update(_random(rows.even, others, seed))
    step()
    if rows.untrained is not None:
        bare, under = _framed(rows.untrained, scales, layers, seed)
        for pair, each in fitted(Recipe("ridge", seed=seed), frame=bare).items():
            found.untrained[named(pair)] = under[pair].pairs(each.forward)
        step()
    for name, weights in ABLATIONS.items() if ablated else ():
        # The map of all terms is at hand: the last of MAPS.
        own = learned if weights == PAPER else fitted(Recipe("mlp", weights, seed=seed))
        found.ablations[name] = {}
        for pair, each in own.items():
            alone = each._replace(shuffled=None)
            found.ablations[name][named(pair)] = [
                _told(ground[pair].sound(alone)),
                _told(ground[pair].published(alone)),
            ]
        if weights != PAPER:
            step()
    return found


def _framed(rows: Halves, scales: Scales, layers: Layers, seed: int) -> tuple[Frame, dict[Pair, Ground]]:
    frame = Frame(rows[0], layers, seed)
    sides = frame.sides
    return frame, {
        pair: Ground(sides[pair[0]], sides[pair[1]], rows[1], frame.moments(pair)) for pair in scales.pairs()
    }


def _told(values: dict[str, Values]) -> Told:
    return {name: one._asdict() for name, one in values.items()}


def _random(rows: Halves, others: Others, seed: int) -> dict[str, list[dict[str, float]]]:
    """Pair metrics of ridge maps between other layers, in their order."""
    fit, rest = rows
    held = held_out(fit, torch.Generator().manual_seed(seed))

    @cache
    def side(layer: int) -> Side:
        return Side.of(fit, (layer,))

    @cache
    def metrics(shallow: int, deep: int) -> dict[str, float]:
        x, y = (side(layer).standard(side(layer).rows(fit)) for layer in (deep, shallow))
        return Ground(side(deep), side(shallow), rest, None).pairs(ridge(x, y, held.to(x.device)))

    return {named(pair): [metrics(*each) for each in drawn] for pair, drawn in others.items()}


def drawn(partition: ScalePartition, span: tuple[int, int], generator: torch.Generator) -> list[tuple[int, int]]:
    """Up to twenty other pairs of layers (shallow, deep) of the span's stack, as far apart as it."""
    first, last = next((first, last) for first, last in partition.stacks if first <= span[0] <= last)
    apart = span[1] - span[0]
    others = [start for start in range(first, last - apart + 1) if start != span[0]]
    chosen = torch.randperm(len(others), generator=generator)[:_RANDOM].tolist()
    return [(others[place], others[place] + apart) for place in sorted(chosen)]
