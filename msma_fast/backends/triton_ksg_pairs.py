"""Counts of KSG for many pairs of samples at once, by the Triton kernels.

(A) least upper bounds of the joint key in bins: the k-th smallest gives tau; (B) the pairs that are not surely beyond it;
(C) their canonical keys, in order: the k-th joint key and the thresholds of the counts; (D) one pass over a sample counts for
all its partners. Few coordinates and chebyshev compare canonical keys in (A) and (B), else a screen does. Rows with too long
a list are the torch backend's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch import ksg as plain
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.joint import below, key_block, row_blocks
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.screen import row_margin
from msma_fast.backends.torch.select import smallest
from msma_fast.backends.triton_screen import padded, ready

if TYPE_CHECKING:
    from msma_fast.triton_kernels.ksg import Cut

_FEW = 8  # coordinates of a sample: canonical keys cost no more than a product of 64 padded columns
_MOST = 512  # the largest k that bins serve
_LIST = 256  # columns of a row's list, at least
_LISTED = 1 << 26  # bins, and twice the entries of lists, of one launch: 256 MiB
_THRESHOLDS = 1 << 25  # thresholds kept at a time: 256 MiB a sample
_PROGRAMS = 512  # of a launch, at least, where there are so many tiles
_LEAST_UNIT = 2.0**-100  # samples whose units are further apart have nothing to say in float32

Source = Callable[[], Rows]


class Paired(NamedTuple):
    """Pairs of samples (T, 2) int64, row i of one beside row i of the other. rule: labels and window; partners (T, n) or
    (1, n): second labels."""

    keys: Keys
    kernel: Kernel
    sources: Sequence[Source]
    samples: Tensor
    ks: list[int]
    method: str
    rule: Admissible
    partners: Tensor | None
    n: int

    def rule_of(self, pair: int) -> Admissible:
        """The rule of one pair."""
        if self.partners is None:
            return self.rule
        return self.rule._replace(partners=self.partners[pair if self.partners.shape[0] > 1 else 0])

    def part(self, pairs: slice) -> Paired:
        """Some of the pairs."""
        shared = self.partners is None or self.partners.shape[0] == 1
        partners = self.partners if self.partners is None or shared else self.partners[pairs]
        return self._replace(samples=self.samples[pairs], partners=partners)


class Plan(NamedTuple):
    """How a search is cut: pairs and rows of one launch (rows a multiple of the padding), programs that share the columns
    of a row, for its bins and for its lists, and columns of one list."""

    pairs: int
    rows: int
    bins: int
    lists: int
    limit: int


class Found(NamedTuple):
    """thresholds (2, T, R, K) float64 that a key may not exceed, tied (T, R, K), lost (T, R): rows to be searched again."""

    thresholds: Tensor
    tied: Tensor
    lost: Tensor


def counted(paired: Paired) -> plain.Counts:
    """n_x, n_y and tied, (T, n, K) each."""
    stack, units = _stack(paired)
    parts = []
    step = _at_once(_THRESHOLDS // (paired.n * len(paired.ks)))
    for start in range(0, paired.samples.shape[0], step):
        some = paired.part(slice(start, start + step))
        found = _searched(some, stack, units)
        thresholds = found.thresholds.masked_fill_(found.lost[None, :, :, None], -math.inf)
        counts = _counts_by_sample(some, thresholds)
        part = plain.Counts(counts[0], counts[1], found.tied)
        for pair in found.lost.any(1).nonzero().squeeze(1).tolist():
            rows = found.lost[pair].nonzero().squeeze(1)
            for whole, again in zip(part, by_all_keys(some, pair, rows), strict=True):
                whole[pair, rows] = again
        parts.append(part)
    return plain.Counts(*(torch.cat(field) for field in zip(*parts, strict=True)))


def by_all_keys(paired: Paired, pair: int, rows: Tensor) -> plain.Counts:
    """Counts of some rows of one pair from all their canonical keys."""
    x, y = (paired.sources[sample]() for sample in paired.samples[pair].tolist())
    rule, parts = paired.rule_of(pair), []
    for some in rows.split(len(row_blocks(paired.n, rows.device)[0])):
        left, right = (key_block(paired.keys, paired.kernel, sample, some, rule) for sample in (x, y))
        parts.append(plain.count_block(left, right, paired.ks, paired.method, ties=True))
    return plain.Counts(*(torch.cat(field) for field in zip(*parts, strict=True)))


def screened(paired: Paired) -> bool:
    """Whether a screen decides most pairs; else canonical keys do."""
    return paired.kernel.kind != "chebyshev" and any(source().values.shape[1] > _FEW for source in paired.sources)


def _stack(paired: Paired) -> tuple[Any, list[float]]:
    """The samples as the kernels read them, and the unit of each sample's bounds, of which canonical keys have none."""
    from msma_fast.triton_kernels import ksg, ksg_exact

    if not screened(paired):
        return ksg_exact.stacked([source().values for source in paired.sources], paired.samples.tolist()), []
    rows, margins, units = [], [], []
    for source in paired.sources:
        sample = source()
        screen, queries, points, _ = ready(paired.kernel, sample, sample, Admissible())
        rows.append(queries.b)
        units.append(screen.scale)
        lost = row_margin(screen, torch.arange(paired.n, device=queries.b.device))
        # Rounded outwards: 2^-20 of the sums themselves is more than float32 loses of them.
        c, up = screen.left.c, 2.0**-20
        low, high = c - (lost + up * c), c + (lost + up * c)
        low, high = (padded(value.to(torch.float32), 0.0) for value in (low, high))
        fields = (queries.near, queries.far, low, high, points.side.near, points.side.far)
        margins.append(torch.stack([*fields, points.c - points.col, points.c + points.col]))
    device = rows[0].device
    sizes = torch.tensor([each.numel() for each in rows])
    width = torch.tensor([each.shape[1] for each in rows], dtype=torch.int32, device=device)
    flat = torch.cat([each.reshape(-1) for each in rows])
    return ksg.Stack(flat, (sizes.cumsum(0) - sizes).to(device), width, torch.stack(margins)), units


