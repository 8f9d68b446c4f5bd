"""What `msma-fast experiment paper` does: a folder with a page and tables, the first sentences on the screen."""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from msma_fast.activations import Activations, collect_activations, read_texts, untrained
from msma_fast.commands import choose_texts, progress_bars
from msma_fast.msma.experiment import Settings, experiment, partition_of, prompt_ids, seeded_order
from msma_fast.msma.language import load_language_model
from msma_fast.msma.machine import cpu_name, versions
from msma_fast.msma.masked_head import LEAST, MaskedHead, fit_masked_head
from msma_fast.report.experiment import write_experiment

_PROMPT_TOKENS = {"decoder": 24, "encoder": 64, "encoder-decoder": 24}
_HEAD_TEXTS = 400
_METHODS = (
    "Maps: from the layer that stands for a scale (the medoid of linear CKA on the first split's fitting texts) to that of "
    "the next shallower one, Procrustes, ridge, reduced rank and a residual network with the weights of Multi-Scale Manifold "
    "Alignment (arXiv 2505.20333; 0.1, 0.1, 0.01) and the squared error of the pairs; by the authors' measures also with "
    "their terms alone. Constants and epochs are chosen on fitting texts.",
    "Nulls: the same kind of map fitted to shuffled pairs; optimal transport between normal distributions, fitted to the "
    "moments of both sides alone; ridge maps between other layers as far apart; ridge maps between the same layers with "
    "random weights.",
    "Information: KSG1, k = 3, euclidean, in 16 principal components of fitting rows, tokens of one text no neighbours; both "
    "the image of the source's 16 components and these with their image are laid on the target by least squares of other "
    "texts.",
    "Interventions act on all layers of a scale, on the same prompts with the same random numbers; p-values by sign flips "
    "over prompts, q-values over all kinds, scales and measures, and the interaction by permuting scales within prompts.",
)


def experiment_command(arguments: argparse.Namespace, command: str) -> None:
    """`msma-fast experiment paper`: read, align, intervene, report."""
    out = Path(arguments.out)
    started = time.perf_counter()
    with progress_bars() as (console, update):
        texts = read_texts(arguments.texts)
        model, tokenizer = load_language_model(arguments.model)
        info = dict(model.config.msma_fast_source)
        chosen, _ = choose_texts(
            texts, tokenizer, tokens=arguments.tokens, per_text=arguments.tokens_per_text,
            max_length=arguments.max_length, seed=arguments.seed,
        )  # fmt: skip

        def read(each: Any, name: str, stage: str) -> Activations:
            return collect_activations(
                each, tokenizer, chosen, path=out / name, tokens_per_text=arguments.tokens_per_text,
                max_length=arguments.max_length, seed=arguments.seed,
                progress=lambda done, total: update(stage, done, total),
            )  # fmt: skip

        acts = read(model, "activations", "collect")
        other = read(untrained(model, arguments.seed), "untrained", "random")
        partition, where = partition_of(acts.names, str(getattr(model.config, "model_type", "")))
        kind = info.get("kind", "decoder")
        order = [texts.texts[place] for place in seeded_order(len(texts.texts), arguments.seed)]
        prompts, used = prompt_ids(tokenizer, order, arguments.prompts, _PROMPT_TOKENS[kind])
        head: MaskedHead | None = None
        told, why = "", "" if arguments.kinds else "none were asked for"
        if arguments.kinds and len(prompts) < 2:
            why = f"fewer than two texts have {_PROMPT_TOKENS[kind]} tokens for a prompt"
        elif (
            arguments.kinds
            and kind == "encoder"
            and model.get_output_embeddings() is None
            and len(order) - used < LEAST
        ):
            why = f"a masked-language head needs {LEAST} texts, and {len(order) - used} are left"
        elif arguments.kinds and kind == "encoder" and model.get_output_embeddings() is None:
            head = fit_masked_head(model, tokenizer, order[used : used + _HEAD_TEXTS], arguments.seed)
            told = _head(head)
        settings = Settings(
            arguments.splits, arguments.kl, arguments.new_tokens, tuple(arguments.kinds), arguments.seed
        )
        results: dict[str, Any] = experiment(
            acts, other, partition, settings, model=model, tokenizer=tokenizer, prompts=[] if why else prompts, head=head,
            why_no_text=why, work=out / "work", update=update,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        results |= {
            "schema": "msma_fast.experiment/1",
            "title": info.get("name") or arguments.model,
            "under": f"{info.get('quantisation') or 'not quantised'}, float32; {acts.n_tokens} tokens of {len(chosen)} texts "
            f"({texts.name}), {len(acts)} layers; {seconds:.0f} s on {cpu_name()}"
            + (", parts kept from an earlier run" if results["resumed"] else ""),
            "command": command,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": seconds,
            "versions": versions(acts),
            "partition": where[0].upper() + where[1:],
            "head": told,
            "prompts": [tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts],
            "settings": settings._asdict(),
            "methods": list(_METHODS),
        }
        page = write_experiment(results, out)
        console.print()
        for sentence in results["summary"]:
            console.print(f"• {sentence}", highlight=False)
        console.print(f"\n[bold]{page}[/] in {seconds:.0f} s")


def _head(head: MaskedHead) -> str:
    about = head.about
    return (
        f"The model comes without a masked-language head: one was fitted to {about['fitted']:.0f} masked places (accuracy "
        f"{about['accuracy']:.1%}, loss {about['loss']:.2f} nats on {about['held_out']:.0f} others; frequencies alone "
        f"{about['loss_of_frequencies']:.2f})."
    )
