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

_LARGEST = 1000.0  # strength tried where 1 is not the whole


class Change(NamedTuple):
    """A kind at a place, of any strength; direction (d,) of translate."""

    kind: str
    place: Place
    direction: Tensor | None
    seed: int

    def touch(self, strength: float) -> Touch:
        at = self.place
        return Touch(at.stack, at.first, at.last, self.kind, strength, direction=self.direction, seed=self.seed)

    @property
    def largest(self) -> float:
        return 1.0 if self.kind in hooks.AT_MOST_ONE else _LARGEST


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
    (tokens, V) in the model's dtype."""

    def __init__(
        self, language: Language, prompts: Sequence[Sequence[int]], places: Sequence[Place], seed: int
    ) -> None:
        self.language, self.seed, self.n = language, seed, len(prompts)
        self.groups = language.groups(prompts)
        with contextlib.ExitStack() as open_hooks:
            self._states = {_key(at): open_hooks.enter_context(watch(at.stack, at.last)) for at in places}
            self._logits = [self._asked(group, language.logits(group, seed)) for group in self.groups]

    def size(self, change: Change, strength: float) -> Size:
        """Cost: a pass over all prompts."""
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

    def write(self, new_tokens: int, touch: Touch | None) -> tuple[list[str], list[float | None]]:
        """(new texts, their perplexities under the untouched model), in the order of the prompts."""
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
        d = self._states[next(iter(self._states))][0].shape[-1]
        drawn = torch.from_numpy(common_random.stream(self.seed, common_random.DIRECTION).standard_normal(d))
        return (drawn / drawn.norm()).float()

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
