"""What `msma-fast analyze`, `collect`, `compare` and `train` do. Messages go to standard error; standard output is
for --json."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from msma_fast.activations import (
    Activations,
    TextSet,
    collect_activations,
    load_model,
    read_texts,
    train_model,
    untrained,
)
from msma_fast.activations.optional import require
from msma_fast.fisher import Readout, readout
from msma_fast.msma.analysis import Settings, analyze
from msma_fast.msma.comparison import compare, table
from msma_fast.msma.plan import plan
from msma_fast.msma.preview import preview
from msma_fast.msma.scale_analysis import first_texts
from msma_fast.report import first_figure, write_report

Update = Callable[[str, int, int], None]

# How the stages are called on screen.
_STAGES = {
    "collect": "reading texts with the model",
    "layers": "neighbours and dimension of each layer",
    "similarity": "overlap and CKA of all pairs",
    "information": "mutual information and its null",
    "fisher": "Fisher geometry of the tokens at each layer",
    "random": "reading texts with the untrained model",
    "scales": "boundaries, and what they depend on",
    "seconds": "training, seconds",
    "steps": "training, steps",
    "maps": "maps between scales, and their nulls",
    "texts": "interventions, kinds",
}


@contextmanager
def progress_bars() -> Iterator[tuple[Any, Update]]:
    """A rich console on standard error and a function update(stage, done, total) that draws a bar for each stage."""
    require("rich", "the command line")
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_STAGES[stage], total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield console, update


def choose_texts(
    texts: TextSet, tokenizer: Any, *, tokens: int, per_text: int, max_length: int, seed: int
) -> tuple[list[str], int]:
    """(texts for `tokens` tokens, how many looked at were too short), in random order; fewer where there are no more.

    Each is long enough to give per_text tokens. Raises ValueError where none is.
    """
    wanted = -(-tokens // per_text)
    order = torch.randperm(len(texts.texts), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[str] = []
    rejected = 0
    for index in order:
        text = texts.texts[index]
        # A beginning or end token and the first position are never sampled: ask for four more.
        ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
        if len(ids) >= min(per_text + 4, max_length):
            chosen.append(text)
        else:
            rejected += 1
        if len(chosen) == wanted:
            break
    if not chosen:
        raise ValueError(
            f"--texts: expected texts of at least {per_text + 4} tokens, got none in {len(texts.texts)} texts; "
            "lower --tokens-per-text"
        )
    return chosen, rejected


def read_out(model: Any) -> tuple[Readout | None, str]:
    """(the model's read-out, "") or (None, why there is none)."""
    try:
        return readout(model), ""
    except (NotImplementedError, TypeError) as error:
        return None, f"No read-out: {error}."


def _collect(
    arguments: argparse.Namespace, folder: Path, console: Any, update: Update, first: Path | None
) -> tuple[Activations, dict[str, Any], Any, Any]:
    """(activations, what the data card says of the texts, the model, a function that collects the first texts with another
    one), resumed from `folder`; `first`: where the first figure goes."""
    texts = read_texts(arguments.texts)
    console.print(f"[bold]{texts.name}[/]: {len(texts.texts)} texts")
    model, tokenizer, info = load_model(arguments.model)
    quantised = f", {info['quantisation']}" if info.get("quantisation") else ""
    console.print(f"[bold]{info['name']}[/] loaded ({info['dtype']}{quantised})")
    chosen, rejected = choose_texts(
        texts,
        tokenizer,
        tokens=arguments.tokens,
        per_text=arguments.tokens_per_text,
        max_length=arguments.max_length,
        seed=arguments.seed,
    )
    if first is not None and not first.exists():
        started = time.perf_counter()
        quick = preview(model, tokenizer, chosen, arguments.k, max_length=arguments.max_length, seed=arguments.seed)
        first_figure(quick, first)
        console.print(f"first figure after {time.perf_counter() - started:.0f} s: {first}")

    def read(model: Any, texts: list[str], folder: Path, stage: str) -> Activations:
        return collect_activations(
            model,
            tokenizer,
            texts,
            path=folder,
            tokens_per_text=arguments.tokens_per_text,
            max_length=arguments.max_length,
            seed=arguments.seed,
            attention_span=arguments.attention_span,
            progress=lambda done, total: update(stage, done, total),
        )

    acts = read(model, chosen, folder, "collect")

    def read_first(other: Any, rows: int, folder: Path) -> Activations:
        texts = first_texts(acts, rows).text_ids
        return read(other, chosen[: 1 + int(torch.as_tensor(texts).max())], folder, "random")

    about = {"name": texts.name, "source": texts.source, "texts_rejected": rejected, "tokens_wanted": arguments.tokens}
    return acts, about, model, read_first


def collect_command(arguments: argparse.Namespace, command: str) -> None:
    """`msma-fast collect`: the activations in a folder."""
    with progress_bars() as (console, update):
        acts, *_ = _collect(arguments, Path(arguments.out), console, update, None)
        console.print(
            f"{acts!r}\nwritten to {arguments.out}; analyze it with msma-fast analyze --activations {arguments.out}"
        )


def analyze_command(arguments: argparse.Namespace, command: str) -> None:
    """`msma-fast analyze`: collect (or load), measure, report."""
    if arguments.dry_run:
        print(
            plan(
                arguments.model,
                tokens=arguments.tokens,
                per_text=arguments.tokens_per_text,
                max_length=arguments.max_length,
                activations=arguments.activations,
                mi_tokens=arguments.mi_tokens,
            )
        )
        return
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    about: dict[str, Any] = {"command": command}
    found: Readout | None = None
    other: Activations | None = None
    settings = Settings(k=arguments.k, mi_tokens=arguments.mi_tokens, seed=arguments.seed)
    with progress_bars() as (console, update):
        if arguments.activations:
            source = Path(arguments.activations)
            acts = Activations.from_safetensors(source)
            about |= {"name": source.name, "source": f"activations read from {source.name}"}
        else:
            acts, collected, model, read_first = _collect(
                arguments, out / "activations", console, update, out / "figures" / "first_look.svg"
            )
            found, why = read_out(model)
            if arguments.untrained:
                try:
                    other = read_first(untrained(model), settings.scale_tokens, out / "untrained")
                except NotImplementedError as error:
                    console.print(f"no untrained model: {error}")
            del model  # only its read-out is needed from here on
            about |= collected | ({"no_readout": why} if found is None else {})
        about["collect_seconds"] = time.perf_counter() - started
        results = analyze(
            acts, settings, readout=found, untrained=other, work=out / "work", about=about, progress=update
        )
        page = write_report(results, out)
        console.print()
        for sentence in results["summary"]:
            console.print(f"• {sentence}", highlight=False)
        console.print(f"\n[bold]{page}[/] in {time.perf_counter() - started:.0f} s")
    if arguments.json:
        json.dump(json.loads((out / "results.json").read_text(encoding="utf-8")), sys.stdout)
        print()


def compare_command(arguments: argparse.Namespace, command: str) -> None:
    """`msma-fast compare`: a table on standard output, and comparison.json."""
    sides = [_activations(Path(path)) for path in (arguments.a, arguments.b)]
    results = compare(*sides, k=arguments.k, n_resamples=arguments.resamples, seed=arguments.seed)
    results["command"] = command
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    print(f"\n{out / 'comparison.json'}", file=sys.stderr)


def train_command(arguments: argparse.Namespace, command: str) -> None:
    """`msma-fast train`: a folder with a small model, and its held-out loss."""
    texts = read_texts(arguments.texts)
    out = arguments.out or f"runs/{arguments.architecture}"
    stage = "seconds" if arguments.steps is None else "steps"
    with progress_bars() as (console, update):
        console.print(f"[bold]{texts.name}[/]: {len(texts.texts)} texts")
        source = train_model(
            arguments.architecture,
            texts,
            out,
            minutes=arguments.minutes,
            steps=arguments.steps,
            seed=arguments.seed,
            progress=lambda done, total: update(stage, done, total),
        )
        run = source["training"]
        before, after, plain = (run[f"heldout_{name}"] for name in ("loss_before", "loss_after", "unigram_entropy"))
        console.print(
            f"held-out loss {before:.2f} before, {after:.2f} after {run['steps']} steps in {run['seconds']:.0f} s; "
            f"no prediction without context is below {plain:.2f} (nats per token, {run['heldout_tokens']} tokens)\n"
            f"written to {out}; analyze it with msma-fast analyze --model {out}"
        )


def _activations(path: Path) -> Activations:
    """Those of a run's folder, of a folder of activations, or of a file."""
    inside = path / "activations"
    return Activations.from_safetensors(inside if inside.is_dir() else path)
