"""What `msma-fast intervene` does: a table and two texts on standard output, and intervention.json."""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from msma_fast.activations import read_texts
from msma_fast.activations.blocks import Stack, find_stacks
from msma_fast.commands import choose_texts
from msma_fast.msma.intervention_results import InterventionResult
from msma_fast.msma.interventions import intervene
from msma_fast.msma.language import load_language_model
from msma_fast.msma.scales import ScalePartition

_PROMPT_TOKENS = 24
_DEFAULT_KL = 0.1  # nats per token: text visibly different, still text


def intervene_command(arguments: argparse.Namespace, command: str) -> None:
    """Load, intervene, print, write."""
    texts = read_texts(arguments.texts)
    model, tokenizer = load_language_model(arguments.model)
    chosen, _ = choose_texts(
        texts,
        tokenizer,
        tokens=arguments.prompts * _PROMPT_TOKENS,
        per_text=_PROMPT_TOKENS,
        max_length=_PROMPT_TOKENS,
        seed=arguments.seed,
    )
    # Cut as ids, so that all prompts are equally long and run in one batch.
    prompts = [tokenizer(text, truncation=True, max_length=_PROMPT_TOKENS)["input_ids"] for text in chosen]
    sizes = {name: getattr(arguments, name) for name in ("strength", "kl", "norm")}
    if all(value is None for value in sizes.values()):
        sizes["kl"] = _DEFAULT_KL
    ranges = list(thirds(find_stacks(model)).ranges) if arguments.ranges is None else parse_ranges(arguments.ranges)
    scale = str(len(ranges) - 1) if arguments.scale is None else arguments.scale
    result = intervene(
        model,
        tokenizer,
        prompts,
        ranges,
        scale=int(scale) if scale.isdigit() else scale,
        kind=arguments.kind,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
        progress=lambda done, total: print(f"condition {done} of {total}", file=sys.stderr),
        **sizes,
    )
    started = [tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts]
    about = {"command": command, "texts": texts.name, "source": texts.source, "prompts": started}
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    page = out / "intervention.json"
    page.write_text(json.dumps(result.to_dict() | {"about": about}, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print("\n" + samples(result, started[0]))
    print(f"\n{page}", file=sys.stderr)


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """ "0-9,10-20" -> [(0, 9), (10, 20)]; "3" is 3-3. Raises ValueError for anything else."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ValueError(f'--ranges: expected ranges like "0-9,10-20,21-30", got {text!r}')
        found.append((int(match[1]), int(match[2] or match[1])))
    return found


def thirds(stacks: Sequence[Stack]) -> ScalePartition:
    """Each stack in three ranges of equal length, the first ones longer."""
    return ScalePartition.uncut([name for stack in stacks for name in stack.names]).thirds()


def table(result: InterventionResult) -> str:
    """Conditions, then each measure under each, aligned."""
    rows = [["condition", "layers", "strength", "KL", "shift"]]
    for one in result.conditions:
        layers = "" if one.layers is None else f"{one.layers[0]}-{one.layers[1]}"
        kl = sum(one.kl) / len(one.kl)
        rows.append([one.name, layers, f"{one.strength:.4g}", f"{kl:.4g}", f"{one.norm:.4g}"])
    lines = [*_aligned(rows), ""]
    rows = [["measure", "condition", "prompts", "untouched", "difference", "relative", "rank r", "p", "q"]]
    for found in sorted(result.comparisons, key=lambda one: one.measure):
        relative = "" if found.relative_difference is None else f"{found.relative_difference:+.1%}"
        rows.append(
            [
                found.measure,
                found.condition,
                str(found.n_prompts),
                f"{found.mean_untouched:.4g}",
                f"{found.mean_difference:+.3g}",
                relative,
                f"{found.rank_biserial:+.2f}",
                f"{found.p_value:.3g}",
                f"{found.q_value:.3g}",
            ]
        )
    lines += _aligned(rows, 2)
    if result.interaction is not None:
        test = result.interaction
        lines += ["", f"scales differ in what they change: p = {test.p_value:.3g} ({', '.join(test.scales)})"]
    notes = [*result.missing.items(), *((f"{name}: skipped", why) for name, why in result.skipped.items())]
    return "\n".join([*lines, *([""] if notes else []), *(f"{name}: {why}" for name, why in notes)])


def samples(result: InterventionResult, prompt: str) -> str:
    """The first prompt, and what was written untouched and under the intervention."""
    parts = [("prompt", prompt)]
    parts += [(one.name, one.texts[0]) for one in result.conditions[:2]]
    return "\n\n".join(
        textwrap.fill(f"{name}: {' '.join(text.split())}", width=100, subsequent_indent="    ") for name, text in parts
    )


def _aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of equal width, the first `left` to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
