"""Where five models have boundaries between scales, beside the ranges of the MSMA paper, each with what speaks for it.

Three scales a stack are cut whatever the test says; `supported` is a boundary that drift through depth does not explain
(docs/scales.md). The paper fixes its ranges for models of 12 blocks (6 in each stack of T5); of a model with fewer or more
they are taken at the same share of its depth. Written as a table in Markdown, and below it how many boundaries are
supported in each model, and in the same model untrained, when nobody asks for three.

    python examples/scales_of_models.py MODEL=PAPER[:TEXTS] ...

MODEL: smollm2, minilm, minilm-roberta, a folder or a name on the hub; PAPER: gpt2, bert, roberta, t5, or - for none; TEXTS:
commons (the default), kjv, or what `read_texts` takes. Without arguments: smollm2=- minilm=bert minilm-roberta=roberta, which
need nothing made before; runs/gpt2-kjv=gpt2:kjv and runs/t5-kjv=t5:kjv once `msma-fast train` has made them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

import msma_fast as mf
from msma_fast.activations import collect_activations, load_model, read_texts, untrained
from msma_fast.commands import choose_texts, read_out
from msma_fast.msma.naming import layer_names
from msma_fast.msma.scales import PAPER

TOKENS, PER_TEXT, LENGTH = 4000, 32, 128
MADE = {"runs/gpt2-kjv": "gpt2:kjv", "runs/t5-kjv": "t5:kjv"}


class Read(NamedTuple):
    """A model's activations, those of the same configuration untrained, and its read-out, None where it has none."""

    acts: mf.Activations
    random: mf.Activations
    readout: Any


def read(name: str, texts: str) -> Read:
    model, tokenizer, _ = load_model(name)
    chosen, _ = choose_texts(read_texts(texts), tokenizer, tokens=TOKENS, per_text=PER_TEXT, max_length=LENGTH, seed=0)
    acts, random = (
        collect_activations(each, tokenizer, chosen, tokens_per_text=PER_TEXT, max_length=LENGTH)
        for each in (model, untrained(model))
    )
    return Read(acts, random, read_out(model)[0])


def scales(found: Read, n_resamples: int = 20) -> mf.ScalePartition:
    """Three scales a stack, with every signal that the model has."""
    signals = ["overlap", "cka", "dimension", "information", "token_id", "next_token", "position"]
    if found.readout is not None:
        signals.append("fisher_trace")
    return mf.find_scales(
        found.acts, signals=signals, n_scales=3, n_resamples=n_resamples, untrained=found.random, readout=found.readout
    )


def published(partition: mf.ScalePartition, paper: str) -> list[int]:
    """The first layers of the paper's second and third range, of every stack, at the same share of its depth."""
    ranges = PAPER[paper]
    deep = ranges[-1][1]
    return [first + round(a * (last - first) / deep) for first, last in partition.stacks for a, _ in ranges[1:]]


def rows(name: str, found: Read, partition: mf.ScalePartition, paper: str | None) -> list[str]:
    """Lines of the table, one a boundary."""
    names = [layer["name"] for layer in layer_names(found.acts)]
    told = None if paper is None else published(partition, paper)
    lines = []
    for number, one in enumerate(partition.boundaries):
        agree = ", ".join(signal for signal, yes in one.agrees.items() if yes) or "none"
        where = "" if one.interval is None else f"{names[one.interval[0]]} to {names[one.interval[1]]}"
        cells = [
            name, "" if told is None else names[told[number]], names[one.layer],
            "supported" if one.supported else "not supported", f"{one.p_value:.2g}", where, agree,
            said(one.without_massive), said(one.rescaled), said(one.untrained),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def said(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def main(arguments: list[str]) -> None:
    torch.manual_seed(0)
    asked = arguments or ["smollm2=-", "minilm=bert", "minilm-roberta=roberta"]
    if not arguments:
        asked += [f"{folder}={rest}" for folder, rest in MADE.items() if Path(folder).is_dir()]
    head = [
        "model", "paper: before", "ours: before", "drift", "p", "in resamples", "signals that agree",
        "without massive coordinates", "rescaled", "untrained",
    ]  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    chosen = []
    for each in asked:
        name, _, rest = each.partition("=")
        paper, _, texts = rest.partition(":")
        found = read(name, texts or "commons")
        partition = scales(found)
        known = found.acts.metadata.get("model") or name
        quantised = found.acts.metadata.get("quantisation")
        label = f"{known} ({quantised})" if quantised else str(known)
        print("\n".join(rows(label, found, partition, None if paper in ("", "-") else paper)), flush=True)
        own, random = (len(mf.find_scales(acts, n_resamples=0).boundaries) for acts in found[:2])
        chosen.append(f"{label}: {own} supported, untrained {random}")
    print("\n" + "\n".join(chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
