"""What the small models are trained to predict, as batches made from windows of token ids.

Next token (GPT-2): every token of a window from those before it.

Span corruption (T5; Raffel et al. 2020, "Exploring the limits of transfer learning", section 3.1.4): spans of a window are
taken out, each is replaced by a sentinel of its own, and the target is each sentinel followed by its span:

    window  a b c d e f g h      input  a b <0> e f g <1> </s>      target  <0> c d <1> h </s>

Half of a window is taken out, in spans of eight tokens on average: the stronger corruption of Tay et al. 2022 ("UL2", their
X-denoisers), because the paper's 15 % in spans of three would give a run of minutes a third as much to predict. Every window
has as many spans, so that a batch needs no padding: kept and removed tokens are cut into the same number of parts, uniformly
among all ways to cut them, and take turns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_REMOVED = 0.5  # of a window
_MEAN_SPAN = 8  # tokens


class Batch(NamedTuple):
    """input_ids (b, l) and labels (b, m), int64; scored (b, m) bool: which labels count in the held-out loss."""

    input_ids: Tensor
    labels: Tensor
    scored: Tensor


def next_token(windows: Tensor) -> Batch:
    """windows (b, l), for a decoder that is read one position to the left: nothing predicts the first token."""
    return Batch(windows, windows, torch.ones_like(windows, dtype=torch.bool))


def span_sizes(length: int) -> tuple[int, int]:
    """(tokens removed from a window of `length`, spans they form)."""
    removed = max(1, round(_REMOVED * length))
    return removed, max(1, round(removed / _MEAN_SPAN))


def span_corruption(windows: Tensor, sentinels: Tensor, end: int, generator: torch.Generator) -> Batch:
    """windows (b, l), sentinels (spans,) -> input (b, l - removed + spans + 1), labels (b, removed + spans + 1).

    Only the tokens of the windows count in the held-out loss: sentinels and the end stand where they must.
    """
    removed, spans = span_sizes(windows.shape[1])
    inputs, labels, scored = [], [], []
    last = torch.tensor([end])
    for window in windows:
        kept = _parts(windows.shape[1] - removed, spans, generator)
        taken = _parts(removed, spans, generator)
        pieces = window.split([size for pair in zip(kept, taken, strict=True) for size in pair])
        marks = sentinels.split(1)
        inputs.append(torch.cat([*_alternate(pieces[0::2], marks), last]))
        labels.append(torch.cat([*_alternate(marks, pieces[1::2]), last]))
        ours = [torch.ones(size, dtype=torch.bool) for size in taken]
        scored.append(torch.cat([*_alternate([torch.tensor([False])] * spans, ours), torch.tensor([False])]))
    return Batch(torch.stack(inputs), torch.stack(labels), torch.stack(scored))


def _alternate(first: tuple[Tensor, ...] | list[Tensor], second: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    return [piece for pair in zip(first, second, strict=True) for piece in pair]


def _parts(total: int, count: int, generator: torch.Generator) -> list[int]:
    """`total` in `count` parts >= 1, uniform among all such: cut at count - 1 of the total - 1 places between units."""
    cuts = (torch.randperm(total - 1, generator=generator)[: count - 1] + 1).sort().values.tolist()
    return [right - left for left, right in zip([0, *cuts], [*cuts, total], strict=True)]
