"""The layer analysis: from activations to the one dict that the report, results.json and methods.txt are made of.

Neighbours, overlap, CKA and dimension on RMS-normalised rows at full d; information in the declared space of spaces.py.
What the tokens of a read-out make of the layers (fisher_geometry.py) is measured where the read-out is given.
Every stage is kept in a work folder, so an interrupted run continues.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from msma_fast._version import __version__
from msma_fast.activations import Activations
from msma_fast.fisher import Readout
from msma_fast.msma.explorer import choose_tokens, explorer
from msma_fast.msma.fisher_geometry import fisher_geometry, readout_digest, sample_rows, stages_of
from msma_fast.msma.health import columns
from msma_fast.msma.layer_information import InformationSettings, layer_information, split
from msma_fast.msma.layers import DECIMATIONS, layer_pass, overlap_matrix
from msma_fast.msma.machine import hardware, versions
from msma_fast.msma.naming import layer_names
from msma_fast.msma.scale_analysis import STEPS, first_texts, scale_analysis
from msma_fast.msma.scales import TooFewRowsError
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.stages import Stages, content_digest
from msma_fast.msma.summary import summarize, warn
from msma_fast.similarity import cka_matrix

SCHEMA = "msma_fast.analysis/1"
Progress = Callable[[str, int, int], None]  # (stage, done, total)

GEOMETRY = "rows divided by their root mean square, all coordinates, euclidean"
INFORMATION = (
    "rows divided by their root mean square, centred, projected on the {d} leading principal components of other texts, "
    "one scale per layer, euclidean marginals; tokens that occur at least twice; tokens of the same text are not neighbours"
)


class Settings(NamedTuple):
    """What the analysis may vary; the defaults are the demo's."""

    k: int = 15  # neighbours of the graphs
    dimension_tokens: int = 4000
    mi_tokens: int = 2000
    mi_dimensions: int = 16
    mi_k: int = 3
    n_nulls: int = 3
    explorer_tokens: int = 200
    explorer_k: int = 8
    fisher_tokens: int = 64  # read at every layer
    fisher_searched: int = 256  # the tokens among which two layers look for Fisher-Rao neighbours
    fisher_k: int = 8
    scale_tokens: int = 2000
    scale_resamples: int = 10
    seed: int = 0


def _quiet(stage: str, done: int, total: int) -> None:
    """No progress shown."""


def analyze(
    acts: Activations,
    settings: Settings | None = None,
    *,
    readout: Readout | None = None,
    untrained: Activations | None = None,
    work: Path | None = None,
    about: dict[str, Any] | None = None,
    progress: Progress = _quiet,
) -> dict[str, Any]:
    """Results of schema msma_fast.analysis/1 for activations with at least two layers.

    :param readout: `fisher.readout(model)` of the model whose last block's output is the last layer, for the Fisher geometry
        of the tokens; without it that section is skipped.
    :param untrained: activations of an untrained model of the same configuration on the tokens of
        `scale_analysis.first_texts(acts, settings.scale_tokens)`, for the difference that training makes; without them that
        part is skipped.
    :param work: folder for finished stages; a later call with the same activations and settings continues there.
    :param about: data set `name` and `source`, `texts_rejected` before collecting, `tokens_wanted`, the `command`, and
        `collect_seconds`, for the data card; `no_readout`, why there is no read-out.
    :param progress: called as progress(stage, done, total); stages "layers", "similarity", "information", "fisher", "scales".
    :raises ValueError: fewer than two layers, fewer tokens than the neighbours asked for, a read-out of another width, or
        other tokens of the untrained model.
    """
    settings = settings or Settings()
    about = about or {}
    if len(acts) < 2:
        raise ValueError(f"acts: expected at least two layers, got {len(acts)}")
    least = max(settings.k, 3 * max(DECIMATIONS))
    if acts.n_tokens <= least:
        raise ValueError(f"acts: expected more than {least} tokens (k = {settings.k}), got {acts.n_tokens}")
    key = None if work is None else [__version__, settings, acts.names, content_digest(acts)]
    stages = Stages(work, key)
    started = time.perf_counter()
    timings: dict[str, float] = {"collect": float(about.get("collect_seconds", 0.0))}
    generator = torch.Generator().manual_seed(settings.seed)
    dimension_rows = torch.randperm(acts.n_tokens, generator=generator)[: settings.dimension_tokens].sort().values
    chosen = choose_tokens(acts, settings.explorer_tokens, settings.seed)
    passes = []
    for found in layer_pass(acts, stages, settings.k, dimension_rows):
        passes.append(found)
        progress("layers", len(passes), len(acts))
    timings["layers"] = time.perf_counter() - started
    overlap = overlap_matrix([found["indices"] for found in passes])
    progress("similarity", 1, 2)
    cka = stages.run("cka", lambda: {"cka": torch.as_tensor(cka_matrix([rms_normalized(layer) for layer in acts]))})[
        "cka"
    ]
    progress("similarity", 2, 2)
    timings["similarity"] = time.perf_counter() - started - timings["layers"]
    information = _information(acts, stages, settings, progress)
    timings["information"] = time.perf_counter() - started - timings["layers"] - timings["similarity"]
    before = time.perf_counter()
    fisher = _fisher(acts, readout, work, key, settings, about, progress)
    timings["fisher"] = time.perf_counter() - before
    before = time.perf_counter()
    scales = _scales(acts, untrained, readout, stages, settings, progress)
    timings["scales"] = time.perf_counter() - before
    layers = layer_names(acts)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": about.get("command", "msma_fast.msma.analyze"),
        "seed": settings.seed,
        "versions": versions(acts),
        "hardware": hardware(),
        "model": _model(acts),
        "data": _data(acts, information, about),
        "spaces": {
            "geometry": GEOMETRY,
            "information": INFORMATION.format(d=settings.mi_dimensions),
            "neighbours": "Any other token may be a neighbour."
            if acts.text_ids is None
            else "Tokens of the same text are not neighbours.",
        },
        "layers": layers,
        "health": columns([found["health"] for found in passes]),
        "overlap": {"k": settings.k, "matrix": overlap},
        "cka": {"kernel": "linear", "matrix": cka.tolist()},
        "dimension": {
            "method": "twonn",
            "scales": [dimension_rows.shape[0] // q for q in DECIMATIONS],
            "estimates": [found["estimates"] for found in passes],
            "standard_error": [found["errors"] for found in passes],
        },
        "information": information,
        "fisher": fisher,
        "scales": scales,
        "explorer": explorer(
            acts, chosen, [(f["indices"][chosen], f["distances"][chosen]) for f in passes], settings.explorer_k
        ),
        "timings": timings,
    }
    results["warnings"] = warn(results)
    results["summary"] = summarize(results)
    return results


