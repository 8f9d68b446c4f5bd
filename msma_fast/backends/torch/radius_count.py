"""How many admissible points lie within a radius of each query.

queries (n, d), points (m, d) or the same object for a self-search, radius (n,) in the returned precision -> (n,) int64.
A distance is compared as it would be returned: the canonical key's distance, rounded to the returned dtype, < radius
(<= when closed). Pairs that the screen proves to be clearly inside or outside never get a key.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.exact import between, number_at, place_of, sqrt
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.prepare import distances_of, key_of_distance

BLOCK = 1 << 21  # entries of one screened block
# Distances this small may be subnormal in the returned precision, where rounding is absolute: keys up to that of such a
# distance around the radius are looked at themselves.
_TINY = {torch.float32: 2.0**-120, torch.float64: 2.0**-1000}
# Relative width of the zone around the radius in which only the rounded distance decides: wider than a float32 ulp
# of the distance and of its square.
_ZONE = 2.0**-20


def tiny_key(metric: str, p: float, dtype: torch.dtype) -> float:
    """The absolute half width of the zone around a radius, as a key."""
    return float(key_of_distance(torch.tensor(_TINY[dtype], dtype=torch.float64, device="cpu"), metric, p))


def inside(
    keys: Tensor, radius: Tensor, metric: str, p: float, closed: bool, root: Callable[[Tensor], Tensor] = sqrt
) -> Tensor:
    distance = distances_of(keys, metric, p, root).to(radius.dtype)
    return distance <= radius if closed else distance < radius


INFINITE = 0x7FF0000000000000  # the bits of float64 infinity
_NEAR = 32  # float64 numbers to either side of the guessed threshold: its rounding errors and those of root or power
# Radii that stand for many equal ones: torch takes powers of whole vectors by another function than of single numbers,
# and returned distances are nearly all of the first kind.
_FEW = 32


def key_threshold(
    radius: Tensor, metric: str, p: float, closed: bool, root: Callable[[Tensor], Tensor] = sqrt
) -> Tensor:
    """(n,) float64: the largest key whose distance is inside the radius, -inf where none is. By bisection over the bits,
    because `inside` is monotone in the key: between the neighbours of a guess, and over all keys where the threshold is
    not between them (of no distance, of infinite or subnormal ones). One threshold where all radii are the same."""
    if radius.numel() > _FEW and bool(radius.amin() == radius.amax()):
        return key_threshold(radius[:_FEW], metric, p, closed, root)[:1].expand(radius.shape)

    def hit(place: Tensor, rows: Tensor) -> Tensor:
        return (place > none) & inside(number_at(place), rows, metric, p, closed, root)

    none = -INFINITE - 1 if metric == "inner_product" else -1  # only inner_product has keys below zero
    guess = place_of(key_of_distance(_edge(radius, closed), metric, p))
    low, high = (guess - _NEAR).clamp_min(none), (guess + _NEAR).clamp_max(INFINITE + 1)
    found = ((low == none) | hit(low, radius)) & ~hit(high, radius)
    place = _bisected(low, high, lambda middle: hit(middle, radius), 2 * _NEAR)
    rows = (~found).nonzero().squeeze(1)
    if rows.numel():
        lost = radius[rows]
        low = torch.full_like(lost, none, dtype=torch.int64)
        high = torch.full_like(low, INFINITE + 1)
        place[rows] = _bisected(low, high, lambda middle: hit(middle, lost), 2**64)
    return torch.where(place == none, -math.inf, number_at(place))


def _edge(radius: Tensor, closed: bool) -> Tensor:
    """(n,) float64: about where distances begin to be rounded to beyond the radius (to it, where not closed)."""
    wide = radius.to(torch.float64)
    if radius.dtype == torch.float64:
        return wide
    beyond = torch.full_like(radius, math.inf if closed else -math.inf)
    return 0.5 * (wide + torch.nextafter(radius, beyond).to(torch.float64))


def _bisected(low: Tensor, high: Tensor, hit: Callable[[Tensor], Tensor], width: int) -> Tensor:
    """(n,) the last place that hits, of [low, high) with high - low <= width, where `low` hits and `high` does not."""
    for _ in range((width - 1).bit_length()):
        middle = between(low, high)
        reached = hit(middle)
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
    return low


def radius_count(
    keys: Keys,
    kernel: Kernel,
    x: Rows,
    y: Rows,
    radius: Tensor,
    metric: str,
    p: float,
    closed: bool,
    groups: Tensor | None,
    point_groups: Tensor | None,
    window: int,
) -> Tensor:
    """Counts for every query; a self-search, without the query itself, when x and y are the same object."""
    n, m = x.values.shape[0], y.values.shape[0]
    device = x.values.device
    rows = torch.arange(n, device=device)
    admissible = Admissible(rows if x is y else None, groups, point_groups, window=window)
    if keys.within is not None:
        threshold = key_threshold(radius, metric, p, closed, keys.root or sqrt)
        return keys.within(kernel, x, y, threshold, admissible)
    counts = torch.zeros(n, dtype=torch.int64, device=device)
    limit = max(256, m // 64)
    if screens.screenable(kernel):
        tiny = tiny_key(metric, p, radius.dtype)
        guide = key_of_distance(radius.to(torch.float64), metric, p)
        for level in range(len(screens.LEVELS)):
            screen = screens.build(kernel, x, y, level)
            left_over = []
            for block in rows.split(max(1, BLOCK // m)):
                g = admissible.fill(screens.products(screen, block), block)
                near, cols, sure, wide = _zone(screen, g, block, guide[block], tiny, limit)
                found = keys.pair_keys(kernel, x, y, block[near], cols)
                hit = near[inside(found, radius[block[near]], metric, p, closed)]
                total = sure + torch.bincount(hit, minlength=block.shape[0])
                counts[block[~wide]] = total[~wide]
                left_over.append(block[wide])
            rows = torch.cat(left_over)
            if not rows.numel():
                return counts
    for block in rows.split(max(1, BLOCK // m)):
        hit = inside(keys.block_keys(kernel, x.take(block), y), radius[block, None], metric, p, closed)
        counts[block] = (hit & admissible.mask(block, m)).sum(1)
    return counts


def edges(
    screen: screens.Screen, dtype: torch.dtype, block: Tensor, guide: Tensor, tiny: float
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """((t of the radius, half width of the zone around it), high, low): g less its margin is surely outside above `high`,
    g plus its margin surely inside below `low`; (B,) each, the last two in g's dtype."""
    edge = screens.scaled_key(screen, guide, block)
    # The zone is relative to the radius alone, without the offset that inner_product adds to it.
    zone = (screen.factor * screen.scale * (_ZONE * guide.abs() + tiny)).abs() + edge.abs() * 2.0**-40
    fixed = screens.row_margin(screen, block)
    start = edge - screen.left.c[block]
    top = torch.finfo(dtype).max
    reach = zone + fixed + 2.0**-20 * (start.abs() + screen.left.c[block])
    high, low = (value.clamp(-top, top).to(dtype) for value in (start + reach, start - reach))
    return (edge, zone), high, low


def _zone(
    screen: screens.Screen, g: Tensor, block: Tensor, guide: Tensor, tiny: float, limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Undecided pairs (row in block, column), the count of pairs surely inside (B,), and rows with too many undecided."""
    (edge, zone), high, low = edges(screen, g.dtype, block, guide, tiny)
    lower = screens.subtract_margin(screen, g.clone(), block)
    upper = screens.subtract_margin(screen, g.clone(), block, sign=-1.0)
    certain = upper < low[:, None]
    undecided = ~(lower > high[:, None]) & ~certain
    crowded = undecided.sum(1) > 8 * limit
    undecided[crowded] = False
    near, cols = undecided.nonzero(as_tuple=True)
    below, above = screens.bounds(screen, g[near, cols], block[near], cols)
    surely_in = above < (edge - zone)[near]
    open_pairs = ~(below > (edge + zone)[near]) & ~surely_in
    sure = certain.sum(1) + torch.bincount(near[surely_in], minlength=block.shape[0])
    near, cols = near[open_pairs], cols[open_pairs]
    wide = crowded | (torch.bincount(near, minlength=block.shape[0]) > limit)
    keep = ~wide[near]
    return near[keep], cols[keep], sure, wide
