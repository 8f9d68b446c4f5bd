"""The first sentences of an experiment's report: which gains a null shows too."""

from __future__ import annotations

from typing import Any

from msma_fast.msma.alignment_study import TESTED

_WORDS = {
    "r2": "the share of variance explained",
    "retrieval": "retrieval of the paired token",
    "knn_kl": "the kNN divergence",
}
_NULLS = {
    "before": "the source itself",
    "moments": "unpaired transport of moments",
    "shuffled": "maps of shuffled pairs",
    "random": "other layers as far apart",
    "untrained": "random weights",
}
_NO_BETTER, _UNCLEAR = "no better than", "not told from"  # a gain of the wrong sign, and one within its error
_VERDICTS = (_NO_BETTER, _UNCLEAR, "better than")
_MEASURES = {"kl": "KL", "mi": "MI", "distance_correlation": "distance correlation"}
_LOSSES = {"published terms": "the published loss", "with pairs": "the published loss with the error of the pairs"}
MAIN = "ridge"  # the map that the sentences are about, chosen before it was measured


def summary(results: dict[str, Any]) -> list[str]:
    """What does not survive comes first."""
    told = [_headline(results["alignment"])]
    told += [_published(results["alignment"], pair) for pair in _pairs(results["alignment"])]
    told += [_sound(results["alignment"], pair) for pair in _pairs(results["alignment"])]
    told.append(_boundaries(results["scales"]))
    return [each for each in [*told, *_texts(results)] if each]


def main_map(alignment: dict[str, Any], pair: tuple[str, str]) -> dict[str, Any]:
    """The ridge map of a pair of scales."""
    found: dict[str, Any] = next(
        one for one in alignment["maps"] if (one["source"], one["target"], one["map"]) == (*pair, MAIN)
    )
    return found


def _pairs(alignment: dict[str, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_pair(one) for one in alignment["maps"]))


def _headline(alignment: dict[str, Any]) -> str:
    """How many gains there are, and how many of them a null has too."""
    parts = []
    for loss, words in _LOSSES.items():
        stated = [
            each["gain"] for one in alignment["published"] if one["loss"] == loss for each in one["metrics"].values()
        ]
        parts += _lost([[gain] for gain in stated if gain], f"by the paper's measures, {words}")
    metrics = [main_map(alignment, pair)["metrics"][name] for pair in _pairs(alignment) for name in TESTED]
    parts += _lost([list(each["gains"].values()) for each in metrics], "by sound measures, the ridge map")
    return (
        f"No gain over their nulls, of what alignment changes on held-out texts: {'; '.join(parts)}." if parts else ""
    )


def _lost(gains: list[list[dict[str, Any]]], words: str) -> list[str]:
    """gains: those over every null, measure by measure. Nothing where none is tested."""
    tested = [[gain["survives"] for gain in each if "survives" in gain] for each in gains]
    tested = [each for each in tested if each]
    return [f"{sum(not all(each) for each in tested)} of {len(tested)} {words}"] if tested else []


def _published(alignment: dict[str, Any], pair: tuple[str, str]) -> str:
    """By the published loss first."""
    found = {one["loss"]: one["metrics"] for one in alignment["published"] if _pair(one) == pair}
    bare, paired = (found[loss] for loss in _LOSSES)
    known = [name for name in bare if bare[name]["before"] is not None]
    if "kl" not in known:
        return ""
    parts = [
        f"{_MEASURES[name]} {_figure(bare[name]['before'])} to {_figure(bare[name]['after'])} "
        f"({_figure(paired[name]['after'])}; {_figure(bare[name]['moments'])})"
        for name in known
    ]
    told = f"{pair[0]} to {pair[1]}, as the paper measures it (with the error of the pairs; moments alone): {_listed(parts)}."
    for loss, words in _LOSSES.items():
        by_verdict: dict[str, list[str]] = {}
        for name in known:
            gain = found[loss][name]["gain"]
            if gain and "survives" in gain:
                by_verdict.setdefault(_verdict(gain), []).append(_MEASURES[name])
        verdicts = [
            f"{verdict} moments alone: {_listed(by_verdict[verdict])}" for verdict in _VERDICTS if verdict in by_verdict
        ]
        if verdicts:
            told += f" By {words} {'; '.join(verdicts)}."
    return told


def _verdict(gain: dict[str, Any]) -> str:
    return "better than" if gain["survives"] else _NO_BETTER if gain["mean"] <= 0 else _UNCLEAR


