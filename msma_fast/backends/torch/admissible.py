"""Which pairs may be neighbours: not self, not the same label, not within the window. Decided by index, no bitmap kept."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Admissible(NamedTuple):
    """The rule for queries (rows) against points (columns)."""

    own: Tensor | None = None  # (n,) column that is the query itself, -1 for none
    groups: Tensor | None = None  # (n,) int32 label of each query
    point_groups: Tensor | None = None  # (m,) int32 label of each point
    partners: Tensor | None = None  # (n,) int32 second labels (self-search only): equal ones are excluded too
    window: int = 0  # |row - column| <= window is excluded (self-search only)

    def fill(self, block: Tensor, rows: Tensor, value: float = float("inf")) -> Tensor:
        """Writes `value` where row rows[r] of block (B, m) has an inadmissible column; in place."""
        if self.own is not None:
            own = self.own[rows]
            has = (own >= 0).nonzero().squeeze(1)
            block[has, own[has]] = value
        if self.groups is not None and self.point_groups is not None:
            block.masked_fill_(self.groups[rows, None] == self.point_groups[None, :], value)
        if self.partners is not None:
            block.masked_fill_(self.partners[rows, None] == self.partners[None, :], value)
        if self.window:
            columns = torch.arange(block.shape[1], device=block.device, dtype=torch.int32)
            near = (rows.to(torch.int32)[:, None] - columns[None, :]).abs_() <= self.window
            block.masked_fill_(near, value)
        return block

    def mask(self, rows: Tensor, m: int) -> Tensor:
        """(B, m) bool, True where the pair is admissible."""
        block = torch.zeros(rows.shape[0], m, device=rows.device)
        return self.fill(block, rows, 1.0) == 0

    def counts(self, n: int, m: int) -> Tensor:
        """(n,) int64: admissible columns of each row, by index arithmetic (no block is formed)."""
        device = next((t.device for t in (self.own, self.groups) if t is not None), torch.device("cpu"))
        total = torch.full((n,), m, dtype=torch.int64, device=device)
        rows = torch.arange(n, device=device)
        if self.window:
            total -= (rows + self.window).clamp_max(m - 1) - (rows - self.window).clamp_min(0) + 1
        elif self.own is not None:
            total -= (self.own >= 0).to(torch.int64)
        if self.groups is not None and self.point_groups is not None:
            total -= _same_label_outside(self.groups, self.point_groups, self.own, self.window)
        if self.partners is not None:
            total -= _same_label_outside(self.partners, self.partners, rows, self.window)
            if self.groups is not None:  # excluded twice: equal in both labels
                both = self.groups.to(torch.int64) * (int(self.partners.max()) + 1) + self.partners
                total += _same_label_outside(both, both, rows, self.window)
        return total


def _same_label_outside(groups: Tensor, point_groups: Tensor, own: Tensor | None, window: int) -> Tensor:
    """(n,) columns with the row's label that are not already excluded as self or by the window."""
    ranks = torch.cat([groups, point_groups]).unique(return_inverse=True)[1]
    mine, theirs = ranks[: groups.shape[0]], ranks[groups.shape[0] :]
    same = torch.bincount(theirs, minlength=int(ranks.max()) + 1)[mine]
    if own is None:
        return same
    same = same - (own >= 0).to(torch.int64)  # self
    for step in range(1, min(window, groups.shape[0] - 1) + 1):
        equal = (mine[step:] == mine[:-step]).to(torch.int64)
        same[step:] -= equal
        same[:-step] -= equal
    return same
