"""The Fisher geometry of the tokens: its three panels over depth, and the neighbours of a few tokens as lists."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from msma_fast.report.chart import Series, Zone
from msma_fast.report.figure import Figure, prose, text
from msma_fast.report.panels import BAR, FINE, MIDDLE, PALE, by_layer
from msma_fast.report.ticks import number, percent

_CONTEXT = 60  # characters of context shown on each side of a token


def fisher_figures(results: dict[str, Any]) -> list[Figure]:
    """Trace and effective rank of the metric, where they are known, and the Fisher-Rao length of each step through depth."""
    fisher = results["fisher"]
    said = f"N = {number(fisher['n'])} tokens. {_lens(results)}"
    figures = _metrics(results, said) if traced(fisher) else []
    if any(length is not None for length in fisher["steps"]):
        figures.append(_steps(results, said))
    return figures


def traced(fisher: dict[str, Any]) -> bool:
    """Whether the metric itself is known at some layer."""
    return any(value is not None for value in fisher["trace"]["median"])


def _metrics(results: dict[str, Any], said: str) -> list[Figure]:
    fisher = results["fisher"]
    kinds = [_name(kind) for kind in fisher["metric"]]
    trace = [
        Series("upper quartile", fisher["trace"]["upper"], PALE, label="75 %"),
        Series("median", fisher["trace"]["median"], FINE, label="median", notes=kinds),
        Series("lower quartile", fisher["trace"]["lower"], MIDDLE, label="25 %"),
    ]
    held = [
        f"{kind}; a tenth of the tokens holds {percent(share)} of the trace"
        for kind, share in zip(kinds, fisher["top_tenth"], strict=True)
    ]
    rank = Series("effective rank", fisher["effective_rank"], FINE, notes=held)
    figures = [
        by_layer(
            results, "fisher-trace", "Trace of the token metric",
            trace, measure="trace of the Fisher metric (log scale)", log=True, right=54, zones=_zones(results),
            scaled_by=_blocks(fisher),
            read="High where a small step of the state would change the token distribution much, near zero where one "
            "token is settled. A norm before the read-out gives a state twice as long a quarter of it, so hold it "
            "against the norms of the rows.",
            caption=f"Variance of the token's row of the output embedding, seen from the state.{_off(results)} {said}",
        ),
        by_layer(
            results, "fisher-rank", "Effective rank of the mean metric", [rank],
            measure="effective rank of the mean Fisher metric", include=0, right=54, zones=_zones(results),
            read="In how many directions a state can be moved to change the tokens of that layer: low where a few "
            "directions decide, or where a few tokens make up the mean.",
            caption=f"Exponential of the entropy of the eigenvalues of the mean over tokens; at most "
            f"{number(results['model']['d'])}, the width. {said}",
        ),
    ]  # fmt: skip
    return [_named(figure, kinds) for figure in figures]


def _steps(results: dict[str, Any], said: str) -> Figure:
    fisher = results["fisher"]
    path = fisher["path"]
    kinds = ["logit-lens Fisher to Fisher" if kind == "Fisher" else _name(kind) for kind in fisher["metric"]]
    figure = by_layer(
        results, "fisher-steps", "Steps through depth",
        [Series("step to this layer", fisher["steps"], BAR, notes=kinds)],
        measure="Fisher-Rao length of the step to a layer", bars=True, include=0,
        read="How far a block moves the token distribution: a tall bar is a block that rewrites the prediction. No two "
        f"distributions are farther apart than {math.pi:.2f}.",
        caption=f"Median over tokens. A token's whole path through depth, the sum of its steps, is {number(path['median'])} "
        f"long at the median (quartiles {number(path['lower'])} and {number(path['upper'])}). {said}",
    )  # fmt: skip
    return _named(figure, kinds)


def _named(figure: Figure, kinds: list[str]) -> Figure:
    """With what each layer's values are called in the table."""
    rows = [[row[0], kind, *row[1:]] for row, kind in zip(figure.table, kinds, strict=True)]
    return replace(figure, head=[figure.head[0], "metric", *figure.head[1:]], table=rows)


