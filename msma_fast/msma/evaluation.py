"""What maps between two scales do to rows of other texts, beside what their nulls do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.msma.fitting import Fitted, Map
from msma_fast.msma.maps import Linear
from msma_fast.msma.published_metrics import published
from msma_fast.msma.sides import Side
from msma_fast.msma.sound_metrics import Held, geometry, information, invariant, pair_measures

Value = float | None
Measured = Mapping[str, Value]


class Values(NamedTuple):
    """A metric of the source as it is, of the mapped source, and of the mapped source by the two nulls."""

    before: Value
    after: Value
    shuffled: Value
    moments: Value


class MapEvaluation(NamedTuple):
    """One map on n rows: `sound` (msma/sound_metrics.py) and `published` (msma/published_metrics.py) metrics by name.

    curvature: isometry_deviation, |J J^T - I|_F / sqrt(d), and hessian_norm, of the map and of its null."""

    source: str
    target: str
    n: int
    sound: dict[str, Values]
    published: dict[str, Values]
    curvature: dict[str, tuple[float, Value]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        tables = {
            name: {key: one._asdict() for key, one in getattr(self, name).items()} for name in ("sound", "published")
        }
        return self._asdict() | tables | {"curvature": {key: list(pair) for key, pair in self.curvature.items()}}


class Ground:
    """Rows of both scales that maps were not fitted to. What does not depend on the map, the transport of moments among it,
    is measured once, when it is asked for."""

    def __init__(self, source: Side, target: Side, acts: Activations, moments: Linear | None) -> None:
        self._target, self._moments = target, moments
        self._raw = source.rows(acts), target.rows(acts)
        self.x, y = source.standard(self._raw[0]), target.standard(self._raw[1])
        self._held = Held(y, target.space, acts.text_ids)
        self._z = source.space.project(self.x)
        self._inside = source.space.restore(self._z)

    def sound(self, fitted: Fitted) -> dict[str, Values]:
        """By msma/sound_metrics.py, of rows that are centred and of one size."""
        after = self._measured(fitted.forward)
        told = torch.cat([self._z, self._image(fitted.forward)], 1)
        before = {**self._before, "mi": information(told, self._held)}
        shuffled = None if fitted.shuffled is None else self._measured(fitted.shuffled)
        return {name: _values(name, before, after, shuffled, self._sound_moments) for name in after}

    def published(self, fitted: Fitted) -> dict[str, Values]:
        """By msma/published_metrics.py, of rows as they are."""
        after = self._stated(fitted.forward)
        shuffled = None if fitted.shuffled is None else self._stated(fitted.shuffled)
        return {name: _values(name, self._bare, after, shuffled, self._stated_moments) for name in after}

    def curvature(self, fitted: Fitted, seed: int) -> dict[str, tuple[float, Value]]:
        own, null = fitted.forward, fitted.shuffled
        return {
            name: (getattr(own, name)(self.x, seed), None if null is None else getattr(null, name)(self.x, seed))
            for name in ("isometry_deviation", "hessian_norm")
        }

    def pairs(self, each: Map) -> dict[str, float]:
        """Of a map alone, what a map of pairs is tested by: a tenth of the cost."""
        return pair_measures(each(self.x), self._held)

    @cached_property
    def _before(self) -> Measured:
        y, rows = self._held.y, self._held.some()
        if self.x.shape[1] == y.shape[1]:
            return geometry(self.x, self._held)
        return invariant(self.x[rows], y[rows], self._held.texts_of(rows))

    @cached_property
    def _bare(self) -> Measured:
        return published(*self._raw)

    @cached_property
    def _sound_moments(self) -> Measured | None:
        return None if self._moments is None else self._measured(self._moments)

    @cached_property
    def _stated_moments(self) -> Measured | None:
        return None if self._moments is None else self._stated(self._moments)

    def _measured(self, each: Map) -> Measured:
        return {**geometry(each(self.x), self._held), "mi": information(self._image(each), self._held)}

    def _image(self, each: Map) -> Tensor:
        """Of the source's information space, in the target's."""
        return self._target.space.project(each(self._inside))

    def _stated(self, each: Map) -> Measured:
        return published(self._target.restored(each(self.x)), self._raw[1])


def _values(name: str, *parts: Measured | None) -> Values:
    """Of before, after, shuffled, moments."""
    return Values(*(None if part is None else part.get(name) for part in parts))