def _kernels(stack: Any) -> Any:
    """The kernel file of a stack."""
    from msma_fast.triton_kernels import ksg, ksg_exact

    return ksg if isinstance(stack, ksg.Stack) else ksg_exact


def _pairs(paired: Paired, units: list[float], stack: Any) -> tuple[Any, Tensor]:
    """What the kernels are told of the pairs, and whether each can be screened (T,)."""
    from msma_fast.triton_kernels.ksg import Pairs

    pairs, device = paired.samples.tolist(), stack.rows.device
    able = torch.ones(len(pairs), dtype=torch.bool)
    factors = None
    if units:
        shares = []
        for t, (a, b) in enumerate(pairs):
            least, largest = sorted((units[a], units[b]))
            able[t] = 0.0 < least < math.inf and largest < math.inf and least / largest >= _LEAST_UNIT
            shares.append([least / units[a], least / units[b]] if able[t] else [1.0, 1.0])
        factors = torch.tensor(shares, dtype=torch.float32, device=device)
    labels = None if paired.rule.groups is None else padded(paired.rule.groups.to(torch.int32), 0, stack.size)
    partners = None
    if paired.partners is not None:
        each = [padded(partner.to(torch.int32), 0, stack.size) for partner in paired.partners]
        partners = torch.stack(each).expand(len(pairs), -1).contiguous()
    samples = paired.samples.to(device, torch.int32).contiguous()
    return Pairs(samples, factors, labels, partners, paired.rule.window, paired.n), able.to(device)


