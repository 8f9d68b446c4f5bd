"""The sections of the page, in the order in which they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from msma_fast.report.datacard import data_card
from msma_fast.report.figure import Figure, prose, text
from msma_fast.report.fisher import fisher_figures, fisher_neighbours, traced
from msma_fast.report.knowledge import knowledge_figures
from msma_fast.report.maps import cka_figure, information_figures, overlap_figure
from msma_fast.report.methods import paragraphs, sources
from msma_fast.report.panels import dimension_figures, health_figures
from msma_fast.report.scales import boundary_table, turnover_figures, untrained_figures
from msma_fast.report.schema import skipped
from msma_fast.report.templates import template
from msma_fast.report.ticks import number


@dataclass(frozen=True)
class Section:
    """`figures` are those that the body shows, for the tooltips and the standalone files."""

    name: str
    title: str
    body: str
    figures: list[Figure]

    def html(self) -> str:
        head = f'<h2 id="{self.name}-title">{text(self.title)}</h2>'
        return f'<section id="{self.name}" aria-labelledby="{self.name}-title">{head}{self.body}</section>'


def all_sections(results: dict[str, Any]) -> list[Section]:
    """In reading order; the summary and the warnings stand in the header."""
    return [
        data_section(results), health_section(results), maps_section(results), dimension_section(results),
        information_section(results), fisher_section(results), scales_section(results), untrained_section(results),
        explorer_section(results), methods_section(results),
    ]  # fmt: skip


def header(results: dict[str, Any]) -> str:
    """Title, three sentences and the table of warnings."""
    data, layers = results["data"], results["layers"]
    under = f"{number(data['n_tokens'])} tokens"
    under += f" of {number(data['n_texts'])} texts" if data["n_texts"] is not None else ""
    sentences = "".join(f"<li>{text(sentence)}</li>" for sentence in results["summary"])
    return template("header.html").substitute(
        model=text(results["model"]["name"] or "A model"),
        data=text(data["name"] or "unnamed data"),
        under=text(f"{under}, {len(layers)} layers, {results['created'][:10]}"),
        summary=sentences,
        warnings=_warnings(results["warnings"]),
    )


def _warnings(warnings: list[dict[str, str]]) -> str:
    if not warnings:
        return '<p class="note">No warning was raised. That is not a proof that all is well.</p>'
    rows = "".join(
        f'<tr><th scope="row"><span class="level {w["level"]}">{w["level"].capitalize()}</span></th>'
        f"<td>{text(w['subject'])}</td><td>{text(w['text'])}</td></tr>"
        for w in sorted(warnings, key=lambda w: w["level"] != "warning")
    )
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Level", "Subject", "What it means"))
    return f'<table class="warnings" aria-label="Warnings"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>'


def data_section(results: dict[str, Any]) -> Section:
    return Section("data", "What was measured", data_card(results), [])


def health_section(results: dict[str, Any]) -> Section:
    lead = (
        "Before any geometry: are the rows sane? Norms that explode, one coordinate that carries "
        "everything, or rows that repeat would each bend the figures below."
    )
    return _figures("health", "Health of the layers", lead, health_figures(results))


def maps_section(results: dict[str, Any]) -> Section:
    figures, why = [overlap_figure(results)], skipped(results["cka"])
    if why is None:
        figures.append(cka_figure(results))
    lead = "Every layer against every other one: once by who is next to whom, once by overall shape."
    return _figures("maps", "Layers compared", lead, figures, f"CKA: {why}" if why else None)


def dimension_section(results: dict[str, Any]) -> Section:
    why = skipped(results["dimension"])
    lead = "How many directions the tokens of a layer really use, nearby and farther out."
    return _figures("dimension", "Intrinsic dimension", lead, [] if why else dimension_figures(results), why)


def information_section(results: dict[str, Any]) -> Section:
    why = skipped(results["information"])
    title = "Information between layers"
    lead = (
        "How much one layer tells about another, and how much of that is only which token it is: an "
        "estimate is worth nothing without its null beside it."
    )
    if why is not None:
        return _figures("information", title, lead, [], why)
    maps = information_figures(results)
    figures = [*maps, *knowledge_figures(results)]
    names = {"excess": "beyond token identity", "mi": "the estimate", "null": "its null"}
    choices = "".join(
        f'<input type="radio" name="show-information" id="show-{figure.name}"{" checked" if i == 0 else ""}>'
        f'<label for="show-{figure.name}">{names[figure.name]}</label>'
        for i, figure in enumerate(maps)
    )
    panels = "".join(f'<div class="choice" data-choice="{figure.name}">{figure.html()[0]}</div>' for figure in maps)
    rest = "".join(figure.html()[0] for figure in figures[len(maps) :])
    body = (
        f'<p class="lead">{text(lead)}</p><div class="switch">'
        f'<fieldset class="segment"><legend>Show</legend>{choices}</fieldset>'
        f'<div class="figures"><div>{panels}</div>{rest}</div></div>'
    )
    return Section("information", title, body, figures)


def fisher_section(results: dict[str, Any]) -> Section:
    why = skipped(results["fisher"])
    lead = (
        "Distances between states ignore what the states are for. Here each layer is measured by the tokens that the model's "
        "read-out would predict from it: how strongly, in how many directions, and who predicts alike."
    )
    if why is None and not traced(results["fisher"]):
        lead += " Trace and effective rank are not known: they need a LayerNorm or RMSNorm right before the output embedding."
    section = _figures("fisher", "Fisher geometry of the tokens", lead, [] if why else fisher_figures(results), why)
    return section if why else replace(section, body=section.body + fisher_neighbours(results))


def scales_section(results: dict[str, Any]) -> Section:
    why = skipped(results["scales"])
    lead = (
        "Any stack of layers can be cut into three, a random walk too. Here each boundary has to stand out from a smooth "
        "drift through depth, and what it depends on stands beside it."
    )
    if why is not None:
        return _figures("scales", "Scales", lead, [], why)
    section = _figures("scales", "Scales", lead, turnover_figures(results))
    return replace(section, body=section.body + boundary_table(results))


def untrained_section(results: dict[str, Any]) -> Section:
    why = skipped(results["scales"])
    if why is None and results["scales"]["untrained"] is None:
        why = "The untrained model was not asked for, or is not at hand."
    lead = "What the architecture does to the tokens before it has learned anything is no finding about the model."
    title = "Difference from the untrained model"
    return _figures("untrained", title, lead, [] if why else untrained_figures(results), why)


def explorer_section(results: dict[str, Any]) -> Section:
    explorer, why = results["explorer"], skipped(results["explorer"])
    if why is not None:
        return _figures("explorer-section", "Neighbour explorer", "", [], why)
    lead = (
        f"Choose one of {number(len(explorer['tokens']))} tokens and move through the layers. Its "
        f"{explorer['k']} nearest neighbours often begin as the same token in other texts; see where that "
        "ends, and what takes its place."
    )
    read = (
        "A bar is the share of neighbours that are the same token at that layer: look where the bars fall, "
        "for there the layers stop sorting tokens by their form."
    )
    caption = (
        f"Exact neighbours among N = {number(results['data']['n_tokens'])} tokens, k = {explorer['k']}, "
        f"with their distance. Space: {results['spaces']['geometry']}. {results['spaces']['neighbours']}"
    )
    body = (
        f'<p class="lead">{text(lead)}</p>{template("explorer.html").substitute()}'
        '<div class="caption"><p class="read"><b>How to read it.</b> '
        f"{text(read)}</p><p>{prose(caption)}</p></div>"
    )
    return Section("explorer-section", "Neighbour explorer", body, [])


def methods_section(results: dict[str, Any]) -> Section:
    written = "".join(
        f"<p><b>{text(name)}.</b> {prose(rest)}</p>"
        for name, _, rest in (paragraph.partition(". ") for paragraph in paragraphs(results))
    )
    body = template("methods.html").substitute(prose=written, bibtex=text(sources(results)))
    return Section("methods", "Methods", body, [])


def _figures(name: str, title: str, lead: str, figures: list[Figure], why: str | None = None) -> Section:
    body = f'<p class="lead">{text(lead)}</p>' if lead else ""
    if figures:
        body += f'<div class="figures">{"".join(figure.html()[0] for figure in figures)}</div>'
    return Section(name, title, body + (f'<p class="note">{text(why)}</p>' if why else ""), figures)
