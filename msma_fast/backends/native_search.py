"""Searches by the compiled module, with the same answers as the torch backend's: the certified screen over rows rounded
to eight bits, and to sixteen where these leave too much undecided (csrc/cpu/codes.hpp has the inequalities,
csrc/cpu/sketch.hpp those of manhattan, chebyshev and minkowski), a space partition in few dimensions, and every key of a
pair where none applies.

search(Search) -> Found                                       k nearest, as torch/knn.search_all
count(kernel, x, y, threshold, admissible) -> (n,) int64      keys within a threshold

The picture of the rows, in which a metric is a distance, is the one of torch/screen.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.backends import native_tree
from msma_fast.backends.native import compiled, problem
from msma_fast.backends.torch import knn as torch_knn
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.collapse import Units
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows

# Up to these many coordinates the space partition wins. n = 20,000, k = 5, two threads of an AMD Zen 4, milliseconds,
# partition / other: independent normal coordinates 12 / 72 (d = 4), 54 / 69 (d = 8), 128 / 72 (d = 10) against the screen,
# which loses by far on correlated ones (14 / 69 at d = 8); against every key 1125 / 1085 at d = 16 and 44 correlated.
_PARTITIONED = 8
_PARTITIONED_UNSCREENED = native_tree.LARGEST_DIMENSION
# The same for counts among float32 rows at one radius, where the partition looks at each pair once. n = 20,000, the radius
# of some 20 neighbours, one thread of an AMD Zen 5, partition / screen: independent coordinates 25 / 45 (d = 8), 40 / 46
# (d = 9), 50 / 50 (d = 10), 63 / 53 (d = 11); correlated ones 8 / 45 (d = 10). Float64 rows 41 / 52 (d = 8), 71 / 51 (d = 9).
_PARTITIONED_COUNTS = 10

_SAMPLE = 128  # rows of the sample whose coordinate-wise median is the shift
_TOP = 2.0**29  # the largest |z_j|: squares of whole rows stay far inside float32
_LARGEST_DIMENSION = 100_000  # beyond it the integer products could overflow
_FEW = 32  # lost rows that are given every key at once
FINE = 1  # level of a row certified by fine codes
_UNDERFLOW = 2.0**-80  # what canonical products may lose to underflow, in the screen's units


class Adversary(NamedTuple):
    """A test of the certificate: screened values move by up to `strength` times their declared bound. With `pivot` (n,)
    pairs with a key of at most it are pushed away and the others pulled near; else the seed draws the sign."""

    strength: float
    seed: int = 0
    pivot: Tensor | None = None


# Set by tests only.
adversary: Adversary | None = None


class Sides(NamedTuple):
    """Rounded rows of both sides (the same object for a self-search under a symmetric kernel) and what their distances
    mean: distance^2 = factor * key, or -2 z_x.z_y = 2 key + offset."""

    x: Any
    y: Any
    factor: float
    offset: Tensor | None


def column_ranges(values: Tensor) -> tuple[Tensor, Tensor]:
    """(low (d,), high (d,)) float64 of (n, d); NaN where a column is not finite."""
    low, high = compiled().column_ranges(values.numpy(), torch.get_num_threads())
    return torch.from_numpy(low), torch.from_numpy(high)


def all_finite(values: Tensor) -> bool:
    """Whether a tensor of floats holds neither NaN nor inf."""
    if not values.is_contiguous():
        return bool(torch.isfinite(values).all())
    if values.dtype not in (torch.float32, torch.float64):
        # Piece by piece: torch makes several copies, and the values may be a mapped file.
        return all(bool(torch.isfinite(piece).all()) for piece in values.view(-1).split(1 << 20))
    finite: bool = compiled().all_finite(values.detach().numpy(), torch.get_num_threads())
    return finite


def find_units(values: Tensor, labels: Tensor | None) -> Units | None:
    """As torch/collapse.find_units."""
    label = None if labels is None else labels.to(torch.int32).contiguous().numpy()
    found = compiled().find_units(values.numpy(), label, torch.get_num_threads())
    return None if found is None else Units(*map(torch.from_numpy, found))


def expand(units: Units, keys: Tensor, found: Tensor, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """As torch/collapse.expand."""
    near = keys.contiguous().numpy(), found.contiguous().numpy(), None if own is None else own.contiguous().numpy()
    parts = (part.numpy() for part in (units.members, units.start, units.size))
    best, points = compiled().expand_units(*parts, *near, k, torch.get_num_threads())
    return torch.from_numpy(best), torch.from_numpy(points)


def root(values: Tensor) -> Tensor:
    """The correctly rounded square root of float64 values."""
    return torch.from_numpy(compiled().roots(values.contiguous().numpy(), torch.get_num_threads()))


def _encode(
    rows: Rows, shift: Tensor, scale: float, loss: float, absolute: float, extra: Tensor | None, fine: bool
) -> Any:
    return compiled().encode(
        rows.values.numpy(),
        None if rows.norms is None else rows.norms.numpy(),
        shift.numpy(),
        scale,
        loss,
        absolute,
        None if extra is None else extra.numpy(),
        fine,
        torch.get_num_threads(),
    )


def _middle(rows: Rows) -> Tensor:
    """(d,) coordinate-wise median of an evenly spread sample of the picture: one huge coordinate cannot move it."""
    step = max(1, rows.values.shape[0] // _SAMPLE)
    norms = None if rows.norms is None else rows.norms.numpy()
    return torch.from_numpy(compiled().column_medians(rows.values.numpy(), norms, step, torch.get_num_threads()))


def _reach(rows: Rows, middle: Tensor) -> float:
    """The largest |z_j - middle_j|; NaN where a value is not finite."""
    if rows.norms is not None:
        return 1.0 + float(middle.abs().amax()) if bool(torch.isfinite(rows.norms).all()) else math.nan
    low, high = column_ranges(rows.values)
    return float(torch.maximum(high - middle, middle - low).amax())


def _finite(x: Rows, y: Rows) -> bool:
    return all(all_finite(rows.values) for rows in ((x,) if x is y else (x, y)))


def _scale(reach: float) -> float:
    exponent = math.frexp(_TOP)[1] - 1 - math.frexp(reach)[1]
    return 2.0 ** max(-1000, min(1000, exponent)) if reach > 0.0 else 1.0


def _subnormal_norms(rows: Rows) -> Tensor | None:
    """(n,) inf where the squares of a row may have gone subnormal: its norm is no longer its length."""
    if rows.norms is None:
        return None
    return torch.zeros_like(rows.norms).masked_fill_(rows.norms < screens.SMALL_NORM, math.inf)


def sides(kernel: Kernel, x: Rows, y: Rows, fine: bool = False) -> Sides | None:
    """Both sides rounded, to sixteen bits where `fine`, or None where the screen does not apply."""
    d = x.values.shape[1]
    if not screens.screenable(kernel) or d > _LARGEST_DIMENSION:
        return None
    loss = math.sqrt((d + 16) * 2.0**-50)  # of canonical keys, relative; see torch/screen.py
    lost = math.sqrt(d + 16) * 2.0**-537  # where their terms are subnormal
    if kernel.kind == "inner_product":
        return _product_sides(x, y, fine)
    absolute_x = absolute_y = lost
    extra_x, extra_y, factor = _subnormal_norms(x), _subnormal_norms(y), 1.0
    if kernel.kind == "cosine":
        factor, absolute_x, absolute_y = 2.0, loss, loss
    elif kernel.kind == "mahalanobis":
        (x, extra_x), (y, extra_y) = screens.mahalanobis_picture(kernel, x, y)
    middle = _middle(y)
    reach = _reach(y, middle)
    if x is not y:
        reach = max(reach, _reach(x, middle))
    if not math.isfinite(reach):
        return None
    right = _encode(y, middle, _scale(reach), loss, absolute_y, extra_y, fine)
    left = right if x is y else _encode(x, middle, _scale(reach), loss, absolute_x, extra_x, fine)
    return Sides(left, right, factor, None)


def _product_sides(x: Rows, y: Rows, fine: bool) -> Sides | None:
    d = x.values.shape[1]
    middle = _middle(y)
    zero = torch.zeros_like(middle)
    reach_x, reach_y = _reach(x, zero), _reach(y, middle)
    if not (math.isfinite(reach_x) and math.isfinite(reach_y)):
        return None
    scale_x, scale_y = _scale(reach_x), _scale(reach_y)
    if 2.0 * (d + 16) * (2.0**-537 * scale_x) * (2.0**-537 * scale_y) > _UNDERFLOW:
        return None
    wide_y = y.values.to(torch.float64)
    # Rounding of the canonical product, of x.middle and of the shift, relative to |x|.
    size = math.sqrt(d) * (wide_y.abs().amax(1) + middle.abs().amax())  # squares could underflow
    left = _encode(x, zero, scale_x, 0.0, 0.0, None, fine)
    right = _encode(y, middle, scale_y, 0.0, 0.0, (d + 16) * 2.0**-50 * size, fine)
    return Sides(left, right, 1.0, 2.0 * (x.values.to(torch.float64) @ middle))


def _problem(kernel: Kernel, x: Rows, y: Rows) -> Any:
    return compiled().Problem(*problem(kernel, x, y), torch.get_num_threads())


def _labels(labels: Tensor | None) -> Tensor | None:
    return None if labels is None else labels.to(torch.int32)


def _rules(admissible: Admissible, rows: Tensor | None = None) -> Any:
    """The rules for all queries, or for those in `rows`."""

    if admissible.partners is not None:
        raise RuntimeError("the compiled searches know no partners")

    def array(values: Tensor | None, of_rows: bool = True) -> Any:
        if values is None:
            return None
        return (values if rows is None or not of_rows else values[rows]).contiguous().numpy()

    return compiled().Rules(
        array(admissible.own),
        None if rows is None else rows.contiguous().numpy(),
        array(_labels(admissible.groups)),
        array(_labels(admissible.point_groups), of_rows=False),
        admissible.window,
    )


def _screened(
    kernel: Kernel, x: Rows, y: Rows, both: Sides, admissible: Admissible, rows: Tensor | None = None
) -> tuple[Any, ...]:
    """The arguments of both screened searches, for all queries or for x as those in `rows`."""
    move = adversary or Adversary(0.0)
    pivot = move.pivot if move.pivot is None or rows is None else move.pivot[rows]
    return (
        _problem(kernel, x, y),
        both.x,
        both.y,
        both.factor,
        None if both.offset is None else both.offset.numpy(),
        _rules(admissible, rows),
        None if pivot is None else pivot.numpy(),
        move.strength,
        move.seed,
    )


def _direct(kernel: Kernel, x: Rows, y: Rows, admissible: Admissible, rows: Tensor | None = None) -> tuple[Any, ...]:
    """The arguments of both direct searches, of all rows of x or of those in `rows`."""
    move = adversary or Adversary(0.0)
    pivot = move.pivot
    if rows is not None:
        x, pivot = x.take(rows), None if pivot is None else pivot[rows]
    moves = None if pivot is None else pivot.numpy(), move.strength, move.seed
    return _problem(kernel, x, y), _rules(admissible, rows), *moves


def direct_search(
    kernel: Kernel, x: Rows, y: Rows, admissible: Admissible, k: int, rows: Tensor | None = None
) -> torch_knn.Found:
    """The neighbours of all rows of x, or of those in `rows`, without a screen of products: manhattan, chebyshev and
    minkowski have one of their own, elsewhere every pair gets a key."""
    arguments = _direct(kernel, x, y, admissible, rows)
    keys, indices, candidates = map(torch.from_numpy, compiled().direct_knn(*arguments, k))
    most = admissible.counts(x.values.shape[0], y.values.shape[0])
    if rows is not None:
        most = most[rows]
    every = (candidates < 0) | (candidates >= most)
    return torch_knn.Found(keys, indices, torch.where(every, most, candidates), torch_knn.ALL_KEYS * every.long())


def direct_count(kernel: Kernel, x: Rows, y: Rows, threshold: Tensor, admissible: Admissible) -> Tensor:
    """As count, without a screen of products."""
    arguments = _direct(kernel, x, y, admissible)
    return torch.from_numpy(compiled().direct_count(*arguments, threshold.contiguous().numpy()))


def _partitioned(kernel: Kernel, x: Rows, y: Rows, admissible: Admissible, screened: int = _PARTITIONED) -> bool:
    """Whether the space partition serves, and wins: up to `screened` coordinates where the screen is the other way."""
    limit = screened if screens.screenable(kernel) else _PARTITIONED_UNSCREENED
    # In a self-search it leaves out the row itself; it knows no other columns of rows.
    knows_own = (x is y) == (admissible.own is not None)
    return native_tree.serves(kernel, x) and x.values.shape[1] <= limit and knows_own


def search(wanted: torch_knn.Search) -> torch_knn.Found:
    """The exact neighbours of every row of x among the rows of y. Rows that the screen cannot certify, and searches that
    it does not serve, give every pair a key."""
    kernel, x, y, admissible, k = wanted[1:]
    n, m = x.values.shape[0], y.values.shape[0]
    labels = _labels(admissible.groups), _labels(admissible.point_groups), admissible.window
    if 4 * k <= m and _partitioned(kernel, x, y, admissible) and _finite(x, y):
        keys, indices, compared = native_tree.tree_knn(kernel, x, y, k, *labels)
        return torch_knn.Found(keys, indices, compared, torch.zeros(n, dtype=torch.int64))
    both = sides(kernel, x, y) if 4 * k <= m else None
    if both is None:
        return direct_search(kernel, x, y, admissible, k)
    arguments = _screened(kernel, x, y, both, admissible)
    keys, indices, candidates = map(torch.from_numpy, compiled().screened_knn(*arguments, k))
    level = torch.zeros(n, dtype=torch.int64)
    rows = (candidates < 0).nonzero().squeeze(1)
    found = torch_knn.Found(keys, indices, candidates, level)
    if rows.numel() > _FEW:
        rows = _screen_finely(wanted, rows, found)
    if rows.numel():
        _store(found, rows, direct_search(kernel, x, y, admissible, k, rows))
    return found


def _store(found: torch_knn.Found, rows: Tensor, part: torch_knn.Found) -> None:
    for field, values in zip(found, part, strict=True):
        field[rows] = values


def _screen_finely(wanted: torch_knn.Search, rows: Tensor, found: torch_knn.Found) -> Tensor:
    """Screens `rows` with fine codes and writes what it certifies to `found`; the rows that remain. Most rows together
    with the others, which a symmetric search does in half the products."""
    kernel, x, y, admissible, k = wanted[1:]
    every = 2 * rows.numel() > x.values.shape[0]
    left, of = (x, None) if every else (x.take(rows), rows)
    both = sides(kernel, left, y, fine=True)
    if both is None:
        return rows
    arguments = _screened(kernel, left, y, both, admissible, of)
    part = tuple(torch.from_numpy(field) for field in compiled().screened_knn(*arguments, k))
    if every:
        part = tuple(field[rows] for field in part)
    done = part[2] >= 0
    certified = rows[done]
    level = torch.full_like(certified, FINE)
    keys, indices, candidates = (field[done] for field in part)
    _store(found, certified, torch_knn.Found(keys, indices, candidates, level))
    return rows[~done]


def count(kernel: Kernel, x: Rows, y: Rows, threshold: Tensor, admissible: Admissible) -> Tensor:
    """(n,) int64: admissible rows of y whose key is at most threshold (n,) float64."""
    pairs = x is y and x.values.dtype == torch.float32 and bool((threshold == threshold[:1]).all())
    if _partitioned(kernel, x, y, admissible, _PARTITIONED_COUNTS if pairs else _PARTITIONED) and _finite(x, y):
        labels = _labels(admissible.groups), _labels(admissible.point_groups), admissible.window
        return native_tree.tree_count(kernel, x, y, threshold, *labels)
    both = sides(kernel, x, y)
    if both is None:
        return direct_count(kernel, x, y, threshold, admissible)
    limits = threshold.contiguous().numpy()
    return torch.from_numpy(compiled().screened_count(*_screened(kernel, x, y, both, admissible), limits))


def over(keys: Keys) -> Keys:
    """The provider of keys with these searches."""
    return keys._replace(
        nearest=search, within=count, ranges=column_ranges, find_units=find_units, expand=expand, root=root
    )