def _sound(alignment: dict[str, Any], pair: tuple[str, str]) -> str:
    one = main_map(alignment, pair)
    kept: list[str] = []
    lost: dict[str, list[str]] = {}  # by what they are not better than
    for name in TESTED:
        metric = one["metrics"].get(name, {})
        tested = {null: gain for null, gain in metric.get("gains", {}).items() if "survives" in gain}
        if not tested:
            continue
        figures = f"{_WORDS[name]} ({_figure(metric['before'])} to {_figure(metric['after'])})"
        against: dict[str, list[str]] = {}
        for null, gain in tested.items():
            if not gain["survives"]:
                against.setdefault(_verdict(gain), []).append(f"{_NULLS[null]} ({_value(metric, null)})")
        if against:
            told = "; ".join(f"{verdict} {_listed(nulls)}" for verdict, nulls in sorted(against.items()))
            lost.setdefault(told, []).append(figures)
        else:
            kept.append(figures)
    parts = [f"{nulls}: {_listed(figures)}" for nulls, figures in lost.items()]
    count = len(kept) + sum(map(len, lost.values()))
    told = f"{len(kept) or 'none'} of {count} gains {'survives' if len(kept) < 2 else 'survive'} every null"
    told += f": {_listed(kept)}" if kept else ""
    if count == 0:
        told = "gains are not tested with a single split of the texts"
    few = one["metrics"][TESTED[0]]
    if "random" in few and "survives" not in few["gains"]["random"]:
        parts.append(f"other layers as far apart are too few to tell ({few['random_pairs']})")
    parts.append(_information([each for each in alignment["maps"] if _pair(each) == pair]))
    sentences = [told, *parts]
    return f"{pair[0]} to {pair[1]}, {one['map']} map, held-out texts: " + ". ".join(
        part if number == 0 else part[0].upper() + part[1:] for number, part in enumerate(sentences)
    ) + "."  # fmt: skip


def _value(metric: dict[str, Any], null: str) -> str:
    if null == "random":
        return f"{metric['random_as_good']} of {metric['random_pairs']} do as well"
    return _figure(metric[null])


def _information(maps: list[dict[str, Any]]) -> str:
    """What the maps lose, and where an estimate rises for all that."""
    mi = {one["map"]: one["metrics"]["mi"] for one in maps}
    least, most = (pick(mi, key=lambda name: mi[name]["change"]["mean"]) for pick in (min, max))
    lost, change = -mi[least]["change"]["mean"], mi[most]["change"]
    told = f"of an estimated {_figure(mi[least]['before'])} nats of information "
    told += "no map loses any" if lost <= 1e-6 else f"the {least} map loses {_figure(lost)}, the most"
    if change["mean"] > 1e-6:
        error = change["standard_error"] or 0.0
        beyond = "beyond" if change["mean"] > 2 * error else "within"
        told += f"; none can be added: that the {most} map's estimate is {_figure(change['mean'])} ± {_figure(error)} higher, "
        told += f"{beyond} two errors, is the estimator's"
    return told


def _pair(one: dict[str, Any]) -> tuple[str, str]:
    return one["source"], one["target"]


def _boundaries(scales: dict[str, Any]) -> str:
    found = scales["near"]
    told = "none" if found == 0 else str(found)
    others = f" Supported are boundaries before {_listed(scales['supported'])}." if scales["supported"] else ""
    if scales["untrained"]:
        others += f" Random weights have one there too: {_listed(scales['untrained'])}."
    return (
        f"Of the {scales['boundaries']} boundaries between the scales used here {told} "
        f"{'lies' if found < 2 else 'lie'} within a layer of one that is supported against layers that only drift.{others}"
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
        told.append(
            f"At equal KL no difference between scales is found in what they change, and how much, under {_listed(no)}."
        )
    if yes:
        told.append(f"At equal KL scales differ in what they change, or in how much, under {_listed(yes)}.")
    tested = {one["settings"]["kind"]: one["interaction"] for one in results["interventions"] if one["interaction"]}
    if tested:
        prompts = next(iter(tested.values()))["n_prompts"]
        told.append(f"These tests are of {prompts} prompts, by the measures that every text has.")
        whole = [kind for kind, each in tested.items() if "coherence" in each["measures"]]
        told[-1] += f" Coherence is one of them under {_listed(whole)}." if whole else " Coherence is none of them."
    others = [one["settings"]["kind"] for one in results["interventions"] if not one["interaction"]]
    others += list(results.get("skipped", {}))
    if others:
        told.append(f"Not testable, as fewer than two scales reach the dose: {_listed(others)}.")
    return told


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
