"""The heat maps: overlap of neighbours, CKA, and mutual information with its null."""

from __future__ import annotations

from typing import Any

from msma_fast.report.canvas import Canvas
from msma_fast.report.figure import Figure, Rows
from msma_fast.report.heatmap import HEIGHT, WIDTH, Matrix, draw_heatmap
from msma_fast.report.schema import skipped
from msma_fast.report.ticks import limits, number


def overlap_figure(results: dict[str, Any]) -> Figure:
    """The kNN overlap of every pair of layers; the only figure that needs nothing but `layers` and
    `overlap`.
    """
    k = results["overlap"]["k"]
    return _map_figure(
        results,
        results["overlap"]["matrix"],
        name="overlap",
        title="Overlap of nearest neighbours",
        measure=f"share of the {k} nearest neighbours in common",
        read="A strong cell means that a token keeps its neighbours between the two layers; a block along "
        "the diagonal is a run of layers with one and the same neighbourhood, and a faint gap between "
        "blocks is where it is rebuilt.",
        caption=f"Mean |A ∩ B| / k over {_rows(results)}, k = {k}. {_space(results, 'geometry')} "
        f"{results.get('spaces', {}).get('neighbours', '')} The diagonal is 1 by definition.",
        high=1.0,
    )


def cka_figure(results: dict[str, Any]) -> Figure:
    kernel = results["cka"]["kernel"]
    return _map_figure(
        results,
        results["cka"]["matrix"],
        name="cka",
        title="Centred kernel alignment",
        measure=f"CKA, {kernel} kernel",
        read="CKA compares the large-scale shape of two layers where the overlap compares who is next to "
        "whom; layers can look alike here and still disagree about their neighbours.",
        caption=f"Biased, centred CKA, {kernel} kernel, {_rows(results)}. {_space(results, 'geometry')}",
        high=1.0,
    )


def information_figures(results: dict[str, Any]) -> list[Figure]:
    """Excess, estimate and null; the estimate and the null share their limits, so that they can be
    compared by eye.
    """
    info = results["information"]
    shared = limits([v for name in ("mi", "null") for row in info[name] or [] for v in row], about=10)
    caption = (
        f"KSG estimator, k = {info['k']}, N = {number(info['n'])} tokens, {info['dimensions']} dimensions, "
        f"nats; ceiling {number(info['ceiling'])} nats. {_space(results, 'information')} Hatched: not to be "
        "trusted, the tooltip says why. Blank: not estimated (the embedding has exact duplicates, the "
        "diagonal is the ceiling)."
    )
    kinds = {
        "excess": (
            "Information beyond token identity",
            "excess over the null, nats",
            "What two layers share about a token beyond which token it is: the estimate minus its null, so "
            "that zero means that token identity explains everything.",
            None,
        ),
        "mi": (
            "Layer mutual information",
            "mutual information, nats",
            "How many nats two layers share; most of it is usually the identity of the token, so read it "
            "beside its null.",
            shared,
        ),
        "null": (
            "The null: token identity alone",
            "mutual information of the null, nats",
            "What remains when tokens are exchanged only among equal tokens: the part of the information "
            "that token identity explains on its own.",
            shared,
        ),
    }
    return [
        _map_figure(
            results, info[name], name=name, title=title, measure=measure, read=read, caption=caption,
            hatched=info["unreliable"], low_high=given,
        )
        for name, (title, measure, read, given) in kinds.items()
        if info[name] is not None
    ]  # fmt: skip


def matrices(results: dict[str, Any]) -> dict[str, Matrix]:
    """The matrices behind the heat maps, by figure name, for the tooltips."""
    found = {"overlap": results["overlap"]["matrix"]}
    if skipped(results["cka"]) is None:
        found["cka"] = results["cka"]["matrix"]
    if skipped(results["information"]) is None:
        found |= {
            name: results["information"][name] for name in ("mi", "null", "excess") if results["information"][name]
        }
    return found


def _map_figure(
    results: dict[str, Any], matrix: Matrix, *, name: str, title: str, measure: str, read: str, caption: str,
    high: float | None = None, hatched: list[list[bool]] | None = None,
    low_high: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    low, top = low_high or limits((v for row in matrix for v in row), include=high, about=10)

    def draw(canvas: Canvas) -> dict[str, Any]:
        return draw_heatmap(canvas, matrix, low=low, high=top, measure=measure, hatched=hatched)

    names = [layer["name"] for layer in results["layers"]]
    rows: Rows = [[label, *(_cell(v) for v in row)] for label, row in zip(names, matrix, strict=True)]
    return Figure(name, title, read, caption, (WIDTH, HEIGHT), draw, ["", *names], rows)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _rows(results: dict[str, Any]) -> str:
    n = results.get("data", {}).get("n_tokens")
    return f"N = {number(n)} tokens" if n is not None else "all tokens"


def _space(results: dict[str, Any], name: str) -> str:
    space = results.get("spaces", {}).get(name)
    return f"Space: {space}." if space else ""