def _information(acts: Activations, stages: Stages, settings: Settings, progress: Progress) -> dict[str, Any]:
    if acts.text_ids is None or acts.token_ids is None:
        return {
            "skipped": "Information between layers needs text_ids and token_ids for its null; these activations have none."
        }
    parts = split(acts.text_ids, acts.token_ids, settings.mi_tokens, settings.seed)
    least = max(max(acts.dims) // 2, settings.mi_dimensions)  # rows that pin down the leading components
    if parts.rows.shape[0] < 50 * settings.mi_k or parts.fit.shape[0] < least:
        return {
            "skipped": f"Too few tokens for an estimate: {parts.rows.shape[0]} to estimate and "
            f"{parts.fit.shape[0]} of other texts to fit the projection."
        }
    total = 2 + settings.n_nulls
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("information", done, total)

    blocks = [layer["index"] for layer in layer_names(acts) if layer["kind"] != "embedding"]
    chosen = InformationSettings(settings.mi_k, settings.mi_dimensions, settings.n_nulls, settings.seed)
    return layer_information(acts, stages, parts, blocks, chosen, step)


def _fisher(
    acts: Activations,
    readout: Readout | None,
    work: Path | None,
    key: list[Any] | None,
    settings: Settings,
    about: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    if readout is None:
        return {"skipped": about.get("no_readout", "No read-out: the model is not at hand.")}
    stages = Stages(work, None if key is None else [*key, readout_digest(readout)])
    rows, searched = (
        sample_rows(acts.text_ids, acts.n_tokens, count, settings.seed)
        for count in (settings.fisher_tokens, settings.fisher_searched)
    )
    groups, compared = stages_of(acts)
    total = len(groups) + len(compared)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("fisher", done, total)

    return fisher_geometry(acts, readout, stages, rows, searched, settings.fisher_k, step)


def _scales(
    acts: Activations,
    untrained: Activations | None,
    readout: Readout | None,
    stages: Stages,
    settings: Settings,
    progress: Progress,
) -> dict[str, Any]:
    few = first_texts(acts, settings.scale_tokens)
    if few.text_ids is not None and few.text_ids.unique().shape[0] < 2:
        return {"skipped": "Scales need at least two texts, for tokens of the same text are not neighbours."}
    if untrained is not None:
        _same_tokens(few, untrained)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("scales", done, STEPS)

    def compute() -> dict[str, Any]:
        return scale_analysis(few, untrained, readout, settings.k, settings.scale_resamples, settings.seed, step)

    told = [content_digest(untrained)] if untrained is not None else []
    told += [readout_digest(readout)] if readout is not None else []
    name = "-".join(["scales", *(digest[:16] for digest in told)])
    try:
        found: dict[str, Any] = stages.run_json(name, compute)
    except TooFewRowsError as error:
        return {"skipped": f"Scales: {error}."}
    return found


def _same_tokens(few: Activations, untrained: Activations) -> None:
    if len(untrained) != len(few) or untrained.n_tokens != few.n_tokens:
        raise ValueError(
            f"untrained: expected {len(few)} layers of {few.n_tokens} tokens, got {len(untrained)} of {untrained.n_tokens}"
        )
    for name in ("token_ids", "positions"):
        mine, theirs = getattr(few, name), getattr(untrained, name)
        if mine is not None and theirs is not None and not torch.equal(mine, theirs):
            raise ValueError(f"untrained: expected the {name} of the first texts of acts, got others")


def _model(acts: Activations) -> dict[str, Any]:
    known = acts.metadata
    return {
        "name": known.get("model") or "unknown",
        "source": known.get("source"),
        "revision": known.get("revision"),
        "architecture": known.get("model_class"),
        "n_layers": len(acts) - 1,
        "d": max(acts.dims),
        "vocabulary": known.get("vocabulary"),
        "dtype": known.get("dtype"),
        "quantisation": known.get("quantisation"),
        "parameters": known.get("parameters"),
    }


def _data(acts: Activations, information: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    known = acts.metadata
    texts = None if acts.text_ids is None else int(acts.text_ids.unique().shape[0])
    return {
        "name": about.get("name", "activations"),
        "source": about.get("source"),
        "n_texts": texts,
        "n_texts_skipped": known.get("texts_skipped", 0) + about.get("texts_rejected", 0),
        "n_tokens_wanted": about.get("tokens_wanted"),
        "tokens_per_text": known.get("tokens_per_text"),
        "n_tokens": acts.n_tokens,
        "n_tokens_mi": information.get("n"),
        "max_length": known.get("max_length"),
        "sampling": known.get("sampling", "as given"),
    }
