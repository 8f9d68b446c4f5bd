"""All pairwise distances (n, m), and their gradient.

Forward. float32 euclidean-like metrics: products in float64 after a shift, |x|^2 + |y|^2 - 2 x.y, and canonical keys for
the pairs so close that cancellation would show (below 1e-6 relative). Everything else: canonical keys.
Backward. For (sq)euclidean and inner_product two products, W y - rowsum(W) x; otherwise autograd of the plain formula,
a block of rows at a time. The gradient at zero distance is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.exact import sqrt
from msma_fast.backends.torch.kernel import Kernel, Keys, Rows
from msma_fast.backends.torch.prepare import distances_of
from msma_fast.backends.torch.squares import rows_of

# The relative error of a squared distance, an eighth of what is promised for the distance.
_TOLERANCE = 2.5e-7


def pairwise_distances(
    keys: Keys, kernel: Kernel, x: Rows, y: Rows, metric: str, p: float, dtype: torch.dtype
) -> Tensor:
    """(n, m) distances in dtype; symmetric with a zero diagonal where x and y are the same object and the metric is."""
    n, m = x.values.shape[0], y.values.shape[0]
    out = torch.empty(n, m, dtype=dtype, device=x.values.device)
    by_products = dtype == torch.float32 and kernel.kind == "sqeuclidean"
    screen = screens.build(kernel, x, y, 1) if by_products else None
    # A root within an ulp of float64 is beyond float32's reach; the correctly rounded one costs thirty passes.
    root = torch.sqrt if dtype == torch.float32 else sqrt
    half = x is y and kernel.kind != "kl"
    for block in rows_of(n, m, out.device):
        first, last = int(block[0]), int(block[-1]) + 1
        left = first if half else 0  # of a symmetric matrix only the columns from the block on
        right = Rows(y.values[left:], None if y.norms is None else y.norms[left:])
        if screen is None:
            found = keys.block_keys(kernel, x.take(block), right)
        else:
            found = _by_products(keys, kernel, screen, x, y, block, left)
        values = distances_of(found, metric, p, root).to(dtype)
        out[first:last, left:] = values
        if half:
            out[left:, first:last] = values.T
            corner = out[first:last, first:last]
            corner.copy_(corner.triu() + corner.triu(1).T)
    if half and kernel.kind != "inner_product":
        out.fill_diagonal_(0.0)
    return out


def _by_products(
    keys: Keys, kernel: Kernel, screen: screens.Screen, x: Rows, y: Rows, block: Tensor, left: int
) -> Tensor:
    """(B, m - left) squared distances within _TOLERANCE, by float64 products where these are good enough."""
    c = screen.right.c[left:]
    t = torch.addmm(c, screen.left.b[block], screen.right.b[left:].T, alpha=-2.0)
    size = screen.left.c[block, None] + c[None, :]
    t = t.add_(screen.left.c[block, None])
    near, cols = (t * (_TOLERANCE / screen.kappa) < 2.0 * size).nonzero(as_tuple=True)
    t = t.div_(screen.scale)
    t[near, cols] = keys.pair_keys(kernel, x, y, block[near], cols + left)
    return t
