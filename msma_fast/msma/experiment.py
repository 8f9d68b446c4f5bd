"""The paper's experiment on one model: its layers in three scales, maps between them, interventions at each.

Everything that is claimed stands beside what a null does: drift for the boundaries (scales.py), shuffled pairs, transport of
moments, random layers and random weights for the maps (alignment_study.py), random directions and other scales at the same
KL for the interventions (interventions.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from msma_fast.activations import Activations
from msma_fast.msma import alignment_study
from msma_fast.msma.experiment_summary import summary
from msma_fast.msma.hooks import KINDS
from msma_fast.msma.intervention_bench import Bench, Change
from msma_fast.msma.intervention_run import run
from msma_fast.msma.intervention_scales import Place, places
from msma_fast.msma.language import Head, Language, evaluating
from msma_fast.msma.matching import OutOfReachError
from msma_fast.msma.naming import layer_names
from msma_fast.msma.paired_statistics import benjamini_hochberg
from msma_fast.msma.scale_analysis import first_texts
from msma_fast.msma.scales import PAPER, ScalePartition, find_scales
from msma_fast.msma.stages import Stages, code_digest, content_digest
from msma_fast.msma.text_measures import installed

STRENGTHS = (0.03, 0.1, 0.3, 1.0)  # of the dose curves
_SCALE_ROWS, _NEIGHBOURS = 2000, 15

Update = Callable[[str, int, int], None]


class Settings(NamedTuple):
    """splits: of the texts, for the maps; kl: nats per token to which every intervention is matched; new_tokens: written for
    each prompt; kinds: of interventions, none for no text."""

    splits: int = 5
    kl: float = 0.3
    new_tokens: int = 40
    kinds: tuple[str, ...] = KINDS
    seed: int = 0


def partition_of(names: Sequence[str], family: str) -> tuple[ScalePartition, str]:
    """(three scales a stack, where they come from): the paper's for a model of its depth, else thirds."""
    whole = ScalePartition.uncut(names)
    if family in PAPER and all(last - first == PAPER[family][-1][1] for first, last in whole.stacks):
        return whole.fixed(family), f"the paper's ranges for {family}"
    return whole.thirds(), "thirds of each stack: the paper has no ranges for a model of this depth"


def experiment(
    acts: Activations,
    untrained: Activations | None,
    partition: ScalePartition,
    settings: Settings,
    *,
    model: Any = None,
    tokenizer: Any = None,
    prompts: Sequence[Sequence[int]] = (),
    head: Head | None = None,
    why_no_text: str = "",
    work: Path | None = None,
    update: Update = lambda stage, done, total: None,
) -> dict[str, Any]:
    """The parts `scales`, `alignment`, `interventions`, `dose` and `summary` of the results, JSON-able.

    acts and untrained: the same tokens at every layer; model, tokenizer, prompts (token ids of one length) and head, for a
    model without a read-out: of the interventions, which are left out, with the reason why_no_text, without prompts; work: a
    folder where every part that is done is kept, and from where an interrupted experiment goes on.
    """
    rows = [code_digest(), partition.ranges, settings.splits, settings.seed]
    rows += [content_digest(each) for each in (acts, untrained) if work is not None and each is not None]
    stages = Stages(work, rows)
    results: dict[str, Any] = {}
    results["scales"] = stages.run_json("scales", lambda: _scales(acts, untrained, partition, settings.seed))
    total, done = alignment_study.steps(settings.splits, untrained is not None), 0

    def step() -> None:
        nonlocal done
        done += 1
        update("maps", done, total)

    results["alignment"] = alignment_study.study(
        acts, untrained, partition, settings.splits, settings.seed, step, stages
    )
    update("maps", total, total)  # those of kept splits among them
    results["interventions"], results["dose"], results["no_text"] = [], [], why_no_text
    if prompts and settings.kinds:
        language = Language(model, tokenizer, head)
        # A head is told by how it was fitted; measures are those whose packages are installed.
        words = [*rows, settings, list(map(list, prompts)), getattr(head, "about", None), installed()]
        results |= Stages(work, words).run_json("texts", lambda: _texts(language, prompts, partition, settings, update))
    return results | {"summary": summary(results), "resumed": stages.resumed}


