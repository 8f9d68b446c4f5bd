"""What to know about a layer's raw rows before believing anything computed from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# A row is massive when its norm is this many times the median norm (Sun et al., Massive Activations in LLMs, 2024).
MASSIVE = 10.0


def layer_health(x: Tensor) -> dict[str, Any]:
    """One layer (n, d) float32: norms, the coordinate that carries most, massive rows, distinct rows."""
    squares = x.to(torch.float64).square()
    norms = squares.sum(1).sqrt()
    median = float(norms.median())
    share = squares / squares.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    per_coordinate = share.median(0).values
    top = int(per_coordinate.argmax())
    return {
        "norm_median": median,
        "norm_p95": float(norms.quantile(0.95)),
        "norm_max": float(norms.max()),
        "top_coordinate": top,
        "top_coordinate_share": float(per_coordinate[top]),
        "massive_rows": int((norms > MASSIVE * median).sum()),
        "distinct_rows": int(x.unique(dim=0).shape[0]),
    }


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """[{name: value}] per layer -> {name: [value per layer]}."""
    return {name: [row[name] for row in rows] for name in rows[0]}
