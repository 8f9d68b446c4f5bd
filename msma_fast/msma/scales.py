"""Scales of a model: contiguous ranges of its layers, each boundary tested against a stack that only drifts.

A cut into a given number of runs exists for every stack, a featureless one too; so a boundary is reported with what speaks
for it, and "not supported" where the layers may as well drift (msma/drift.py). The sources of the idea, without the test:
Multi-Scale Manifold Alignment (arXiv 2505.20333), with fixed ranges, and MSPGT (arXiv 2505.18244).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from msma_fast import _checks
from msma_fast.activations import Activations
from msma_fast.fisher import Readout
from msma_fast.msma import drift, gain, scale_signals, segmentation
from msma_fast.msma.naming import stack_of
from msma_fast.msma.scale_signals import PAIRS, SIMILARITIES, VALUES, Signal, Source
from msma_fast.msma.spaces import rms_normalized, z_scores

PAPER = {
    "gpt2": ((0, 2), (3, 8), (9, 12)),
    "bert": ((0, 4), (5, 8), (9, 12)),
    "roberta": ((0, 4), (5, 8), (9, 12)),
    "t5": ((0, 2), (3, 4), (5, 6)),
}
_NAMES = {1: ("all",), 2: ("local", "global"), 3: ("local", "intermediate", "global")}
LEVEL = 0.05
_NEAR = 1  # layers within which two boundaries are the same


class TooFewRowsError(ValueError):
    """Rows, or texts, are too few for the neighbours asked for."""


class Boundary(NamedTuple):
    """layer: the first one after it. p_value of a drift showing as much (the smallest is 1 / 4001); supported: p_value <= 0.05
    and, where there are resamples, found within a layer in at least half of them; interval: the middle 95 % of where they put
    it, found: the share that put it within a layer, None without resamples, drawn: where each put it; agrees: per signal,
    whether its own best cut into as many runs has one there; without_massive, untrained: whether it is found without massive
    coordinates, and in an untrained model of the same configuration (None where not asked, and where a stack is too short to
    tell); rescaled: whether it is found when every coordinate is divided by its standard deviation, which the gain of a norm
    does not change; what is not is not supported."""

    layer: int
    p_value: float
    supported: bool
    interval: tuple[int, int] | None
    found: float | None
    agrees: dict[str, bool]
    without_massive: bool | None
    rescaled: bool | None
    untrained: bool | None
    drawn: tuple[int, ...] = ()


class ScalePartition(NamedTuple):
    """ranges: (first, last) layer of each scale, both included, none across two stacks; boundaries: between ranges of a stack,
    in order; names of the L layers; signals: what it was told from. Empty boundaries: one scale a stack.

    gain: what the boundaries save of the stacks' spread (msma/gain.py), of the mean similarity; gain_p_value: the share of
    stacks that only drift whose best cut into as many runs saves as much (the smallest is 1 / 200), None without boundaries
    and where stacks are too short to tell; gain_untrained: what the best cut of the untrained model saves. All None of
    baselines."""

    ranges: tuple[tuple[int, int], ...]
    boundaries: tuple[Boundary, ...]
    names: tuple[str, ...]
    stacks: tuple[tuple[int, int], ...]
    gain: float | None = None
    gain_p_value: float | None = None
    gain_untrained: float | None = None
    signals: dict[str, Signal] | None = None

    @classmethod
    def uncut(cls, names: Sequence[str]) -> ScalePartition:
        """Of layers that nobody has looked at: no ranges, for `thirds` and `fixed`."""
        return cls((), (), tuple(names), tuple(stacks_of(names)))

    @property
    def supported(self) -> bool:
        """Whether every boundary is; of a partition without boundaries, True."""
        return all(boundary.supported for boundary in self.boundaries)

    def labels(self) -> list[int]:
        """(L,) the number of each layer's range."""
        return [number for number, (first, last) in enumerate(self.ranges) for _ in range(first, last + 1)]

    def scale_names(self) -> list[str]:
        """local, intermediate, global where a stack has two or three ranges, else numbers."""
        names: list[str] = []
        for first, last in self.stacks:
            count = sum(first <= start <= last for start, _ in self.ranges)
            names += _NAMES.get(count, [f"scale {number + 1}" for number in range(count)])
        return names

    def thirds(self) -> ScalePartition:
        """The baseline that looks at nothing: each stack in three runs of equal length, the first ones longer."""
        ranges: list[tuple[int, int]] = []
        for first, last in self.stacks:
            parts = np.array_split(np.arange(first, last + 1), 3)
            ranges += [(int(part[0]), int(part[-1])) for part in parts if len(part)]
        return self._baseline(ranges)

    def fixed(self, ranges: str | Sequence[tuple[int, int]]) -> ScalePartition:
        """Given ranges (first, last), or those of the MSMA paper by model: "gpt2", "bert", "roberta", "t5" (each stack).

        Raises ValueError where they do not cover the layers once, in order, or cross stacks.
        """
        if isinstance(ranges, str):
            if ranges not in PAPER:
                raise ValueError(f"ranges: expected one of {sorted(PAPER)} or pairs of layers, got {ranges!r}")
            given = [(first + a, first + b) for first, _ in self.stacks for a, b in PAPER[ranges]]
        else:
            given = [(int(a), int(b)) for a, b in ranges]
        covered = [layer for a, b in given for layer in range(a, b + 1)]
        if covered != list(range(len(self.names))):
            raise ValueError(f"ranges: expected every one of {len(self.names)} layers once, in order, got {given}")
        if any(a <= last < b for a, b in given for _, last in self.stacks):
            raise ValueError(f"ranges: expected none across the stacks {list(self.stacks)}, got {given}")
        return self._baseline(given)

    def _baseline(self, ranges: Sequence[tuple[int, int]]) -> ScalePartition:
        return ScalePartition(tuple(ranges), (), self.names, self.stacks)

    def __str__(self) -> str:
        lines = [
            f"{scale}: {self.names[first]} to {self.names[last]}"
            for scale, (first, last) in zip(self.scale_names(), self.ranges, strict=True)
        ]
        for one in self.boundaries:
            verdict = "supported" if one.supported else "not supported"
            where = ""
            if one.interval is not None:
                low, high = (self.names[layer] for layer in one.interval)
                where = f"; {low} to {high} in resamples, {one.found:.0%} within a layer"
            lines.append(
                f"boundary before {self.names[one.layer]}: {verdict} (p = {one.p_value:.2g} under drift{where})"
            )
        if self.gain is not None and self.boundaries:
            p = "" if self.gain_p_value is None else f" (p = {self.gain_p_value:.2g} under drift)"
            other = "" if self.gain_untrained is None else f", {self.gain_untrained:.0%} untrained"
            lines.append(f"the boundaries save {self.gain:.0%} of the spread between layers{p}{other}")
        return "\n".join(lines)


