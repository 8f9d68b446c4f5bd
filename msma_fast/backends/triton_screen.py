"""From the torch backend's screen to what the Triton kernels read: padded rows and margins, and the rule by index."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.triton_prepare import build

NOBODY = -(2**31) // 2  # a column that no window reaches: who has no column of its own


class Ready(NamedTuple):
    """Both sides at level 0 as triton_kernels.screen has them, and the torch backend's screen that they come from."""

    screen: screens.Screen
    x: Any  # Side
    y: Any  # Points
    rule: Any  # Rule

    def block(self, start: int, end: int) -> Ready:
        """The queries start..end of it, where start is a multiple of the padding; `screen` stays whole."""
        from msma_fast.triton_kernels.screen import ROWS

        rows = slice(start, end + -(end - start) % ROWS)
        x, rule = self.x, self.rule
        own, labels = (None if each is None else each[rows] for each in (rule.own, rule.labels))
        x = x._replace(b=x.b[rows], near=x.near[rows], far=x.far[rows], size=end - start)
        return self._replace(x=x, rule=rule._replace(own=own, labels=labels))


def ready(kernel: Kernel, x: Rows, y: Rows, who: Admissible) -> Ready:
    """The screen of queries x (n, d) against points y (m, d)."""
    from msma_fast.triton_kernels.screen import Points, Side

    screen = build(kernel, x, y)
    c, near, far, col = screens.point_margins(screen)
    left, right = screen.left, screen.right
    points = Side(right.b, padded(near, 0.0), padded(far, 0.0), y.values.shape[0])
    queries = Side(
        left.b, padded(left.r.to(torch.float32), 0.0), padded(left.m.to(torch.float32), 0.0), x.values.shape[0]
    )
    return Ready(screen, queries, Points(points, padded(c, float("inf")), padded(col, 0.0)), rule_of(who))


def rule_of(who: Admissible, rows: int | None = None, columns: int | None = None) -> Any:
    """The rule as the kernels read it: queries padded to a multiple of `rows`, points of `columns`; None: the screen's."""
    from msma_fast.triton_kernels.screen import Rule

    if who.partners is not None:
        raise RuntimeError("partners: expected none, got second labels, which these kernels do not know")
    labels = None if who.groups is None or who.point_groups is None else padded(who.groups, 0, rows)
    point_labels = None if labels is None or who.point_groups is None else padded(who.point_groups, 0, columns)
    own = None
    if who.own is not None:
        own = torch.where(who.own < 0, NOBODY, who.own).to(torch.int32)
        spare = padded(own, 0, rows).shape[0] - own.shape[0]
        own = torch.cat([own, own[-1:].expand(spare)])  # a column near those of the program's other queries
    return Rule(own, who.window, labels, point_labels)


def of_rows(who: Admissible, rows: Tensor) -> Admissible:
    """The rule of some queries."""
    own, groups = (None if each is None else each[rows] for each in (who.own, who.groups))
    return who._replace(own=own, groups=groups)


def padded(values: Tensor, fill: float, unit: int | None = None) -> Tensor:
    """(n,) -> (N,), up to a multiple of `unit`, by default the screen's."""
    from msma_fast.triton_kernels.screen import ROWS

    return torch.nn.functional.pad(values, (0, -values.shape[0] % (unit or ROWS)), value=fill)


def padded_rows(b: Tensor) -> Tensor:
    """(n, d) -> (N, D) bfloat16."""
    from msma_fast.triton_kernels.screen import COLUMNS, ROWS

    return torch.nn.functional.pad(b.to(torch.bfloat16), (0, -b.shape[1] % COLUMNS, 0, -b.shape[0] % ROWS))
