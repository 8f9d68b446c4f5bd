"""The first sentences of an experiment's report: which gains a null shows too."""

from __future__ import annotations

from typing import Any

from msma_fast.msma.alignment_study import TESTED

_WORDS = {
    "r2": "the share of variance explained",
    "retrieval": "retrieval of the paired token",
    "knn_kl": "the kNN divergence",
    "distortion": "the distortion of distances",
    "mi": "mutual information",
}
_NULLS = {
    "before": "the source as it is",
    "shuffled": "shuffled pairs",
    "moments": "unpaired transport of moments",
    "random": "random layers",
    "untrained": "random weights",
}
_ENOUGH = 0.95  # of the fall of the published KL: what moments alone must give for the rest to be no evidence


def summary(results: dict[str, Any]) -> list[str]:
    """What does not survive comes first."""
    told = [_published(one) for one in results["alignment"]["published"]]
    told += [_sound(results["alignment"], pair) for pair in _pairs(results["alignment"])]
    told.append(_boundaries(results["scales"]))
    return [each for each in [*told, *_texts(results)] if each]


def best(alignment: dict[str, Any], pair: tuple[str, str]) -> dict[str, Any]:
    """The map of a pair with the largest share of variance explained."""
    maps = [one for one in alignment["maps"] if (one["source"], one["target"]) == pair]
    found: dict[str, Any] = max(maps, key=lambda one: one["metrics"]["r2"]["after"] if "r2" in one["metrics"] else 0.0)
    return found


def _pairs(alignment: dict[str, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one["source"], one["target"]) for one in alignment["maps"]))


def _published(one: dict[str, Any]) -> str:
    kl = one["metrics"]["kl"]
    if None in kl.values():
        return ""
    fall, null = kl["before"] - kl["after"], kl["before"] - kl["moments"]
    start = (
        f"{one['source']} to {one['target']}, as the paper measures it: KL {_figure(kl['before'])} before, "
        f"{_figure(kl['after'])} after"
    )
    if fall <= 0:
        return f"{start}; it does not fall."
    without = f"transport of moments, which sees no pairs, {_figure(kl['moments'])}"
    if null >= _ENOUGH * fall:
        return f"{start}; {without}. The gain does not survive this null: it is no evidence of an alignment."
    return f"{start}; {without}, which is {null / fall:.0%} of the fall."


def _sound(alignment: dict[str, Any], pair: tuple[str, str]) -> str:
    one = best(alignment, pair)
    kept: list[str] = []
    lost: dict[str, list[str]] = {}  # by what they are no better than
    for name in TESTED:
        metric = one["metrics"].get(name, {})
        tested = {null: gain for null, gain in metric.get("gains", {}).items() if "survives" in gain}
        if not tested or name == "mi":
            continue
        figures = f"{_WORDS[name]} ({_figure(metric['before'])} to {_figure(metric['after'])})"
        against = [_NULLS[null] for null, gain in tested.items() if not gain["survives"]]
        if against:
            lost.setdefault(_listed(against), []).append(figures)
        else:
            kept.append(figures)
    parts = [f"no better than {nulls}: {_listed(figures)}" for nulls, figures in lost.items()]
    count = len(kept) + sum(map(len, lost.values()))
    told = f"{len(kept) or 'none'} of {count} gains {'survives' if len(kept) < 2 else 'survive'} every null"
    told += f": {_listed(kept)}" if kept else ""
    if count == 0:
        told = "gains are not tested with a single split of the texts"
    mi = one["metrics"]["mi"]
    parts.append(
        f"of at least {_figure(mi['before'])} nats of information the map keeps {_figure(mi['after'])}; none can be added"
    )
    sentences = [told, *parts]
    return f"{pair[0]} to {pair[1]}, {one['map']} map, held-out texts: " + ". ".join(
        part if number == 0 else part[0].upper() + part[1:] for number, part in enumerate(sentences)
    ) + "."  # fmt: skip


def _boundaries(scales: dict[str, Any]) -> str:
    found = scales["near"]
    told = "none" if found == 0 else str(found)
    others = f" Supported are boundaries before {_listed(scales['supported'])}." if scales["supported"] else ""
    return (
        f"Of the {scales['boundaries']} boundaries between the scales used here {told} "
        f"{'is' if found < 2 else 'are'} supported against layers that only drift.{others}"
    )


def _texts(results: dict[str, Any]) -> list[str]:
    if not results["interventions"]:
        return [f"No interventions: {results['no_text']}."] if results["no_text"] else []
    yes: list[str] = []
    no: list[str] = []
    for one in results["interventions"]:
        interaction = one["interaction"]
        if interaction is not None:
            found = interaction["q_value"] <= 0.05
            (yes if found else no).append(f"{one['settings']['kind']} (q = {interaction['q_value']:.2g})")
    told = []
    if no:
        told.append(f"At equal KL no difference between scales in what they change is found under {_listed(no)}.")
    if yes:
        told.append(f"At equal KL scales differ in what they change under {_listed(yes)}.")
    return told


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
