"""A read-out l = W h + b streamed in blocks of tokens, and its softmax p without the most probable token.

Subtracting one row from all rows of W changes no probability and no Fisher metric. So every block is centred by the mean row,
which saves the digits of a common offset; and the most probable token, whose row can be made the origin, is left out of every
sum: q = p but q_top = 0. What is left where p is peaked is as small as the metric itself, and nothing cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SHARE = 100  # a block of tokens is this part of the vocabulary: a few arrays of (n, block) stay below 5 % of n x V
_LEAST, _MOST = 64, 4096  # tokens of a block
_SAMPLED = 64  # rows of W that say how far rows usually are from their centre
_FAR = 16.0  # squares of that many times the usual cost float32 two bits of a length
_FEW = 1 << 20  # entries of an (n, block) array that are always allowed: a product with few rows needs many tokens
# Of an (n, block) array; more rows than that are taken in parts. On a GPU blocks have as many, 64 MiB, and so have their rows.
_ENTRIES = 1 << 24


class Block(NamedTuple):
    """Tokens from `start` on: centred rows (B, d) of the compute dtype, biases (B,) or None."""

    start: int
    rows: Tensor
    bias: Tensor | None

    def logits(self, h: Tensor) -> Tensor:
        """(n, B), up to a number that all tokens of a row share."""
        return h @ self.rows.T if self.bias is None else torch.addmm(self.bias, h, self.rows.T)


class Vocabulary(NamedTuple):
    """weight (V, d), bias (V,) or None, center (d,) of the compute dtype."""

    weight: Tensor
    bias: Tensor | None
    center: Tensor

    def blocks(self, n: int, arrays: int = 1) -> Iterator[Block]:
        """For rows h (n, d), of each of which a block makes `arrays` rows of B numbers."""
        size = max(_LEAST, self.weight.shape[0] // (_SHARE * arrays), min(_MOST, _FEW // (n * arrays)))
        if self.weight.is_cuda:
            size = max(size, min(_ENTRIES // (n * arrays), _ENTRIES // self.weight.shape[1]))
        for start in range(0, self.weight.shape[0], size):
            rows = self.weight[start : start + size].to(self.center.dtype) - self.center
            yield Block(start, rows, None if self.bias is None else self.bias[start : start + size])

    def take(self, tokens: Tensor) -> Tensor:
        """Centred rows of the numbered tokens (n,): (n, d)."""
        return self.weight[tokens].to(self.center.dtype) - self.center

    def rows_at_once(self) -> int:
        """How many rows of h are taken together."""
        return max(1, _ENTRIES // max(_LEAST, self.weight.shape[0] // _SHARE))


class Softmax(NamedTuple):
    """Of rows h (n, d): the logarithm of the normaliser (n,), and the most probable token (n,) int64."""

    log_normalizer: Tensor
    top: Tensor


def vocabulary(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Vocabulary:
    return Vocabulary(weight, None if bias is None else bias.to(dtype), _mean_row(weight, dtype))


def _mean_row(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(d,) of dtype; on a CPU by blocks, where the sum would convert all of W first."""
    if weight.is_cuda:
        return weight.mean(0, dtype=dtype)
    total = torch.zeros(weight.shape[1], dtype=dtype, device=weight.device)
    for block in weight.split(max(_LEAST, weight.shape[0] // _SHARE)):
        total += block.to(dtype).sum(0) / weight.shape[0]
    return total


def softmax(h: Tensor, words: Vocabulary) -> Softmax:
    """One pass over the vocabulary: the running maximum and the sum of exp(l - maximum)."""
    best = torch.full_like(h[:, 0], -float("inf"))
    total, top = torch.zeros_like(best), torch.zeros_like(best, dtype=torch.int64)
    for block in words.blocks(h.shape[0]):
        logits = block.logits(h)
        largest, where = logits.max(1)
        top = torch.where(largest > best, where + block.start, top)
        raised = torch.maximum(best, largest)
        total = total * (best - raised).exp() + (logits - raised[:, None]).exp_().sum(1)
        best = raised
    return Softmax(best + total.log(), top)


class Part(NamedTuple):
    """Some rows (m,) of h, their softmax, and words centred for sums about their likely tokens."""

    rows: Tensor
    of: Any  # a Softmax, or what has its fields
    words: Vocabulary


def parts(h: Tensor, words: Vocabulary, softmax_of: Callable[[Tensor, Vocabulary], Any] = softmax) -> list[Part]:
    """All rows of h (n, d) in one part; those whose most probable token lies far from where rows of W usually are in a part
    of their own, about the mean of these tokens: squares about the common centre would lose what tells the likely ones
    apart. Which are far is the row's own affair. The host waits for whether there are any."""
    of = softmax_of(h, words)
    tokens = words.weight.shape[0]
    usual = words.take(torch.arange(0, tokens, max(1, tokens // _SAMPLED), device=h.device)).square().sum(1).median()
    tops = words.take(of.top.long())
    length = tops.square().sum(1)
    far = (length > _FAR * usual) & length.isfinite()
    if not bool(far.any()):
        return [Part(torch.arange(h.shape[0], device=h.device), of, words)]
    there, here = far.nonzero().squeeze(1), (~far).nonzero().squeeze(1)
    moved = words._replace(center=words.center + tops[there].mean(0))
    found = [Part(there, softmax_of(h[there], moved), moved)]
    if here.numel():
        found.append(Part(here, type(of)(*(field[here] for field in of)), words))
    return found


def gathered(found: list[Part], answers: list[Tensor]) -> Tensor:
    """(n, ...) of the answers of all parts, each (m, ...)."""
    if len(found) == 1:
        return answers[0]
    out = answers[0].new_empty(sum(part.rows.numel() for part in found), *answers[0].shape[1:])
    for part, answer in zip(found, answers, strict=True):
        out[part.rows] = answer
    return out


def others(h: Tensor, words: Vocabulary, of: Softmax, arrays: int = 1) -> Iterator[tuple[Block, Tensor]]:
    """(block, q (n, B)): probabilities, zero for the most probable token."""
    for block in words.blocks(h.shape[0], arrays):
        q = (block.logits(h) - of.log_normalizer[:, None]).exp_()
        yield block, without(q, of.top, block.start)


def without(values: Tensor, top: Tensor, start: int) -> Tensor:
    """values (n, B) of tokens from `start` on, with zero for token top[i] of row i; in place, no wait for a GPU."""
    place = (top - start)[:, None]
    inside = (place >= 0) & (place < values.shape[1])
    place = place.clamp(0, values.shape[1] - 1)
    return values.scatter_(1, place, values.gather(1, place).masked_fill(inside, 0.0))


def top_tokens(h: Tensor, weight: Tensor, bias: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """(probabilities (n, count), descending; tokens (n, count) int64)."""
    words = vocabulary(weight, bias, h.dtype)
    parts = [_top(part, words, count) for part in h.split(max(1, _ENTRIES // (count + _MOST)))]
    probabilities, tokens = (torch.cat(field) for field in zip(*parts, strict=True))
    return probabilities, tokens


def _top(h: Tensor, words: Vocabulary, count: int) -> tuple[Tensor, Tensor]:
    kept, tokens = h.new_empty(h.shape[0], 0), h.new_empty(h.shape[0], 0, dtype=torch.int64)
    normalizer = torch.full_like(h[:, 0], -float("inf"))
    for block in words.blocks(h.shape[0]):
        logits = block.logits(h)
        normalizer = torch.logaddexp(normalizer, logits.logsumexp(1))
        logits = torch.cat([kept, logits], 1)
        here = torch.arange(block.start, block.start + block.rows.shape[0], device=h.device).expand(h.shape[0], -1)
        kept, order = logits.topk(min(count, logits.shape[1]), dim=1)
        tokens = torch.cat([tokens, here], 1).gather(1, order)
    return (kept - normalizer[:, None]).exp_(), tokens
