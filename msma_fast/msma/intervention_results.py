"""What `intervene` returns, and how conditions are compared with the untouched model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from msma_fast.msma.paired_statistics import (
    benjamini_hochberg,
    interaction_test,
    rank_biserial,
    sign_flip_p,
)


class Condition(NamedTuple):
    """name: "untouched", "translate at global", "random direction at global"; role: "untouched", "intervention", "random" or
    "scales"; layers: (first, last), both included, among all the model's layers; norm: the mean of |h' - h| / |h| at the last
    of them; and one value a prompt: kl (mean KL(untouched || this), nats per token), texts, and each measure."""

    name: str
    role: str
    kind: str | None
    scale: str | None
    layers: tuple[int, int] | None
    strength: float
    norm: float
    kl: list[float]
    texts: list[str]
    measures: dict[str, list[float | None]]


class Comparison(NamedTuple):
    """A measure under a condition, against the untouched model, over the prompts that have it under both.

    mean_difference: condition - untouched; relative_difference: that by the untouched mean, None where it is 0;
    rank_biserial: matched pairs, in [-1, 1]; p_value: two-sided sign flips; q_value: Benjamini-Hochberg over the measures of
    the condition, which are the declared family."""

    condition: str
    measure: str
    n_prompts: int
    mean_untouched: float
    mean_difference: float
    relative_difference: float | None
    rank_biserial: float
    p_value: float
    q_value: float


class Interaction(NamedTuple):
    """Whether scales differ in what they change, at the same KL (paired_statistics.interaction_test). measures: those that
    every text of every prompt has: a prompt is not left out for what a condition did to its text."""

    statistic: float
    p_value: float
    scales: list[str]
    measures: list[str]
    n_prompts: int


class InterventionResult(NamedTuple):
    """conditions: untouched, the intervention, then controls; missing: measure -> why there is none; skipped: control -> why
    it was not run; interaction: None without two scales, and two measures that
    every text has; settings: what was asked."""

    conditions: list[Condition]
    comparisons: list[Comparison]
    interaction: Interaction | None
    missing: dict[str, str]
    skipped: dict[str, str]
    settings: dict[str, Any]

    @property
    def intervention(self) -> Condition:
        return self.conditions[1]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: dicts, lists, strings, numbers and None."""
        return {
            "conditions": [one._asdict() | {"layers": one.layers and list(one.layers)} for one in self.conditions],
            "comparisons": [one._asdict() for one in self.comparisons],
            "interaction": None if self.interaction is None else self.interaction._asdict(),
            "missing": self.missing,
            "skipped": self.skipped,
            "settings": self.settings,
        }


def compare_all(conditions: Sequence[Condition], seed: int) -> list[Comparison]:
    """Each condition after the first against the first."""
    untouched = conditions[0]
    found: list[Comparison] = []
    for condition in conditions[1:]:
        family = []
        for measure, values in condition.measures.items():
            base = untouched.measures[measure]
            pairs = [(one, own) for one, own in zip(base, values, strict=True) if one is not None and own is not None]
            if not pairs:
                continue
            before, after = np.array(pairs, dtype=np.float64).T
            differences = after - before
            mean, change = float(before.mean()), float(differences.mean())
            family.append(
                Comparison(
                    condition.name,
                    measure,
                    len(pairs),
                    mean,
                    change,
                    change / abs(mean) if mean else None,
                    rank_biserial(differences),
                    sign_flip_p(differences, seed=seed),
                    1.0,
                )
            )
        q_values = benjamini_hochberg([one.p_value for one in family])
        found += [one._replace(q_value=q) for one, q in zip(family, q_values, strict=True)]
    return found


def interaction(conditions: Sequence[Condition], seed: int) -> Interaction | None:
    """Over the intervention and its controls at other scales; None where fewer than two scales, measures or prompts are
    left."""
    untouched, *rest = conditions
    scales = [one for one in rest if one.role in ("intervention", "scales")]
    if len(scales) < 2:
        return None
    # (measures, scales, prompts), NaN where a text has no value
    table = np.array(
        [
            [
                [np.nan if a is None or b is None else b - a for a, b in zip(base, one.measures[measure], strict=True)]
                for one in scales
            ]
            for measure, base in untouched.measures.items()
        ]
    )
    chosen = np.isfinite(table).all((1, 2))
    if chosen.sum() < 2 or table.shape[2] < 2:
        return None
    statistic, p_value = interaction_test(table[chosen].transpose(2, 1, 0), seed=seed)
    names = [str(one.scale) for one in scales]
    measures = [measure for measure, used in zip(untouched.measures, chosen, strict=True) if used]
    return Interaction(statistic, p_value, names, measures, table.shape[2])
