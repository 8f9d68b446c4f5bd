"""From tensors to the launches of msma_fast._cuda: addresses, sizes, and the stream that torch works on.

Outputs and copies come from torch's allocator on that stream: their memory is not given to anybody before the launch is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.cuda import compiled
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows

WORD = 32  # adjacent points of one entry of a list
PANEL = (128, 64)  # rows and coordinates
FIRST = 4  # one of so many points is collected first
NOBODY = -(2**31) // 2  # a column that no window reaches: of a query that is no point
_MOST_ROWS = 1 << 30  # a column and a window fit an int32 together

Lists = tuple[Tensor, Tensor, Tensor]
Better = Callable[[Lists], Tensor]  # the bound of every query that lists so far give, or the one it has


class Rule(NamedTuple):
    """The tensors of a rule, as the kernels read them; kept alive beside their addresses."""

    own: Tensor | None
    window: int
    labels: Tensor | None
    point_labels: Tensor | None
    partners: Tensor | None

    def parts(self) -> tuple[int, int, int, int, int]:
        """As the module takes it."""
        return (
            address(self.own), self.window, address(self.labels), address(self.point_labels), address(self.partners),
        )  # fmt: skip


def address(tensor: Tensor | None) -> int:
    """0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def stream_of(device: torch.device) -> int:
    """torch's current stream; 0 for the emulator, which has none."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


def rule_of(who: Admissible, m: int) -> Rule:
    """The rule for m points."""
    if m > _MOST_ROWS:
        raise NotImplementedError(f"points: expected at most {_MOST_ROWS} rows, got {m}")
    own = None if who.own is None else torch.where(who.own < 0, NOBODY, who.own).to(torch.int32)
    both = who.groups is not None and who.point_groups is not None
    labels, point_labels = (_int32(each) if both else None for each in (who.groups, who.point_groups))
    return Rule(own, min(who.window, m), labels, point_labels, _int32(who.partners))


def _int32(labels: Tensor | None) -> Tensor | None:
    return None if labels is None else labels.to(torch.int32).contiguous()


def problem(kernel: Kernel, x: Rows, y: Rows) -> tuple[Any, ...]:
    """(kind, p, wide, x, y, d) as the module takes them."""
    wide = x.values.dtype == torch.float64
    return kernel.kind, int(kernel.p), wide, _side(x), _side(y), x.values.shape[1]


def _side(rows: Rows) -> tuple[int, int, int]:
    return rows.values.data_ptr(), address(rows.norms), rows.values.shape[0]


def found_of(n: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Memory for keys (n, k) float64 and indices (n, k) int64."""
    return (
        torch.empty(n, k, dtype=torch.float64, device=device),
        torch.empty(n, k, dtype=torch.int64, device=device),
    )


def knn(kernel: Kernel, x: Rows, y: Rows, who: Admissible, k: int) -> tuple[Tensor, Tensor]:
    """keys (n, k) and indices (n, k) of the nearest, inf and -1 where there are fewer; k at most MOST_NEIGHBORS."""
    n, device = x.values.shape[0], x.values.device
    rule, (keys, indices) = rule_of(who, y.values.shape[0]), found_of(n, k, device)
    compiled().knn(
        *problem(kernel, x, y), rule.parts(), k, keys.data_ptr(), indices.data_ptr(), stream_of(device)
    )  # fmt: skip
    return keys, indices


def radius_count(kernel: Kernel, x: Rows, y: Rows, thresholds: Tensor, who: Admissible) -> Tensor:
    """counts (n, T) int64 of admissible points with keys at most thresholds (n, T) float64; T at most MOST_RADII."""
    (n, radii), device = thresholds.shape, x.values.device
    rule, thresholds = rule_of(who, y.values.shape[0]), thresholds.contiguous()
    counts = torch.empty(n, radii, dtype=torch.int64, device=device)
    compiled().radius_count(
        *problem(kernel, x, y), rule.parts(), thresholds.data_ptr(), radii, counts.data_ptr(), stream_of(device)
    )
    return counts


def finish(
    kernel: Kernel, x: Rows, y: Rows, columns: Tensor, ends: Tensor, first: int, k: int
) -> tuple[Tensor, Tensor]:
    """keys (n, k) and indices (n, k) of the nearest of listed candidates of the n rows of x from `first` on; row r has the
    columns (C,) int64 from ends[r - 1] to ends[r], ends (n,) int64."""
    n, device = ends.shape[0], x.values.device
    keys, indices = found_of(n, k, device)
    compiled().finish(
        *problem(kernel, x, y), columns.data_ptr(), ends.data_ptr(), n, first, k, keys.data_ptr(), indices.data_ptr(),
        stream_of(device),
    )  # fmt: skip
    return keys, indices


def select_large(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row of values (n, m) float64, ascending by (value, column); k at most m. NaN is never selected:
    inf and -1 where fewer are left."""
    n, m = values.shape
    keys, indices = found_of(n, k, values.device)
    compiled().select_large(
        values.data_ptr(), n, m, k, keys.data_ptr(), indices.data_ptr(), stream_of(values.device)
    )  # fmt: skip
    keys, order = keys.sort(dim=1, stable=True)  # what is selected is in the order of the columns
    return keys, indices.gather(1, order)


def collect(x: Any, y: Any, rule: Any, top: Tensor, limit: int, better: Better) -> tuple[Tensor, Tensor, Tensor]:
    """listed, low and count as triton_kernels.knn.collect leaves them, of its arguments. The lists of the first points give a
    better bound for the rest."""
    rows, width, device = x.b.shape[0], x.b.shape[1], x.b.device
    listed = torch.empty(rows, limit, dtype=torch.int64, device=device)
    low = torch.empty(rows, limit, dtype=torch.float32, device=device)
    count = torch.zeros(rows, dtype=torch.int32, device=device)
    who = Rule(rule.own, rule.window, rule.labels, rule.point_labels, None)
    # The kernel knows one margin of a word's points, the largest: a lower bound stays one.
    c, near, far = y.c - y.col, *(each.view(-1, WORD).amax(1) for each in (y.side.near, y.side.far))
    b, p, m = _panels(x.b), _panels(y.side.b), y.side.b.shape[0]
    queries = b.data_ptr(), x.near.data_ptr(), x.far.data_ptr(), rows
    points = p.data_ptr(), near.data_ptr(), far.data_ptr(), m
    middle = m // FIRST // PANEL[0] * PANEL[0]
    for begin, end in ((0, middle), (middle, m)):
        if 0 < begin < end:
            top = better((listed, low, count))
        compiled().collect(
            queries, points, c.data_ptr(), width, who.parts(), top.data_ptr(), begin, end, limit, listed.data_ptr(),
            low.data_ptr(), count.data_ptr(), stream_of(device),
        )  # fmt: skip
    return listed, low, count


def _panels(b: Tensor) -> Tensor:
    """(N, width) -> (N / 128, width / 64, 128, 64) contiguous: what one copy of a tile reads lies together."""
    rows, columns = PANEL
    return b.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).transpose(1, 2).contiguous()
