"""The prompts of an intervention, what the untouched model makes of them, and how far a change takes it from there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from msma_fast.activations.forward import Capture, run
from msma_fast.msma import common_random, hooks
from msma_fast.msma.decoding import decode, surprise, text
from msma_fast.msma.hooks import Touch, watch
from msma_fast.msma.intervention_scales import Place
from msma_fast.msma.language import Group, Language

Key = tuple[str, str, bytes, int]
_LARGEST = 1000.0  # strength tried where 1 is not the whole


class Change(NamedTuple):
    """A kind at a place, of any strength; direction (d,) of translate."""

    kind: str
    place: Place
    direction: Tensor | None
    seed: int

    @property
    def key(self) -> Key:
        """The same of two changes that do the same."""
        along = b"" if self.direction is None else self.direction.cpu().numpy().tobytes()
        return self.kind, self.place.name, along, self.seed

    def touch(self, strength: float) -> Touch:
        at = self.place
        return Touch(at.stack, at.first, at.last, self.kind, strength, direction=self.direction, seed=self.seed)

    @property
    def largest(self) -> float:
        return 1.0 if self.kind in hooks.AT_MOST_ONE else _LARGEST


Written = tuple[list[str], list[float | None]]


class Size(NamedTuple):
    """kl: each prompt's mean KL(untouched || touched) over the positions asked about, in nats per token; norm: the mean of
    |h' - h| / |h| at the last changed layer, over prompts and positions but the first."""

    kl: list[float]
    norm: float

    @property
    def mean_kl(self) -> float:
        return sum(self.kl) / len(self.kl)


class Bench:
    """prompts: token ids; places: those whose last layers will be asked for. Holds the untouched logits of the prompts,
    (tokens, V) in the model's dtype, and all that it has measured and written, so that nothing is run twice."""

    def __init__(
        self, language: Language, prompts: Sequence[Sequence[int]], places: Sequence[Place], seed: int
    ) -> None:
        self.language, self.seed, self.n = language, seed, len(prompts)
        self.groups = language.groups(prompts)
        self._sizes: dict[Key, dict[float, Size]] = {}
        self._written: dict[tuple[int, Key | None, float], Written] = {}
        self._directions: dict[Place | None, Tensor] = {}
        with contextlib.ExitStack() as open_hooks:
            self._states = {_key(at): open_hooks.enter_context(watch(at.stack, at.last)) for at in places}
            self._logits = [self._asked(group, language.logits(group, seed)) for group in self.groups]

    def known(self, change: Change) -> dict[float, Size]:
        """What has been measured of a change, by strength."""
        return self._sizes.setdefault(change.key, {})

    def size(self, change: Change, strength: float) -> Size:
        """Cost: a pass over all prompts."""
        known = self.known(change)
        if strength not in known:
            known[strength] = self._size(change, strength)
        return known[strength]

    def _size(self, change: Change, strength: float) -> Size:
        kl = [0.0] * self.n
        with change.touch(strength) as touch, watch(change.place.stack, change.place.last) as seen:
            for group, untouched in zip(self.groups, self._logits, strict=True):
                touched = self._asked(group, self.language.logits(group, self.seed, touch))
                for number, p, q in zip(group.numbers, untouched, touched, strict=True):
                    kl[number] = divergence(p, q)
        shifts = []
        for before, after in zip(self._states[_key(change.place)], seen, strict=True):
            h, moved = before[:, 1:].double(), after[:, 1:].double()
            shifts.append(((moved - h).norm(dim=-1) / h.norm(dim=-1)).flatten())
        return Size(kl, float(torch.cat(shifts).mean()))

    def write(self, new_tokens: int, change: Change | None, strength: float) -> Written:
        """(new texts, their perplexities under the untouched model), in the order of the prompts; untouched without a change.
        Cost: new_tokens passes over a token of each prompt, and one over all."""
        key = new_tokens, None if change is None else change.key, strength
        if key not in self._written:
            self._written[key] = self._write(new_tokens, None if change is None else change.touch(strength))
        return self._written[key]

    def _write(self, new_tokens: int, touch: Touch | None) -> Written:
        with touch or contextlib.nullcontext():
            new = [decode(self.language, group, new_tokens, self.seed, touch) for group in self.groups]
        texts = [""] * self.n
        perplexities: list[float | None] = [None] * self.n
        for group, ids in zip(self.groups, new, strict=True):
            losses = surprise(self.language, group, ids, self.seed)
            for number, words, loss in zip(group.numbers, text(self.language, ids), losses.tolist(), strict=True):
                texts[number], perplexities[number] = words, float(torch.tensor(loss).exp())
        return texts, perplexities

    def principal_direction(self, place: Place) -> Tensor:
        """(d,) float32: the first right singular vector of the prompts' centred untouched states at the place's middle layer,
        first positions left out; its sign such that the states' mean projection is not negative. Unmasked prompts are read,
        and an encoder-decoder's decoder reads the encoder's ids, as in `collect_activations`."""
        if place not in self._directions:
            self._directions[place] = self._principal(place)
        return self._directions[place]

    def _principal(self, place: Place) -> Tensor:
        rows: list[Tensor] = []
        layer = place.stack.names[place.middle]
        for group in self.groups:
            with Capture(self.language.stacks, [layer], lambda name, state: rows.append(state[:, 1:].flatten(0, 1))):
                run(self.language.model, group.ids, torch.ones_like(group.ids))
        states = torch.cat(rows).double()
        mean = states.mean(0)
        direction = torch.linalg.svd(states - mean, full_matrices=False).Vh[0]
        return (-direction if float(direction @ mean) < 0 else direction).float()

    def random_direction(self) -> Tensor:
        """(d,) float32, uniform on the sphere, of the seed alone."""
        if None not in self._directions:
            d = self._states[next(iter(self._states))][0].shape[-1]
            drawn = torch.from_numpy(common_random.stream(self.seed, common_random.DIRECTION).standard_normal(d))
            self._directions[None] = (drawn / drawn.norm()).float()
        return self._directions[None]

    def _asked(self, group: Group, logits: Tensor) -> list[Tensor]:
        """Per prompt (positions asked about, V)."""
        asked = self.language.question(group, self.seed)[1]
        return [one[where] for one, where in zip(logits, asked, strict=True)]


def divergence(p: Tensor, q: Tensor) -> float:
    """Logits (m, V) -> the mean over m of KL(softmax p || softmax q), in nats; rounding below 0 is 0."""
    log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return max(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()), 0.0)


def _key(place: Place) -> tuple[str, int]:
    return place.stack.prefix, place.last