def fisher_neighbours(results: dict[str, Any]) -> str:
    """The overlap of Fisher-Rao and euclidean neighbours, and the tokens that they serve most differently, as HTML."""
    fisher, layers = results["fisher"], results["layers"]
    k, n = fisher["k"], fisher["n_searched"]
    chance = f"by chance about {percent(min(1.0, k / max(1, n - 1)))}"
    said = "; ".join(
        f"{layers[one['layer']]['name']} ({_metric(fisher['metric'][one['layer']])}): {percent(one['shared'])}"
        for one in fisher["overlap"]
    )
    read = (
        "Euclidean neighbours are states that lie close; Fisher-Rao neighbours are states that predict alike. Where the two "
        "lists differ, the states are alike in something that the prediction does not show, or the other way round. Words in "
        "both lists are bold."
    )
    caption = (
        f"Share of a token's k = {k} nearest neighbours that are the same for both, among N = {number(n)} sampled tokens: "
        f"{said}; {chance}. Listed: words with the fewest in common. Euclidean space: {results['spaces']['geometry']}. "
        f"{results['spaces']['neighbours']}"
    )
    rows = "".join(_token(one, results) for one in fisher["shown"])
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Token in its text", "Fisher-Rao neighbours", "Euclidean neighbours", "In common")
    )
    listed = (
        f'<div class="scroll near" tabindex="0" role="region" aria-label="Fisher-Rao and euclidean neighbours"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return (
        f'<div class="near-block"><h3>Neighbours by prediction and by position</h3>{listed if rows else ""}'
        f'<div class="caption"><p class="read"><b>How to read it.</b> {text(read)}</p><p>{prose(caption)}</p></div></div>'
    )


def _token(one: dict[str, Any], results: dict[str, Any]) -> str:
    fisher = results["fisher"]
    before, token, after = fisher["rows"][str(one["token"])][:3]
    both = {row for row, _ in one["fisher"]} & {row for row, _ in one["euclidean"]}

    def near(name: str) -> str:
        items = []
        for row, distance in one[name]:
            word = _word(fisher["rows"][str(row)][1])
            shown = f"<b>{word}</b>" if row in both else word
            items.append(f"<li>{shown} <small>{number(distance)}</small></li>")
        return f"<td><ol>{''.join(items)}</ol></td>"

    where = results["layers"][one["layer"]]["name"]
    return (
        f'<tr><th scope="row">{text(_cut(before, -_CONTEXT))}<mark>{text(token)}</mark>{text(_cut(after, _CONTEXT))}'
        f"<small>{text(where)}, {text(_metric(fisher['metric'][one['layer']]))}</small></th>"
        f"{near('fisher')}{near('euclidean')}<td>{one['shared']} of {fisher['k']}</td></tr>"
    )


def _word(token: str) -> str:
    """A token alone in a list: what is only white space is named."""
    return text(token.strip() or {"\n": "↵", " ": "␣"}.get(token[:1], "␣"))


def _cut(context: str, length: int) -> str:
    flat = " ".join(context.split(" ")).replace("\n", " ")
    if len(flat) <= abs(length):
        return flat
    return f"…{flat[length:]}" if length < 0 else f"{flat[:length]}…"


def _metric(kind: str | None) -> str:
    return "Fisher" if kind == "Fisher" else "logit-lens Fisher"


def _name(kind: str | None) -> str:
    if kind is None:
        return "not read"
    return _metric(kind) + (", embedding" if kind == "embedding" else "")


def _blocks(fisher: dict[str, Any]) -> list[int]:
    return [index for index, kind in enumerate(fisher["metric"]) if kind in ("logit lens", "Fisher")]


def _off(results: dict[str, Any]) -> str:
    """What a reader misses of the embedding: tied to the read-out it may spell its token, at a trace of nearly zero."""
    fisher = results["fisher"]
    if "embedding" not in fisher["metric"]:
        return ""
    at = fisher["metric"].index("embedding")
    traces = list(fisher["trace"].values())
    found = [values[index] for values in traces for index in _blocks(fisher) if values[index] is not None]
    own = [values[at] for values in traces if values[at] is not None]
    if not found or not own or (min(found) <= min(own) and max(own) <= max(found)):
        return ""
    return (
        f" The axis is that of the blocks; at {results['layers'][at]['name']} the median is "
        f"{number(fisher['trace']['median'][at])}, in the table."
    )


def _zones(results: dict[str, Any]) -> list[Zone]:
    """The runs of layers with one kind of metric, as (first layer, last layer, name)."""
    names = {"embedding": "embedding", "logit lens": "logit-lens Fisher", "Fisher": "Fisher"}
    zones: list[Zone] = []
    for index, kind in enumerate(results["fisher"]["metric"]):
        if kind is None:
            continue
        if zones and zones[-1].name == names[kind]:
            zones[-1] = Zone(zones[-1].first, index, names[kind])
        else:
            zones.append(Zone(index, index, names[kind]))
    return zones


def _lens(results: dict[str, Any]) -> str:
    pairs = zip(results["layers"], results["fisher"]["metric"], strict=True)
    read = [(layer["name"], kind) for layer, kind in pairs if kind is not None]
    own = read[-1][0]
    if len(read) == 1:
        return f"{own}: Fisher."
    first = f", {read[0][0]} included," if read[0][1] == "embedding" else ""
    return (
        f"Fisher at {own} alone, where the model reads its own tokens; logit-lens Fisher before it{first} where the final "
        "norm and output embedding are applied to states they were not made for."
    )
