"""One pass over the layers: health, neighbours, dimension. One layer in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from msma_fast.activations import Activations
from msma_fast.dimension import intrinsic_dimension
from msma_fast.msma.health import layer_health
from msma_fast.msma.spaces import rms_normalized
from msma_fast.msma.stages import Stages
from msma_fast.neighbors import knn

DECIMATIONS = (1, 2, 4, 8)
_DISTINCT = 0.9  # share of distinct rows below which a layer is discrete rather than a manifold


def layer_pass(acts: Activations, stages: Stages, k: int, dimension_rows: Tensor) -> Iterator[dict[str, Any]]:
    """For each layer: health, indices (n, k), distances (n, k), estimates and standard errors at each decimation.

    Neighbours of a token are never tokens of its own text. Distances are euclidean between RMS-normalised rows.
    """
    for index in range(len(acts)):

        def compute(index: int = index) -> dict[str, Tensor]:
            raw = acts.layer(index)
            rows = rms_normalized(raw)
            found = knn(rows, k, groups=acts.text_ids)
            fits = [twonn(rows[dimension_rows], q) for q in DECIMATIONS]
            health = layer_health(raw)
            return {
                "indices": found.indices,
                "distances": found.distances,
                "estimates": torch.tensor([fit[0] for fit in fits]),
                "errors": torch.tensor([fit[1] for fit in fits]),
            } | {f"health_{name}": torch.tensor(value, dtype=torch.float64) for name, value in health.items()}

        kept = stages.run(f"layer-{index:03d}", compute)
        health = {name.removeprefix("health_"): value.item() for name, value in kept.items() if name[:7] == "health_"}
        for name in ("top_coordinate", "massive_rows", "distinct_rows"):
            health[name] = int(health[name])
        yield {
            "indices": kept["indices"],
            "distances": kept["distances"],
            "estimates": _finite(kept["estimates"]),
            "errors": _finite(kept["errors"]),
            "health": health,
        }


def twonn(rows: Tensor, q: int) -> tuple[float, float]:
    """TwoNN (estimate, standard error) of the distinct rows: two texts that begin alike repeat a row at every layer.

    nan where many rows repeat, as in an embedding: they are points of a discrete set, which has no dimension.
    """
    distinct = rows.unique(dim=0)
    if distinct.shape[0] < _DISTINCT * rows.shape[0] or distinct.shape[0] // q < 3:
        return math.nan, math.nan
    try:
        found = intrinsic_dimension(distinct, "twonn", decimations=[q])
    except ValueError:  # a lattice: every row has its two nearest neighbours at one distance
        return math.nan, math.nan
    return found.estimate, found.standard_error


def _finite(values: Tensor) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def overlap_matrix(indices: list[Tensor]) -> list[list[float]]:
    """(L, L) mean share of common neighbours, from (n, k) index arrays."""
    from msma_fast.similarity import shared_fraction

    count = len(indices)
    matrix = [[1.0] * count for _ in range(count)]
    for a in range(count):
        for b in range(a + 1, count):
            matrix[a][b] = matrix[b][a] = shared_fraction(indices[a], indices[b])
    return matrix
