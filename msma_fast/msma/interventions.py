"""`intervene`: change the states of one scale of a model, and say what that does to its text.

The idea is that of Multi-Scale Manifold Alignment (arXiv 2505.20333), whose interventions differ in size from scale to scale.
Here every condition starts from the same prompts and the same random numbers, controls are matched to the intervention's KL
from the untouched model, and every effect has a test within a declared family.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from msma_fast import _checks
from msma_fast.msma import hooks
from msma_fast.msma.intervention_bench import Bench
from msma_fast.msma.intervention_results import InterventionResult
from msma_fast.msma.intervention_run import run
from msma_fast.msma.intervention_scales import choose, places
from msma_fast.msma.language import Head, Language, evaluating, load_language_model

CONTROLS = ("random", "scales")
Progress = Callable[[int, int], None]


def intervene(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    partition: Any,
    *,
    scale: str | int,
    kind: str = "translate",
    strength: float | None = None,
    kl: float | None = None,
    norm: float | None = None,
    direction: Any = None,
    new_tokens: int = 48,
    seed: int = 0,
    controls: Sequence[str] = CONTROLS,
    head: Head | None = None,
    progress: Progress | None = None,
) -> InterventionResult:
    """The text a model writes while the states of one scale are changed, beside the untouched model and matched controls.

    model -- a transformers model with its tokenizer, or what `load_model` takes (loaded in float32; the tokenizer may then be
        None)
    prompts -- strings, or sequences of token ids, each of two tokens or more. Prompts of one length run in one batch, never
        padded: cut them to one length for speed
    partition -- a ScalePartition, or ranges (first, last) of layers
    scale -- a scale's name ("local", "intermediate", "global"; "encoder local" where there are two stacks) or a range's index
    kind -- translate, amplify, noise, attention, ablate (msma/hooks.py has the formulas)
    strength, kl, norm -- exactly one: the strength itself; the mean KL(untouched || touched) in nats per token of the prompts;
        or the mean relative shift |h' - h| / |h| at the scale's last layer; the last two met within 2 %
    direction -- (d,) for translate; None: at each scale the leading principal direction of its middle layer's states
    new_tokens -- drawn at temperature 1, the end of the text never among them; an encoder fills 30 % of the prompt instead
    seed -- of all random numbers, common to all conditions
    controls -- "random": a translation along a random direction in the same layers; "scales": the same kind at each other
        scale; both matched to `kl` or `norm`, or to the mean KL of a given strength, within 2 %, and skipped with the reason
        where that is out of reach
    head -- (b, t, d) -> (b, t, V), for a model without a read-out
    progress -- called as progress(done, total), in conditions

    The unit of every test is the prompt. The KL is of the prompts' tokens under teacher forcing (decoders: all but the first,
    an encoder-decoder's decoder reading the prompt; encoders: the masked places).

    Cost: some four passes over the prompts for each match, and new_tokens steps a condition. Memory: the prompts' logits
    twice. Raises TypeError and ValueError for the arguments, also where kl or norm is out of reach (with figures), and
    NotImplementedError for a model whose blocks or attention cannot be found. When not to use it: to show that a scale holds
    words or discourse. An effect says that the text depends on these layers; the interaction says that the changes differ,
    which translations along different directions do within one layer too.
    """
    target = _target(strength, kl, norm, kind)
    new_tokens = _checks.integer("new_tokens", new_tokens, at_least=1)
    seed = _checks.integer("seed", seed, at_least=0)
    controls = _controls(controls)
    if isinstance(model, (str, os.PathLike)):
        model, own = load_language_model(model)
        tokenizer = own if tokenizer is None else tokenizer
    language = Language(model, tokenizer, head)
    found = places(partition, language.stacks)
    chosen = choose(scale, found)
    given = _direction(direction, kind, language)
    ids = language.encode(prompts)
    others = [place for place in found if place is not chosen] if "scales" in controls else []
    with evaluating(model):
        bench = Bench(language, ids, [chosen, *others], seed)
        return run(
            bench, kind, chosen, others, target,
            new_tokens=new_tokens, random="random" in controls, direction=given, progress=progress,
        )  # fmt: skip


def _target(strength: Any, kl: Any, norm: Any, kind: Any) -> tuple[str, float]:
    if kind not in hooks.KINDS:
        raise ValueError(f"kind: expected one of {', '.join(map(repr, hooks.KINDS))}, got {kind!r}")
    given = {name: value for name, value in (("strength", strength), ("kl", kl), ("norm", norm)) if value is not None}
    if len(given) != 1:
        raise ValueError(f"strength, kl, norm: expected exactly one of them, got {', '.join(given) or 'none'}")
    name, value = next(iter(given.items()))
    number = _checks.number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {number}")
    if name != "strength" and not number > 0:
        raise ValueError(f"{name}: expected a number > 0, got {number}")
    if name == "strength" and kind in hooks.AT_MOST_ONE and not 0 <= number <= 1:
        raise ValueError(f"strength: expected a number from 0 to 1 for {kind!r}, got {number}")
    return name, number


def _controls(controls: Any) -> tuple[str, ...]:
    if isinstance(controls, str) or not isinstance(controls, Sequence):
        raise TypeError(f"controls: expected a sequence of names, got {controls!r}")
    unknown = [one for one in controls if one not in CONTROLS]
    if unknown:
        raise ValueError(f"controls: expected some of {', '.join(map(repr, CONTROLS))}, got {unknown[0]!r}")
    return tuple(controls)


def _direction(direction: Any, kind: str, language: Language) -> Tensor | None:
    if direction is None:
        return None
    if kind != "translate":
        raise ValueError(f"direction: expected None for kind {kind!r}, got one")
    config = language.model.config
    d = int((config.get_text_config() if hasattr(config, "get_text_config") else config).hidden_size)
    vector = _checks.vector("direction", direction, d).to(language.device)
    if not float(vector.norm()) > 0:
        raise ValueError("direction: expected a vector other than zero, got zeros")
    return vector
