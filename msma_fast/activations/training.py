"""Small models trained on a text set, on a CPU, in minutes: for analyses that need a trained model and no download.

AdamW; the learning rate rises over the first twentieth of the run and falls along half a cosine (Loshchilov and Hutter 2017):

    rate(p) = peak * min(1, p / 0.05) * (1 + cos(pi p)) / 2,   p in [0, 1] the part of the run that is done

p is the time spent over the time allowed, or the step over the steps asked for. The last twentieth of the texts is held out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast._version import __version__
from msma_fast.activations.embedded import save_folder
from msma_fast.activations.held_out import held_out, predicted
from msma_fast.activations.objectives import Batch, next_token, span_corruption
from msma_fast.activations.optional import require
from msma_fast.activations.small_models import (
    ARCHITECTURES,
    BLOCKS,
    CONTEXT,
    WIDTH,
    fresh_model,
    sentinels,
    train_tokenizer,
)
from msma_fast.activations.texts import TextSet

MINUTES = 4.0
_BATCH = 8  # windows a step
_PEAK = {"gpt2": 3e-3, "t5": 2e-3}
# T5's table of tokens, which is its read-out too, begins with entries of size 1, some ten times the other weights'.
_TABLE = {"gpt2": 1.0, "t5": 10.0}
_WARM_UP = 0.05
_HELD_OUT = 0.05
_HELD_OUT_WINDOWS = 128  # at most, evenly spread: they are read twice, outside the time allowed


def train_model(
    architecture: str,
    texts: TextSet,
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train "gpt2" or "t5" on `texts` and write a folder that `load_model` takes; returns what is said of the run.

    gpt2 -- a decoder, next token; t5 -- encoder and decoder, span corruption. Six blocks a stack, 128 coordinates, float32,
        a byte-level BPE of at most 2048 tokens trained on the same texts.
    out -- a new or an empty folder; it appears when it is whole.
    minutes -- of training (4 by default), beside some seconds for the tokenizer and the held-out loss. How many steps fit is
        up to the machine's load, so that two such runs do not agree bit for bit.
    steps -- instead of minutes: the same seed, machine, versions and number of threads then give the same weights.
    progress -- called with (seconds, seconds allowed) or (steps done, steps).

    The returned dictionary is config.msma_fast_source: name, source and `training` with architecture, texts, steps, minutes,
    seconds, seed, heldout_loss_before, heldout_loss_after, heldout_unigram_entropy (all three in nats per token, over the
    same held-out tokens; no prediction without context does better than the entropy) and heldout_tokens.

    Not for a model that should be good at anything: it is as large as four minutes allow. Raises ValueError for an unknown
    architecture, a folder that is not empty, too little text, or wrong numbers; ImportError without transformers.
    """
    out = Path(out)
    _check(architecture, out, minutes, steps, seed)
    allowed = 60 * (MINUTES if minutes is None else float(minutes))
    held = max(1, int(_HELD_OUT * len(texts.texts)))
    tokenizer = train_tokenizer(architecture, texts.texts[:-held])
    training = _stream("before", texts.texts[:-held], tokenizer)
    heldout = _stream("in", texts.texts[-held:], tokenizer).unfold(0, CONTEXT, CONTEXT)
    chosen = torch.linspace(0, len(heldout) - 1, min(len(heldout), _HELD_OUT_WINDOWS)).long()
    batch = _batches(architecture, tokenizer)
    whole = batch(heldout[chosen], torch.Generator().manual_seed(seed))
    tests = [Batch(*parts) for parts in zip(*(each.split(_BATCH) for each in whole), strict=True)]
    model = fresh_model(architecture, tokenizer, seed)
    before, entropy, tokens = held_out(model, tests)

    windows = training.unfold(0, CONTEXT, 1)
    generator = torch.Generator().manual_seed(seed)
    table = model.get_input_embeddings().weight
    others = [weight for weight in model.parameters() if weight is not table]
    peaks = (_PEAK[architecture], _PEAK[architecture] * _TABLE[architecture])
    groups = [{"params": others}, {"params": [table]}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=0.01)
    model.train()
    taken = 0
    started = time.perf_counter()
    for part in _parts_done(started, allowed, steps, progress):
        starts = torch.randint(len(windows), (_BATCH,), generator=generator)
        logits, labels, _ = predicted(model, batch(windows[starts], generator))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate(part)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        taken += 1
    seconds = time.perf_counter() - started
    after, _, _ = held_out(model, tests)
    source = {
        "name": f"{ARCHITECTURES[architecture]} ({BLOCKS} blocks, {WIDTH} wide) trained on {texts.name}",
        "source": f"trained from random weights by msma_fast {__version__} on {texts.source}",
        "training": {
            "architecture": architecture,
            "texts": texts.name,
            "steps": taken,
            "minutes": None if steps is not None else allowed / 60,
            "seconds": round(seconds, 1),
            "seed": seed,
            "windows_per_step": _BATCH,
            "tokens_per_window": CONTEXT,
            "heldout_loss_before": before,
            "heldout_loss_after": after,
            "heldout_unigram_entropy": entropy,
            "heldout_tokens": tokens,
        },
    }
    model.config.msma_fast_source = source
    save_folder(model.eval(), tokenizer, out)
    return source


def rate(part: float) -> float:
    """The learning rate over its peak where `part` in [0, 1] of the run is done."""
    return min(1.0, part / _WARM_UP) * (1 + math.cos(math.pi * part)) / 2


def _batches(architecture: str, tokenizer: Any) -> Callable[[Tensor, torch.Generator], Batch]:
    if architecture == "gpt2":
        return lambda windows, generator: next_token(windows)
    marks, end = torch.tensor(tokenizer.convert_tokens_to_ids(sentinels())), int(tokenizer.eos_token_id)
    return lambda windows, generator: span_corruption(windows, marks, end, generator)


def _stream(where: str, texts: list[str], tokenizer: Any) -> Tensor:
    """The token ids of the texts, one after another, each followed by the end token."""
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]
    if len(ids) < CONTEXT:
        raise ValueError(
            f"texts: expected at least {CONTEXT} tokens {where} the last {_HELD_OUT:.0%} of the texts, which are held out, "
            f"got {len(ids)} in {len(texts)} texts"
        )
    return torch.tensor(ids)


def _parts_done(
    started: float, allowed: float, steps: int | None, progress: Callable[[int, int], None] | None
) -> Iterator[float]:
    """Before each step, the part of the run that is done: of the steps, or of the seconds allowed."""
    report = progress or (lambda done, total: None)
    if steps is not None:
        for step in range(steps):
            yield (step + 0.5) / steps  # its middle: neither the first step nor the last is lost
            report(step + 1, steps)
        return
    total = math.ceil(allowed)
    while (spent := time.perf_counter() - started) < allowed:
        yield spent / allowed
        report(min(int(time.perf_counter() - started), total), total)
    report(total, total)


def _check(architecture: str, out: Path, minutes: float | None, steps: int | None, seed: int) -> None:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    if minutes is not None and steps is not None:
        raise ValueError(f"steps: expected either minutes or steps, got minutes = {minutes} and steps = {steps}")
    if minutes is not None and not 0 < _checks.number("minutes", minutes) < math.inf:
        raise ValueError(f"minutes: expected a finite number > 0, got {minutes}")
    if steps is not None:
        _checks.integer("steps", steps, at_least=1)
    _checks.integer("seed", seed, at_least=0)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out: expected a new or an empty folder, got {out}, which is there and not empty")
    require("transformers", "training a model")
