"""The data card: what was measured, on what, how and with what. What is null is left out."""

from __future__ import annotations

from typing import Any

from msma_fast.report.figure import text
from msma_fast.report.ticks import number


def data_card(results: dict[str, Any]) -> str:
    """Four lists of names and values as HTML."""
    cards = {"Model": _model(results), "Texts": _texts(results), "Spaces": _spaces(results), "Run": _run(results)}
    body = "".join(f"<div><h3>{title}</h3><dl>{_entries(entries)}</dl></div>" for title, entries in cards.items())
    return f'<div class="cards">{body}</div>'


def _model(results: dict[str, Any]) -> dict[str, Any]:
    model = results["model"]
    return {
        "Name": model["name"],
        "Source": model["source"],
        "Revision": model["revision"],
        "Architecture": model["architecture"],
        "Parameters": model["parameters"],
        "Blocks": model["n_layers"],
        "Width": model["d"],
        "Vocabulary": model["vocabulary"],
        "Forward pass": model["dtype"],
        "Quantisation": model["quantisation"] or "none recorded",
    }


def _texts(results: dict[str, Any]) -> dict[str, Any]:
    data = results["data"]
    return {
        "Name": data["name"],
        "Source": data["source"],
        "Texts": data["n_texts"],
        "Skipped": data["n_texts_skipped"],
        "Tokens per text": data["tokens_per_text"],
        "Tokens": data["n_tokens"],
        "Tokens for MI": data["n_tokens_mi"],
        "Longest context": data["max_length"],
        "Sampling": data["sampling"],
    }


def _spaces(results: dict[str, Any]) -> dict[str, Any]:
    return {"Geometry": results["spaces"]["geometry"], "Information": results["spaces"]["information"]}


def _run(results: dict[str, Any]) -> dict[str, Any]:
    hardware = results["hardware"]
    seconds = sum(v for v in results["timings"].values() if isinstance(v, (int, float)))
    return {
        "Seed": str(results["seed"]),
        "Date": results["created"][:19].replace("T", " "),
        "Software": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "Processor": hardware.get("cpu"),
        "Threads": hardware.get("threads"),
        "Backend": hardware.get("backend"),
        "Time": f"{seconds:.0f} s" if seconds else None,
        "Command": results["command"],
    }


def _entries(entries: dict[str, Any]) -> str:
    parts = []
    for name, value in entries.items():
        if value is not None:
            shown = text(value if isinstance(value, str) else number(value))
            shown = f"<code>{shown}</code>" if name == "Command" else shown
            parts.append(f"<div><dt>{text(name)}</dt><dd>{shown}</dd></div>")
    return "".join(parts)
