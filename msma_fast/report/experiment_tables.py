"""The tables of an experiment, for the page, for Markdown and for the screen."""

from __future__ import annotations

from typing import Any, NamedTuple

from msma_fast.msma.alignment_split import ABLATIONS
from msma_fast.msma.alignment_study import PUBLISHED, SHOWN
from msma_fast.msma.published_figures import ALIGNMENT, INTERVENTIONS, WITHOUT_CURVATURE, WITHOUT_GEOMETRY
from msma_fast.msma.scales import PAPER
from msma_fast.msma.sound_metrics import HIGHER_IS_BETTER
from msma_fast.report.figure import Rows

_PARTS = ("before", "after", "shuffled", "moments", "random", "untrained")
_NULLS = ("before", "shuffled", "moments", "random", "untrained")
_SHORT = {
    "distance_correlation": "distance correlation",
    "knn_kl": "kNN KL",
    "r2": "R²",
    "cka": "CKA",
    "mi": "MI",
    "kl": "KL",
}


class Table(NamedTuple):
    """name: of its section; lead: what is to be known before it is read."""

    name: str
    title: str
    lead: str
    head: list[str]
    rows: Rows


def tables(results: dict[str, Any]) -> list[Table]:
    """In the order of the page."""
    found = [_scales(results), _published(results), *_maps(results), _ablations(results)]
    return [*found, *([_interventions(results)] if results["interventions"] else [])]


def _scales(results: dict[str, Any]) -> Table:
    told = results["scales"]
    rows = [
        [name, told["layers"][first], told["layers"][last], told["layers"][stands]]
        for (name, stands), (first, last) in zip(results["alignment"]["layers"].items(), told["ranges"], strict=True)
    ]
    for model, ranges in PAPER.items():
        rows += [[f"{name}, {model}, as published", str(first), str(last), ""]
                 for name, (first, last) in zip(("local", "intermediate", "global"), ranges, strict=True)]  # fmt: skip
    supported = ", ".join(told["supported"]) or "none"
    lead = f"{results['partition']}. Boundaries supported against drift: before {supported}."
    return Table("scales", "Table 1. Scales", lead, ["scale", "first layer", "last layer", "stands for it"], rows)


def _published(results: dict[str, Any]) -> Table:
    alignment = results["alignment"]
    rows: Rows = []
    for one in alignment["published"]:
        pair = f"{one['source']} to {one['target']}, {one['loss']}"
        for measure, parts in one["metrics"].items():
            rows.append(
                [
                    pair,
                    words(measure),
                    *(figure(parts[part]) for part in ("before", "after", "moments")),
                    _tested(parts["gain"]),
                ]
            )
    for model, measures in ALIGNMENT.items():
        for measure, (before, after) in measures.items():
            rows.append([f"{model}, as published", words(measure), figure(before), figure(after), "not given", ""])
    lead = (
        "The authors' measures, of rows as they are: the divergence of normal distributions with both sides' moments, a "
        "pooled 64 x 64 histogram, distance correlation. After: the learned map by the published terms "
        "alone, and with the error of the pairs beside them. Moments: a "
        "transport that sees no pair of rows. Their code fine-tunes the model itself: its figures are of another procedure. "
        f"Means over {alignment['splits']} splits, held-out texts, nats."
    )
    head = ["map", "measure", "before", "after", "moments alone", "better than moments, q"]
    return Table("published", "Table 2. Alignment, as published", lead, head, rows)


def _maps(results: dict[str, Any]) -> list[Table]:
    alignment = results["alignment"]
    found = []
    for number, (source, target) in enumerate(
        dict.fromkeys((one["source"], one["target"]) for one in alignment["maps"])
    ):
        rows: Rows = []
        for one in alignment["maps"]:
            if (one["source"], one["target"]) != (source, target):
                continue
            for name in HIGHER_IS_BETTER:
                metric = one["metrics"].get(name)
                if metric is not None:
                    rows.append([one["map"], words(name), *(_cell(metric, part) for part in _PARTS),
                                 _change(metric["change"]), _verdict(metric)])  # fmt: skip
            rows.append(
                [one["map"], "curvature", "", f"isometry {figure(one['curvature']['isometry_deviation'])}, Hessian "
                 f"{figure(one['curvature']['hessian_norm'])}", "", "", "", "", "", ""]
            )  # fmt: skip
        lead = (
            f"Held-out texts ({alignment['texts_held']} of {alignment['texts']}), {alignment['splits']} splits, "
            "RMS-normalised rows. Change: after less before, with the standard error of Nadeau and Bengio. Better than: the "
            f"nulls beaten, one-sided, of {alignment['family']} tests (R², retrieval and kNN KL; Benjamini and Hochberg at "
            "5 %); random layers where at most one in twenty does as well, of 19 others or more. A rotation changes neither "
            "distance correlation nor CKA nor overlap. MI before is of the source and its image, which the source determines: "
            "no map adds any, and where the estimate rises it is biased."
        )
        head = ["map", "measure", *_PARTS, "change", "better than"]
        title = f"Table 2{'abcdefgh'[number]}. {source} to {target}"
        found.append(Table(f"map-{number}", title, lead, head, rows))
    return found


def _cell(metric: dict[str, Any], part: str) -> str:
    """Of random layers also how many do at least as well as the scales."""
    if part == "random" and "random_pairs" in metric:
        return f"{figure(metric[part])} ({metric['random_as_good']} of {metric['random_pairs']} as good)"
    return figure(metric.get(part))