def find_scales(
    acts: Any,
    *,
    signals: Sequence[str] = ("overlap", "cka", "dimension"),
    n_scales: int | str = "auto",
    n_resamples: int = 20,
    seed: int = 0,
    k: int = 15,
    untrained: Any = None,
    readout: Readout | None = None,
) -> ScalePartition:
    """The scales of a model's layers, each boundary tested against drift.

    acts: Activations, or a list of (n, d_l) arrays of the same n tokens, in order of depth. signals: at least one similarity,
    "overlap" or "cka", which place the boundaries, and others whose agreement is told: "dimension"; "information" (excess over
    the within-token null), "token_id", "next_token" and "position" (what a layer knows of them), which need the ids of texts
    and tokens; "attention_span", which needs activations collected with it; "fisher_trace", which needs `readout`
    (`fisher.readout(model)`). n_scales
    "auto": as many as are supported, which may be one; a number: that many in each stack, supported or not. n_resamples:
    random halves of the texts for the intervals (of the rows where texts are unknown; none of fewer than four); k: neighbours
    of the overlap; untrained: activations of an untrained model of the same configuration, in which a boundary should not
    be. Encoder and decoder are cut apart.

    Cost: the neighbours of every layer and L^2 / 2 matrix products n d^2, once; 1 + n_resamples times those of neighbouring
    layers alone; information 2 L^2 KSG estimates of 2,000 rows. The test takes the noise about the trend for normal, and tests
    each stack at 0.05 (docs/scales.md says how often it is wrong). Below 7 layers a stack nothing can be told from drift:
    p_value is 1. Raises ValueError / TypeError for unknown signals and those that ids, a read-out or rows are missing for,
    n_scales that is no count, fewer than two layers, too few rows for k, and an overlap that nothing is known of because all
    tokens are of one text. When not to use it: to name what a range of layers does; ranges say where layers change, not what
    they hold.
    """
    layers = scale_signals.activations(acts)
    if isinstance(signals, str):
        raise TypeError(f"signals: expected a sequence of names, got the string {signals!r}")
    known = (*SIMILARITIES, *PAIRS, *VALUES)
    asked = list(dict.fromkeys(signals))
    if not set(asked) <= set(known) or not set(asked) & set(SIMILARITIES):
        raise ValueError(
            f"signals: expected some of {list(known)}, one of {list(SIMILARITIES)} among them, got {signals!r}"
        )
    if len(layers) < 2:
        raise ValueError(f"acts: expected at least two layers, got {len(layers)}")
    count = None if n_scales == "auto" else _checks.integer("n_scales", n_scales, at_least=1)
    _checks.integer("n_resamples", n_resamples, at_least=0)
    _checks.integer("seed", seed, at_least=0)
    stacks = stacks_of(layers.names)
    if count is not None and any(last - first + 1 < count for first, last in stacks):
        raise ValueError(f"n_scales: expected at most the layers of a stack, {stacks}, got {count}")

    paired = [name for name in asked if name in SIMILARITIES]
    draws, _ = scale_signals.halves(layers.text_ids, layers.n_tokens, n_resamples, seed)
    if "overlap" in paired:
        enough(layers, draws, k)
    rows = _rows(layers)
    measured = _similarities(rows, layers, paired, k, whole=True)
    for name, signal in measured.items():
        if not np.isfinite(np.diagonal(signal, 1)).any():
            raise TooFewRowsError(
                f"signals: expected {name!r} to be known somewhere; no token has a neighbour of another text"
            )
    source = Source(layers, rows, readout, seed)
    values = {name: (PAIRS | VALUES)[name](source) for name in asked if name not in SIMILARITIES}
    del rows, source
    # Before the rows are divided by their size, on which a gain has its effect too.
    rescaled = [rms_normalized(z_scores(layers.layer(index))) for index in range(len(layers))]
    scaled = boundaries_of(_similarities(rescaled, layers, paired, k), stacks, None, seed)
    del rescaled
    mean = np.mean(list(measured.values()), 0)
    found = boundaries_of(
        {name: np.diagonal(signal, 1) for name, signal in measured.items()}, stacks, count, seed, mean
    )
    if count is None:
        found = [one for one in found if _seen(one, scaled, False)]
    places = [one.place for one in found]
    halves = (layers.select(rows=some) for some in draws if places)  # where nothing is found nothing is placed
    drawn = [_nearest(places, _similarities(_rows(half), half, paired, k), stacks) for half in halves]
    bare = []
    if places:
        bare = boundaries_of(_similarities(_rows(layers, without_massive=True), layers, paired, k), stacks, count, seed)
    other, other_gain = [], None
    if untrained is not None:
        theirs = _untrained(untrained, layers, paired, k)
        beside = {name: np.diagonal(signal, 1) for name, signal in theirs.items()}
        other = boundaries_of(beside, stacks, count, seed)
        other_gain = gain.best_gain(np.mean(list(theirs.values()), 0), stacks, places)
    own = {name: _best(signal, stacks, places) for name, signal in {**measured, **values}.items()}
    boundaries = []
    for number, one in enumerate(found):
        short = _short(one.place, stacks)
        asked_of = (bare, scaled, None if untrained is None else other)
        elsewhere = [None if there is None else _seen(one, there, short) for there in asked_of]
        boundaries.append(_boundary(one, [draw[number] for draw in drawn], own, elsewhere))
    ranges = [
        (a, b - 1)
        for first, last in stacks
        for a, b in pairwise([first, *(place for place in places if first < place <= last), last + 1])
    ]
    return ScalePartition(
        tuple(ranges),
        tuple(boundaries),
        tuple(layers.names),
        stacks,
        gain.gain(mean, stacks, places),
        gain.p_value(mean, stacks, places, seed),
        other_gain,
        {**measured, **values},
    )


