"""One kind of change at a scale, beside the untouched model and controls of the same size, and what each text measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from msma_fast.msma.intervention_bench import Bench, Change, Size
from msma_fast.msma.intervention_results import Condition, InterventionResult, compare_all, interaction
from msma_fast.msma.intervention_scales import Place
from msma_fast.msma.matching import OutOfReachError, match
from msma_fast.msma.text_measures import measure_texts

_START = 0.1  # the first strength tried
_LEAST_KL = 1e-9  # nats per token; below it the rounding of float32 logits decides
_POWERS = {"kl": 2.0, "norm": 1.0}  # of a small strength
Target = tuple[str, float]  # "strength", "kl" or "norm", and how much


def run(
    bench: Bench,
    kind: str,
    chosen: Place,
    others: Sequence[Place],
    target: Target,
    *,
    new_tokens: int,
    random: bool = True,
    direction: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InterventionResult:
    """What `intervene` returns, of the bench's prompts. Raises OutOfReachError where nothing meets the target at `chosen`."""
    total = 2 + random + len(others)
    written: list[tuple[Condition, list[float | None]]] = []
    skipped: dict[str, str] = {}

    def tell() -> None:
        if progress is not None:
            progress(len(written) + len(skipped), total)

    def write(name: str, role: str, change: Change | None, strength: float, size: Size) -> None:
        texts, perplexities = bench.write(new_tokens, change, strength)
        at = None if change is None else change.place
        condition = Condition(
            name,
            role,
            None if change is None else change.kind,
            None if at is None else at.name,
            None if at is None else at.layers,
            strength,
            size.norm,
            size.kl,
            texts,
            {},
        )
        written.append((condition, perplexities))
        tell()

    def made(place: Place) -> Change:
        along = direction
        if kind == "translate" and direction is None:
            along = bench.principal_direction(place)
        return Change(kind, place, along, bench.seed)

    change = made(chosen)
    strength, size = reach(bench, change, target)
    write("untouched", "untouched", None, 0.0, Size([0.0] * bench.n, 0.0))
    write(f"{kind} at {chosen.name}", "intervention", change, strength, size)
    wanted = ("kl", size.mean_kl) if target[0] == "strength" else target
    plans: list[tuple[str, str, Place]] = []
    if random:
        plans.append((f"random direction at {chosen.name}", "random", chosen))
    plans += [(f"{kind} at {place.name}", "scales", place) for place in others]
    for name, role, place in plans:
        try:
            if size.mean_kl < _LEAST_KL:
                raise OutOfReachError(f"the intervention's KL of {size.mean_kl:.2g} is too small to be matched")
            blind = role == "random"
            control = Change("translate", place, bench.random_direction(), bench.seed) if blind else made(place)
            strength, reached = reach(bench, control, wanted)
        except OutOfReachError as error:
            skipped[name] = str(error)
            tell()
            continue
        write(name, role, control, strength, reached)

    measured, missing = measure_texts([one for condition, _ in written for one in condition.texts])
    conditions = []
    for number, (condition, perplexities) in enumerate(written):
        part = slice(number * bench.n, (number + 1) * bench.n)
        measures = {name: values[part] for name, values in measured.items()} | {"perplexity": perplexities}
        conditions.append(condition._replace(measures=measures))
    lengths = [group.ids.shape[1] for group in bench.groups]
    return InterventionResult(
        conditions,
        compare_all(conditions, bench.seed),
        interaction(conditions, bench.seed),
        missing,
        skipped,
        {
            "model": type(bench.language.model).__name__,
            "model_kind": bench.language.kind,
            "kind": kind,
            "scale": chosen.name,
            "ranges": [list(place.layers) for place in sorted([chosen, *others], key=lambda place: place.layers)],
            target[0]: target[1],
            "new_tokens": new_tokens,
            "seed": bench.seed,
            "prompts": bench.n,
            "prompt_tokens": [min(lengths), max(lengths)],
        },
    )


def reach(bench: Bench, change: Change, target: Target) -> tuple[float, Size]:
    """(strength, its size). Raises OutOfReachError where no strength has it, and for states that are no longer finite."""
    name, wanted = target

    def effect(size: Size) -> float:
        return size.mean_kl if name == "kl" else size.norm

    strength = wanted
    if name != "strength":
        strength = match(
            name, wanted, lambda strength: effect(bench.size(change, strength)),
            start=_START, largest=change.largest, power=_POWERS[name],
            known={strength: effect(size) for strength, size in bench.known(change).items()},
        )  # fmt: skip
    size = bench.size(change, strength)
    if not math.isfinite(size.mean_kl + size.norm):
        raise OutOfReachError(f"{name}: expected one that leaves states finite, got {wanted}")
    return strength, size