def _searched(paired: Paired, stack: Any, units: list[float]) -> Found:
    """The thresholds of every pair, a batch at a time."""
    n, k, count = paired.n, max(paired.ks), paired.samples.shape[0]
    if k > _MOST or 4 * k > max(n, 4 * _LIST):
        shape = count, n, len(paired.ks)
        device = stack.rows.device
        tied = torch.zeros(shape, dtype=torch.bool, device=device)
        thresholds = torch.zeros(2, *shape, dtype=torch.float64, device=device)
        return Found(thresholds, tied, torch.ones(shape[:2], dtype=torch.bool, device=device))
    plan = plan_of(n, count, k, *_kernels(stack).cuts(stack))
    parts = []
    for first in range(0, count, plan.pairs):
        some = paired.part(slice(first, first + plan.pairs))
        blocks = [range(start, min(n, start + plan.rows)) for start in range(0, n, plan.rows)]
        parts.append(_joined([_batch(some, stack, units, plan, rows) for rows in blocks], 1))
    return _joined(parts, 0)


def _joined(parts: list[Found], axis: int) -> Found:
    """Of pairs (0) or of rows (1)."""
    thresholds, tied, lost = zip(*parts, strict=True)
    return Found(torch.cat(thresholds, axis + 1), torch.cat(tied, axis), torch.cat(lost, axis))


def _batch(paired: Paired, stack: Any, units: list[float], plan: Plan, rows: range) -> Found:
    """Some rows of all pairs."""
    kernels, k, kind, size = _kernels(stack), max(paired.ks), paired.kernel.kind, len(rows)
    pairs, able = _pairs(paired, units, stack)
    best = kernels.bounds(stack, pairs, kind, plan.bins, rows)
    top = kernels.top_of(best.topk(min(k, best.shape[-1]), dim=-1, largest=False).values[..., -1])
    top[:, size:] = -math.inf
    listed, number = kernels.lists(stack, pairs, kind, plan.lists, rows, top, plan.limit)
    listed, number = listed[:, :size], number[:, :size]
    lost = (number > plan.limit).any(-1) | ~able[:, None]
    filled = torch.arange(plan.limit, device=number.device) < number[..., None]
    t, i, split, slot = (filled & ~lost[..., None, None]).nonzero(as_tuple=True)
    which, j = kernels.columns_of(listed[t, i, split, slot])
    return _thresholds(paired, rows, t[which], i[which], j, lost)