def _scales(acts: Activations, untrained: Activations | None, partition: ScalePartition, seed: int) -> dict[str, Any]:
    """The ranges used, and what speaks for boundaries there."""
    rows, other = (None if each is None else alignment_study.normalized(first_texts(each, _SCALE_ROWS))
                   for each in (acts, untrained))  # fmt: skip
    found = find_scales(rows, n_resamples=0, seed=seed, k=_NEIGHBOURS, untrained=other)
    supported = [one for one in found.boundaries if one.supported]
    starts = {first for first, _ in partition.ranges} - {first for first, _ in partition.stacks}
    names = [layer["name"] for layer in layer_names(acts)]
    return {
        "layers": names,
        "ranges": [list(each) for each in partition.ranges],
        "supported": [names[one.layer] for one in supported],
        "untrained": [names[one.layer] for one in supported if one.untrained],
        "near": _near(sorted(starts), [one.layer for one in supported]),
        "boundaries": len(starts),
    }


def _near(starts: Sequence[int], boundaries: Sequence[int]) -> int:
    """How many starts have a boundary of their own within a layer, both ascending."""
    left = list(boundaries)
    found = 0
    for start in starts:
        mine = next((layer for layer in left if abs(layer - start) <= 1), None)
        if mine is not None:
            left.remove(mine)
            found += 1
    return found


def _texts(
    language: Language, prompts: Any, partition: ScalePartition, settings: Settings, update: Update
) -> dict[str, Any]:
    """Dose curves, then every kind at every scale that reaches the dose, and a random direction at the first that does."""
    found = places(partition, language.stacks)
    total = len(settings.kinds) * (len(found) + 1)
    told: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    seen: set[str] = set()
    with evaluating(language.model):
        bench = Bench(language, language.encode(prompts), found, settings.seed)
        dose = []
        for number, place in enumerate(found):
            update("texts", number * len(settings.kinds), total)
            for kind in settings.kinds:
                with contextlib.suppress(OutOfReachError):  # the embedding alone has neither attention nor a block
                    dose.append(_curve(bench, place, kind))
        for number, kind in enumerate(settings.kinds):
            update("texts", len(settings.kinds) * len(found) + number, total)
            try:
                told.append(_intervened(bench, found, kind, settings, seen))
            except OutOfReachError as error:
                skipped[kind] = str(error)
        update("texts", total, total)
    _corrected(told)
    why = "" if told else "; ".join(f"{kind}: {why}" for kind, why in skipped.items())
    return {"interventions": told, "skipped": skipped, "dose": dose, "no_text": why}


def _curve(bench: Bench, place: Place, kind: str) -> dict[str, Any]:
    """KL by strength; what is measured here is where the search for equal doses starts."""
    change = Change(kind, place, bench.principal_direction(place) if kind == "translate" else None, bench.seed)
    return {"scale": place.name, "kind": kind, "kl": [bench.size(change, strength).mean_kl for strength in STRENGTHS]}


def _intervened(bench: Bench, found: Sequence[Place], kind: str, settings: Settings, seen: set[str]) -> dict[str, Any]:
    """At the deepest scale that reaches the dose, the others as its controls; seen: scales of which a random direction, which
    is the same for every kind, has been told."""
    reasons = []
    for chosen in reversed(found):
        others = [place for place in found if place is not chosen]
        try:
            told = run(
                bench, kind, chosen, others, ("kl", settings.kl),
                new_tokens=settings.new_tokens, random=chosen.name not in seen,
            )  # fmt: skip
        except OutOfReachError as error:
            reasons.append(f"{chosen.name}: {error}")
        else:
            seen.add(chosen.name)
            return told.to_dict()
    raise OutOfReachError("; ".join(reasons))


def _corrected(told: list[dict[str, Any]]) -> None:
    """q-values over all kinds, conditions and measures, and over the interactions, in place of each kind's own."""
    cells = [one for kind in told for one in kind["comparisons"]]
    for one, q in zip(cells, benjamini_hochberg([one["p_value"] for one in cells]), strict=True):
        one["q_value"] = float(q)
    known = [kind["interaction"] for kind in told if kind["interaction"] is not None]
    for one, q in zip(known, benjamini_hochberg([one["p_value"] for one in known]), strict=True):
        one["q_value"] = float(q)


def prompt_ids(tokenizer: Any, texts: Sequence[str], count: int, tokens: int) -> tuple[list[list[int]], int]:
    """(the first `tokens` ids of the first `count` texts that are long enough, how many texts were looked at).

    An encoder's prompts keep their end token."""
    found: list[list[int]] = []
    looked = 0
    for text in texts:
        looked += 1
        ids = tokenizer(text, truncation=True, max_length=tokens)["input_ids"]
        if len(ids) == tokens:
            found.append(ids)
        if len(found) == count:
            break
    return found, looked


def seeded_order(count: int, seed: int) -> list[int]:
    """A random order of `count` things."""
    return [int(one) for one in torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
