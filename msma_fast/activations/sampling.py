"""From texts to the rows that are kept: token ids, positions, and the text around each.

A position can be kept when it is no special token and, in a model with a causal stack, is not the first one:
there a token sees nothing but itself, and many models park a state of a hundred times the usual norm on it.
(drop_special=False keeps both kinds.) Padding does not exist yet at this point, so it cannot be sampled.

Of the positions of text i that can be kept, each gets a number from random.Random("seed:i"), and the smallest
tokens_per_text are taken: equal counts, every subset equally likely, the same on any machine and with any
other texts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CONTEXT_TOKENS = 10
_CHUNK = 1000


@dataclass(frozen=True)
class Encoded:
    """One text as the model reads it: ids, and each id's characters (start, end) where they are known."""

    text_id: int
    text: str
    ids: list[int]
    offsets: list[tuple[int, int]] | None


@dataclass(frozen=True)
class Sample:
    """The texts that are kept, and the sorted positions kept of each."""

    texts: list[Encoded]
    positions: list[list[int]]
    skipped: int

    @property
    def n_rows(self) -> int:
        return sum(map(len, self.positions))


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Encoded]:
    """Every text cut to max_length tokens, its special tokens included."""
    fast = bool(getattr(tokenizer, "is_fast", False))
    encoded: list[Encoded] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        batch = tokenizer(chunk, truncation=True, max_length=max_length, return_offsets_mapping=fast)
        for place, text in enumerate(chunk):
            offsets = [tuple(pair) for pair in batch["offset_mapping"][place]] if fast else None
            encoded.append(Encoded(start + place, text, list(batch["input_ids"][place]), offsets))
    return encoded


def sample(
    encoded: Sequence[Encoded],
    special: set[int],
    *,
    tokens_per_text: int | None,
    seed: int,
    drop_special: bool,
    causal: bool,
) -> Sample:
    """The rows to keep, by text and then position. Raises ValueError where no text is long enough."""
    texts, chosen = [], []
    for text in encoded:
        eligible = [
            position
            for position, token in enumerate(text.ids)
            if not (drop_special and (token in special or (causal and position == 0)))
        ]
        if len(eligible) < (tokens_per_text or 1):
            continue
        if tokens_per_text is not None:
            source = random.Random(f"{seed}:{text.text_id}")
            keys = {position: source.random() for position in eligible}
            eligible = sorted(sorted(eligible, key=keys.__getitem__)[:tokens_per_text])
        texts.append(text)
        chosen.append(eligible)
    if not texts:
        longest = max(len(text.ids) for text in encoded)
        raise ValueError(
            f"texts: expected at least one text with {tokens_per_text or 1} tokens to keep, got none: the "
            f"longest of {len(encoded)} has {longest} tokens, special ones included; lower tokens_per_text "
            "or give longer texts"
        )
    return Sample(texts, chosen, len(encoded) - len(texts))


def row_ids(kept: Sample, special: set[int]) -> dict[str, Tensor]:
    """text_ids, token_ids, positions, next_token_ids: int64 (n,). The next token is the one the model was
    given next, -1 at the end of what it was given and before a special token."""
    rows = [
        (text, position) for text, positions in zip(kept.texts, kept.positions, strict=True) for position in positions
    ]

    def following(text: Encoded, position: int) -> int:
        after = text.ids[position + 1] if position + 1 < len(text.ids) else -1
        return -1 if after in special else after

    columns = {
        "text_ids": [text.text_id for text, _ in rows],
        "token_ids": [text.ids[position] for text, position in rows],
        "positions": [position for _, position in rows],
        "next_token_ids": [following(text, position) for text, position in rows],
    }
    return {name: torch.tensor(values, dtype=torch.int64) for name, values in columns.items()}


def row_text(kept: Sample, tokenizer: Any, special: set[int]) -> Iterator[dict[str, str]]:
    """For each row {"token", "before", "after"}: the token's text, and that of ten tokens on either side.

    before + token + after is a piece of the text with each run of white space made one space. Where the
    tokenizer keeps no character offsets the ids are decoded instead.
    """
    for text, positions in zip(kept.texts, kept.positions, strict=True):
        for position in positions:
            window = range(max(0, position - CONTEXT_TOKENS), min(len(text.ids), position + CONTEXT_TOKENS + 1))
            pieces = _from_offsets(text, position, window) or _from_ids(text, position, window, tokenizer, special)
            before, token, after = (re.sub(r"\s+", " ", piece) for piece in pieces)
            yield {"token": token, "before": before.lstrip(), "after": after.rstrip()}


def _from_offsets(text: Encoded, position: int, window: range) -> tuple[str, str, str] | None:
    if text.offsets is None:
        return None
    start, end = text.offsets[position]
    if start == end:  # a special token, or a piece without characters of its own
        return None
    spans = [text.offsets[other] for other in window if text.offsets[other][0] < text.offsets[other][1]]
    first, last = spans[0][0], spans[-1][1]
    return text.text[first:start], text.text[start:end], text.text[end:last]


def _from_ids(text: Encoded, position: int, window: range, tokenizer: Any, special: set[int]) -> tuple[str, str, str]:
    before = [text.ids[other] for other in window if other < position and text.ids[other] not in special]
    after = [text.ids[other] for other in window if other > position and text.ids[other] not in special]
    decoded = [tokenizer.decode(ids) for ids in (before, [text.ids[position]], after)]
    return decoded[0], decoded[1], decoded[2]