def stacks_of(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(first, last) of the runs of names that differ in their last number alone: "encoder.0", ..., "decoder.0", ..."""
    prefixes = [stack_of(name) or name for name in names]
    if len(set(prefixes)) == len(prefixes):  # names that say nothing
        return ((0, len(names) - 1),)
    starts = [index for index, prefix in enumerate(prefixes) if index == 0 or prefix != prefixes[index - 1]]
    return tuple(zip(starts, [start - 1 for start in starts[1:]] + [len(names) - 1], strict=True))


def _rows(acts: Activations, without_massive: bool = False) -> list[torch.Tensor]:
    return [scale_signals.rows_of(acts, index, without_massive) for index in range(len(acts))]


def _similarities(
    rows: list[torch.Tensor], acts: Activations, names: Sequence[str], k: int, *, whole: bool = False
) -> dict[str, Signal]:
    """Of the rows of acts: of all pairs of layers (L, L), or of neighbours alone (L - 1,)."""
    return {name: SIMILARITIES[name](rows, k, acts.text_ids, whole) for name in names}


def _untrained(acts: Any, like: Activations, names: Sequence[str], k: int) -> dict[str, Signal]:
    other = scale_signals.activations(acts)
    if len(other) != len(like):
        raise ValueError(f"untrained: expected {len(like)} layers as acts, got {len(other)}")
    return _similarities(_rows(other), other, names, k, whole=True)


def _turnovers(beside: dict[str, Signal], first: int, last: int) -> np.ndarray:
    return np.stack([drift.turnovers(signal[first:last]) for signal in beside.values()])


def enough(acts: Activations, draws: Sequence[torch.Tensor], k: int) -> None:
    """Raises TooFewRowsError where acts, or one of the draws of its rows, have no k neighbours."""
    fewest = min([acts.n_tokens, *(some.shape[0] for some in draws)])
    if k >= fewest:
        raise TooFewRowsError(
            f"k: expected less than {fewest}, the rows of {'the smallest half' if draws else 'acts'} of the texts, got {k}"
        )


def boundaries_of(
    beside: dict[str, Signal],
    stacks: Sequence[tuple[int, int]],
    count: int | None,
    seed: int,
    whole: Signal | None = None,
) -> list[drift.Found]:
    """The boundaries of every stack, in order of layers; a given count where it was asked for: what the test cannot say in a
    short stack, the best cut of the similarities `whole` (L, L) does, with p_value 1."""
    found: list[drift.Found] = []
    for first, last in stacks:
        here = drift.boundaries(_turnovers(beside, first, last), None if count is None else count - 1, LEVEL, seed)
        if count is not None and whole is not None and len(here) < count - 1:
            part = slice(first, last + 1)
            taken = {one.place for one in here}
            cut = [place for place in segmentation.segment(whole[part, part], count) if place not in taken]
            rest = [place for place in range(1, last - first + 1) if place not in taken and place not in cut]
            here += [drift.Found(place, 0.0, 1.0) for place in (cut + rest)[: count - 1 - len(here)]]
        found += [one._replace(place=one.place + first) for one in sorted(here)]
    return found


def _short(place: int, stacks: Sequence[tuple[int, int]]) -> bool:
    """Whether the stack of a boundary is too short to tell anything from drift."""
    return any(first < place <= last and last - first < drift.LEAST for first, last in stacks)


def _near(place: int, others: Iterable[int]) -> bool:
    return any(abs(other - place) <= _NEAR for other in others)


def _seen(one: drift.Found, others: Sequence[drift.Found], short: bool) -> bool | None:
    return None if short else _near(one.place, (other.place for other in others))


def _nearest(places: Sequence[int], beside: dict[str, Signal], stacks: Sequence[tuple[int, int]]) -> list[int]:
    """Where a resample puts each boundary: the largest peak above the trend in its stack, the others' own places left
    out; the nearest one of the largest."""
    where = []
    for place in places:
        first, last = next(stack for stack in stacks if stack[0] < place <= stack[1])
        turned = _turnovers(beside, first, last)
        at = np.flatnonzero(np.isfinite(turned).all(0)) + 1
        free = [i for i, b in enumerate(at) if b + first == place or b + first not in places]
        if len(at) < drift.LEAST or not free:
            where.append(place)
            continue
        scores, peaks = drift.candidates(turned[:, at - 1], at.astype(float))
        z, high = scores.sum(0), set(peaks.tolist())
        where.append(int(at[max(free, key=lambda i: (i in high, z[i], -abs(at[i] + first - place)))]) + first)
    return where


def _best(signal: Signal, stacks: Sequence[tuple[int, int]], places: Sequence[int]) -> set[int]:
    """The boundaries of a signal's own best cut into as many runs of each stack, of the layers where it is known."""
    found: set[int] = set()
    for first, last in stacks:
        count = 1 + sum(first < place <= last for place in places)
        own = np.diagonal(signal) if signal.ndim == 2 else signal
        known = first + np.flatnonzero(np.isfinite(own[first : last + 1]))
        if len(known) >= count:
            cut = (
                segmentation.segment(signal[np.ix_(known, known)], count)
                if signal.ndim == 2
                else segmentation.of_values(signal[known], count)
            )
            found |= {int(known[place]) for place in cut}
    return found


def _boundary(
    one: drift.Found, drawn: Sequence[int], own: dict[str, set[int]], elsewhere: Sequence[bool | None]
) -> Boundary:
    """drawn: where resamples put it; elsewhere: whether it is seen without massive coordinates, in rescaled ones, and in an
    untrained model."""
    without_massive, rescaled, untrained = elsewhere
    share = float(np.mean([abs(place - one.place) <= _NEAR for place in drawn])) if drawn else None
    interval = None
    if drawn:
        low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
        interval = int(low), int(high)
    return Boundary(
        one.place,
        one.p_value,
        one.p_value <= LEVEL and (share is None or share >= 0.5) and rescaled is not False,
        interval,
        share,
        {name: _near(one.place, places) for name, places in own.items()},
        without_massive,
        rescaled,
        untrained,
        tuple(drawn),
    )