def _verdict(metric: dict[str, Any]) -> str:
    gains = {null: gain for null, gain in metric["gains"].items() if "survives" in gain}
    if not gains:
        return ""
    return ", ".join(null for null in _NULLS if null in gains and gains[null]["survives"]) or "none"


def _change(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return ""
    error, mean = gain["standard_error"], gain["mean"]
    if error is None:  # one split, or nothing but rounding
        return f"{mean:+.3g}" if abs(mean) > 1e-9 else "0"
    return f"{mean:+.3g} ± {error:.2g}"


def _tested(gain: dict[str, Any] | None) -> str:
    if gain is None or "q_value" not in gain:
        return "n/a"
    return f"{'yes' if gain['survives'] else 'no'}, {gain['q_value']:.2g}"


def _ablations(results: dict[str, Any]) -> Table:
    alignment = results["alignment"]
    rows = [
        [
            f"{one['source']} to {one['target']}",
            one["terms"],
            *(figure(one["sound"][name]) for name in SHOWN),
            *(figure(one["published"][name]) for name in PUBLISHED),
        ]
        for terms in ABLATIONS
        for one in alignment["ablations"]
        if one["terms"] == terms
    ]
    lead = (
        f"The learned map by several losses, RMS-normalised rows, {alignment['ablated_splits']} splits, untested. Published "
        "terms are the paper's loss, geometry, information and curvature, and start from the identity; with pairs is ours, "
        "which adds the squared error of the pairs and starts from the Procrustes map. "
        f"The paper: without curvature {WITHOUT_CURVATURE}; without geometry {WITHOUT_GEOMETRY}. Here, by the published loss: "
        f"without curvature KL {_left_out(alignment, 'curvature', 'kl')}; without geometry MI "
        f"{_left_out(alignment, 'geometry', 'mi')} (in the order of the maps)."
    )
    head = ["map", "loss", *(words(name) for name in SHOWN), *(f"published {words(name)}" for name in PUBLISHED)]
    return Table("ablations", "Ablations", lead, head, rows)


def _left_out(alignment: dict[str, Any], term: str, measure: str) -> str:
    """How a published measure changes without a term of the published loss, map by map."""
    values = {(one["source"], one["terms"]): one["published"][measure] for one in alignment["ablations"]}
    told = []
    for source in dict.fromkeys(source for source, _ in values):
        whole, without = values[source, "published terms"], values[source, f"published terms, no {term}"]
        told.append("n/a" if not whole or without is None else f"{without / whole - 1.0:+.0%}")
    return ", ".join(told)


def _interventions(results: dict[str, Any]) -> Table:
    rows: Rows = []
    for kind in results["interventions"]:
        roles = {one["name"]: one for one in kind["conditions"]}
        for one in kind["comparisons"]:
            condition = roles[one["condition"]]
            relative = one["relative_difference"]
            rows.append(
                [condition["name"], words(one["measure"]), str(one["n_prompts"]), figure(one["mean_untouched"]),
                 "" if relative is None else f"{relative:+.0%}", f"{one['rank_biserial']:+.2f}", f"{one['p_value']:.3f}",
                 f"{one['q_value']:.3f}", _paper(condition, one["measure"])]
            )  # fmt: skip
    first = results["interventions"][0]["settings"]
    interactions = "; ".join(
        f"{kind['settings']['kind']} p = {kind['interaction']['p_value']:.3g}, q = {kind['interaction']['q_value']:.3g}"
        for kind in results["interventions"]
        if kind["interaction"] is not None
    )
    missing = "; ".join(f"{name}: {why}" for name, why in results["interventions"][0]["missing"].items())
    skipped = "; ".join(f"{kind}: {why}" for kind, why in results.get("skipped", {}).items())
    lead = (
        f"{first['prompts']} prompts (n: those that have the measure), {first['new_tokens']} new tokens, every condition at "
        f"{first['kl']} nats per token from the untouched model, the same random numbers. Rank r: matched pairs. A random "
        "direction is the same for every kind. Interaction of scale and measure, by the measures that every text has: "
        f"{interactions or 'not testable'}. Missing: {missing or 'nothing'}."
        + (f" Out of reach: {skipped}." if skipped else "")
        + (f" {results['head']}" if results.get("head") else "")
    )
    head = ["condition", "measure", "n", "untouched", "change", "rank r", "p", "q", "paper, GPT-2"]
    return Table("interventions", "Table 3. Interventions", lead, head, rows)


def _paper(condition: dict[str, Any], measure: str) -> str:
    for scale, kind, name, change, effect in INTERVENTIONS:
        own = (str(condition["scale"]).rpartition(" ")[2], condition["kind"], measure)
        if condition["role"] != "random" and own == (scale, kind, name):
            return f"{change:+.0%} ({effect:+.2f})"
    return ""


def words(name: str) -> str:
    """A measure's name as it is read."""
    return _SHORT.get(name, name.replace("_", " "))


def figure(value: float | None) -> str:
    """Three significant digits; "n/a" for what cannot be measured."""
    if value is None:
        return "n/a"
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.0e}"
    )


def markdown(results: dict[str, Any]) -> str:
    """The sentences and every table."""
    parts = [
        f"# {results['title']}",
        "\n".join(f"{number}. {each}" for number, each in enumerate(results["summary"], 1)),
    ]
    for table in tables(results):
        lines = [_line(table.head), _line(["---"] * len(table.head)), *(_line(row) for row in table.rows)]
        parts.append(f"## {table.title}\n\n{table.lead}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
