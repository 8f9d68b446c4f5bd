"""The points within a radius of each query, listed: (row, column, canonical key), sorted by row, then column.

queries (n, d), points (m, d) or the same object, radius (n,) in the returned precision. The bf16 screen drops what is
surely outside; everything else gets its canonical key, and the distance as it would be returned decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.prepare import key_of_distance
from msma_fast.backends.torch.radius_count import BLOCK, edges, inside, tiny_key


def radius_neighbors(
    keys: Keys,
    kernel: Kernel,
    x: Rows,
    y: Rows,
    radius: Tensor,
    metric: str,
    p: float,
    closed: bool,
    admissible: Admissible,
) -> tuple[Tensor, Tensor, Tensor]:
    """(rows (e,), columns (e,), keys (e,) float64)."""
    m = y.values.shape[0]
    guide = key_of_distance(radius.to(torch.float64), metric, p)
    tiny = tiny_key(metric, p, radius.dtype)
    screen = screens.build(kernel, x, y, 0) if screens.screenable(kernel) else None
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in torch.arange(x.values.shape[0], device=x.values.device).split(max(1, BLOCK // m)):
        if screen is None:
            values = keys.block_keys(kernel, x.take(block), y)
            near, cols = admissible.mask(block, m).nonzero(as_tuple=True)
            values = values[near, cols]
        else:
            g = admissible.fill(screens.products(screen, block), block)
            high = edges(screen, g.dtype, block, guide[block], tiny)[1]
            near, cols = (~(screens.subtract_margin(screen, g, block) > high[:, None])).nonzero(as_tuple=True)
            values = keys.pair_keys(kernel, x, y, block[near], cols)
        keep = inside(values, radius[block[near]], metric, p, closed)
        found.append((block[near[keep]], cols[keep], values[keep]))
    rows, columns, key = (torch.cat(field) for field in zip(*found, strict=True))
    return rows, columns, key