def plan_of(n: int, count: int, k: int, bins: Cut, lists: Cut) -> Plan:
    """For `count` pairs: twice k bins a row, and programs that fill a GPU where there are few rows; bins and lists of one
    launch fit _LISTED."""
    from msma_fast.triton_kernels.screen import ROWS

    def cut(pairs: int) -> Plan:
        shares = splits_of(n, pairs, bins, math.ceil(2 * k / bins.held)), splits_of(n, pairs, lists, 1)
        share = math.ceil(math.ceil(n / lists.columns) / shares[1]) * lists.columns  # columns of a program
        return Plan(pairs, n, *shares, min(max(_LIST, 4 * k + 64), share // lists.held))

    single, unit = cut(1), max(ROWS, bins.rows, lists.rows)
    entries = single.bins * bins.held + 2 * single.lists * single.limit  # of a row; more pairs need no more
    rows = max(unit, _LISTED // entries // unit * unit)
    if rows < n:
        return single._replace(rows=rows)
    return cut(min(count, _at_once(_LISTED // (n * entries))))


def splits_of(n: int, pairs: int, cut: Cut, least: int) -> int:
    """How many programs share a row's columns: no fewer than `least`, and enough to fill a GPU where there are few rows."""
    blocks = math.ceil(n / cut.rows) * pairs
    return min(math.ceil(n / cut.columns), max(least, math.ceil(_PROGRAMS / blocks)))


def _at_once(pairs: int) -> int:
    """So many pairs of samples as memory admits, and a grid."""
    from msma_fast.triton_kernels.ksg import PAIRS

    return min(PAIRS, max(1, pairs))


def permutations_at_once(n: int, width: int) -> int:
    """Of a sample with `width` coordinates, copies and lists within memory."""
    return max(1, _LISTED // (n * (_LIST + width)))


def _thresholds(paired: Paired, rows: range, t: Tensor, i: Tensor, j: Tensor, lost: Tensor) -> Found:
    """From the candidates (pair, row less the first, column), ascending, to the thresholds."""
    size, ks, pairs = len(rows), paired.ks, paired.samples.shape[0]
    joint = torch.maximum(*(_keys_of(paired, side, t, rows.start + i, j) for side in (0, 1)))
    row = t * size + i
    near, columns = smallest(row, j, joint, pairs * size, max(ks))
    at = torch.tensor(ks, device=near.device) - 1
    eps = near[:, at]
    lost = lost | (torch.bincount(row, minlength=pairs * size) < max(ks)).view(pairs, size)
    within = torch.stack([torch.bincount(row[joint <= eps[row, c]], minlength=pairs * size) for c in range(len(ks))], 1)
    tied = within > at + 1
    if paired.method == "ksg1":
        thresholds = below(eps).expand(2, *eps.shape)
    else:
        every = torch.arange(pairs * size, device=near.device)[:, None].expand_as(columns).reshape(-1)
        t, i, j = every // size, rows.start + every % size, columns.reshape(-1).clamp_min(0)
        sides = [_keys_of(paired, side, t, i, j).view_as(near) for side in (0, 1)]
        thresholds = torch.stack([side.cummax(1).values[:, at] for side in sides])
    shape = pairs, size, len(ks)
    return Found(thresholds.reshape(2, *shape).clone(), tied.reshape(shape), lost)


def _keys_of(paired: Paired, side: int, t: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """(C,) canonical keys of rows i and j of one sample (0 or 1) of each pair t."""
    samples = paired.samples[:, side]
    distinct = samples.unique().tolist()
    if len(distinct) == 1:
        rows = paired.sources[distinct[0]]()
        return paired.keys.pair_keys(paired.kernel, rows, rows, i, j)
    of = samples.to(t.device)[t]
    by_sample, sizes = of.argsort(), torch.bincount(of, minlength=distinct[-1] + 1).tolist()
    out = torch.empty(t.shape, dtype=torch.float64, device=t.device)
    for sample, mine in zip(distinct, by_sample.split([sizes[each] for each in distinct]), strict=True):
        rows = paired.sources[sample]()
        out[mine] = paired.keys.pair_keys(paired.kernel, rows, rows, i[mine], j[mine])
    return out


def _counts_by_sample(paired: Paired, thresholds: Tensor) -> Tensor:
    """(2, T, n, K) int64: for every sample one pass over its pairs, all its partners' thresholds together."""
    out = torch.empty(thresholds.shape, dtype=torch.int64, device=thresholds.device)
    shared = paired.partners is None or paired.partners.shape[0] == 1
    for side in (0, 1):
        samples = paired.samples[:, side].tolist()
        passes = [[t for t, s in enumerate(samples) if s == sample] for sample in sorted(set(samples))]
        for together in passes if shared else [[t] for t in range(len(samples))]:
            wanted = thresholds[side, together].permute(1, 0, 2)  # (n, T', K)
            rows = paired.sources[samples[together[0]]]()
            rule = paired.rule_of(together[0])
            found = _within(paired.keys, paired.kernel, rows, wanted.flatten(1).contiguous(), rule)
            out[side, together] = found.view(wanted.shape).permute(1, 0, 2)
    return out


def _within(keys: Keys, kernel: Kernel, rows: Rows, thresholds: Tensor, admissible: Admissible) -> Tensor:
    """(n, T) int64: admissible rows with key <= thresholds (n, T)."""
    if keys.within is not None:
        return keys.within(kernel, rows, rows, thresholds, admissible)
    out = torch.empty(thresholds.shape, dtype=torch.int64, device=thresholds.device)
    for some in row_blocks(thresholds.shape[0], thresholds.device):
        block = key_block(keys, kernel, rows, some, admissible)
        for column in range(thresholds.shape[1]):
            out[some, column] = (block <= thresholds[some, column, None]).sum(1)
    return out
