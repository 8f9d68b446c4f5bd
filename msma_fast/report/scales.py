"""Scales: turnover through depth with the boundaries as a table, how they depend on choices, and the untrained model."""

from __future__ import annotations

from typing import Any

from msma_fast.report.chart import Series, Zone
from msma_fast.report.figure import Figure, table, text
from msma_fast.report.panels import BAR, FINE, MIDDLE, PALE, by_layer
from msma_fast.report.ticks import number

_LABELS = {"token_id": "its token", "next_token": "the next token", "position": "the position"}


def turnover_figures(results: dict[str, Any]) -> list[Figure]:
    """What changes from layer to layer, and the same in other spaces and projections."""
    scales = results["scales"]
    told = next(name for name in reversed(scales["spaces"]))  # the space in which everything else is told
    said = f"N = {number(scales['n'])} tokens, k = {scales['k']}"
    pale = dict(zip(scales["spaces"], (PALE, MIDDLE, FINE), strict=True))
    figures = [
        by_layer(
            results, "turnover", "Turnover from layer to layer",
            [
                Series("neighbours", scales["spaces"][told]["overlap"], FINE, label="neighbours"),
                Series("CKA", scales["spaces"][told]["cka"], MIDDLE, label="CKA"),
            ],
            measure="-log similarity to the layer before (log scale)", log=True, right=74, zones=_zones(results),
            read="A boundary between scales would be a step that stands out from the trend of its neighbours by more than "
            "their scatter, in both lines; the table says which do.",
            caption=f"{said}, rows {told}.",
        ),
        by_layer(
            results, "turnover-spaces", "Turnover in other spaces",
            [Series(name, one["overlap"], pale[name], label=name.split()[0]) for name, one in scales["spaces"].items()],
            measure="-log shared neighbours (log scale)", log=True, right=74,
            read="Where the lines run alike the step does not depend on how rows are scaled; where they part, it is one of "
            "preprocessing.",
            caption=f"{said}; rows {', '.join(scales['spaces'])}. Boundaries there: {_everywhere(results)}"
            + ("." if scales["robust"] else "; not robust: which are found depends on the space."),
        ),
    ]  # fmt: skip
    if scales["projections"] is not None:
        colors = (BAR, PALE, MIDDLE, FINE)
        figures.append(
            by_layer(
                results, "excess-dimensions", "Excess information by projection",
                [
                    Series(f"{width} components", values, color, label=f"d' = {width}")
                    for (width, values), color in zip(scales["projections"].items(), colors, strict=True)
                ],
                measure="excess information with the layer before, nats", include=0, right=58,
                read="More components hold more information, and the estimator sees less of it; trust the shape where the "
                "lines agree on it, and no single height.",
                caption=f"KSG, k = 3, of at most half of N = {number(scales['n'])} tokens, less the mean of three "
                "permutations within token identity.",
            )
        )  # fmt: skip
    return figures


def boundary_table(results: dict[str, Any]) -> str:
    """Every boundary of three scales a stack, and what speaks for it."""
    scales, names = results["scales"], [layer["name"] for layer in results["layers"]]
    rows = []
    for one in scales["boundaries"]:
        where = "" if one["interval"] is None else " to ".join(names[each] for each in one["interval"])
        agree = ", ".join(name for name, yes in one["agrees"].items() if yes)
        rows.append([
            f"before {names[one['layer']]}", "supported" if one["supported"] else "not supported", f"{one['p_value']:.2g}",
            where, agree or "none", *(_yes(one[name]) for name in ("without_massive", "rescaled", "untrained")),
        ])  # fmt: skip
    if not rows:
        return '<p class="note">There are too few layers for more than one scale.</p>'
    head = [
        "boundary", "verdict", "p under drift", "in resamples", "signals that agree", "without massive coordinates",
        "coordinates rescaled", "in the untrained model",
    ]  # fmt: skip
    note = f"{scales['count']} scales a stack, whatever the test says."
    note += _gained(scales["gain"])
    if not scales["told"]:
        note += " The stack is too short for any boundary to be told from drift."
    return f'<div class="scroll">{table(head, rows)}</div><p class="note">{text(note)}</p>'


def _gained(gain: dict[str, Any]) -> str:
    other = [] if gain["p_value"] is None else [f"p = {gain['p_value']:.2g} of as much under drift"]
    other += [] if gain["untrained"] is None else [f"{gain['untrained']:.0%} in the untrained model"]
    return f" They save {gain['value']:.0%} of the spread between layers" + (
        f" ({', '.join(other)})." if other else "."
    )


def untrained_figures(results: dict[str, Any]) -> list[Figure]:
    """The trained model beside one with random weights, on the same tokens."""
    scales = results["scales"]
    other, said = scales["untrained"], f"N = {number(scales['n'])} tokens, both models."
    trained, random = other["dimension"]
    figures = [
        by_layer(
            results, "untrained-cka", "Likeness to the untrained layer", [Series("CKA", other["cka"], BAR)],
            measure="CKA with the untrained layer", include=0,
            read="High where the layer is still what the architecture alone makes of the tokens.",
            caption=said,
        ),
        by_layer(
            results, "untrained-dimension", "Dimension, trained and untrained",
            [
                Series("trained", trained, FINE, label="trained"),
                Series("untrained", random, PALE, label="untrained", dashed=True),
            ],
            measure="intrinsic dimension", include=0, right=74,
            read="A hump that the dashed line has too is not learned.",
            caption=f"TwoNN, {said}",
        ),
    ]  # fmt: skip
    for name, (known, plain) in other["knowledge"].items():
        figures.append(
            by_layer(
                results, f"untrained-{name.replace('_', '-')}", f"What layers know about {_LABELS[name]}",
                [
                    Series("trained", known, FINE, label="trained"),
                    Series("untrained", plain, PALE, label="untrained", dashed=True),
                ],
                measure="information, nats", include=0, right=74,
                read="Random weights keep much of what comes in: a line that runs like the dashed one is no finding. 16 "
                "components hold more of a trained table of tokens than of a random one, so compare shapes, not heights.",
                caption=f"Label estimator, k = 3, of half of the texts of N = {number(scales['n'])} tokens, both models"
                + ("." if name == "token_id" else ", less what the token alone says."),
            )
        )  # fmt: skip
    return figures


def _zones(results: dict[str, Any]) -> list[Zone]:
    """The scales that were found, where there are several in a stack."""
    ranges = results["scales"]["ranges"]
    if len(ranges) == len(results["scales"]["stacks"]):
        return []
    return [Zone(first, last, f"scale {number}") for number, (first, last) in enumerate(ranges, 1)]


def _everywhere(results: dict[str, Any]) -> str:
    names = [layer["name"] for layer in results["layers"]]
    each = {
        name: ", ".join(f"before {names[layer]}" for layer in one["boundaries"]) or "none"
        for name, one in results["scales"]["spaces"].items()
    }
    return "; ".join(f"{name}: {places}" for name, places in each.items())


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
